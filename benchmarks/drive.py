"""Closed-loop clients on an engine: each takes the next job, waits for its answer, and goes on. Knows no HTTP."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from serving.adapter import LoadedAdapter
from serving.engine import Engine
from serving.request import Event, Finished, Request, Sampling

ANSWER_S = 300.0

Lend = Callable[[str], AbstractContextManager[LoadedAdapter]]
"""An adapter by name, for as long as a request runs."""


@dataclass(frozen=True)
class Job:
    adapter: str | None
    prompt: tuple[int, ...]
    answer: int


@dataclass
class Stream:
    """One answer as it comes: when each token came, and why it ended."""

    id: str
    times: list[float] = field(default_factory=list)
    finished: Finished | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def on_event(self, event: Event) -> None:
        if isinstance(event, Finished):
            self.finished = event
            self.ended.set()
        else:
            self.times.append(time.perf_counter())

    def wait(self) -> Stream:
        """Until the answer is complete; any other end is an error."""
        if not self.ended.wait(ANSWER_S) or self.finished is None or self.finished.reason != "length":
            raise RuntimeError(f"a row did not run to its end: {self.finished}")
        return self


def submit(engine: Engine, id_: str, job: Job, adapter: LoadedAdapter | None) -> Stream:
    stream = Stream(id_)
    sampling = Sampling(max_tokens=job.answer, temperature=0, ignore_eos=True)
    engine.submit(Request(id=id_, prompt=job.prompt, sampling=sampling, adapter=adapter), stream.on_event)
    return stream


@dataclass(frozen=True)
class Outcome:
    tokens: int
    """Generated tokens."""
    seconds: float

    @property
    def rate(self) -> float:
        return self.tokens / self.seconds


def closed_loop(engine: Engine, jobs: Iterable[Job], clients: int, lend: Lend) -> Outcome:
    """Run all jobs, `clients` at a time."""
    queue: Iterator[tuple[int, Job]] = iter(enumerate(jobs))
    lock = threading.Lock()

    def client() -> int:
        tokens = 0
        while True:
            with lock:
                number, job = next(queue, (0, None))
            if job is None:
                return tokens
            if job.adapter is None:
                tokens += len(submit(engine, f"job-{number}", job, None).wait().times)
            else:
                with lend(job.adapter) as adapter:
                    tokens += len(submit(engine, f"job-{number}", job, adapter).wait().times)

    with ThreadPoolExecutor(clients) as threads:
        started = time.perf_counter()
        running = [threads.submit(client) for _ in range(clients)]
        tokens = sum(each.result() for each in running)
        return Outcome(tokens, time.perf_counter() - started)
