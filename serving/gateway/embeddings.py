"""/v1/embeddings: texts as the mean of the last hidden states over their tokens, with an adapter or without."""

from __future__ import annotations

import base64

import numpy as np
from litestar import Response, post
from numpy.typing import NDArray

from serving.gateway.access import SCOPE
from serving.gateway.asking import ask
from serving.gateway.calls import Call
from serving.gateway.dialect.embedding_question import EmbeddingQuestion
from serving.gateway.exchange import AnyRequest, read, respond
from serving.gateway.generation import Row
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.wire.embedding import Embedding, EmbeddingList, EmbeddingRequest, EmbeddingUsage


@post(
    "/v1/embeddings",
    status_code=200,
    opt={SCOPE: "infer", OPERATION: Operation(body=EmbeddingRequest, answer=EmbeddingList, generates=True)},
)
async def embeddings(request: AnyRequest) -> Response[bytes]:
    """Embed one or several texts with the base, or with the adapter that `model` names.

    A vector is the mean of the last hidden states over the text's tokens, of length 1.
    """
    body = await read(request, EmbeddingRequest)
    call = await ask(request, EmbeddingQuestion(body))
    return respond(_list(call, in_base64=body.encoding_format == "base64"), call.headers())


def _list(call: Call, *, in_base64: bool) -> EmbeddingList:
    read_tokens = call.usage().prompt_tokens
    vectors = [_vector(row) for row in call.generation.rows]
    return EmbeddingList(
        data=[
            Embedding(index=index, embedding=_packed(vector) if in_base64 else vector.tolist())
            for index, vector in enumerate(vectors)
        ],
        model=call.choice.requested,
        usage=EmbeddingUsage(prompt_tokens=read_tokens, total_tokens=read_tokens),
    )


def _vector(row: Row) -> NDArray[np.float32]:
    assert row.finished is not None
    assert row.finished.features is not None, "asked for with the row"
    mean = row.finished.features.hidden_mean
    length = float(np.linalg.norm(mean))
    return mean if length == 0 else (mean / length).astype(np.float32)


def _packed(vector: NDArray[np.float32]) -> str:
    return base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")


ROUTES = [embeddings]
