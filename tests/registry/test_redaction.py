"""What redaction takes out, what it leaves alone, and what becomes of a redactor that fails."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.captures.records import CaptureRecord, FeedbackRecord
from registry.captures.redaction import KINDS, Redaction, read_redactor
from registry.errors import Invalid
from registry.policy import read_policy

ALL = Redaction(KINDS)
WORDS = st.text("abcdefghij klmnop.,!?\n", max_size=60)
LOCAL = st.from_regex(r"[a-z0-9][a-z0-9._+-]{0,20}[a-z0-9]", fullmatch=True)
HOST = st.from_regex(r"[a-z][a-z0-9-]{0,20}[a-z0-9]\.(com|org|co\.uk|museum)", fullmatch=True)


def luhn(payload: str) -> str:
    """The payload with its check digit."""
    for check in "0123456789":
        digits = [int(digit) * (1 + index % 2) for index, digit in enumerate(reversed(payload + check))]
        if sum(number - 9 if number > 9 else number for number in digits) % 10 == 0:
            return payload + check
    raise AssertionError


@given(WORDS, LOCAL, HOST, WORDS)
def test_no_email_survives(before: str, local: str, host: str, after: str) -> None:
    redacted = ALL.text(f"{before} {local}@{host} {after}")
    assert host not in redacted
    assert "[email]" in redacted


@given(WORDS, st.from_regex(r"[3-6][0-9]{11,17}", fullmatch=True), st.sampled_from(["", " ", "-"]), WORDS)
def test_no_card_survives(before: str, payload: str, separator: str, after: str) -> None:
    number = luhn(payload)
    written = separator.join(number[index : index + 4] for index in range(0, len(number), 4))
    assert ALL.text(f"{before} {written} {after}") == ALL.text(before + " ") + "[card]" + ALL.text(" " + after)


@pytest.mark.parametrize(
    "phone", ["+41 44 668 18 00", "+1 (555) 010-9999", "044 668 18 00", "(030) 901820", "+491701234567", "555-010-9999"]
)
def test_no_phone_survives(phone: str) -> None:
    assert ALL.text(f"call {phone}, please") == "call [phone], please"


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop0123456789",
        "sk-lorimer-9f2c41d0-abcdefghijklmnopqrstuvwxyz",
        "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
        "AKIAIOSFODNN7EXAMPLE",
        "hf_abcdefghijklmnopqrstuvwxyz01234567",
        "xoxb-123456789012-abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE\nowIB\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMIIE and the rest was cut off",
    ],
)
def test_no_secret_survives(secret: str) -> None:
    assert ALL.text(f"use {secret}") == "use [secret]"


def test_words_before_a_secret_stay() -> None:
    assert ALL.text("Authorization: Bearer abc.def-123") == "Authorization: Bearer [secret]"
    assert ALL.text("postgres://app:hunter22@db/x") == "postgres://[secret]@db/x"
    assert ALL.text("id=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc, ok") == "id=[secret], ok"
    assert ALL.text("a.b.session-eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.") == "a.b.[secret]"


@pytest.mark.parametrize(
    "text",
    [
        "The meeting is on 2026-11-23 at 10:30, room 1204.",
        "Order 1234567 weighs 12.5 kg and costs 1299.00.",
        "Version 1.2.3 of sk-learn; ask me @ noon",
        "x = [1, 2, 3]; y = 0.0001",
    ],
)
def test_what_is_none_of_these_stays(text: str) -> None:
    assert ALL.text(text) == text


@given(st.text())
def test_redacting_twice_changes_nothing(text: str) -> None:
    once = ALL.text(text)
    assert ALL.text(once) == once


@given(WORDS, LOCAL, HOST)
def test_only_the_kinds_asked_for_go(words: str, local: str, host: str) -> None:
    text = f"{words} {local}@{host}"
    assert Redaction(()).text(text) == text
    assert Redaction(("card", "phone")).text(f"{words} x@{host}") == f"{words} x@{host}"


@pytest.mark.parametrize("hostile", ["a" * 200_000, "1 " * 100_000, "a@" * 100_000, "x.y" * 70_000, "eyJ" * 70_000,
                                     "eyJaaaaaaaa-" * 20_000, "eyJaaaaaaaa." * 20_000,
                                     "-----BEGIN " * 20_000, "://" * 70_000, "((((" * 50_000])  # fmt: skip
def test_no_text_takes_long(hostile: str) -> None:
    started = time.process_time()
    ALL.text(hostile)
    assert time.process_time() - started < 2.0


def test_every_text_of_a_record_is_redacted() -> None:
    request = CaptureRecord(
        request_id="r1",
        time=1.0,
        session="s",
        adapter="x",
        digest="sha256:1",
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "I am ada@example.org"}]},
            {"role": "assistant", "content": None, "tool_calls": [
                {"id": "call_1", "type": "function",
                 "function": {"name": "mail", "arguments": '{"to": "ada@example.org"}'}}]},
        ],
        prompt="ada@example.org",
        response="Hello ada@example.org",
        others=("Hi ada@example.org",),
        tools=[{"type": "function", "function": {"description": "mails ada@example.org"}}],
        users=("4b1d",),
    )  # fmt: skip
    redacted = Redaction(("email",)).record(request)
    assert isinstance(redacted, CaptureRecord)
    assert "example.org" not in repr(redacted)
    assert repr(redacted).count("[email]") == 6
    assert redacted.messages[1]["tool_calls"][0]["id"] == "call_1"
    feedback = FeedbackRecord(request_id="r1", time=1.0, adapter="x", correction="ask ada@example.org", users=("4b1d",))
    assert Redaction(("email",)).record(feedback) == FeedbackRecord(
        request_id="r1", time=1.0, adapter="x", correction="ask [email]", users=("4b1d",)
    )
    assert Redaction(("email",)).record(FeedbackRecord(request_id="r", time=1.0, adapter="x", rating=1)).rating == 1


def test_whatever_the_fields_of_arguments_are_called_they_are_redacted() -> None:
    """What a template takes as values was text when it came; `id` is a call's own name, and any name within it."""
    arguments = {"id": "ada@example.org", "type": ["x@example.org"], "card": 4111111111111111, "n": 3, "ok": True,
                 "b@example.org": {"role": "y@example.org"}}  # fmt: skip
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": arguments}}
    schema = {"type": "object", "properties": {"id": {"type": "string", "description": "as z@example.org has it"}}}
    redacted = ALL.record(
        CaptureRecord(
            request_id="r1",
            time=1.0,
            session="s",
            adapter="x",
            digest="sha256:1",
            messages=[{"role": "assistant", "content": "", "tool_calls": [call]}],
            response="",
            tools=[{"type": "function", "function": {"name": "look", "parameters": schema}}],
        )
    )
    assert isinstance(redacted, CaptureRecord)
    made = redacted.messages[0]["tool_calls"][0]
    assert (made["id"], made["type"]) == ("call_1", "function")
    assert made["function"]["arguments"] == {
        "id": "[email]", "type": ["[email]"], "card": "[card]", "n": 3, "ok": True, "[email]": {"role": "[email]"}
    }  # fmt: skip
    described = {"type": "string", "description": "as [email] has it"}
    assert redacted.tools[0]["function"]["parameters"] == {"type": "object", "properties": {"id": described}}


