"""What a gateway keeps of requests where the owner allows it, and that it is gone when it has to go."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from registry.captures import Captured, read_captures
from registry.captures.objects import CaptureObjects
from registry.captures.records import FeedbackRecord
from tests.gateway.test_follower import until

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def captured(running: Running, adapter: str, count: int) -> list[Captured]:
    """Once so many requests are kept; oldest first."""
    found: list[Captured] = []

    def there() -> bool:
        running.gateway.home.captures.flush()
        found[:] = read_captures(running.registry.store, "default", adapter)
        return len(found) >= count

    until(there)
    return found


def kept_bytes(running: Running) -> str:
    store = running.registry.store
    return b"".join(gzip.decompress(store.get(key)) for key in store.list("t/default/captures/")).decode()


def complete(running: Running, model: str, prompt: Any, **fields: Any) -> dict[str, Any]:
    body = {"model": model, "prompt": prompt, "max_tokens": 4, **fields}
    answer = running.http.post("/v1/completions", json=body)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


@pytest.fixture
def kept(fresh: Running) -> Running:
    """`kept` allows capture."""
    fresh.publish("kept", 1, policy={"capture": True})
    return fresh


def test_a_conversation(kept: Running) -> None:
    answer = kept.chat("kept", "hello", user="zoe", safety_identifier="u-17", n=2, temperature=1, seed=3).json()
    (found,) = captured(kept, "kept", 1)
    first, second = (choice["message"]["content"] for choice in answer["choices"])
    assert (found.request_id, found.response, found.others) == (answer["id"], first, (second,))
    assert (found.messages, found.prompt) == ([{"role": "user", "content": "hello"}], None)
    named = kept.gateway.home.pseudonyms.of
    assert found.users == (named("zoe"), named("u-17"))
    assert found.session == named("zoe")
    assert "zoe" not in kept_bytes(kept)


def test_a_plain_completion_streamed_or_not_of_text_or_ids(kept: Running) -> None:
    whole = complete(kept, "kept", "Once upon")
    ids = kept.base.tokenizer.encode("Once upon")
    by_ids = complete(kept, "kept", ids)
    echoed = complete(kept, "kept", "Once upon", echo=True)
    streamed = {"model": "kept", "prompt": "Once upon", "max_tokens": 4, "stream": True}
    assert "[DONE]" in kept.http.post("/v1/completions", json=streamed).text
    found = captured(kept, "kept", 4)
    assert [each.prompt for each in found] == ["Once upon"] * 4
    assert all(each.messages == [] for each in found)
    assert {each.request_id for each in found} >= {whole["id"], by_ids["id"], echoed["id"]}
    assert found[0].response == whole["choices"][0]["text"]


def test_a_response(kept: Running) -> None:
    body = {"model": "kept", "input": "hello", "instructions": "be brief", "max_output_tokens": 4, "user": "zoe"}
    answer = kept.http.post("/v1/responses", json=body).json()
    (found,) = captured(kept, "kept", 1)
    assert found.request_id == answer["id"]
    assert [(each["role"], each["content"]) for each in found.messages] == [("system", "be brief"), ("user", "hello")]
    assert found.users == (kept.gateway.home.pseudonyms.of("zoe"),)


def test_several_prompts_are_several_records_and_feedback_names_each(kept: Running) -> None:
    answer = complete(kept, "kept", ["Once", "Twice"], n=2, temperature=1, seed=1)
    found = {each.prompt: each for each in captured(kept, "kept", 2)}
    texts = [choice["text"] for choice in answer["choices"]]
    assert (found["Once"].response, found["Once"].others) == (texts[0], (texts[1],))
    assert (found["Twice"].response, found["Twice"].others) == (texts[2], (texts[3],))
    verdict = {"request_id": found["Twice"].request_id, "correction": "better"}
    assert kept.http.post("/v1/feedback", json=verdict).status_code == 200
    again = {each.prompt: each.correction for each in captured(kept, "kept", 2)}
    assert again == {"Once": None, "Twice": "better"}


def test_answers_that_did_not_end_well_are_not_kept(kept: Running) -> None:
    body = {"model": "kept", "prompt": "x", "max_tokens": 2000, "stream": True, "ignore_eos": True}
    with kept.http.stream("POST", "/v1/completions", json=body) as stream:
        next(stream.iter_lines())
    until(lambda: kept.gateway.engine.stats().running == 0)
    complete(kept, "kept", "whole")
    assert [each.prompt for each in captured(kept, "kept", 1)] == ["whole"]


def test_neither_the_base_nor_a_mix_nor_embeddings_are_kept(kept: Running) -> None:
    kept.publish("other", 2)
    kept.chat(kept.base_name)
    kept.chat(kept.base_name, adapters=[{"model": "kept", "weight": 0.5}, {"model": "other", "weight": 0.5}])
    kept.http.post("/v1/embeddings", json={"model": "kept", "input": "not a question"})
    kept.chat("kept", "the only one")
    captured(kept, "kept", 1)
    assert len(read_captures(kept.registry.store, "default", None)) == 1


def test_policy_redacts_before_anything_is_written(fresh: Running) -> None:
    fresh.publish("shy", 1, policy={"capture": True, "redact": "all"})
    said = "I am ada@example.org, call +41 44 668 18 00, card 4111 1111 1111 1111"
    answer = fresh.chat("shy", said, user="ada@example.org").json()
    complete(fresh, "shy", said)
    verdict = {"request_id": answer["id"], "correction": "Dear ada@example.org", "user": "reviewer@example.org"}
    assert fresh.http.post("/v1/feedback", json=verdict).status_code == 200
    found = captured(fresh, "shy", 2)
    redacted = "I am [email], call [phone], card [card]"
    assert {each.prompt or each.messages[0]["content"] for each in found} == {redacted}
    assert "Dear [email]" in {each.correction for each in found}
    assert not any(word in kept_bytes(fresh) for word in ("example.org", "668 18", "4111 1111"))


def failing(text: str) -> str:
    if "secret" in text:
        raise ValueError(f"cannot redact {text}")
    if "half" in text:
        return "\ud800"  # no UTF-8
    return text.replace("Ada", "[name]")


def test_what_the_operators_redactor_fails_on_is_not_kept(start: Callable[..., Running]) -> None:
    running = start(redactor=f"{__name__}:failing")
    running.publish("kept", 1, policy={"capture": True})
    refused = running.chat("kept", "a secret").json()
    complete(running, "kept", "half a character")
    complete(running, "kept", "Ada was here")
    assert [each.prompt for each in captured(running, "kept", 1)] == ["[name] was here"]
    feedback = {"request_id": refused["id"], "correction": "the secret is 7"}
    answer = running.http.post("/v1/feedback", json=feedback)
    assert (answer.status_code, "could not be redacted" in answer.text) == (403, True)
    log = running.log.getvalue()
    assert "secret" not in kept_bytes(running) + log
    assert log.count("the redactor failed") == 3


def test_a_user_is_forgotten_over_http(kept: Running) -> None:
    for user in ("zoe", "bob"):
        answer = kept.chat("kept", f"{user} asks", user=user).json()
        kept.http.post("/v1/feedback", json={"request_id": answer["id"], "correction": f"{user} meant", "user": user})
    captured(kept, "kept", 2)
    done = kept.http.post("/api/captures/forget", json={"user": "zoe", "reason": "asked for it"})
    assert done.status_code == 200
    document = done.json()
    assert {key: document[key] for key in ("requests", "feedback", "remains")} == {
        "requests": 1, "feedback": 1, "remains": [],
    }  # fmt: skip
    assert "zoe asks" not in kept_bytes(kept)
    listed = kept.http.get("/api/adapters/kept/captures").json()["captures"]
    assert [each["messages"][0]["content"] for each in listed] == ["bob asks"]
    (erasure,) = kept.http.get("/api/captures/erasures").json()["erasures"]
    assert (erasure["person"], erasure["done"], erasure["counts"]["requests"]) == (document["person"], True, 1)
    record = kept.http.get("/api/audit", params={"action": "captures.forget"}).json()["records"][0]
    assert record["what"] == {"person": document["person"], "reason": "asked for it"}
    everything = kept.log.getvalue() + json.dumps(record) + done.text
    assert "zoe" not in everything


@pytest.mark.parametrize("user", ["zoë ☃", "a/../b%2e", "'; drop table", "\x00\n", "x" * 10_000])
def test_any_user_is_kept_sticky_and_forgotten(kept: Running, user: str) -> None:
    assert kept.chat("kept", "hers", user=user).status_code == 200
    assert kept.chat("kept", "others", user=f"{user}!").status_code == 200
    captured(kept, "kept", 2)
    done = kept.http.post("/api/captures/forget", json={"user": user})
    assert done.json()["requests"] == 1
    assert [each.messages[0]["content"] for each in captured(kept, "kept", 1)] == ["others"]
    assert kept.http.post("/api/captures/forget", json={"user": ""}).status_code == 400


def test_captures_are_listed_and_exported(kept: Running) -> None:
    for number in range(3):
        answer = kept.chat("kept", f"question {number}").json()
        if number:
            kept.http.post("/v1/feedback", json={"request_id": answer["id"], "correction": f"answer {number}"})
    captured(kept, "kept", 3)
    listed = kept.http.get("/api/adapters/kept/captures", params={"limit": 2}).json()["captures"]
    assert [each["messages"][0]["content"] for each in listed] == ["question 2", "question 1"], "newest first"
    export = kept.http.get("/api/adapters/kept/captures/export")
    assert export.headers["content-type"].startswith("application/x-ndjson")
    assert len(export.text.splitlines()) == 3
    rows = kept.http.get("/api/adapters/kept/captures/export", params={"rows": "true"}).text.splitlines()
    last = [json.loads(line)["messages"][-1] for line in rows]
    assert last == [{"role": "assistant", "content": f"answer {number}"} for number in (1, 2)]
    for query in ({"limit": 0}, {"limit": 9999}, {"since": "yesterday"}):
        assert kept.http.get("/api/adapters/kept/captures", params=query).status_code == 400
    assert kept.http.get("/api/adapters/..%2f/captures").status_code in (400, 404)


def test_a_gateway_takes_out_what_expired_by_itself(start: Callable[..., Running]) -> None:
    running = start(capture_upkeep_s=0.2)
    running.publish("brief", 1, policy={"capture": True, "capture_days": 1})
    now, objects = time.time(), CaptureObjects(running.registry.store, "default")
    for age_days, request_id in ((3, "old"), (0, "new")):
        at = now - age_days * 86_400
        objects.create([FeedbackRecord(request_id=request_id, time=at, adapter="brief", rating=1)], at, "other")
    until(lambda: "old" not in kept_bytes(running))
    assert "new" in kept_bytes(running)
    until(lambda: "captures taken out" in running.log.getvalue())
    answer = running.http.post("/api/captures/expire", json={"adapter": "brief", "days": 0})
    assert answer.json() == {"requests": 0, "feedback": 1, "objects": 1}
    assert running.http.post("/api/captures/expire", json={"days": 1}).status_code == 400


def test_an_upkeep_that_fails_is_told_once(start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch) -> None:
    from registry.errors import Unavailable

    running = start(capture_upkeep_s=0.05)

    def broken(prefix: str) -> Iterator[str]:
        raise Unavailable(f"{prefix} is away")

    with monkeypatch.context() as patch:
        patch.setattr(running.registry.store, "folders", broken)
        until(lambda: "captures not looked after" in running.log.getvalue())
        time.sleep(0.5)
    assert running.log.getvalue().count("captures not looked after") == 1
    assert running.chat(running.base_name).status_code == 200


def test_without_a_key_for_pseudonyms_nothing_is_kept_and_all_is_served(
    fresh: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    from registry.errors import Unavailable

    create = fresh.registry.store.create

    def forbidden(key: str, data: bytes) -> bool:
        if "/pseudonyms/" in key:
            raise Unavailable("AccessDenied")
        return create(key, data)

    monkeypatch.setattr(fresh.registry.store, "create", forbidden)
    fresh.publish("kept", 1, policy={"capture": True})
    assert fresh.chat("kept", user="zoe").status_code == 200
    fresh.gateway.home.captures.flush()
    assert kept_bytes(fresh) == ""
    assert "no key for pseudonyms" in fresh.log.getvalue()


def test_tenants_do_not_find_each_others_requests(kept: Running) -> None:
    answer = kept.chat("kept", "mine").json()
    assert kept.gateway.recorder.find("default", answer["id"]) is not None
    assert kept.gateway.recorder.find("acme", answer["id"]) is None
