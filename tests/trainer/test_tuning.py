from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from registry.adapters import Registry
from registry.consent import set_rules
from registry.errors import NotFound
from registry.files import Files
from registry.jobs import Job, Jobs, Renew
from registry.rules import AliasRule, Rules
from registry.settings import Settings
from registry.signing import new_key
from registry.trust import Trust
from registry.tuning import TuneJob
from tests.conftest import MakeAdapter
from tests.trainer.letters import letter_rows
from trainer.run import read_spec
from trainer.worker import Tenure, Worker

if TYPE_CHECKING:
    from registry.adapters import Version
    from tests.trainer.conftest import Lab, WriteJsonl

KEY = "ftjob-1"
SAID = [{"prompt": f"say {word} {i}", "completion": f"{word}!"} for i in range(30) for word in ("yes", "no")]


@dataclass(frozen=True, eq=False)
class Shop:
    """The lab, its jobs, somebody who uploads, and one who works."""

    lab: Lab
    jobs: Jobs
    hand: Worker
    write: WriteJsonl

    @property
    def registry(self) -> Registry:
        return self.lab.registry

    def upload(self, rows: list[Any]) -> str:
        return Files(self.registry.store).put(self.write(rows), filename="rows.jsonl", purpose="fine-tune").id

    def ask(self, rows: list[Any], **changes: Any) -> None:
        """File a small job: it learns SAID within a second."""
        asked = {"adapter": "echo", "epochs": 4, "batch_size": 8, "learning_rate_multiplier": 10.0} | changes
        self.jobs.submit(KEY, msgspec.to_builtins(TuneJob(training_file=self.upload(rows), **asked)))

    def done(self) -> Job:
        done = self.hand.work_once(threading.Event())
        assert done is not None
        return done

    def told(self) -> list[dict[str, Any]]:
        """Every progress of the job, in order."""
        ops = [op for event in self.jobs.history(KEY) for op in event.ops]
        return [op.progress for op in ops if isinstance(op, Renew) and op.progress]

    def desks(self) -> list[Path]:
        return list((self.lab.home / "jobs").glob("*/*"))

    def when_checkpointed(self, act: Callable[[], object]) -> threading.Thread:
        def wait() -> None:
            while not list(self.lab.home.glob(f"jobs/default/{KEY}/runs/*/checkpoints/step-*")):
                time.sleep(0.002)
            act()

        thread = threading.Thread(target=wait)
        thread.start()
        return thread


@pytest.fixture
def shop(lab: Lab, write_jsonl: WriteJsonl) -> Shop:
    settings = Settings(cache_dir=str(lab.home), lease_s=0.4, worker_poll_s=0.01)
    hand = Worker(lab.registry, lab.base, lab.engine, settings)
    return Shop(lab, Jobs(lab.registry.store), hand, write_jsonl)


def test_a_file_becomes_a_version_under_its_name(shop: Shop) -> None:
    shop.ask(SAID, seed=3)
    done = shop.done()
    assert done.state == "succeeded", done.error
    version = shop.registry.resolve("echo@prod")
    assert shop.registry.resolve("echo@staging") == version
    assert (version.manifest.trigger, version.manifest.parent) == (KEY, None)
    assert version.manifest.trainer["seed"] == 3
    assert version.manifest.dataset is not None
    assert version.manifest.dataset.rows == len(SAID)
    result = done.result
    assert (result["digest"], result["version"], result["promoted"]) == (version.digest, 1, True)
    assert result["metrics"]["test/nll"] < result["metrics"]["base/test/nll"]
    assert 0 < result["metrics"]["val_loss"] < result["metrics"]["base/test/nll"]
    assert result["metrics"]["train_loss"] > 0
    assert result["steps"] > 0
    assert result["trained_tokens"] > result["steps"]
    assert result["reasons"]
    assert not shop.desks()


def test_the_numbers_of_every_stage_are_told(shop: Shop) -> None:
    shop.ask(SAID)
    done = shop.done()
    told = shop.told()
    stages = list(dict.fromkeys(each["stage"] for each in told))
    assert stages == ["reading data", "training", "evaluating", "profiling input", "publishing"]
    last = [each for each in told if each["stage"] == "training"][-1]
    assert last["step"] == last["steps"] == done.result["steps"]
    assert last["tokens"] == done.result["trained_tokens"]
    assert last["train_loss"] > 0
    assert last["val_loss"] > 0


