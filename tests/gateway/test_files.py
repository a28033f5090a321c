"""/v1/files: what OpenAI's client does with them, what is refused, and that nothing is left behind."""

from __future__ import annotations

import json
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import openai
import pytest

from registry.keys import Grants, KeyLog
from serving.gateway.files import route
from serving.gateway.files.lines import MAX_LINE_BYTES
from tests.gateway.test_hostile import error, post, status, talk

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

ROW = b'{"prompt": "Where is it?", "completion": "On its way."}\n'
BOUNDARY = "a-boundary"


@pytest.fixture
def client(running: Running) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{running.server.url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left(running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    until(lambda: not list(tmp_path.glob("lorimer-upload-*")))
    until(lambda: running.gateway.uploads.inside == 0)


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def upload(running: Running, content: bytes = ROW, name: str = "rows.jsonl", **fields: Any) -> httpx.Response:
    form = {"purpose": "fine-tune", **fields}
    return running.http.post("/v1/files", data=form, files={"file": (name, content)})


def form(*parts: tuple[str, bytes], end: bytes = b"--\r\n") -> bytes:
    """A body by hand: (content-disposition's parameters, value)."""
    lines = [
        f"--{BOUNDARY}\r\ncontent-disposition: form-data; {name}\r\n\r\n".encode() + value + b"\r\n"
        for name, value in parts
    ]
    return b"".join(lines) + f"--{BOUNDARY}".encode() + end


def send(running: Running, body: bytes, **headers: str) -> httpx.Response:
    given = {"content-type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    return running.http.post("/v1/files", content=body, headers=given)


def head_of(body: bytes) -> bytes:
    head = post("/v1/files", body)[: -len(body)]
    return head.replace(b"application/json", f"multipart/form-data; boundary={BOUNDARY}".encode())


def test_the_official_client_uploads_lists_downloads_and_deletes(openai_rows: bytes, client: openai.OpenAI) -> None:
    made = client.files.create(file=("../my rows.jsonl", openai_rows), purpose="fine-tune")
    assert (made.object, made.bytes, made.filename) == ("file", len(openai_rows), "../my rows.jsonl")
    assert (made.purpose, made.status) == ("fine-tune", "processed")
    assert client.files.retrieve(made.id) == made
    assert client.files.wait_for_processing(made.id) == made
    assert client.files.content(made.id).read() == openai_rows
    more = [client.files.create(file=("more.jsonl", openai_rows), purpose="fine-tune").id for _ in range(3)]
    paged = [file.id for file in client.files.list(limit=2)]
    assert paged[:4] == [*reversed(more), made.id], "newest first, over several pages"
    assert [file.id for file in client.files.list(order="asc", after=made.id, limit=1)][:3] == more
    assert client.files.list(purpose="batch").data == []
    for id in [made.id, *more]:
        assert client.files.delete(id).deleted
        for gone in (client.files.retrieve, client.files.content, client.files.delete):
            with pytest.raises(openai.NotFoundError):
                gone(id)


@pytest.fixture
def openai_rows() -> bytes:
    """More than one piece, so that it is written in several."""
    return ROW * 40_000


def test_parts_come_in_any_order_and_a_file_may_hold_what_looks_like_a_boundary(running: Running) -> None:
    row = json.dumps({"text": f"--{BOUNDARY}\r\n--{BOUNDARY}--\r\n", "label": "é\u2028"}).encode() + b"\r\n\r\n" + ROW
    purpose, file = ('name="purpose"', b"fine-tune"), ('name="file"; filename="x.jsonl"', row)
    for parts in ((purpose, file), (file, purpose)):
        answer = send(running, form(*parts))
        assert answer.status_code == 200, answer.text
        assert running.http.get(f"/v1/files/{answer.json()['id']}/content").content == row


LINES = {
    "not JSON": (ROW + b"nonsense\n", "line 2 "),
    "no object": (ROW + ROW + b"[1, 2]\n", "line 3 "),
    "a number": (b"1\n", "line 1 "),
    "bad UTF-8": (ROW + b'\n\n{"prompt": "\xff"}\n', "line 4 is not a JSON object: it is not valid UTF-8"),
    "UTF-16": ('{"prompt": "x"}'.encode("utf-16"), "line 1 "),
    "a byte order mark": (b"\xef\xbb\xbf" + ROW, "line 1 "),
    "NaN": (b'{"prompt": NaN}', "line 1 "),
    "nested deeply": (b'{"prompt": ' + b"[" * 100_000, "line 1 is not a JSON object: it is nested too deeply"),
    "two objects on a line": (b"{}{}", "line 1 "),
    "a line without end": (b'{"prompt": "' + b"x" * MAX_LINE_BYTES, "longer than 1,048,576 bytes"),
    "nothing": (b"", "holds no rows"),
    "empty lines": (b"\n  \n", "holds no rows"),
    "zip": (b"PK\x03\x04\x00\x00\x00\x00", "line 1 "),
}


@pytest.mark.parametrize("case", LINES)
def test_what_is_no_json_lines_is_refused_naming_the_line(running: Running, case: str) -> None:
    content, told = LINES[case]
    before = running.gateway.home.files.list()
    answer = upload(running, content)
    found = answer.json()["error"]
    assert (answer.status_code, found["param"], found["code"]) == (400, "file", "invalid_file"), answer.text
    assert told in found["message"]
    assert len(found["message"]) < 300
    assert running.gateway.home.files.list() == before


FORMS = {
    "no purpose": ([('name="file"; filename="x"', ROW)], "purpose", "invalid_value"),
    "no file": ([('name="purpose"', b"fine-tune")], "file", "invalid_value"),
    "nothing": ([], None, None),
    "another purpose": (
        [('name="purpose"', b"assistants"), ('name="file"; filename="x"', ROW)],
        "purpose",
        "unsupported_value",
    ),
    "two files": ([('name="file"; filename="x"', ROW)] * 2, "file", "invalid_form"),
    "two purposes": ([('name="purpose"', b"fine-tune")] * 2, "purpose", "invalid_form"),
    "a field without end": ([('name="purpose"', b"x" * 100_000)], "purpose", "invalid_value"),
    "many fields": ([(f'name="f{n}"', b"x") for n in range(100)], None, "invalid_form"),
    "no name": ([("", ROW)], None, "invalid_form"),
    "bytes that are no text": ([('name="purpose"', b"\xff")], None, "invalid_form"),
    "a name of control characters": (
        [('name="purpose"', b"fine-tune"), ('name="file"; filename="a\x1b[2J"', ROW)],
        "file",
        "invalid_value",
    ),
    "a name without end": (
        [('name="purpose"', b"fine-tune"), (f'name="file"; filename="{"x" * 300}"', ROW)],
        "file",
        "invalid_value",
    ),
}


@pytest.mark.parametrize("case", FORMS)
def test_forms_that_lack_something_or_have_too_much(running: Running, case: str) -> None:
    parts, param, code = FORMS[case]
    answer = send(running, form(*parts))
    found = answer.json()["error"]
    assert answer.status_code == 400, answer.text
    assert found["param"] == param or param is None
    assert found["code"] == code or code is None


@pytest.mark.parametrize(
    "body", [b"", b"x" * 100_000, b"--a-boundary", form(('name="file"; filename="x"', ROW), end=b""), b"\r\n" * 50_000]
)
def test_bodies_that_are_no_forms(running: Running, body: bytes) -> None:
    assert send(running, body).json()["error"]["code"] == "invalid_form"


@pytest.mark.parametrize("media_type", ["application/json", "multipart/form-data", "multipart/mixed; boundary=x", ""])
def test_other_content_types_are_not_read(running: Running, media_type: str) -> None:
    answer = running.http.post("/v1/files", content=form(), headers={"content-type": media_type})
    assert answer.status_code == 415


def test_a_page_of_another_origin_cannot_post_a_form_here(running: Running) -> None:
    """Browsers let any page post a form; no key, no preflight would stand in its way."""
    body = form(('name="purpose"', b"fine-tune"), ('name="file"; filename="x"', ROW))
    for origin in ("https://evil.example", "null", "http://localhost:1"):
        assert send(running, body, origin=origin).status_code == 403
        for path in ("/v1/fine_tuning/jobs/x/cancel", "/api/quarantine/sha256:x/release"):
            assert running.http.post(path, headers={"origin": origin}).status_code == 403
    assert send(running, body, origin=running.server.url).status_code == 200


def test_more_than_may_be_is_refused_early_and_late(start: Callable[..., Running]) -> None:
    running = start(file_bytes=100_000)
    assert upload(running, ROW * (100_000 // len(ROW))).status_code == 200
    answer = upload(running, ROW * (100_000 // len(ROW) + 1))
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_entity_too_large")
    told = f"content-type: multipart/form-data; boundary={BOUNDARY}\r\ncontent-length: 99999999\r\n"
    since = time.monotonic()
    early = talk(running, f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{told}\r\n".encode())
    assert (status(early), error(early)["code"]) == (413, "request_entity_too_large")
    assert time.monotonic() - since < 15, "without waiting for all of it"

    def endless() -> Iterator[bytes]:
        yield form(('name="file"; filename="x"', b""))[: -len(BOUNDARY) - 8]
        for _ in range(300):
            yield ROW * 20

    given = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    assert running.http.post("/v1/files", content=endless(), headers=given).status_code == 413


def test_a_file_that_keeps_coming_has_more_time_than_other_bodies_and_one_that_stalls_has_not(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route, "PACE_BYTES_PER_S", 1000)
    running = start(body_timeout_s=0.5)
    given = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    body = form(('name="purpose"', b"fine-tune"), ('name="file"; filename="x"', ROW * 40))

    def drops(pause_s: float) -> Iterator[bytes]:
        for begin in range(0, len(body), 300):
            yield body[begin : begin + 300]
            time.sleep(pause_s)

    since = time.monotonic()
    assert running.http.post("/v1/files", content=drops(0.15), headers=given).status_code == 200
    assert time.monotonic() - since > 1.0
    head = f"POST /v1/files HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in given.items())
    since = time.monotonic()
    answer = talk(running, f"{head}\r\n".encode() + body[:-10])
    assert (status(answer), error(answer)["code"]) == (408, "request_timeout")
    assert 0.4 < time.monotonic() - since < 3, "what came fast earns no long silence"
    until(lambda: running.gateway.uploads.inside == 0)


def test_an_upload_that_breaks_off_leaves_nothing(running: Running) -> None:
    before = running.gateway.home.files.list()
    body = form(('name="purpose"', b"fine-tune"), ('name="file"; filename="x"', ROW * 1000))
    head = head_of(body)
    with socket.create_connection((running.server.host, running.server.port), timeout=10) as connection:
        connection.sendall(head + body[:20_000])
        until(lambda: running.gateway.uploads.inside == 1)
    until(lambda: running.gateway.uploads.inside == 0)
    assert running.gateway.home.files.list() == before


def test_so_many_at_once_and_no_more(running: Running) -> None:
    body = form(('name="purpose"', b"fine-tune"), ('name="file"; filename="x"', ROW))
    head = head_of(body)
    with ExitStack() as opened:
        for _ in range(8):
            address = (running.server.host, running.server.port)
            connection = opened.enter_context(socket.create_connection(address, timeout=10))
            connection.sendall(head + body[:10])
        until(lambda: running.gateway.uploads.inside == 8)
        answer = upload(running)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "10")
    until(lambda: running.gateway.uploads.inside == 0)
    assert upload(running).status_code == 200


def test_a_full_disk_is_told_and_nothing_is_kept(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full takes no byte."""
    before = running.gateway.home.files.list()
    with monkeypatch.context() as full:
        full.setattr(tempfile, "NamedTemporaryFile", lambda **_: Path("/dev/full").open("wb", buffering=0))  # noqa: SIM115
        answer = upload(running)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert "TMPDIR" in answer.text
    monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
    assert upload(running).status_code == 503
    assert running.gateway.home.files.list() == before
    assert not [line for line in running.logged() if line["event"] == "unexpected error"]


def test_another_tenants_files_are_not_there(start: Callable[..., Running]) -> None:
    running = start()
    _, key = KeyLog.of(running.registry).create(Grants(name="theirs", tenant="other", scopes=frozenset({"train"})))
    theirs = {"authorization": f"Bearer {key}"}
    _, own = KeyLog.of(running.registry).create(Grants(name="ours", tenant="default", scopes=frozenset({"train"})))
    running.http.headers["authorization"] = f"Bearer {own}"
    until(lambda: httpx.get(f"{running.server.url}/v1/files").status_code == 401)
    id = upload(running).json()["id"]
    told = []
    for each in (id, "file-" + "0" * 26):
        for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
            answer = running.http.request(method, f"/v1/files/{each}{path}", headers=theirs)
            assert answer.status_code == 404
            told.append(answer.text.replace(each, "ID"))
        body = {"model": running.base_name, "training_file": each}
        answer = running.http.post("/v1/fine_tuning/jobs", json=body, headers=theirs)
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "training_file")
        told.append(answer.text.replace(each, "ID"))
    assert told[:4] == told[4:]
    assert running.http.get("/v1/files", headers=theirs).json()["data"] == []
    assert running.http.get(f"/v1/files/{id}").status_code == 200


def test_a_file_that_a_job_needs_stays_and_a_deletion_is_on_record(running: Running) -> None:
    id = upload(running).json()["id"]
    job = running.http.post("/v1/fine_tuning/jobs", json={"model": "alpha", "training_file": id}).json()["id"]
    answer = running.http.delete(f"/v1/files/{id}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "file_in_use")
    assert job in answer.text
    assert running.http.post(f"/v1/fine_tuning/jobs/{job}/cancel").json()["status"] == "cancelled"
    assert running.http.delete(f"/v1/files/{id}").json() == {"id": id, "object": "file", "deleted": True}
    (record,) = running.http.get("/api/audit", params={"limit": 1, "action": "file.delete"}).json()["records"]
    assert record["what"] == {"file": id}


def test_a_damaged_file_is_never_given_whole(running: Running) -> None:
    """A large one is on its way when the damage is found."""
    store = running.registry.store
    for rows, damaged in ((ROW, ROW.replace(b"way", b"wax")), (ROW * 100_000, ROW * 99_999 + ROW.upper())):
        id = upload(running, rows).json()["id"]
        store.put(f"t/default/files/{id}/content", damaged)
        try:
            answer = running.http.get(f"/v1/files/{id}/content")
        except httpx.RemoteProtocolError:
            assert rows != ROW
        else:
            assert (answer.status_code, answer.json()["error"]["code"], rows) == (500, "corrupt", ROW)
        assert running.http.delete(f"/v1/files/{id}").status_code == 200


@pytest.mark.parametrize(("query", "param"), [("limit=0", "limit"), ("limit=1001", "limit"), ("limit=x", None)])
def test_lists_have_a_length(running: Running, query: str, param: str | None) -> None:
    answer = running.http.get(f"/v1/files?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert running.http.get("/v1/files?order=sideways").status_code == 400
