"""Everything a product app does with OpenAI's client. Run in the client's own environment; asserts by itself."""

import os

import openai
from openai import OpenAI

URL, KEY = os.environ["LORIMER_URL"], os.environ["LORIMER_API_KEY"]
BASE = os.environ["LORIMER_BASE_MODEL"]
QUESTION = [{"role": "user", "content": "hello"}]
client = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)


def raised(kind, do):
    try:
        do()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def chat() -> None:
    asked = {"model": "support", "messages": QUESTION, "max_tokens": 8, "temperature": 0}
    whole = client.chat.completions.create(**asked)
    assert (whole.object, whole.model, whole.choices[0].message.role) == ("chat.completion", "support", "assistant")
    assert whole.system_fingerprint.startswith("sha256:")
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == (
        whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage
    with client.chat.completions.stream(**asked) as events:
        assert "".join(event.delta for event in events if event.type == "content.delta") == (
            whole.choices[0].message.content
        )
    scored = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2, n=2, seed=7)
    assert len(scored.choices) == 2
    assert len(scored.choices[0].logprobs.content[0].top_logprobs) == 2


def completions() -> None:
    asked = {"model": "support@v1", "prompt": "Once", "max_tokens": 5, "temperature": 0}
    whole = client.completions.create(**asked)
    parts = client.completions.create(**asked, stream=True)
    assert "".join(part.choices[0].text for part in parts) == whole.choices[0].text
    scored = client.completions.create(model="support", prompt="Once", max_tokens=0, echo=True, logprobs=1)
    assert scored.choices[0].text == "Once"
    assert len(scored.choices[0].logprobs.token_logprobs) == len(scored.choices[0].logprobs.tokens)


def models() -> None:
    assert {BASE, "support", "formal"} <= {model.id for model in client.models.list()}
    assert client.models.retrieve("support@v1").id == "support@v1"


def embeddings() -> None:
    found = client.embeddings.create(model="support", input=["one", "two"])
    assert [each.index for each in found.data] == [0, 1]
    plain = client.embeddings.create(model="support", input="one", encoding_format="float")
    assert len(plain.data[0].embedding) == len(found.data[0].embedding)
    assert all(abs(a - b) < 1e-3 for a, b in zip(plain.data[0].embedding, found.data[0].embedding, strict=True))
    assert abs(sum(value * value for value in plain.data[0].embedding) - 1) < 1e-3
    assert found.usage.prompt_tokens > 0


def responses() -> None:
    asked = {"model": "support", "input": "hello", "max_output_tokens": 16, "temperature": 0, "store": False}
    whole = client.responses.create(**asked)
    assert whole.object == "response"
    events = list(client.responses.create(**asked, stream=True))
    assert events[0].type == "response.created"
    assert events[-1].type in {"response.completed", "response.incomplete"}
    assert [event.sequence_number for event in events] == list(range(len(events)))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert deltas == whole.output_text == events[-1].response.output_text


def errors() -> None:
    missing = raised(openai.NotFoundError, lambda: client.chat.completions.create(model="nobody", messages=QUESTION))
    assert (missing.status_code, missing.code, missing.param) == (404, "model_not_found", "model")
    bad = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="support", messages=QUESTION, temperature=9),
    )
    assert bad.param == "temperature"
    long = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="support", messages=QUESTION, max_tokens=1 << 20),
    )
    assert long.code == "context_length_exceeded"
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}
    tools = raised(
        openai.BadRequestError,
        lambda: client.chat.completions.create(model="support", messages=QUESTION, tools=[tool]),
    )
    assert "tool" in tools.message
    stranger = OpenAI(base_url=f"{URL}/v1", api_key="another", max_retries=0)
    denied = raised(openai.AuthenticationError, stranger.models.list)
    assert (denied.status_code, denied.code) == (401, "invalid_api_key")


def what_cannot_help_is_not_retried() -> None:
    asked = []
    eager = OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=3)
    eager._client.event_hooks["request"].append(asked.append)
    raised(openai.NotFoundError, lambda: eager.chat.completions.create(model="nobody", messages=QUESTION))
    assert len(asked) == 1


for do in (chat, completions, models, embeddings, responses, errors, what_cannot_help_is_not_retried):
    do()
    print(do.__name__, "ok")
