"""What an answer must look like, token by token: JSON schemas through llguidance. Knows no engine and no logits.

A `Grammar` is compiled once, off the engine's thread, and shared by all rows that ask for it; each row walks its own
`Matcher`. Compiled grammars are kept per tokenizer by canonical schema.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from numpy.typing import NDArray

from registry.errors import Invalid
from serving.base import Base

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

CACHED = 256
"""Compiled grammars kept, the least recently used let go first."""
LONGEST = 262_144
"""Characters of a schema."""
SEARCHED = 256
"""Subschemas that are looked at to find the one that is wrong."""
PARAM = "response_format"
OPTIONS: JsonCompileOptions = {"whitespace_pattern": r"(\n[ ]{0,20}|[ ])"}
"""Between two tokens of JSON one space, or a new line and its indentation: enough for every style of writing, while a
model cannot lose itself in white space."""

NAMED = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
LISTED = ("anyOf", "oneOf", "allOf", "prefixItems")
SINGLE = ("items", "additionalProperties", "contains", "propertyNames", "not", "if", "then", "else")


class Matcher:
    """One row's walk through a grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    @property
    def is_complete(self) -> bool:
        """Nothing can follow: the answer is over."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> NDArray[np.bool_]:
        """(vocabulary,): the tokens that may come next; end tokens where the answer may end."""
        words = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        if self._matcher.is_error():
            raise Invalid(f"the grammar cannot go on: {_first_line(self._matcher)}", param=PARAM)
        return np.unpackbits(words, count=self._vocab_size, bitorder="little").view(np.bool_)

    def take(self, token: int) -> None:
        """Walk on by one allowed token."""
        if not self._matcher.consume_token(token):
            raise Invalid(f"the answer left its grammar: {_first_line(self._matcher)}", param=PARAM)


class Grammar:
    """A compiled grammar."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size

    def matcher(self) -> Matcher:
        return Matcher(self._matcher.deep_copy(), self._vocab_size)


class Grammars:
    """Compiles grammars for one base's tokenizer. Safe from any thread; compiling may take 100 ms and more."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[str, Grammar] = OrderedDict()

    def from_schema(self, schema: Mapping[str, Any] | str) -> Grammar:
        """A grammar for the JSON values that a JSON schema admits. Invalid says what in the schema cannot be had."""
        schema = _canonical(schema)
        return self._kept(schema, lambda: self._from_schema(schema))

    def any_object(self) -> Grammar:
        """A grammar for JSON objects of whatever content."""
        return self.from_schema('{"type":"object"}')

    def from_rules(self, rules: str, *, param: str) -> Grammar:
        """A grammar in llguidance's own Lark. Invalid names `param`, the field that the rules were made of."""
        return self._kept(rules, lambda: self._from_source(LLMatcher.grammar_from_lark(rules), param))

    def from_regex(self, regex: str, *, param: str) -> Grammar:
        """A grammar for texts all of which the regular expression matches, in the syntax of Rust's."""
        return self._kept(f"regex {regex}", lambda: self._from_source(LLMatcher.grammar_from_regex(regex), param))

    def _kept(self, source: str, compile: Callable[[], Grammar]) -> Grammar:
        """No schema reads as rules, and neither as `regex` and a space."""
        with self._lock:
            if (grammar := self._compiled.get(source)) is not None:
                self._compiled.move_to_end(source)
                return grammar
        grammar = compile()
        with self._lock:
            self._compiled[source] = grammar
            if len(self._compiled) > CACHED:
                self._compiled.popitem(last=False)
        return grammar

    def _from_source(self, source: str, param: str) -> Grammar:
        matcher = LLMatcher(self._ready(), source, log_level=0)
        if matcher.is_error():
            raise Invalid(f"no grammar can be made of it: {_first_line(matcher)}", param=param)
        return Grammar(matcher, self._base.profile.vocab_size)

    def _from_schema(self, schema: str) -> Grammar:
        matcher = LLMatcher(self._ready(), _source(schema), log_level=0)
        if matcher.is_error():
            complaint = _complaint(schema) or _first_line(matcher)
            raise Invalid(f"the schema cannot be used at {_place(schema, complaint)}: {complaint}", param=PARAM)
        return Grammar(matcher, self._base.profile.vocab_size)

    def _ready(self) -> LLTokenizer:
        """The tokenizer as llguidance wants it; built at the first use, for that takes a second."""
        with self._lock:
            if self._tokenizer is None:
                ends = sorted(self._base.eos_token_ids)
                self._tokenizer = from_tokenizer(self._base.tokenizer, self._base.profile.vocab_size, ends)
            return self._tokenizer


def _canonical(schema: Mapping[str, Any] | str) -> str:
    """One text for one schema; the order of properties stays, for it is the order in which they are written."""
    try:
        value = json.loads(schema) if isinstance(schema, str) else schema
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise Invalid(f"the schema is no JSON: {error}", param=PARAM) from error
    if not isinstance(value, Mapping):
        raise Invalid("a JSON schema is an object", param=PARAM)
    if len(text) > LONGEST:
        raise Invalid(f"the schema has {len(text)} characters; {LONGEST} are accepted", param=PARAM)
    return text


def _source(schema: str) -> str:
    """The schema in llguidance's own language."""
    try:
        source: str = LLMatcher.grammar_from_json_schema(schema, overrides=OPTIONS)
    except ValueError as error:
        raise Invalid(f"the schema cannot be read: {error}", param=PARAM) from error
    return source


def _first_line(matcher: LLMatcher) -> str:
    error: str = matcher.get_error()
    return error.partition("\n")[0]


def _complaint(schema: str) -> str:
    """What llguidance says against a schema; empty if nothing."""
    complaint: str = LLMatcher.validate_grammar(_source(schema))
    return complaint.partition("\n")[0]


def _place(schema: str, complaint: str) -> str:
    """A pointer to the innermost subschema of which the complaint is true by itself."""
    root = json.loads(schema)
    shared = {key: root[key] for key in ("$defs", "definitions") if key in root}
    place, here, looked_at = "#", root, 0
    descends = True
    while descends and isinstance(here, dict):
        descends = False
        for path, child in _children(here):
            looked_at += 1
            if looked_at > SEARCHED:
                return place
            if isinstance(child, dict) and _complaint(json.dumps(shared | child)) == complaint:
                place, here, descends = f"{place}/{path}", child, True
                break
    return place


def _children(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The subschemas and where they stand."""
    for key, value in schema.items():
        if key in NAMED and isinstance(value, dict):
            yield from ((f"{key}/{name}", child) for name, child in value.items())
        elif key in LISTED and isinstance(value, list):
            yield from ((f"{key}/{index}", child) for index, child in enumerate(value))
        elif key in SINGLE:
            yield key, value
