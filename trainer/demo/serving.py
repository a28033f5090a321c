"""The demo's serving steps: many adapters in one batch, and a promotion rolled back while traffic runs."""

from __future__ import annotations

import threading
import time
from collections import Counter
from itertools import chain, islice

from registry.adapters import Version
from registry.errors import Unavailable
from trainer.demo.cast import Player
from trainer.demo.liveness import Liveness
from trainer.demo.narrator import Narrator
from trainer.demo.traffic import Answer, Question, Traffic
from trainer.together import Together

EACH = 4
MOVES = 6
ANSWER_S = 60.0


def tell_shared_batch(narrator: Narrator, together: Together, players: dict[str, Player], traffic: Traffic) -> None:
    """Concurrent streaming requests for every adapter and the bare base, answered from shared batches."""
    base_name = together.base.profile.identity.id
    claim_no_errors(narrator, traffic.ask([next(player.questions("first")) for player in players.values()]))
    narrator.say("each adapter was fetched, verified and loaded for its first request; now many at once")
    together.engine.reset_peak()
    own = [list(islice(player.questions("shared"), EACH)) for player in players.values()]
    bare = [
        Question(base_name, question.messages, f"bare-{i}", 12) for i, question in enumerate(islice(chain(*own), EACH))
    ]
    answers = traffic.ask([*chain(*zip(*own, bare, strict=True))])
    narrator.show(
        ("request", "adapter", "version", "digest", "answer"),
        [
            (
                answer.request_id[:12],
                answer.question.model,
                answer.version or "-",
                answer.digest[:19] or "-",
                answer.text[:48],
            )
            for answer in answers
        ],
    )
    claim_no_errors(narrator, answers)
    prod = {name: together.registry.resolve(name).digest for name in players}
    narrator.claim(
        all(answer.digest == prod.get(answer.question.model, "") for answer in answers),
        "every response names the digest it was promised, and the base's answers name none",
    )
    fullest = together.engine.stats().peak_distinct_adapters
    narrator.claim(fullest >= len(players), f"the fullest step held {fullest} distinct adapters beside base rows")


def tell_rollback(narrator: Narrator, together: Together, player: Player, traffic: Traffic, second: Version) -> None:
    """Move `prod` to a second version and back, again and again, while requests are running."""
    registry = together.registry
    first = registry.resolve(player.name)
    liveness = Liveness(first.digest)
    done = threading.Event()
    answers: list[Answer] = []
    asking = threading.Thread(
        target=traffic.ask_until, args=(done.is_set, player.questions("moves"), answers.append), name="demo-traffic"
    )
    asking.start()
    try:
        with narrator.progress() as bar:
            for _ in bar.track(range(MOVES // 2), description="promote, roll back"):
                _wait_for(first.digest, answers)
                with liveness.moving_to(second.digest):
                    registry.alias(player.name, "prod", second.digest, expect=first.digest, reason="demo: promote")
                _wait_for(second.digest, answers)
                with liveness.moving_to(first.digest):
                    registry.rollback(player.name, reason="demo: roll back")
    finally:
        done.set()
        asking.join()
    served = Counter(f"v{answer.version}" for answer in answers)
    narrator.say(f"{len(answers)} answers while prod moved {liveness.moves} times: {dict(served)}")
    claim_no_errors(narrator, answers)
    narrator.claim(len(served) == 2, "both versions answered")
    narrator.claim(not liveness.stale(answers), "every answer's digest was live between its start and its end")
    narrator.claim(registry.resolve(player.name).digest == first.digest, "prod is back at the first version")


def _wait_for(digest: str, answers: list[Answer]) -> None:
    """Until the version that has just gone live has answered."""
    since, deadline = len(answers), time.monotonic() + ANSWER_S
    while not any(answer.digest == digest for answer in answers[since:]):
        if time.monotonic() > deadline:
            raise Unavailable(f"no answer by {digest[:19]} within {ANSWER_S:.0f} s")
        time.sleep(0.02)


def claim_no_errors(narrator: Narrator, answers: list[Answer]) -> None:
    failed = [answer.error for answer in answers if answer.error]
    narrator.claim(
        bool(answers) and not failed, f"{len(answers)} requests, no error{': ' + failed[0] if failed else ''}"
    )
