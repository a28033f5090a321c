"""One generation call: from a question to rows in the engine, under one identity that never changes.

`begin` admits, resolves, tokenises, leases and submits, each blocking step on a thread. Writes no HTTP.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from registry.errors import Corrupt
from serving.gateway.admission import Admitted
from serving.gateway.caller import Caller
from serving.gateway.choosing import Choice
from serving.gateway.dialect.kept import Kept
from serving.gateway.dialect.prompts import Prompt
from serving.gateway.dialect.question import Question, names_of
from serving.gateway.dialect.sampling import seeds
from serving.gateway.generation import Generation, Row
from serving.gateway.leasing import lease_of
from serving.gateway.principal import Principal
from serving.gateway.tenancy import Tenant
from serving.gateway.trace import Trace
from serving.grammar import Grammar
from serving.lease import Lease
from serving.request import Request, Sampling, Usage

if TYPE_CHECKING:
    from serving.gateway.gateway import Gateway


@dataclass(eq=False)
class Call:
    """What stays the same over all chunks and records of one answer."""

    id: str
    created: int
    session: str
    tenant: Tenant
    principal: Principal
    choice: Choice
    question: Question
    prompts: Sequence[Prompt]
    kept: Sequence[Kept]
    """What capture keeps of the question, where the adapter's owner allows any of it to be kept."""
    trace: Trace
    generation: Generation

    @property
    def num_prompts(self) -> int:
        return len(self.prompts)

    def record_id(self, row: Row) -> str:
        """Under which id a row is on record: the call's own, unless it had several prompts."""
        return self.id if self.num_prompts == 1 else row.request.id

    def headers(self) -> dict[str, str]:
        return {**self.choice.headers(), "server-timing": self.trace.server_timing()}

    def usage(self) -> Usage:
        """What was read and written; a prompt answered several times counts once."""
        rows = self.generation.rows
        written = sum(row.finished.usage.completion_tokens for row in rows if row.finished is not None)
        firsts = rows[:: self.question.per_prompt]
        cached = sum(row.finished.usage.cached_tokens for row in firsts if row.finished is not None)
        return Usage(sum(len(row.request.prompt) for row in firsts), written, cached)


@dataclass(frozen=True, eq=False)
class _Asked:
    """A question, resolved and tokenised."""

    question: Question
    choice: Choice
    prompts: Sequence[Prompt]
    grammar: Grammar | None
    kept: Sequence[Kept]

    def samplings(self, context_length: int) -> list[Sampling]:
        """Invalid where a prompt and its answer cannot fit."""
        return [self.question.sampling(len(prompt.ids), context_length, self.grammar) for prompt in self.prompts]


async def begin(gateway: Gateway, caller: Caller, question: Question) -> Call:
    """Start answering; every refusal happens here, before a first byte is sent."""
    question.check(gateway.base)
    for model in names_of(question):
        caller.principal.require_use(model)
    admitted = gateway.admission.admit(caller, question.demand())
    try:
        call = await caller.bound(_prepare(gateway, caller, question, admitted))
    except BaseException:
        admitted.end(0, ran=False)
        raise
    gateway.recorder.remember(call)
    call.generation.submit()
    return call


async def _prepare(gateway: Gateway, caller: Caller, question: Question, admitted: Admitted) -> Call:
    """Resolve, tokenise and lease; a call that is returned ends what it holds itself."""
    trace = caller.trace
    with trace.measure("resolve"):
        choice = await gateway.in_thread(_choose, caller, question)
    trace.fields |= {"model": choice.requested, "adapter": choice.label, "digest": choice.digest}
    for digest, name in choice.names.items():
        gateway.quarantine.check(digest, name)
    with trace.measure("tokenise"):
        prompts = await gateway.reading.prompts(question)
        kept = await gateway.reading.run(question.kept, 0) if choice.captured else []
        grammar = await gateway.in_thread(question.grammar, gateway.engine.grammars) if question.is_bound else None
    _Asked(question, choice, prompts, grammar, kept).samplings(gateway.engine.max_context)
    with trace.measure("load"):
        choice, lease = await _lease(gateway, caller, choice)
    try:
        return _call(gateway, caller, _Asked(question, choice, prompts, grammar, kept), lease, admitted)
    except BaseException:
        if lease is not None:
            lease.release()
        raise


def _choose(caller: Caller, question: Question) -> Choice:
    """Sticky by session, else by user; a request that names neither draws anew."""
    sticky = caller.session or next(iter(question.people), None)
    if question.adapters:
        return caller.tenant.catalog.mix(question.model, question.adapters, sticky)
    choice = caller.tenant.catalog.draw(question.model, sticky)
    if choice.version is not None:
        caller.tenant.pseudonyms.prepare()
    return choice


async def _lease(gateway: Gateway, caller: Caller, choice: Choice) -> tuple[Choice, Lease | None]:
    """What was chosen; or, where its stored bytes are damaged, what the alias meant before, and that is told."""
    try:
        return choice, await lease_of(choice, gateway.residency, gateway.base)
    except Corrupt as error:
        earlier = await gateway.in_thread(caller.tenant.catalog.earlier, choice)
        if earlier is None:
            raise
        for digest, name in earlier.names.items():
            gateway.quarantine.check(digest, name)
        gateway.log.error("damaged", model=choice.requested, error=str(error), served=earlier.digest)
        caller.trace.fields |= {"digest": earlier.digest, "instead_of": choice.digest}
        return earlier, await lease_of(earlier, gateway.residency, gateway.base)


def _call(gateway: Gateway, caller: Caller, asked: _Asked, lease: Lease | None, admitted: Admitted) -> Call:
    question = asked.question
    call_id = f"{question.id_prefix}-{uuid.uuid4().hex}"

    def ended() -> None:
        usage = call.usage()
        admitted.end(usage.prompt_tokens + usage.completion_tokens, ran=True)
        if lease is not None:
            lease.release()
        gateway.recorder.record(call)

    requests = _requests(gateway, caller, asked, call_id, lease)
    call = Call(
        id=call_id,
        created=int(time.time()),
        session=caller.session or next(iter(question.people), call_id),
        tenant=caller.tenant,
        principal=caller.principal,
        choice=asked.choice,
        question=question,
        prompts=asked.prompts,
        kept=asked.kept,
        trace=caller.trace,
        generation=Generation(gateway.engine, gateway.post, requests, ended, question.window),
    )
    return call


def _requests(gateway: Gateway, caller: Caller, asked: _Asked, call_id: str, lease: Lease | None) -> list[Request]:
    """One row for each answer asked for; the first answer to a prompt brings its features and its scores."""
    question, adapter = asked.question, lease.adapter if lease is not None else None
    samplings = asked.samplings(gateway.engine.max_context - (adapter.num_virtual if adapter else 0))
    looked_at = question.wants_features or asked.choice.version is not None
    return [
        Request(
            id=f"{call_id}-{number * question.per_prompt + index}",
            prompt=prompt.ids,
            sampling=replace(sampling, seed=seed),
            adapter=adapter,
            tenant=caller.tenant.name,
            score_from=0 if question.scores(index) else None,
            prompt_logprobs=sampling.logprobs if question.scores(index) else None,
            want_features=looked_at and index == 0,
            deadline=None if caller.deadline is None else caller.deadline.at,
        )
        for number, (prompt, sampling) in enumerate(zip(asked.prompts, samplings, strict=True))
        for index, seed in enumerate(seeds(sampling.seed, question.per_prompt))
    ]