def test_warm_from_a_parent_it_must_not_be_worse_than_that(shop: Shop, champion: Version) -> None:
    shop.ask(labelled("vowels", "digits"), adapter="letters", parent=f"letters@{champion.digest}", epochs=8)
    done = shop.done()
    assert done.state == "succeeded", done.error
    version = shop.registry.resolve("letters@staging")
    assert version.manifest.parent is not None
    assert version.manifest.parent.digest == champion.digest
    assert version.manifest.rank == champion.manifest.rank
    assert shop.registry.resolve("letters@prod") == champion, "what is in production is nobody's to replace in passing"
    assert done.result["promoted"] is False
    assert any("vs parent" in reason for reason in done.result["reasons"])
    shop.registry.pull("letters@staging", shop.lab.home / "pulled")
    spec = read_spec(shop.lab.home / "pulled" / "spec.json")
    assert spec.data.labels == {"v": "v", "s": "s", "d": "d"}
    assert spec.data.train.startswith("file-")
    assert spec.job.task == "classify"


def test_one_that_a_gate_refuses_fails_and_says_why(shop: Shop, champion: Version) -> None:
    wild = {"epochs": 1, "learning_rate_multiplier": 1000.0}
    shop.ask(labelled("vowels", "stops"), adapter="letters", parent=f"letters@{champion.digest}", **wild)
    done = shop.done()
    assert (done.state, done.result) == ("failed", {"code": "gate_failed", "param": None})
    assert "FAIL test/accuracy" in done.error
    assert "vs parent 1" in done.error
    assert len(shop.registry.state("letters").versions) == 1
    assert not shop.desks()


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{]\n", "training_file:31: not valid JSON"),
        ({"messages": [{"role": "boss", "content": "x"}] * 2}, "training_file:31: messages[0].role is none of"),
        ({"messages": [{"role": "user", "content": "x"}] * 2}, "training_file:31: the last message must be"),
        ({"prompt": "x", "completion": 3}, "training_file:31: completion must be a non-empty string"),
        ({"text": "x"}, "training_file:31: needs messages"),
        ({"prompt": "long " * 1000, "completion": "x"}, "training_file:31: the row has"),
        ({"messages": [{"role": "assistant", "content": "x"}] * 20_000}, "training_file:31: the row has"),
    ],
)
def test_a_bad_line_is_named(shop: Shop, line: Any, complaint: str) -> None:
    shop.ask([*SAID[:30], line])
    done = shop.done()
    assert done.state == "failed"
    assert done.result == {"code": "invalid_training_file", "param": "training_file"}
    assert complaint in done.error
    assert str(shop.lab.home) not in done.error
    assert not shop.desks()


def test_a_bad_validation_file_is_told_apart(shop: Shop) -> None:
    shop.ask(SAID, validation_file=shop.upload([*SAID[:2], {"prompt": "x"}]))
    done = shop.done()
    assert done.result == {"code": "invalid_training_file", "param": "validation_file"}
    assert done.error.startswith("validation_file:3: completion")


def test_a_validation_file_is_validated_with(shop: Shop) -> None:
    more = [{"prompt": f"please say {word}", "completion": f"{word}!"} for word in ("yes", "no")]
    shop.ask(SAID, validation_file=shop.upload(more))
    done = shop.done()
    assert done.state == "succeeded", done.error
    dataset = shop.registry.resolve("echo@v1").manifest.dataset
    assert dataset is not None
    assert dataset.counts == {"train": 54, "val": 2, "test": 6}


def test_too_few_rows_to_test_with(shop: Shop) -> None:
    shop.ask(SAID[:3])
    done = shop.done()
    assert done.result["code"] == "invalid_training_file"
    assert "training_file: no rows to test with" in done.error


def test_a_file_that_is_gone(shop: Shop) -> None:
    shop.ask(SAID)
    (file,) = Files(shop.registry.store).list()
    Files(shop.registry.store).delete(file.id)
    done = shop.done()
    assert done.result == {"code": "file_not_found", "param": "training_file"}
    assert file.id in done.error


@pytest.mark.parametrize("options", [{"use_dora": True}, {"kind": "ia3", "feedforward_modules": []}])
def test_a_parent_that_is_more_than_plain_lora_is_refused(
    shop: Shop, make_adapter: MakeAdapter, options: dict[str, Any]
) -> None:
    version = shop.registry.publish("other", make_adapter(4, 1, **options), profile=shop.lab.base.profile)
    shop.ask(SAID, parent=f"other@{version.digest}")
    done = shop.done()
    assert done.result == {"code": "refused", "param": None}
    assert "other@v1 cannot be trained on: it has" in done.error


def test_a_parent_that_was_made_elsewhere(shop: Shop, make_adapter: MakeAdapter) -> None:
    version = shop.registry.publish("other", make_adapter(2, 1, alpha=6), profile=shop.lab.base.profile)
    shop.ask(SAID, parent=f"other@{version.digest}")
    done = shop.done()
    assert done.state == "succeeded", done.error
    manifest = shop.registry.resolve("echo").manifest
    assert manifest.parent is not None
    assert (manifest.rank, manifest.alpha, manifest.parent.adapter) == (2, 6, "other")


