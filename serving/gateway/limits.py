"""What each key may use: requests and tokens a minute, and requests at once. Each gateway counts for itself, in memory.

A minute's worth may be used at once; it comes back evenly. Tokens are spent by estimate when a request is let in and
put right when it has ended, so that an answer longer than foreseen is paid for by the next request. For one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from serving.gateway.errors import LimitedBy, RateLimited, RequestTooLarge
from serving.gateway.principal import Limits, Principal

WINDOW_S = 60.0
TOLERANCE_S = 1e-6
"""So that who waits exactly as long as told is let in whatever the rounding."""
REMEMBERED = 4096
"""Accounts kept before those that no longer matter are dropped."""


@dataclass(eq=False)
class Budget:
    """One token bucket, as the instant when it will be full again: spending moves the instant on."""

    full_at: float = -math.inf

    def spend(self, amount: int, limit: int, now: float) -> None:
        self.full_at = max(self.full_at, now) + WINDOW_S * amount / limit

    def give_back(self, amount: int, limit: int) -> None:
        """A negative amount is spent on top."""
        self.full_at -= WINDOW_S * amount / limit

    def wait_s(self, amount: int, limit: int, now: float) -> float:
        """Seconds until `amount` is there, which must not exceed the limit; 0 when it is there now."""
        wait_s = max(self.full_at - now, 0.0) + WINDOW_S * amount / limit - WINDOW_S
        return wait_s if wait_s > TOLERANCE_S else 0.0

    def remaining(self, limit: int, now: float) -> int:
        left = 1.0 - max(self.full_at - now, 0.0) / WINDOW_S
        return max(math.floor(limit * left + TOLERANCE_S), 0)

    def reset_s(self, now: float) -> float:
        """Seconds until it is full."""
        return max(self.full_at - now, 0.0)


@dataclass(eq=False)
class Account:
    """What one principal has used."""

    requests: Budget = field(default_factory=Budget)
    tokens: Budget = field(default_factory=Budget)
    open: int = 0
    mean_s: float = 1.0
    """How long its requests take, the latest ones counting most."""

    def is_idle(self, now: float) -> bool:
        """Whether a new account would be as good."""
        return not self.open and self.requests.full_at <= now and self.tokens.full_at <= now


@dataclass(eq=False)
class Grant:
    """One request that was let in. `end` it once, with the tokens it used in truth."""

    quotas: Quotas
    account: Account
    limits: Limits
    tokens: int
    began_at: float

    def end(self, tokens: int) -> None:
        self.quotas.close(self, tokens)


class Quotas:
    """Every principal's account. `clock` is monotonic."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, Account] = {}

    def admit(self, principal: Principal, tokens_estimate: int) -> Grant:
        """Spend one request and its tokens, or nothing. RateLimited says when to come back; RequestTooLarge: never."""
        account, limits, now = self._account(principal), principal.limits, self._clock()
        if limits.tokens_per_minute is not None and tokens_estimate > limits.tokens_per_minute:
            raise RequestTooLarge(
                f"this request may use about {tokens_estimate} tokens, and {principal.id} has "
                f"{limits.tokens_per_minute} a minute",
                hint="send less text or ask for fewer tokens",
            )
        self._check(account, principal, tokens_estimate, now)
        account.open += 1
        if limits.requests_per_minute is not None:
            account.requests.spend(1, limits.requests_per_minute, now)
        if limits.tokens_per_minute is not None:
            account.tokens.spend(tokens_estimate, limits.tokens_per_minute, now)
        return Grant(self, account, limits, tokens_estimate, now)

    def headers(self, principal: Principal) -> dict[str, str]:
        """`x-ratelimit-*` as OpenAI sends them, for the budgets this principal has."""
        account, limits, now = self._account(principal), principal.limits, self._clock()
        budgets = {
            "requests": (account.requests, limits.requests_per_minute),
            "tokens": (account.tokens, limits.tokens_per_minute),
        }
        told: dict[str, str] = {}
        for name, (budget, limit) in budgets.items():
            if limit is not None:
                told[f"x-ratelimit-limit-{name}"] = str(limit)
                told[f"x-ratelimit-remaining-{name}"] = str(budget.remaining(limit, now))
                told[f"x-ratelimit-reset-{name}"] = spell_duration(budget.reset_s(now))
        return told

    def close(self, grant: Grant, tokens: int) -> None:
        account, limit = grant.account, grant.limits.tokens_per_minute
        account.open -= 1
        account.mean_s += 0.2 * (self._clock() - grant.began_at - account.mean_s)
        if limit is not None:
            account.tokens.give_back(grant.tokens - tokens, limit)

    def _check(self, account: Account, principal: Principal, tokens: int, now: float) -> None:
        """Whatever stands in the way, the longest wait is told: who comes back then is let in."""
        limits, refusals = principal.limits, []
        if limits.concurrency is not None and account.open >= limits.concurrency:
            message = f"{principal.id} has {account.open} requests open, which is all it may have at once"
            wait_s = account.mean_s / max(account.open, 1)
            refusals.append(RateLimited(message, budget="requests", retry_after_s=wait_s))
        asked: tuple[tuple[LimitedBy, Budget, int, int | None], ...] = (
            ("requests", account.requests, 1, limits.requests_per_minute),
            ("tokens", account.tokens, tokens, limits.tokens_per_minute),
        )
        for name, budget, amount, limit in asked:
            if limit is not None and (wait_s := budget.wait_s(amount, limit, now)):
                message = f"{principal.id} has used up its {limit} {name} a minute"
                refusals.append(RateLimited(message, budget=name, retry_after_s=wait_s))
        if refusals:
            raise max(refusals, key=lambda refusal: refusal.retry_after_s)

    def _account(self, principal: Principal) -> Account:
        if principal.id not in self._accounts:
            if len(self._accounts) >= REMEMBERED:
                now = self._clock()
                self._accounts = {name: each for name, each in self._accounts.items() if not each.is_idle(now)}
            self._accounts[principal.id] = Account()
        return self._accounts[principal.id]


def spell_duration(seconds: float) -> str:
    """As OpenAI's clients expect it: `12ms`, `1s`, `6m0s`; never shorter than it is."""
    if seconds < 1:
        return f"{math.ceil(1000 * seconds)}ms"
    whole = math.ceil(seconds)
    return f"{whole}s" if whole < 60 else f"{whole // 60}m{whole % 60}s"
