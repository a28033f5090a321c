"""LiteLLM: the prefix `hosted_vllm/` makes it speak to any gateway of the dialect, and pass vLLM's fields on."""

import os

import litellm

answer = litellm.completion(
    model="hosted_vllm/" + os.environ.get("LORIMER_MODEL", "support"),
    api_base=os.environ.get("LORIMER_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("LORIMER_API_KEY", "none"),
    messages=[{"role": "user", "content": "My router does not come back after the update."}],
    max_tokens=32,
    temperature=0,
    min_tokens=1,
)
print(answer.choices[0].message.content)
