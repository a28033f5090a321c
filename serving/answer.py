"""A request on its way through the engine: its tokens, text, features and clock. Decides when an answer is over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from registry.errors import LorimerError
from serving.base import Base
from serving.detokenizer import Detokenizer
from serving.grammar import Matcher
from serving.request import Alternatives, Features, Finished, OnEvent, Reason, Request, Timings, Token, Usage
from serving.row import MARK, Owner, Row
from serving.sampler import Choice, Draw, score
from serving.scheduler import Chunk


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
    matcher: Matcher | None = None
    started_at: float | None = None
    first_token_at: float | None = None
    num_virtual: int = field(init=False)
    """The adapter's virtual tokens, at the head of the row. No usage, score, feature or penalty counts them."""
    num_cached: int = 0
    """Tokens of the prompt that were computed already when the row began."""
    _knows_prompt: bool = False
    """Everything asked of the prompt is known; computing it again after preemption adds nothing."""
    _hidden_sum: Tensor | None = None
    _embedding_mean: Tensor | None = None
    _scores: list[tuple[float, Alternatives]] = field(default_factory=list)

    @classmethod
    def to(cls, request: Request, on_event: OnEvent, base: Base, seed: int, clock: Callable[[], float]) -> Answer:
        """An answer that has just begun."""
        sampling = request.sampling
        own = frozenset() if sampling.ignore_eos else base.eos_token_ids
        return cls(
            tokens=[*range(-1, -1 - request.num_virtual, -1), *request.prompt],
            max_length=request.num_virtual + len(request.prompt) + sampling.max_tokens,
            owner=Owner(request.tenant, request.adapter.digest if request.adapter else ""),
            request=request,
            on_event=on_event,
            detokenizer=Detokenizer(base.tokenizer.backend_tokenizer, sampling.stop),
            end_tokens=own | frozenset(sampling.stop_token_ids),
            seed=seed,
            arrived_at=clock(),
            clock=clock,
            matcher=sampling.grammar.matcher() if sampling.grammar else None,
        )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.num_virtual = self.request.num_virtual

    @property
    def num_generated(self) -> int:
        return len(self.tokens) - self.prompt_end

    @property
    def leaves_marks(self) -> bool:
        return self.request.want_features

    def reusable(self, length: int, num_marks: int) -> int:
        """Not beyond the first scored token, and only up to a mark where the hidden states are summed up."""
        length = super().reusable(length, num_marks)
        if self._knows_prompt:
            return length
        if self.request.score_from is not None:
            length = min(length, self._first_scored - 1)
        if self.request.want_features:
            length = min(length // MARK, num_marks) * MARK
        return length

    def resume(self, length: int, marks: Sequence[object]) -> None:
        super().resume(length, marks)
        if self.started_at is None:
            self.num_cached = max(length - self.num_virtual, 0)
        if not self._knows_prompt:
            self._scores = []
            last = self.marks[-1] if self.marks and self.request.want_features else None
            self._hidden_sum = last if isinstance(last, Tensor) else None

    def begin(self) -> None:
        """The row has a seat: its waiting is over. Preemption does not make it wait anew."""
        if self.started_at is None:
            self.started_at = self.clock()

    def logits_from(self, chunk: Chunk) -> int:
        """The first position of the chunk whose logits are needed: to sample from, or to score the prompt with."""
        first = chunk.stop - 1 if chunk.samples else chunk.stop
        if self.request.score_from is not None and not self._knows_prompt:
            first = min(first, max(chunk.start, self._first_scored - 1))
        return first

    def observe(self, chunk: Chunk, logits: Tensor, hidden: Tensor, embeddings: Tensor) -> None:
        """Take from the pass what the request asked to know of its prompt. logits: from `logits_from` on."""
        if self._knows_prompt:
            return
        if self.request.want_features:
            self._add_features(chunk, hidden)
        if self.request.score_from is not None:
            self._add_scores(chunk, logits)
        if chunk.stop >= self.prompt_end:
            self._knows_prompt = True
            if self.request.want_features:
                prompt = torch.tensor(self.request.prompt, device=embeddings.device)
                self._embedding_mean = embeddings.index_select(0, prompt).float().mean(dim=0)

    def draw(self) -> Draw:
        sampling = self.request.sampling
        forbidden = tuple(self.end_tokens) if self.num_generated < sampling.min_tokens else ()
        allowed = None if self.matcher is None else self.matcher.allowed()
        return Draw(sampling, self.tokens, self.prompt_end, self.seed, forbidden, allowed)

    def take(self, choice: Choice) -> Reason | None:
        """Append the chosen token and tell the listener; the reason if the answer is now over."""
        if self.first_token_at is None:
            self.first_token_at = self.clock()
        self.tokens.append(choice.token)
        if self.matcher is not None:
            self.matcher.take(choice.token)
        text = self.detokenizer.add(choice.token, may_stop=self.num_generated >= self.request.sampling.min_tokens)
        reason: Reason | None = None
        if choice.token in self.end_tokens or self.detokenizer.stopped or (self.matcher and self.matcher.is_complete):
            reason = "stop"
        elif self.num_generated >= self.request.sampling.max_tokens:
            reason = "length"
        if reason is not None:
            text += self.detokenizer.flush()
        scores = tuple(self._scores) if self.request.score_from is not None and self.num_generated == 1 else None
        self.on_event(Token(choice.token, text, choice.logprob, choice.top, scores))
        return reason

    def finished(self, reason: Reason, error: LorimerError | None = None) -> Finished:
        whole = reason in ("stop", "length")
        scored = whole and self.request.score_from is not None
        compared = scored and self.request.prompt_logprobs is not None
        return Finished(
            reason=reason,
            usage=Usage(len(self.request.prompt), self.num_generated, self.num_cached),
            timings=self._timings(),
            error=error,
            features=self._features() if whole else None,
            prompt_logprobs=tuple(logprob for logprob, _ in self._scores) if scored else None,
            prompt_top=tuple(top for _, top in self._scores) if compared else None,
        )

    @property
    def _first_scored(self) -> int:
        """Place of the first scored token in the row. The prompt's first has nothing before it to be predicted from."""
        return self.num_virtual + max(self.request.score_from or 0, 1)

    def _add_features(self, chunk: Chunk, hidden: Tensor) -> None:
        """Sum the prompt's hidden states up, and leave a mark wherever one is due."""
        place, end = chunk.start, min(chunk.stop, self.prompt_end)
        while place < end:
            stop = min((place // MARK + 1) * MARK, end)
            real = slice(max(place, self.num_virtual) - chunk.start, stop - chunk.start)
            part = hidden[real].float().sum(dim=0)
            self._hidden_sum = part if self._hidden_sum is None else self._hidden_sum + part
            if stop % MARK == 0:
                self.marks.append(self._hidden_sum)
            place = stop

    def _add_scores(self, chunk: Chunk, logits: Tensor) -> None:
        """The logits at place p score the token at p + 1."""
        first = self.logits_from(chunk)
        targets: Sequence[int] = self.tokens[first + 1 : min(chunk.stop + 1, self.prompt_end)]
        if first + 1 >= self._first_scored and targets:
            self._scores += score(logits[: len(targets)], targets, self.request.prompt_logprobs or 0)

    def _features(self) -> Features | None:
        if self._hidden_sum is None or self._embedding_mean is None:
            return None
        num_prompt = len(self.request.prompt)
        hidden_mean = (self._hidden_sum / num_prompt).cpu().numpy()
        return Features(self._embedding_mean.cpu().numpy(), hidden_mean, num_prompt)

    def _timings(self) -> Timings:
        now = self.clock()
        started = now if self.started_at is None else self.started_at
        first = now if self.first_token_at is None else self.first_token_at
        return Timings(started - self.arrived_at, max(first - started, 0.0), now - max(first, started))
