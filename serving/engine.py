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
from torch import Tensor

from registry.errors import Invalid, LorimerError
from registry.settings import Settings
from serving.adapter import LoadedAdapter
from serving.admission import admissible
from serving.answer import Answer
from serving.base import Base
from serving.blame import Fault, answer_of, compute, failure, not_finite
from serving.collect import Collector
from serving.drawing import sample
from serving.finite import is_finite
from serving.forward import Forward, Output
from serving.grammar import Grammars
from serving.inbox import Inbox
from serving.regions import Regions
from serving.request import Completion, OnEvent, Reason, Request
from serving.sampler import Choice
from serving.scheduler import Scheduler, Step
from serving.stats import EngineStats

OnFault: TypeAlias = Callable[[LoadedAdapter, LorimerError], None]
"""Told, on the engine's thread, of an adapter that failed a request. Must not block."""
CACHED_SHARE = 4
"""One position in so many may be kept for prefixes computed before, unless told otherwise."""

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
        prefix_tokens: int | None = None,
        max_context: int = 0,
        clock: Callable[[], float] = time.monotonic,
        rng: random.Random | None = None,
        on_fault: OnFault | None = None,
        between_steps: Callable[[float], None] = lambda _: None,
    ) -> None:
        """`on_fault` hears of adapters that give no numbers; `between_steps` comes after each step,
        with its seconds, and at the end."""
        regions = Regions(kv_tokens)
        kept = kv_tokens // CACHED_SHARE if prefix_tokens is None else prefix_tokens
        if not 0 <= kept <= kv_tokens:
            raise Invalid(f"prefix_tokens={kept} is not within the {kv_tokens} of kv_tokens", param="prefix_tokens")
        if not regions.largest:
            raise Invalid(f"kv_tokens={kv_tokens} is too small to hold any row", param="kv_tokens")
        self.base = base
        self.grammars = Grammars(base)
        self.max_context = min(max_context or base.profile.context_length, base.profile.context_length, regions.largest)
        self._clock = clock
        self._rng = rng or random.Random()
        self._on_fault = on_fault
        self._between_steps = between_steps
        self._forward = Forward(base, regions.total)
        self._scheduler = Scheduler(regions, max_batch, prefill_tokens, kept)
        self._inbox = Inbox(max_batch + max_waiting, clock)
        self._stats = EngineStats(kv_total=regions.total)
        self._guard = threading.Lock()
        self._thread: threading.Thread | None = None

    @classmethod
    def from_settings(
        cls,
        base: Base,
        settings: Settings,
        on_fault: OnFault | None = None,
        between_steps: Callable[[float], None] = lambda _: None,
    ) -> Engine:
        return cls(
            base,
            max_batch=settings.max_batch,
            max_waiting=settings.max_waiting,
            prefill_tokens=settings.prefill_tokens,
            kv_tokens=settings.kv_tokens,
            prefix_tokens=settings.prefix_tokens,
            max_context=settings.max_context,
            on_fault=on_fault,
            between_steps=between_steps,
        )

    def start(self) -> None:
        """Begin to serve. Harmless when already started."""
        with self._guard:
            if self._thread is None:
                self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # a thread inside torch when Python ends would abort the process

    def close(self) -> None:
        """Abort what is open, emit its last events, and end the thread."""
        self._inbox.close()
        atexit.unregister(self.close)
        if self._thread is None:
            self._abort_all()
        elif self._thread is not threading.current_thread():
            self._thread.join()

    @property
    def is_running(self) -> bool:
        """Whether the engine's thread takes requests."""
        return self._thread is not None and self._thread.is_alive() and not self._inbox.is_closing

    @property
    def is_busy(self) -> bool:
        """Whether rows run or wait, as far as another thread can tell; an engine that stopped has none."""
        return self.is_running and self._scheduler.has_work

    def submit(self, request: Request, on_event: OnEvent) -> None:
        """Queue a request. `on_event` is called on the engine's thread and must not block."""
        admissible(request, self.base.profile.vocab_size, self.max_context)
        seed = self._rng.getrandbits(64) if request.sampling.seed is None else request.sampling.seed
        self._inbox.put(Answer.to(request, on_event, self.base, seed, self._clock))

    def abort(self, request_id: str) -> None:
        """Drop a request in whatever state it is, within a step; unknown or finished ids are ignored."""
        self._inbox.abort(request_id)

    def run(self, requests: Iterable[Request], progress: Callable[[int, int], None] | None = None) -> list[Completion]:
        """Answer all requests and wait; answers in the order of the requests. Starts the engine if need be."""
        self.start()
        collector = Collector(list(requests), progress)
        return collector.run(self.submit)

    def stats(self) -> EngineStats:
        scheduler, running = self._scheduler, len(self._scheduler.running)
        with self._guard:
            return replace(
                self._stats,
                running=running,
                waiting=max(len(self._inbox) - running, 0),
                kv_used=scheduler.regions.used,
                kv_cached=scheduler.regions.cached,
                preemptions=scheduler.num_preemptions,
                prefix_hits=scheduler.num_prefix_hits,
                prefix_tokens_reused=scheduler.num_tokens_reused,
            )

    def begun(self) -> frozenset[str]:
        """The ids of the open requests that have had a place in the batch."""
        return frozenset(each.request.id for each in self._inbox.open() if each.started_at is not None)

    def reset_peak(self) -> None:
        with self._guard:
            self._stats = replace(self._stats, peak_distinct_adapters=0)

    def check_integrity(self) -> None:
        """Our own invariants. The engine checks them when it goes idle; call it only while no step is running."""
        self._scheduler.check_integrity()

    # The engine's thread, from here on.

    def _serve(self) -> None:
        try:
            with torch.inference_mode():
                while self._collect():
                    started = self._clock()
                    self._step_or_fail()
                    self._between_steps(self._clock() - started)
        except Exception:
            logger.critical("the engine does not trust its own state and stops", exc_info=True)
        finally:
            self._inbox.close()
            self._abort_all()

    def _abort_all(self) -> None:
        """The last events are passed on, too."""
        for answer in self._inbox.open():
            try:
                self._finish(answer, "abort")
            except Exception:
                logger.exception("request %s could not be taken out in order", answer.request.id)
        try:
            self._between_steps(0.0)
        except Exception:
            logger.exception("the last events of the engine were not passed on")

    def _collect(self) -> bool:
        """Wait for work, take in what arrived, let go what was aborted or came too late. False when closing."""
        idle = not self._scheduler.has_work
        if idle:
            self.check_integrity()
        arrivals = self._inbox.take(wait=idle)
        if arrivals is None:
            return False
        for answer in arrivals.arrived:
            self._scheduler.add(answer)
        for answer, reason in arrivals.ended:
            self._finish(answer, reason)
        return True

    def _step_or_fail(self) -> None:
        try:
            self._step()
        except Exception as error:
            logger.exception("a step failed outside its rows")
            for answer in [row for row in self._scheduler.running if isinstance(row, Answer)]:
                self._fail(Fault(answer, failure(answer, error), by_adapter=False))
            self._scheduler.cache.clear()

    def _step(self) -> None:
        """Schedule, compute, sample, emit."""
        started = self._clock()
        step = self._scheduler.schedule()
        if not step.chunks:
            return
        for chunk in step.chunks:
            answer_of(chunk).begin()
        self._forward.move(step.moves)
        outputs, faults = compute(self._forward, step.chunks)
        self._count(step, self._clock() - started)
        for output in outputs:
            ready = self._advance(output, faults)
            self._emit(*sample(ready, faults), faults)
        for fault in faults:
            self._fail(fault)

    def _advance(self, output: Output, faults: list[Fault]) -> list[tuple[Answer, Tensor]]:
        """Give every row what the pass computed for it. Returns whose prompt is complete, and what to sample from."""
        ready = []
        for chunk, logits, hidden in zip(output.chunks, output.logits, output.hidden, strict=True):
            answer, samples = answer_of(chunk), chunk.samples
            samples = samples and answer.request.sampling.max_tokens > 0
            # A decoding row's logits tell. Of a prompt all tokens are asked: the last may not look back to all others.
            if (not samples or chunk.num_tokens > 1) and not is_finite(hidden):
                faults.append(not_finite(answer))
                continue
            answer.observe(chunk, logits, hidden, self.base.input_embeddings)
            self._scheduler.advance(chunk)
            if samples:
                ready.append((answer, logits[-1]))
            elif not answer.num_pending:
                self._finish(answer, "length")
        return ready

    def _emit(self, answers: Sequence[Answer], choices: Sequence[Choice | None], faults: list[Fault]) -> None:
        for answer, choice in zip(answers, choices, strict=True):
            if choice is None:
                faults.append(not_finite(answer))
                continue
            try:
                reason = answer.take(choice)
            except Exception as error:  # noqa: BLE001 - a listener's fault is its own row's
                faults.append(Fault(answer, failure(answer, error), by_adapter=False))
                continue
            if reason is not None:
                self._finish(answer, reason)

    def _fail(self, fault: Fault) -> None:
        """End one row with an error; nothing of its numbers stays in the cache or is reused."""
        answer, adapter = fault.answer, fault.answer.request.adapter
        logger.error("request %s failed: %s", answer.request.id, fault.error)
        if answer.region is not None:
            self._forward.scrub(answer.region)
        with self._guard:
            self._stats = replace(self._stats, failed_rows=self._stats.failed_rows + 1)
        if fault.by_adapter and adapter is not None and self._on_fault is not None:
            self._on_fault(adapter, fault.error)  # before anybody is told, who might ask again
        self._finish(answer, "error", fault.error)

    def _finish(self, answer: Answer, reason: Reason, error: LorimerError | None = None) -> None:
        self._scheduler.remove(answer, keep=error is None)
        self._inbox.release(answer)
        try:
            answer.on_event(answer.finished(reason, error))
        except Exception:
            logger.exception("the listener of request %s failed", answer.request.id)

    def _count(self, step: Step, seconds: float) -> None:
        adapters = {answer_of(chunk).request.adapter for chunk in step.chunks} - {None}
        prompt = sum(chunk.num_prompt_tokens for chunk in step.chunks)
        sampled = sum(chunk.samples for chunk in step.chunks)
        with self._guard:
            self._stats = self._stats.after_step(seconds, len(adapters), prompt, sampled)
