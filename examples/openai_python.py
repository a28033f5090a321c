"""OpenAI's client for Python: an answer, a stream, and what was served."""

import os

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("LORIMER_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("LORIMER_API_KEY", "none"),
)
model = os.environ.get("LORIMER_MODEL", "support")
question = [{"role": "user", "content": "My router does not come back after the update."}]

answer = client.chat.completions.create(model=model, messages=question, max_tokens=32, temperature=0)
print(answer.choices[0].message.content)
print("served by", answer.system_fingerprint)

stream = client.chat.completions.create(model=model, messages=question, max_tokens=32, temperature=0, stream=True)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