def shout(text: str) -> str:
    return text.upper()


def test_a_redactor_of_ones_own_comes_last() -> None:
    own = read_redactor(f"{__name__}:shout")
    assert Redaction(("email",), own).text("ask ada@example.org") == "ASK [EMAIL]"
    assert read_redactor("") is None


@pytest.mark.parametrize(
    "path", ["json", "json:", ":dumps", "json:nothing", "no_such_module_here:f", "json:__doc__", "json.dumps"]
)
def test_a_redactor_that_cannot_be_had_is_refused_at_start(path: str) -> None:
    with pytest.raises(Invalid, match=re.escape(path)):
        read_redactor(path)


def test_a_redactor_must_give_text() -> None:
    with pytest.raises(TypeError, match="NoneType"):
        Redaction((), lambda _: None).text("x")  # type: ignore[arg-type,return-value]


def test_a_kind_of_a_newer_program_is_refused() -> None:
    with pytest.raises(Invalid, match="cannot redact passport"):
        Redaction(("email", "passport"))  # type: ignore[arg-type]


def test_policies_name_what_is_redacted() -> None:
    assert read_policy({"redact": "all"}).redact == KINDS
    assert read_policy({"redact": "email, phone"}).redact == ("email", "phone")
    assert read_policy({"redact": ["card"]}).redact == ("card",)
    assert read_policy({"redact": "none"}).redact == ()
    assert read_policy({}).redact is None
    for bad in ({"redact": "names"}, {"redact": 3}, {"capture_days": -1}, {"capture_days": "soon"}):
        with pytest.raises(Invalid, match="bad policy"):
            read_policy(bad)
