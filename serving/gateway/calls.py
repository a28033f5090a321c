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

from registry.errors import Busy, Corrupt
from serving.gateway.chat_dialect import ChatDialect
from serving.gateway.choosing import Choice
from serving.gateway.dialects import Dialect, usage_of
from serving.gateway.generation import Generation
from serving.gateway.leasing import lease_of
from serving.gateway.prompts import Prompt, tokenise
from serving.gateway.text_dialect import TextDialect
from serving.gateway.trace import Trace
from serving.gateway.translate import check_stream, grammar_of, messages_of, refuse_unsupported, sampling_of, seeds
from serving.gateway.wire.answer import Answer
from serving.gateway.wire.chat import ChatRequest, ChunkChoice
from serving.gateway.wire.completion import CompletionRequest, TextChoice
from serving.gateway.wire.generation import Usage
from serving.grammar import Grammar
from serving.lease import Lease
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


@dataclass(frozen=True, eq=False)
class _Asked:
    """A request, resolved and tokenised."""

    body: Body
    choice: Choice
    prompts: Sequence[Prompt]
    grammar: Grammar | None

    @property
    def per_prompt(self) -> int:
        return self.body.n or 1

    @property
    def echoes(self) -> bool:
        return isinstance(self.body, CompletionRequest) and bool(self.body.echo)

    def samplings(self, context_length: int) -> list[Sampling]:
        """Invalid where a prompt and its answer cannot fit."""
        return [sampling_of(self.body, len(prompt.ids), context_length, self.grammar) for prompt in self.prompts]


async def begin(gateway: Gateway, body: Body, trace: Trace, session: str | None) -> Call:
    """Start answering; every refusal happens here, before a first byte is sent."""
    refuse_unsupported(body)
    check_stream(body)
    _shed(gateway)
    with trace.measure("resolve"):
        choice = await gateway.in_thread(_choose, gateway, body)
    trace.fields |= {"model": choice.requested, "adapter": choice.label, "digest": choice.digest}
    for digest in choice.digests:
        gateway.quarantine.check(digest)
    with trace.measure("tokenise"):
        prompts = await gateway.in_text_thread(tokenise, gateway.base, body)
        grammar = await gateway.in_thread(grammar_of, body, gateway.engine.grammars) if body.response_format else None
    _Asked(body, choice, prompts, grammar).samplings(gateway.engine.max_context)
    with trace.measure("load"):
        choice, lease = await _lease(gateway, choice, trace)
    asked = _Asked(body, choice, prompts, grammar)
    if lease is not None:
        gateway.metrics.load.labels(gateway.metrics.adapters.of(choice.label)).observe(trace.seconds["load"])
    try:
        call = _call(gateway, asked, lease, trace, session)
    except BaseException:
        if lease is not None:
            lease.release()
        raise
    gateway.recorder.remember(call)
    call.generation.submit()
    return call


def _shed(gateway: Gateway) -> None:
    """Turn a request away before any work when the queue is full; the engine decides finally when it is submitted."""
    stats, settings = gateway.engine.stats(), gateway.settings
    if stats.running + stats.waiting >= settings.max_batch + settings.max_waiting:
        raise Busy("the queue is full")


def _choose(gateway: Gateway, body: Body) -> Choice:
    return gateway.catalog.mix(body.model, body.adapters) if body.adapters else gateway.catalog.draw(body.model)


async def _lease(gateway: Gateway, choice: Choice, trace: Trace) -> tuple[Choice, Lease | None]:
    """What was chosen; or, where its stored bytes are damaged, what the alias meant before, and that is told."""
    try:
        return choice, await lease_of(choice, gateway.residency, gateway.base)
    except Corrupt as error:
        earlier = await gateway.in_thread(gateway.catalog.earlier, choice)
        if earlier is None:
            raise
        gateway.quarantine.check(earlier.fingerprint)
        gateway.log.error("damaged", model=choice.requested, error=str(error), served=earlier.digest)
        trace.fields |= {"digest": earlier.digest, "instead_of": choice.digest}
        return earlier, await lease_of(earlier, gateway.residency, gateway.base)


def _call(gateway: Gateway, asked: _Asked, lease: Lease | None, trace: Trace, session: str | None) -> Call:
    body = asked.body
    if isinstance(body, ChatRequest):
        dialect: Dialect = ChatDialect(gateway.spell)
    else:
        dialect = TextDialect(gateway.spell, asked.prompts if asked.echoes else (), asked.per_prompt)
    call_id = f"{dialect.id_prefix}-{uuid.uuid4().hex}"

    def ended() -> None:
        if lease is not None:
            lease.release()
        gateway.recorder.record(call)

    call = Call(
        id=call_id,
        created=int(time.time()),
        session=session or body.user or body.safety_identifier or call_id,
        choice=asked.choice,
        dialect=dialect,
        num_prompts=len(asked.prompts),
        messages=messages_of(body) if isinstance(body, ChatRequest) else None,
        trace=trace,
        generation=Generation(gateway.engine, _requests(gateway, asked, call_id, lease), ended),
    )
    return call


def _requests(gateway: Gateway, asked: _Asked, call_id: str, lease: Lease | None) -> list[Request]:
    """One row for each answer asked for; the first answer to a prompt brings its features and its scores."""
    adapter = lease.adapter if lease is not None else None
    samplings = asked.samplings(gateway.engine.max_context - (adapter.num_virtual if adapter else 0))
    scores = asked.echoes and samplings[0].logprobs is not None
    return [
        Request(
            id=f"{call_id}-{number * asked.per_prompt + index}",
            prompt=prompt.ids,
            sampling=replace(sampling, seed=seed),
            adapter=adapter,
            tenant=gateway.registry.tenant,
            score_from=0 if scores and index == 0 else None,
            prompt_logprobs=sampling.logprobs if scores and index == 0 else None,
            want_features=asked.choice.version is not None and index == 0,
        )
        for number, (prompt, sampling) in enumerate(zip(asked.prompts, samplings, strict=True))
        for index, seed in enumerate(seeds(sampling.seed, asked.per_prompt))
    ]
