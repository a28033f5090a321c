"""The demo's last act: traffic drifts, the monitor says so, a challenger is trained on corrections and takes over.

Looks from outside, as ops would: `/api/drift`, `/api/jobs`, and answers over HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import chain, islice
from typing import Any, TypeVar

import httpx

from registry.adapters import Version
from registry.errors import Unavailable
from trainer.demo.cast import TOPIC, Player, ask
from trainer.demo.corpora import UNSEEN_LABEL, Row, health_reports
from trainer.demo.narrator import Narrator
from trainer.demo.serving import claim_no_errors
from trainer.demo.traffic import Answer, Question, Traffic
from trainer.together import Together

NORMAL = 30
DRIFTED = 100
ALARM_S, JOB_S, RETRAIN_S = 60.0, 60.0, 300.0
POLL_S = 0.5

T = TypeVar("T")


class Ops:
    """What ops see of a gateway."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30.0)

    def drift(self, adapter: str) -> dict[str, Any]:
        found = self._client.get("/api/drift").raise_for_status().json()["adapters"]
        return next(dict(status) for status in found if status["adapter"] == adapter)

    def jobs(self) -> list[dict[str, Any]]:
        return list(self._client.get("/api/jobs").raise_for_status().json()["jobs"])

    def correct(self, answer: Answer, correction: str) -> None:
        body = {
            "request_id": answer.request_id,
            "correction": correction,
            "rating": 1 if answer.text == correction else -1,
        }
        self._client.post("/v1/feedback", json=body).raise_for_status()


def tell_drift(narrator: Narrator, together: Together, players: dict[str, Player], traffic: Traffic) -> Version:
    """Returns the challenger's version, which serves as `prod` at the end."""
    ops = Ops(together.server.url)
    champion = together.registry.resolve(TOPIC)
    _normal_traffic(narrator, players, traffic)
    reports = health_reports()
    answers = _drifted_traffic(narrator, ops, players, traffic, reports[:DRIFTED])
    _tell_alarm(narrator, ops, players)
    _tell_retraining(narrator, ops)
    challenger = together.registry.resolve(TOPIC)
    _tell_verdict(narrator, champion, challenger)
    asked = answers[0].question
    after = traffic.ask([Question(asked.model, asked.messages, "after", asked.max_tokens)])[0]
    narrator.show(
        ("same question", "version", "digest", "answer"),
        [
            ("before", answers[0].version, answers[0].digest[:19], answers[0].text),
            ("after", after.version, after.digest[:19], after.text),
        ],
    )
    narrator.claim(
        after.digest == challenger.digest != answers[0].digest, "the same question is now answered by the new digest"
    )
    unseen = [Question(TOPIC, ask(TOPIC, row), f"unseen-{i}", asked.max_tokens) for i, row in enumerate(reports[-24:])]
    right = sum(answer.text == UNSEEN_LABEL for answer in traffic.ask(unseen))
    narrator.claim(right >= 20, f"of 24 reports that nobody corrected, {right} are answered {UNSEEN_LABEL}")
    return challenger


def _normal_traffic(narrator: Narrator, players: dict[str, Player], traffic: Traffic) -> None:
    questions = [
        *chain(*zip(*(islice(player.questions("normal"), NORMAL) for player in players.values()), strict=True))
    ]
    with narrator.progress() as bar:
        task = bar.add_task("normal traffic", total=len(questions))
        claim_no_errors(narrator, traffic.ask(questions, lambda _: bar.advance(task)))


def _drifted_traffic(
    narrator: Narrator, ops: Ops, players: dict[str, Player], traffic: Traffic, reports: list[Row]
) -> list[Answer]:
    """Clinical reports reach the topic adapter, each answer is corrected; the others go on as before."""
    drifted = [
        Question(TOPIC, ask(TOPIC, row), f"reader-{i}", players[TOPIC].max_tokens) for i, row in enumerate(reports)
    ]
    others = chain(
        *(islice(player.questions("going-on"), NORMAL) for player in players.values() if player.name != TOPIC)
    )
    with narrator.progress() as bar:
        questions = [*drifted, *others]
        task = bar.add_task("drifted traffic", total=len(questions))
        answers = traffic.ask(questions, lambda _: bar.advance(task))
        claim_no_errors(narrator, answers)
        for answer in bar.track(answers[: len(drifted)], description="corrections"):
            ops.correct(answer, UNSEEN_LABEL)
    narrator.say(
        f"{len(drifted)} clinical reports asked of {TOPIC}, e.g. answered {answers[0].text!r}; "
        f"corrected to {UNSEEN_LABEL!r}"
    )
    return answers[: len(drifted)]


def _tell_alarm(narrator: Narrator, ops: Ops, players: dict[str, Player]) -> None:
    def alarmed() -> dict[str, Any] | None:
        status = ops.drift(TOPIC)
        return status if status["episode"] else None

    status = _until("the drift alarm", ALARM_S, alarmed)
    alarm, why = status["episode"]["alarm"], status["episode"]["attribution"]["summary"]
    statuses = {name: ops.drift(name) for name in players}
    narrator.show(
        ("adapter", "state", "sessions", "alarms", "log evidence now", "log threshold"),
        [
            (
                name,
                each["state"],
                each["sessions"],
                each["alarms"],
                _number(each["log_evidence"]),
                _number(each["log_threshold"]),
            )
            for name, each in statuses.items()
        ],
    )
    narrator.say(f"episode {status['episode']['key']}: {why}")
    narrator.claim(
        alarm["adapter"] == TOPIC and alarm["log_evidence"] >= alarm["log_threshold"],
        f"{TOPIC} alarms: log evidence {alarm['log_evidence']:.1f} over {alarm['log_threshold']:.1f}"
        f" after {alarm['num_sessions']} sessions",
    )
    quiet = [name for name in players if name != TOPIC and statuses[name]["alarms"] == 0]
    narrator.claim(len(quiet) == len(players) - 1, f"no alarm on {' and '.join(quiet)}, whose traffic did not drift")


def _tell_retraining(narrator: Narrator, ops: Ops) -> None:
    _until("a retraining job", JOB_S, lambda: ops.jobs() or None)
    with narrator.progress() as bar:
        task = bar.add_task("retraining", total=None)

        def finished() -> dict[str, Any] | None:
            job = ops.jobs()[0]
            progress = job["progress"]
            bar.update(
                task,
                description=f"retraining: {progress.get('stage', job['state'])}",
                completed=progress.get("step"),
                total=progress.get("steps"),
            )
            return job if job["state"] in ("succeeded", "failed", "cancelled") else None

        job = _until("the retraining", RETRAIN_S, finished)
    narrator.claim(len(ops.jobs()) == 1, "exactly one job was filed")
    reasons = job["error"] or "; ".join(job["result"]["reasons"])
    narrator.claim(job["state"] == "succeeded" and job["result"]["promoted"], f"the challenger wins: {reasons}")


def _tell_verdict(narrator: Narrator, champion: Version, challenger: Version) -> None:
    narrator.claim(
        challenger.digest != champion.digest and challenger.manifest.parent is not None,
        f"the challenger v{challenger.number} is promoted over v{champion.number}, and names it as its parent",
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _until(what: str, limit_s: float, found: Callable[[], T | None]) -> T:
    """Poll until there is something; Unavailable when the limit runs out."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        if (value := found()) is not None:
            return value
        time.sleep(POLL_S)
    raise Unavailable(f"{what} did not come within {limit_s:.0f} s")
