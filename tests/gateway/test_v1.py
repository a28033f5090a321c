"""The OpenAI dialect over real HTTP, with the real engine on the tiny base."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from registry.captures import read_captures
from serving.request import Request, Sampling

if TYPE_CHECKING:
    from tests.gateway.conftest import Running


def test_a_chat_answer_is_the_engines_answer(running: Running) -> None:
    response = running.chat("alpha@v1")
    document = response.json()
    assert response.status_code == 200, response.text
    assert document["object"] == "chat.completion"
    assert document["id"].startswith("chatcmpl-")
    assert document["model"] == "alpha@v1"
    choice = document["choices"][0]
    prompt = tuple(running.base.render([{"role": "user", "content": "hello"}]))
    version = running.registry.resolve("alpha@v1")
    with running.gateway.residency.acquire(version.digest) as lease:
        request = Request("direct", prompt, Sampling(max_tokens=8, temperature=0.0), adapter=lease.adapter)
        (direct,) = running.gateway.engine.run([request])
    assert choice["message"] == {"role": "assistant", "content": direct.text, "refusal": None}
    assert choice["finish_reason"] == direct.reason
    assert document["usage"]["prompt_tokens"] == len(prompt)
    assert document["usage"]["completion_tokens"] == len(direct.tokens)
    assert document["usage"]["total_tokens"] == len(prompt) + len(direct.tokens)


def test_every_adapter_and_the_base_answer_differently(running: Running) -> None:
    names = [running.base_name, "alpha", "beta", "gamma"]
    texts = {running.chat(name, max_tokens=16).json()["choices"][0]["message"]["content"] for name in names}
    assert len(texts) == 4


def test_identity_is_in_the_headers_and_the_fingerprint(running: Running) -> None:
    version = running.registry.resolve("beta")
    response = running.chat("beta", max_tokens=1)
    assert response.headers["x-adapter-digest"] == version.digest
    assert response.headers["x-adapter-version"] == "1"
    assert response.json()["system_fingerprint"] == version.digest
    assert {"queue", "load", "prefill", "decode"} <= {
        part.split(";")[0] for part in response.headers["server-timing"].split(", ")
    }
    bare = running.chat(running.base_name, max_tokens=1)
    assert "x-adapter-digest" not in bare.headers
    assert bare.json()["system_fingerprint"].endswith(running.base.profile.identity.weights_sha256)


@pytest.mark.parametrize(
    "form", ["{name}", "{name}@prod", "{name}@v1", "{name}@{digest}", "{name}@{short}", "default/{name}"]
)
def test_one_version_has_many_names(running: Running, form: str) -> None:
    version = running.registry.resolve("alpha")
    name = form.format(name="alpha", digest=version.digest, short=version.digest[:19])
    response = running.chat(name, max_tokens=1)
    assert response.headers["x-adapter-digest"] == version.digest
    assert response.json()["model"] == name


@pytest.mark.parametrize(
    "model",
    ["nobody", "alpha@canary", "alpha@v99", "alpha@sha256:000000", "other/alpha", "../../etc/passwd", "A B", "alpha@"],
)
def test_what_does_not_exist_is_404_for_chat_and_card(running: Running, model: str) -> None:
    for response in (running.chat(model), running.http.get(f"/v1/models/{quote(model, safe='')}")):
        assert response.status_code == 404
        assert response.json()["error"]["code"] in ("model_not_found", "not_found")
    assert running.chat(model).json()["error"] | {"message": ""} == {
        "message": "",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_an_alias_moved_between_two_requests_changes_the_second(running: Running) -> None:
    first = running.publish("moving", 11)
    second = running.publish("moving", 12, prod=False)
    assert running.chat("moving", max_tokens=1).headers["x-adapter-digest"] == first.digest
    running.registry.alias("moving", "prod", "v2")
    assert running.chat("moving", max_tokens=1).headers["x-adapter-digest"] == second.digest


def test_request_ids_are_echoed_or_minted(running: Running) -> None:
    given = running.http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert given.headers["x-request-id"] == "mine-1"
    minted = {running.http.get("/v1/models").headers["x-request-id"] for _ in range(2)}
    assert len(minted) == 2
    odd = running.http.get("/nowhere", headers={"x-request-id": "x" * 500})
    assert odd.status_code == 404
    assert odd.headers["x-request-id"].startswith("req-")


def test_models_lists_the_base_and_every_alias(running: Running) -> None:
    running.publish("listed", 21)
    running.registry.alias("listed", "canary", "v1")
    cards = {card["id"]: card for card in running.http.get("/v1/models").json()["data"]}
    assert {running.base_name, "alpha", "beta", "gamma", "listed", "listed@canary"} <= set(cards)
    version = running.registry.resolve("listed")
    assert cards["listed"]["root"] == version.digest
    assert cards["listed"]["parent"] == running.base_name
    assert cards["listed"]["version"] == 1
    assert cards[running.base_name]["parent"] is None
    assert running.http.get("/v1/models/listed@v1").json()["root"] == version.digest
    assert running.http.get(f"/v1/models/{running.base_name}").json()["id"] == running.base_name


def test_stop_ends_the_text_before_the_stop_string(running: Running) -> None:
    whole = running.chat("alpha", max_tokens=24).json()["choices"][0]["message"]["content"]
    middle = len(whole) // 2
    stop = whole[middle : middle + 2]
    cut = running.chat("alpha", max_tokens=24, stop=[stop]).json()["choices"][0]
    assert cut["message"]["content"] == whole[: whole.index(stop)]
    assert cut["finish_reason"] == "stop"


def test_a_seed_reproduces_and_n_gives_several(running: Running) -> None:
    sampled: dict[str, Any] = {"temperature": 1.0, "seed": 5, "n": 3, "max_tokens": 12}
    first, second = (running.chat("beta", **sampled).json() for _ in range(2))
    texts = [choice["message"]["content"] for choice in first["choices"]]
    assert [choice["index"] for choice in first["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert texts == [choice["message"]["content"] for choice in second["choices"]]
    assert first["usage"]["prompt_tokens"] == second["usage"]["prompt_tokens"] < 60


def test_usage_says_what_was_computed_before(running: Running) -> None:
    words = "a prompt that is long enough to be kept, and so to be found again"
    read = [running.chat("beta", words).json()["usage"] for _ in range(2)]
    stream = running.chat("beta", words, stream=True, stream_options={"include_usage": True}).text
    read.append(json.loads(stream.split("data: ")[-2])["usage"])
    assert len({usage["prompt_tokens"] for usage in read}) == 1
    cached = [usage["prompt_tokens_details"]["cached_tokens"] for usage in read]
    assert cached[0] < read[0]["prompt_tokens"] // 2 < cached[1] == cached[2] < read[0]["prompt_tokens"]
    other = running.chat("gamma", words).json()["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert other == 0, "another adapter's keys and values are others"


def test_logprobs_spell_out_the_answer(running: Running) -> None:
    choice = running.chat("alpha", logprobs=True, top_logprobs=3, max_tokens=6).json()["choices"][0]
    content = choice["logprobs"]["content"]
    assert len(content) == 6
    assert all(len(each["top_logprobs"]) == 3 and each["logprob"] <= 0 for each in content)
    assert content[0]["logprob"] == pytest.approx(content[0]["top_logprobs"][0]["logprob"], abs=1e-4)
    assert "logprobs" in running.chat("alpha").json()["choices"][0]


def test_vllm_fields_are_honoured(running: Running) -> None:
    plain = running.chat("gamma", max_tokens=12).json()["choices"][0]
    greedy_by_k = running.chat("gamma", max_tokens=12, temperature=1.5, top_k=1, seed=1).json()["choices"][0]
    assert greedy_by_k["message"] == plain["message"]
    long = running.chat("gamma", max_tokens=20, min_tokens=20, ignore_eos=True).json()
    assert long["usage"]["completion_tokens"] == 20


def test_plain_completions_take_text_ids_and_lists(running: Running) -> None:
    def complete(prompt: Any, **fields: Any) -> Any:
        body = {"model": "alpha", "prompt": prompt, "temperature": 0, "max_tokens": 6, **fields}
        response = running.http.post("/v1/completions", json=body)
        assert response.status_code == 200, response.text
        return response.json()

    by_text = complete("Once upon")
    assert by_text["object"] == "text_completion"
    assert by_text["id"].startswith("cmpl-")
    ids = running.base.tokenizer.encode("Once upon")
    assert complete(ids)["choices"] == by_text["choices"]
    both = complete(["Once upon", "The end"], logprobs=2)
    assert [choice["index"] for choice in both["choices"]] == [0, 1]
    assert both["choices"][0]["text"] == by_text["choices"][0]["text"]
    logprobs = both["choices"][0]["logprobs"]
    assert len(logprobs["tokens"]) == len(logprobs["token_logprobs"]) == len(logprobs["text_offset"]) == 6


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b'{"model": "alpha", "messages": "\xff"}', 400, "invalid_json"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_json"),
        (b'{"model": "alpha", "messages": [], "n": NaN}', 400, "invalid_value"),
        (b'{"model": "alpha"}', 400, "invalid_value"),
        (b" " * (5 << 20), 413, "request_entity_too_large"),
    ],
)
def test_bad_bodies_are_refused_as_documented(running: Running, content: bytes, status: int, code: str) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/feedback"):
        response = running.http.post(path, content=content, headers={"content-type": "application/json"})
        assert response.status_code == status
        assert set(response.json()["error"]) == {"message", "type", "param", "code"}
        if path == "/v1/chat/completions" and code != "invalid_value":
            assert response.json()["error"]["code"] == code


def test_only_json_is_taken(running: Running) -> None:
    body = json.dumps({"model": "alpha", "messages": [{"role": "user", "content": "x"}]})
    for media_type in ("text/plain", "application/x-www-form-urlencoded"):
        response = running.http.post("/v1/chat/completions", content=body, headers={"content-type": media_type})
        assert response.status_code == 415


def test_a_context_that_cannot_fit_is_named(running: Running) -> None:
    error = running.chat("alpha", "word " * 20_000)
    assert error.status_code == 400
    assert error.json()["error"]["code"] == "context_length_exceeded"
    assert error.headers["x-should-retry"] == "false"
    assert running.chat("alpha", max_tokens=1 << 20).json()["error"]["code"] == "context_length_exceeded"


def test_a_wrong_method_or_path_keeps_the_envelope(running: Running) -> None:
    assert running.http.get("/v1/chat/completions").json()["error"]["code"] == "method_not_allowed"
    assert running.http.get("/v1/nothing").json()["error"]["code"] == "not_found"
    problem = running.http.get("/api/nothing")
    assert problem.headers["content-type"].startswith("application/problem+json")
    assert problem.json()["status"] == 404


def test_a_full_queue_is_503_overloaded_with_retry_after(start: Any) -> None:
    running = start(max_batch=1, max_waiting=1)
    running.publish("slow", 1)
    running.chat("slow", max_tokens=1)
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(running.chat("slow", max_tokens=200, ignore_eos=True))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    refused = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refused} == {503}
    assert {answer.json()["error"]["code"] for answer in refused} == {"overloaded"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
    assert len(refused) < len(answers)
    assert 'lorimer_rejects_total{reason="overloaded"}' in running.http.get("/metrics").text


def until(holds: Any, timeout_s: float = 5.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not (done := bool(holds())) and time.monotonic() < deadline:
        time.sleep(0.01)
    return done


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_hangs_up_frees_its_row(running: Running, stream: bool) -> None:
    engine = running.gateway.engine
    body = {
        "model": "alpha",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 400,
        "ignore_eos": True,
        "stream": stream,
    }
    with httpx.Client(base_url=running.server.url) as leaving:
        if stream:
            with leaving.stream("POST", "/v1/chat/completions", json=body) as response:
                next(response.iter_lines())
                assert engine.stats().running == 1
        else:
            with pytest.raises(httpx.ReadTimeout):
                leaving.post("/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.05))
    assert until(lambda: engine.stats().running + engine.stats().waiting == 0, 1.0)
    assert until(lambda: running.gateway.residency.stats().leased == 0)
    assert until(lambda: running.server.in_flight == 0)


def test_feedback_is_joined_to_what_was_captured(running: Running) -> None:
    running.publish("kept", 31, policy={"capture": True})
    headers = {"x-session-id": "visit-7", "x-request-id": "ask-1"}
    body = {"model": "kept", "messages": [{"role": "user", "content": "capital of France?"}], "max_tokens": 4}
    answer = running.http.post("/v1/chat/completions", json=body, headers=headers).json()
    by_header = running.http.post("/v1/feedback", json={"request_id": "ask-1", "rating": -1})
    assert by_header.json()["request_id"] == answer["id"]
    stored = running.http.post("/v1/feedback", json={"request_id": answer["id"], "correction": "Paris"})
    assert stored.status_code == 200
    store, tenant = running.registry.store, running.registry.tenant
    assert until(lambda: read_captures(store, tenant, "kept"))
    (captured,) = read_captures(store, tenant, "kept")
    assert (captured.request_id, captured.session) == (answer["id"], running.gateway.home.pseudonyms.of("visit-7"))
    assert (captured.correction, captured.rating) == ("Paris", -1)
    assert captured.response == answer["choices"][0]["message"]["content"]
    assert captured.messages == [{"role": "user", "content": "capital of France?"}]


def test_nothing_is_captured_without_consent(running: Running) -> None:
    running.chat("alpha", "a secret of mine")
    running.gateway.home.captures.flush()
    assert read_captures(running.registry.store, running.registry.tenant, "alpha") == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"request_id": "never-seen", "rating": 1}, 404),
        ({"request_id": "never-seen", "rating": 1, "model": "nobody"}, 404),
        ({"request_id": "never-seen", "rating": 1, "model": "alpha"}, 200),
        ({"request_id": "never-seen"}, 400),
        ({"request_id": "never-seen", "rating": 5}, 400),
        ({"rating": 1}, 400),
    ],
)
def test_feedback_on_the_unknown(running: Running, body: dict[str, Any], status: int) -> None:
    assert running.http.post("/v1/feedback", json=body).status_code == status


def test_a_log_line_says_who_answered_and_never_what(running: Running) -> None:
    response = running.http.post(
        "/v1/chat/completions",
        json={"model": "gamma", "messages": [{"role": "user", "content": "my-secret-words"}], "max_tokens": 3},
        headers={"x-request-id": "log-me"},
    )
    assert until(lambda: [line for line in running.logged() if line.get("request_id") == "log-me"])
    (line,) = [line for line in running.logged() if line.get("request_id") == "log-me"]
    assert (line["status"], line["adapter"], line["tokens"]) == (200, "gamma", 3)
    assert line["digest"] == response.headers["x-adapter-digest"]
    assert {"queue_ms", "load_ms", "prefill_ms", "decode_ms", "total_ms"} <= set(line)
    assert "my-secret-words" not in running.log.getvalue()
