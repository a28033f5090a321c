"""LiteLLM, as its users and as its router use it. Run in the client's own environment; asserts by itself."""

import asyncio
import os

import litellm

COMMON = {"api_base": os.environ["LORIMER_URL"] + "/v1", "api_key": os.environ["LORIMER_API_KEY"], "num_retries": 0}
ASKED = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 8, "temperature": 0}


def raised(kind, do):
    try:
        do()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")


def by_both_providers() -> None:
    for provider in ("openai", "hosted_vllm"):
        whole = litellm.completion(model=f"{provider}/support", **ASKED, **COMMON)
        chunks = litellm.completion(model=f"{provider}/support", stream=True, **ASKED, **COMMON)
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text == whole.choices[0].message.content, provider
        assert whole.usage.completion_tokens > 0


def fields_of_vllm_go_through() -> None:
    answer = litellm.completion(model="hosted_vllm/support", top_k=1, ignore_eos=True, **ASKED, **COMMON)
    assert answer.usage.completion_tokens == 8


def text_and_embeddings() -> None:
    text = litellm.text_completion(model="openai/formal", prompt="Once", max_tokens=5, temperature=0, **COMMON)
    assert isinstance(text.choices[0].text, str)
    found = litellm.embedding(model="hosted_vllm/support", input=["one", "two"], **COMMON)
    assert len(found.data) == 2


def errors_are_its_own() -> None:
    raised(litellm.NotFoundError, lambda: litellm.completion(model="openai/nobody", **ASKED, **COMMON))
    bad = {**ASKED, "max_tokens": 1 << 20}
    raised(litellm.BadRequestError, lambda: litellm.completion(model="openai/support", **bad, **COMMON))
    other = {**COMMON, "api_key": "another"}
    raised(litellm.AuthenticationError, lambda: litellm.completion(model="openai/support", **ASKED, **other))


def a_router_over_adapters() -> None:
    models = [
        {"model_name": name, "litellm_params": {"model": f"hosted_vllm/{name}", **COMMON}}
        for name in ("support", "formal")
    ]
    router = litellm.Router(model_list=models)

    async def both():
        return await asyncio.gather(*(router.acompletion(model=name, **ASKED) for name in ("support", "formal")))

    first, second = asyncio.run(both())
    assert first.choices[0].message.content != second.choices[0].message.content


for do in (
    by_both_providers,
    fields_of_vllm_go_through,
    text_and_embeddings,
    errors_are_its_own,
    a_router_over_adapters,
):
    do()
    print(do.__name__, "ok")
