"""One generation call: from a parsed body to rows in the engine, under one identity that never changes.

`begin` resolves, admits, leases, tokenises and submits, each blocking step on a thread. Writes no HTTP.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from msgspec import UNSET

from registry.errors import Busy
from serving.adapter import LoadedAdapter
from serving.gateway.choosing import Choice
from serving.gateway.dialects import ChatDialect, Dialect, TextDialect, usage_of
from serving.gateway.generation import Generation
from serving.gateway.schemas import Answer, ChatRequest, ChunkChoice, CompletionRequest, TextChoice, Usage
from serving.gateway.trace import Trace
from serving.gateway.translate import (
    check_stream,
    messages_of,
    prompts_of,
    refuse_unsupported,
    sampling_of,
    seeds,
)
from serving.request import Request, Sampling

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway

Body = ChatRequest | CompletionRequest


@dataclass(eq=False)
class Call:
    """What stays the same over all chunks and records of one answer."""

    id: str
    created: int
    session: str
    choice: Choice
    dialect: Dialect
    num_prompts: int
    messages: list[dict[str, str]] | None
    """The conversation, for capture; None for plain completions."""
    trace: Trace
    generation: Generation

    def chunk(
        self, choices: list[ChunkChoice] | list[TextChoice], include_usage: bool, usage: Usage | None = None
    ) -> Answer:
        return Answer(
            id=self.id,
            object=self.dialect.chunk,
            created=self.created,
            model=self.choice.requested,
            system_fingerprint=self.choice.fingerprint,
            choices=choices,
            usage=usage if include_usage else UNSET,
        )

    def whole(self) -> Answer:
        rows = self.generation.rows
        return Answer(
            id=self.id,
            object=self.dialect.whole,
            created=self.created,
            model=self.choice.requested,
            system_fingerprint=self.choice.fingerprint,
            choices=self.dialect.choices(rows),
            usage=usage_of(rows, self.num_prompts),
        )

    def headers(self) -> dict[str, str]:
        return {**self.choice.headers(), "server-timing": self.trace.server_timing()}


async def begin(gateway: Gateway, body: Body, trace: Trace, session: str | None) -> Call:
    """Start answering; every refusal happens here, before a first byte is sent."""
    refuse_unsupported(body)
    check_stream(body)
    _shed(gateway)
    with trace.measure("resolve"):
        choice = await gateway.in_thread(gateway.catalog.choose, body.model)
    trace.fields |= {"model": choice.requested, "adapter": choice.adapter, "digest": choice.digest}
    messages = messages_of(body) if isinstance(body, ChatRequest) else None
    with trace.measure("tokenise"):
        prompts = await gateway.in_text_thread(_tokenise, gateway, body, messages)
    samplings = [sampling_of(body, len(prompt), gateway.engine.max_context) for prompt in prompts]
    with trace.measure("load"):
        lease = await gateway.lease(choice.digest) if choice.digest else None
    if lease is not None:
        gateway.metrics.load.labels(gateway.metrics.adapters.of(choice.adapter)).observe(trace.seconds["load"])

    dialect = (ChatDialect if isinstance(body, ChatRequest) else TextDialect)(gateway.spell)
    call_id = f"{dialect.id_prefix}-{uuid.uuid4().hex}"
    adapter = lease.adapter if lease else None
    requests = _requests(
        call_id,
        prompts=prompts,
        samplings=samplings,
        per_prompt=body.n or 1,
        adapter=adapter,
        tenant=gateway.registry.tenant,
    )

    def ended() -> None:
        if lease is not None:
            lease.release()
        gateway.recorder.record(call)

    call = Call(
        id=call_id,
        created=int(time.time()),
        session=session or body.user or body.safety_identifier or call_id,
        choice=choice,
        dialect=dialect,
        num_prompts=len(prompts),
        messages=messages,
        trace=trace,
        generation=Generation(gateway.engine, requests, ended),
    )
    gateway.recorder.remember(call)
    call.generation.submit()
    return call


def _requests(
    call_id: str,
    *,
    prompts: Sequence[tuple[int, ...]],
    samplings: Sequence[Sampling],
    per_prompt: int,
    adapter: LoadedAdapter | None,
    tenant: str,
) -> list[Request]:
    """One row for each answer asked for; the first answer to a prompt brings its features."""
    return [
        Request(
            id=f"{call_id}-{number * per_prompt + index}",
            prompt=prompt,
            sampling=replace(sampling, seed=seed),
            adapter=adapter,
            tenant=tenant,
            want_features=adapter is not None and index == 0,
        )
        for number, (prompt, sampling) in enumerate(zip(prompts, samplings, strict=True))
        for index, seed in enumerate(seeds(sampling.seed, per_prompt))
    ]


def _shed(gateway: Gateway) -> None:
    """Turn a request away before any work when the queue is full; the engine decides finally when it is submitted."""
    stats, settings = gateway.engine.stats(), gateway.settings
    if stats.running + stats.waiting >= settings.max_batch + settings.max_waiting:
        raise Busy("the queue is full")


def _tokenise(gateway: Gateway, body: Body, messages: list[dict[str, str]] | None) -> Sequence[tuple[int, ...]]:
    base = gateway.base
    if messages is not None:
        return [tuple(base.render(messages))]
    assert isinstance(body, CompletionRequest)
    return [
        prompt if isinstance(prompt, tuple) else tuple(base.tokenizer.encode(prompt))
        for prompt in prompts_of(body, base.profile.vocab_size)
    ]
