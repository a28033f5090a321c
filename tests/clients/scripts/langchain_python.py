"""LangChain's chat model, its plain one and its embeddings. Run in its own environment; asserts by itself."""

import os

import openai
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

COMMON = {"base_url": os.environ["LORIMER_URL"] + "/v1", "api_key": os.environ["LORIMER_API_KEY"], "max_retries": 0}
QUESTION = [("system", "Be brief."), ("human", "hello")]


def chat() -> None:
    model = ChatOpenAI(model="support", temperature=0, max_tokens=8, stream_usage=True, **COMMON)
    whole = model.invoke(QUESTION)
    assert whole.response_metadata["model_name"] == "support"
    assert whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in model.stream(QUESTION)) == whole.content
    assert [each.content for each in model.batch([QUESTION, QUESTION])] == [whole.content] * 2


def structured() -> None:
    schema = {
        "title": "ticket",
        "description": "What to do.",
        "type": "object",
        "properties": {"urgent": {"type": "boolean"}},
        "required": ["urgent"],
        "additionalProperties": False,
    }
    model = ChatOpenAI(model="support", temperature=0, max_tokens=32, **COMMON)
    answer = model.with_structured_output(schema, method="json_schema").invoke(QUESTION)
    assert isinstance(answer["urgent"], bool)


def over_responses() -> None:
    model = ChatOpenAI(model="support", temperature=0, max_tokens=16, use_responses_api=True, **COMMON)
    assert isinstance(model.invoke(QUESTION).text, str)


def text_and_embeddings() -> None:
    assert isinstance(OpenAI(model="formal", temperature=0, max_tokens=5, **COMMON).invoke("Once"), str)
    embed = OpenAIEmbeddings(model="support", check_embedding_ctx_length=False, **COMMON)
    one, two = embed.embed_documents(["one", "two"])
    assert len(one) == len(two) == len(embed.embed_query("one"))


def tools_are_refused_clearly() -> None:
    def look(where: str) -> str:
        """Look somewhere."""
        return where

    told = None
    try:
        ChatOpenAI(model="support", **COMMON).bind_tools([look]).invoke(QUESTION)
    except openai.BadRequestError as error:
        told = error.message
    assert "tool" in (told or ""), told


for do in (chat, structured, over_responses, text_and_embeddings, tools_are_refused_clearly):
    do()
    print(do.__name__, "ok")
