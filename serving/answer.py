"""A request on its way through the engine: its tokens, text, features and clock. Decides when an answer is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from registry.errors import LorimerError
from serving.detokenizer import Detokenizer
from serving.request import Features, Finished, OnEvent, Reason, Request, Timings, Token, Usage
from serving.sampler import Choice, Draw, score
from serving.scheduler import Chunk, Row


@dataclass(eq=False, kw_only=True)
class Answer(Row):
    request: Request
    on_event: OnEvent
    detokenizer: Detokenizer
    end_tokens: frozenset[int]
    """The base's own and the request's stop tokens; whichever comes ends the answer."""
    seed: int
    arrived_at: float
    clock: Callable[[], float]
    started_at: float | None = None
    first_token_at: float | None = None
    _hidden_sum: Tensor | None = None
    _embedding_mean: Tensor | None = None
    _prompt_logprobs: list[float] = field(default_factory=list)

    @property
    def num_prompt(self) -> int:
        return len(self.request.prompt)

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.num_prompt

    def begin(self) -> None:
        """The row has a seat: its waiting is over. Preemption does not make it wait anew."""
        if self.started_at is None:
            self.started_at = self.clock()

    def logits_from(self, chunk: Chunk) -> int:
        """The first position of the chunk whose logits are needed: to sample from, or to score the prompt with."""
        first = chunk.stop - 1 if chunk.samples else chunk.stop
        if self.request.score_from is not None and chunk.start < self.num_prompt:
            first = min(first, max(chunk.start, self._first_scored - 1))
        return first

    def observe(self, chunk: Chunk, logits: Tensor, hidden: Tensor, embeddings: Tensor) -> None:
        """Take from the pass what the request asked to know of its prompt. logits: from `logits_from` on."""
        if chunk.start >= self.num_prompt:
            return
        if chunk.start == 0:  # the first time, or once more after preemption
            self._hidden_sum, self._prompt_logprobs = None, []
        if self.request.want_features:
            self._add_features(chunk, hidden, embeddings)
        if self.request.score_from is not None:
            self._add_scores(chunk, logits)

    def draw(self) -> Draw:
        sampling = self.request.sampling
        early = self.num_generated < sampling.min_tokens
        return Draw(sampling, self.tokens, self.num_prompt, self.seed, tuple(self.end_tokens) if early else ())

    def take(self, choice: Choice) -> Reason | None:
        """Append the chosen token and tell the listener; the reason if the answer is now over."""
        if self.first_token_at is None:
            self.first_token_at = self.clock()
        self.tokens.append(choice.token)
        text = self.detokenizer.add(choice.token)
        reason: Reason | None = None
        if choice.token in self.end_tokens or self.detokenizer.stopped:
            reason = "stop"
        elif self.num_generated >= self.request.sampling.max_tokens:
            reason = "length"
        if reason is not None:
            text += self.detokenizer.flush()
        self.on_event(Token(choice.token, text, choice.logprob, choice.top))
        return reason

    def finished(self, reason: Reason, error: LorimerError | None = None) -> Finished:
        whole = reason in ("stop", "length")
        return Finished(
            reason=reason,
            usage=Usage(self.num_prompt, self.num_generated),
            timings=self._timings(),
            error=error,
            features=self._features() if whole else None,
            prompt_logprobs=tuple(self._prompt_logprobs) if whole and self.request.score_from is not None else None,
        )

    @property
    def _first_scored(self) -> int:
        """The first token has nothing before it to be predicted from."""
        return max(self.request.score_from or 0, 1)

    def _add_features(self, chunk: Chunk, hidden: Tensor, embeddings: Tensor) -> None:
        if chunk.start == 0:
            prompt = torch.tensor(self.request.prompt, device=embeddings.device)
            self._embedding_mean = embeddings.index_select(0, prompt).float().mean(dim=0)
        total = hidden[: max(self.num_prompt - chunk.start, 0)].float().sum(dim=0)
        self._hidden_sum = total if self._hidden_sum is None else self._hidden_sum + total

    def _add_scores(self, chunk: Chunk, logits: Tensor) -> None:
        """The logits at position p score the token at p + 1."""
        first = self.logits_from(chunk)
        targets: Sequence[int] = self.request.prompt[first + 1 : chunk.stop + 1]
        if first + 1 >= self._first_scored and targets:
            self._prompt_logprobs += score(logits[: len(targets)], targets)

    def _features(self) -> Features | None:
        if self._hidden_sum is None or self._embedding_mean is None:
            return None
        hidden_mean = (self._hidden_sum / self.num_prompt).cpu().numpy()
        return Features(self._embedding_mean.cpu().numpy(), hidden_mean, self.num_prompt)

    def _timings(self) -> Timings:
        now = self.clock()
        started = now if self.started_at is None else self.started_at
        first = now if self.first_token_at is None else self.first_token_at
        return Timings(started - self.arrived_at, max(first - started, 0.0), now - max(first, started))
