"""The engine: one thread that turns requests into tokens, step by step, for every adapter at once. Knows no HTTP.

    submit -> inbox -> waiting -> running -> finished          schedule -> forward -> sample -> emit

A row that fails, whatever the reason, fails alone. Only the engine thread touches the scheduler and the tensors.
"""

from __future__ import annotations

import atexit
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch

from registry.errors import Busy, Conflict, Corrupt, Invalid, LorimerError, Unavailable
from registry.settings import Settings
from serving.adapter import LoadedAdapter
from serving.admission import admissible
from serving.answer import Answer
from serving.base import Base
from serving.collect import Collector
from serving.detokenizer import Detokenizer
from serving.forward import Forward, Output
from serving.grammar import Grammars
from serving.regions import Regions
from serving.request import Completion, OnEvent, Reason, Request
from serving.sampler import choose
from serving.scheduler import Chunk, Scheduler
from serving.stats import EngineStats

OnFault: TypeAlias = Callable[[LoadedAdapter, LorimerError], None]
"""Told, on the engine's thread, of an adapter that failed a request. Must not block."""

logger = logging.getLogger("lorimer.engine")


class Engine:
    """Continuous batching over one base. `submit` from any thread; events arrive on the engine's thread."""

    def __init__(
        self,
        base: Base,
        *,
        max_batch: int = 32,
        max_waiting: int = 256,
        prefill_tokens: int = 512,
        kv_tokens: int = 65_536,
        max_context: int = 0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_fault: OnFault | None = None,
    ) -> None:
        regions = Regions(kv_tokens)
        if not regions.largest:
            raise Invalid(f"kv_tokens={kv_tokens} is too small to hold any row", param="kv_tokens")
        self.base = base
        self.grammars = Grammars(base)
        self.max_context = min(max_context or base.profile.context_length, base.profile.context_length, regions.largest)
        self._max_open = max_batch + max_waiting
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_fault = on_fault
        self._forward = Forward(base, regions.total)
        self._scheduler = Scheduler(regions, max_batch, prefill_tokens)
        self._stats = EngineStats(kv_total=regions.total)
        self._wake = threading.Condition()
        self._open: dict[str, Answer] = {}
        self._inbox: list[Answer] = []
        self._aborted: set[str] = set()
        self._closing = False
        self._thread: threading.Thread | None = None

    @classmethod
    def from_settings(cls, base: Base, settings: Settings, on_fault: OnFault | None = None) -> Engine:
        return cls(
            base,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            prefill_tokens=settings.prefill_tokens,
            kv_tokens=settings.kv_tokens,
            max_context=settings.max_context,
            on_fault=on_fault,
        )

    def start(self) -> None:
        """Begin to serve. Harmless when already started."""
        with self._wake:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # a thread inside torch when Python ends would abort the process

    def close(self) -> None:
        """Abort what is open, emit its last events, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        atexit.unregister(self.close)
        if self._thread is None:
            self._abort_all()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether the engine's thread takes requests."""
        return self._thread is not None and self._thread.is_alive() and not self._closing

    def submit(self, request: Request, on_event: OnEvent) -> None:
        """Queue a request. `on_event` is called on the engine's thread and must not block."""
        admissible(request, self.base.profile.vocab_size, self.max_context)
        answer = self._answer(request, on_event)
        with self._wake:
            if self._closing:
                raise Unavailable("the engine is shutting down")
            if len(self._open) >= self._max_open:
                raise Busy(f"the queue is full: {len(self._open)} requests are open")
            if request.id in self._open:
                raise Conflict(f"request {request.id} is already open")
            self._open[request.id] = answer
            self._inbox.append(answer)
            self._wake.notify_all()

    def abort(self, request_id: str) -> None:
        """Drop a request in whatever state it is, within a step; unknown or finished ids are ignored."""
        with self._wake:
            if request_id in self._open:
                self._aborted.add(request_id)
                self._wake.notify_all()

    def run(self, requests: Iterable[Request], progress: Callable[[int, int], None] | None = None) -> list[Completion]:
        """Answer all requests and wait; answers in the order of the requests. Starts the engine if need be."""
        self.start()
        collector = Collector(list(requests), progress)
        return collector.run(self.submit)

    def stats(self) -> EngineStats:
        with self._wake:
            running = len(self._scheduler.running)
            return replace(
                self._stats,
                running=running,
                waiting=max(len(self._open) - running, 0),
                kv_used=self._scheduler.regions.used,
                preemptions=self._scheduler.num_preemptions,
            )

    def reset_peak(self) -> None:
        with self._wake:
            self._stats = replace(self._stats, peak_distinct_adapters=0)

    def check_integrity(self) -> None:
        """Our own invariants. For tests and idle moments: call it only while no step is running."""
        self._scheduler.check_integrity()

    def _answer(self, request: Request, on_event: OnEvent) -> Answer:
        sampling = request.sampling
        own = frozenset() if sampling.ignore_eos else self.base.eos_token_ids
        return Answer(
            tokens=[*range(-1, -1 - request.num_virtual, -1), *request.prompt],
            max_length=request.num_virtual + len(request.prompt) + sampling.max_tokens,
            request=request,
            on_event=on_event,
            detokenizer=Detokenizer(self.base.tokenizer.backend_tokenizer, sampling.stop),
            end_tokens=own | frozenset(sampling.stop_token_ids),
            seed=self._rng.getrandbits(64) if sampling.seed is None else sampling.seed,
            arrived_at=self._clock(),
            clock=self._clock,
            matcher=sampling.grammar.matcher() if sampling.grammar else None,
        )

    # The engine's thread, from here on.

    def _serve(self) -> None:
        with torch.inference_mode():
            while self._collect():
                try:
                    self._step()
                except Exception as error:
                    logger.exception("a step failed outside its rows")
                    for answer in [row for row in self._scheduler.running if isinstance(row, Answer)]:
                        self._fail(answer, error)
        self._abort_all()

    def _abort_all(self) -> None:
        for answer in list(self._open.values()):
            self._finish(answer, "abort")

    def _collect(self) -> bool:
        """Wait for work, take in what arrived, let go what was aborted or came too late. False when closing."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing or self._inbox or self._aborted or self._has_work())
            arrived, self._inbox = self._inbox, []
            aborted, self._aborted = self._aborted, set()
            open_answers = list(self._open.values())
        for answer in arrived:
            self._scheduler.add(answer)
        now = self._clock()
        for answer in open_answers:
            deadline = answer.request.deadline
            if answer.request.id in aborted:
                self._finish(answer, "abort")
            elif deadline is not None and now >= deadline:
                self._finish(answer, "deadline")
        return not self._closing

    def _has_work(self) -> bool:
        return bool(self._scheduler.running or self._scheduler.waiting)

    def _step(self) -> None:
        """Schedule, compute, sample, emit."""
        started = self._clock()
        step = self._scheduler.schedule()
        if not step.chunks:
            return
        for chunk in step.chunks:
            _answer_of(chunk).begin()
        self._forward.move(step.moves)
        outputs = self._compute(step.chunks)
        self._count(step.chunks, self._clock() - started)
        for output in outputs:
            self._advance(output)

    def _compute(self, chunks: Sequence[Chunk]) -> list[Output]:
        """All chunks in one pass. If that fails, each alone, to find out which of them is to blame."""
        try:
            return [self._pass(chunks)]
        except Exception:
            logger.exception("a step of %d rows failed; trying its rows one by one", len(chunks))
        outputs = []
        for chunk in chunks:
            try:
                outputs.append(self._pass([chunk]))
            except Exception as error:  # noqa: BLE001 - whatever it is, it is this row's alone
                self._fail(_answer_of(chunk), error, fault=True)
        return outputs

    def _pass(self, chunks: Sequence[Chunk]) -> Output:
        answers = [_answer_of(chunk) for chunk in chunks]
        froms = [answer.logits_from(chunk) for answer, chunk in zip(answers, chunks, strict=True)]
        return self._forward(chunks, [answer.request.adapter for answer in answers], froms)

    def _advance(self, output: Output) -> None:
        """Give every row what the pass computed for it; rows whose prompt is complete get their next token."""
        sampling: list[tuple[Answer, torch.Tensor]] = []
        for chunk, logits, hidden in zip(output.chunks, output.logits, output.hidden, strict=True):
            answer, samples = _answer_of(chunk), chunk.samples
            answer.observe(chunk, logits, hidden, self.base.input_embeddings)
            self._scheduler.advance(chunk)
            if samples and answer.request.sampling.max_tokens == 0:
                self._finish(answer, "length")
            elif samples:
                sampling.append((answer, logits[-1]))
        if sampling:
            self._sample(sampling)

    def _sample(self, rows: Sequence[tuple[Answer, torch.Tensor]]) -> None:
        logits = torch.stack([row for _, row in rows])
        for (answer, _), choice in zip(rows, choose(logits, [answer.draw() for answer, _ in rows]), strict=True):
            if choice is None:
                self._fail(answer, Corrupt(f"{_blame(answer)} gave numbers that are not finite"), fault=True)
                continue
            try:
                reason = answer.take(choice)
            except Exception as error:  # noqa: BLE001 - a listener's fault is its own row's
                self._fail(answer, error)
                continue
            if reason is not None:
                self._finish(answer, reason)

    def _fail(self, answer: Answer, error: Exception, fault: bool = False) -> None:
        """End one row with an error and leave nothing of its numbers in the cache."""
        logger.error("request %s failed: %s", answer.request.id, error)
        if answer.region is not None:
            self._forward.scrub(answer.region)
        known = error if isinstance(error, LorimerError) else Unavailable(f"{_blame(answer)} failed: {error}")
        self._stats = replace(self._stats, failed_rows=self._stats.failed_rows + 1)
        if fault and self._on_fault is not None and answer.request.adapter is not None:
            self._on_fault(answer.request.adapter, known)  # before anybody is told, who might ask again
        self._finish(answer, "error", known)

    def _finish(self, answer: Answer, reason: Reason, error: LorimerError | None = None) -> None:
        self._scheduler.remove(answer)
        with self._wake:
            self._open.pop(answer.request.id, None)
        try:
            answer.on_event(answer.finished(reason, error))
        except Exception:
            logger.exception("the listener of request %s failed", answer.request.id)

    def _count(self, chunks: Sequence[Chunk], seconds: float) -> None:
        adapters = {_answer_of(chunk).request.adapter for chunk in chunks} - {None}
        prompt = sum(chunk.num_tokens for chunk in chunks if chunk.start < _answer_of(chunk).prompt_end)
        sampled = sum(chunk.samples for chunk in chunks)
        with self._wake:
            self._stats = self._stats.after_step(seconds, len(adapters), prompt, sampled)


def _answer_of(chunk: Chunk) -> Answer:
    assert isinstance(chunk.row, Answer)
    return chunk.row


def _blame(answer: Answer) -> str:
    adapter = answer.request.adapter
    return f"adapter {adapter.name} ({adapter.digest[:19]})" if adapter else "the base"