def test_a_stopped_job_goes_on_and_is_published_once(shop: Shop) -> None:
    shop.ask(SAID, epochs=8)
    stop = threading.Event()
    stopper = shop.when_checkpointed(stop.set)
    assert shop.hand.work_once(stop) is None
    stopper.join()
    assert shop.jobs.get(KEY).state == "running"
    assert shop.desks()
    told = len(shop.told())
    while (done := shop.hand.work_once(threading.Event())) is None:
        time.sleep(0.02)
    assert done.attempt == 2
    assert done.state == "succeeded", done.error
    again = [each["step"] for each in shop.told()[told:] if each["stage"] == "training"]
    assert again[0] > 10, "it did not begin anew"
    assert not shop.desks()


def test_what_was_published_before_it_could_be_told_is_told(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.ask(SAID)
    with monkeypatch.context() as dead:
        dead.setattr(Jobs, "succeed", lambda jobs, job, _: jobs.get(job.key))
        assert shop.done().state == "running"
    while (done := shop.hand.work_once(threading.Event())) is None:
        time.sleep(0.02)
    assert (done.state, done.attempt) == ("succeeded", 2)
    assert len(shop.registry.state("echo").versions) == 1
    assert done.result["version"] == 1
    assert done.result["trained_tokens"] > 0


def test_a_cancelled_job_publishes_nothing_and_leaves_nothing(shop: Shop) -> None:
    shop.ask(SAID, epochs=200)
    canceller = shop.when_checkpointed(lambda: shop.jobs.cancel(KEY))
    assert shop.hand.work_once(threading.Event()) is None
    canceller.join()
    assert shop.jobs.get(KEY).state == "cancelled"
    assert not shop.desks()
    with pytest.raises(NotFound):
        shop.registry.state("echo")


def test_cancelled_while_it_is_measured_it_is_not_published(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease's thread that never wakes: nothing but the next stage can tell that the job is gone."""
    monkeypatch.setattr(Tenure, "_keep", lambda _: None)
    shop.ask(SAID, epochs=1)
    run = shop.lab.engine.run

    def cancel_and_run(*args: Any) -> Any:
        shop.jobs.cancel(KEY)
        return run(*args)

    monkeypatch.setattr(shop.lab.engine, "run", cancel_and_run)
    assert shop.hand.work_once(threading.Event()) is None
    assert shop.jobs.get(KEY).state == "cancelled"
    with pytest.raises(NotFound):
        shop.registry.state("echo")


def test_production_that_was_emptied_stays_empty(shop: Shop, make_adapter: MakeAdapter) -> None:
    shop.registry.publish("echo", make_adapter(4, 1), profile=shop.lab.base.profile, aliases={"prod": None})
    shop.registry.alias("echo", "prod", None, reason="out of service")
    shop.ask(SAID)
    assert shop.done().result["promoted"] is False
    assert set(shop.registry.state("echo").aliases) == {"staging"}


def test_under_rules_production_is_its_owners(shop: Shop, tmp_path: Path) -> None:
    root, publisher = new_key(tmp_path / "root.key"), new_key(tmp_path / "worker.key")
    rules = Rules(
        keys={"root": root.id, "worker": publisher.id},
        owners=("root",),
        publishers=("worker",),
        aliases={"staging": AliasRule(signers=("worker",)), "prod": AliasRule(signers=("root",))},
    )
    trusted = frozenset({root.id})
    Registry(shop.registry.store, trust=Trust(root, trusted)).commit("echo", set_rules(rules), create=True)
    registry = Registry(shop.registry.store, trust=Trust(publisher, trusted))
    hand = Worker(registry, shop.lab.base, shop.lab.engine, Settings(cache_dir=str(shop.lab.home)))
    shop.ask(SAID)
    done = hand.work_once(threading.Event())
    assert done is not None
    assert done.state == "succeeded", done.error
    assert set(registry.state("echo").aliases) == {"staging"}


def test_the_rows_may_be_conversations(shop: Shop) -> None:
    def conversation(row: dict[str, str]) -> dict[str, Any]:
        roles = {"system": "Say it.", "user": row["prompt"], "assistant": row["completion"]}
        return {"messages": [{"role": role, "content": content} for role, content in roles.items()]}

    shop.ask([conversation(row) for row in SAID])
    assert shop.done().state == "succeeded"


def labelled(*kinds: str) -> list[dict[str, Any]]:
    return [{"text": row["text"], "label": row["label"]} for row in letter_rows(kinds, 30, start=500)]
