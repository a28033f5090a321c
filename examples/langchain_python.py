"""LangChain: one chat model for each adapter, all from one gateway."""

import os

from langchain_openai import ChatOpenAI

chat = ChatOpenAI(
    base_url=os.environ.get("LORIMER_URL", "http://127.0.0.1:8080") + "/v1",
    api_key=os.environ.get("LORIMER_API_KEY", "none"),
    model=os.environ.get("LORIMER_MODEL", "support"),
    max_tokens=32,
    temperature=0,
)
print(chat.invoke("My router does not come back after the update.").content)
for chunk in chat.stream("My router does not come back after the update."):
    print(chunk.content, end="", flush=True)
print()
