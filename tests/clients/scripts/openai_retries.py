"""A key with one place at a time, three callers: who is refused is told when to come back, and then is let in."""

import os
from concurrent.futures import ThreadPoolExecutor

from openai import OpenAI

client = OpenAI(base_url=os.environ["LORIMER_URL"] + "/v1", api_key=os.environ["LORIMER_API_KEY"], max_retries=8)
statuses = []
client._client.event_hooks["response"].append(lambda response: statuses.append(response.status_code))


def ask(_):
    question = [{"role": "user", "content": "hello"}]
    answer = client.chat.completions.create(
        model="support", messages=question, max_tokens=200, extra_body={"ignore_eos": True}
    )
    return answer.usage.completion_tokens


with ThreadPoolExecutor(3) as threads:
    assert list(threads.map(ask, range(3))) == [200] * 3
assert 429 in statuses, statuses
assert statuses.count(200) == 3, statuses
print("ok")
