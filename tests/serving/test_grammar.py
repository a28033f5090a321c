"""Answers that must match a schema, from a random model that would never write JSON by itself."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from registry.errors import Invalid
from serving.base import Base
from serving.engine import Engine
from serving.grammar import Grammars
from serving.request import Completion, Request, Sampling

PROMPT = tuple(range(10, 30))
NUM_SCHEMAS = 200


@pytest.fixture(scope="module")
def engine(tiny_base: Base) -> Iterator[Engine]:
    engine = Engine(tiny_base, max_batch=24, max_waiting=256, kv_tokens=24 * 1024)
    engine.start()
    yield engine
    engine.close()


@pytest.fixture
def grammars(engine: Engine) -> Grammars:
    return engine.grammars


def ask(engine: Engine, schema: dict[str, Any], name: str = "r", **sampling: Any) -> Request:
    options = {"max_tokens": 900, "temperature": 1.0, "seed": 3} | sampling
    return Request(name, PROMPT, Sampling(**options, grammar=engine.grammars.from_schema(schema)))


def answer(engine: Engine, schema: dict[str, Any], **sampling: Any) -> Completion:
    (completion,) = engine.run([ask(engine, schema, **sampling)])
    return completion


def random_schema(rng: random.Random, depth: int = 3) -> dict[str, Any]:
    """A schema of bounded values: objects with optional properties, arrays, unions, references to enums, scalars."""
    kinds = ["string", "pattern", "date", "integer", "number", "boolean", "null", "enum", "const", "ref"]
    kind = rng.choice(kinds + ["object", "object", "object", "array", "array", "anyOf"] * (depth > 0))
    if kind == "object":
        names = [f"{rng.choice(['name', 'value', 'a b', 'Größe', 'q'])}{index}" for index in range(rng.randint(0, 4))]
        properties = {name: random_schema(rng, depth - 1) for name in names}
        required = [name for name in names if rng.random() < 0.6]
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
    if kind == "array":
        least = rng.randint(0, 2)
        items = random_schema(rng, depth - 1)
        return {"type": "array", "items": items, "minItems": least, "maxItems": least + rng.randint(0, 2)}
    if kind == "anyOf":
        return {"anyOf": [random_schema(rng, depth - 1) for _ in range(rng.randint(1, 3))]}
    low = rng.randint(-1000, 1000)
    least = rng.randint(0, 3)
    scalars: dict[str, dict[str, Any]] = {
        "string": {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 8)},
        "pattern": {"type": "string", "pattern": rng.choice(["^[a-z]{2,5}$", "^(yes|no)$", "^[0-9]{3}-[0-9]{2}$"])},
        "date": {"type": "string", "format": "date"},
        "integer": {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 500)},
        "number": {"type": "number", "minimum": low, "maximum": low + rng.randint(1, 500)},
        "boolean": {"type": "boolean"},
        "null": {"type": "null"},
        "enum": {"enum": rng.sample(["red", "green", 1, 2.5, None, True, "ünï"], rng.randint(1, 4))},
        "const": {"const": rng.choice(["fixed", 7, False])},
        "ref": {"$ref": "#/$defs/size"},
    }
    return scalars[kind]


def test_two_hundred_random_schemas_give_valid_json(engine: Engine) -> None:
    rng = random.Random(20)
    sizes = {"$defs": {"size": {"enum": ["small", "large"]}}}
    schemas = [sizes | random_schema(rng) for _ in range(NUM_SCHEMAS)]
    requests = [ask(engine, schema, f"s{number}", seed=number) for number, schema in enumerate(schemas)]
    completions = engine.run(requests)
    for schema, completion in zip(schemas, completions, strict=True):
        assert completion.reason == "stop", f"{completion.reason} {completion.error}: {schema}"
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(
            json.loads(completion.text)
        )
    assert len({completion.text for completion in completions}) > NUM_SCHEMAS // 2


def test_any_object_is_an_object(engine: Engine) -> None:
    sampling = [Sampling(max_tokens=900, seed=seed, grammar=engine.grammars.any_object()) for seed in range(12)]
    completions = engine.run([Request(f"o{n}", PROMPT, each) for n, each in enumerate(sampling)])
    whole = [completion for completion in completions if completion.reason == "stop"]
    assert whole
    assert all(isinstance(json.loads(completion.text), dict) for completion in whole)
    assert {completion.reason for completion in completions} <= {"stop", "length"}


def test_an_answer_that_is_cut_says_so(engine: Engine) -> None:
    schema = {"type": "string", "minLength": 200, "maxLength": 200}
    cut = answer(engine, schema, max_tokens=20)
    assert cut.reason == "length"
    assert len(cut.tokens) == 20
    assert cut.text.startswith('"')


def test_the_end_comes_by_itself_even_where_end_tokens_are_ignored_or_held_off(engine: Engine) -> None:
    schema = {"enum": ["left", "right"]}
    for sampling in ({"ignore_eos": True}, {"min_tokens": 100}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.01}):
        completion = answer(engine, schema, **sampling)
        assert completion.reason == "stop"
        assert json.loads(completion.text) in ("left", "right")


def test_a_grammar_holds_beside_mates_without_one(engine: Engine) -> None:
    free = [Request(f"f{n}", PROMPT, Sampling(max_tokens=30, seed=n, ignore_eos=True)) for n in range(4)]
    alone = engine.run(free)
    bound = ask(engine, {"type": "object", "properties": {"x": {"type": "boolean"}}, "required": ["x"]})
    mixed = engine.run([*free[:2], bound, *free[2:]])
    assert [each.tokens for each in (*mixed[:2], *mixed[3:])] == [each.tokens for each in alone]
    assert isinstance(json.loads(mixed[2].text)["x"], bool)


def test_a_preempted_answer_keeps_its_place_in_the_grammar(tiny_base: Base) -> None:
    engine = Engine(tiny_base, max_batch=4, kv_tokens=512, prefix_tokens=0)
    schema = {
        "type": "array",
        "items": {"type": "integer", "minimum": 100, "maximum": 999},
        "minItems": 36,
        "maxItems": 36,
    }
    completions = engine.run([ask(engine, schema, f"p{n}", seed=n, max_tokens=400) for n in range(4)])
    preemptions = engine.stats().preemptions
    engine.close()
    assert preemptions > 0
    for completion in completions:
        Draft202012Validator(schema).validate(json.loads(completion.text))


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"type": "nonsense"}, "at #: "),
        ({"properties": {"a": {"items": {"type": "frob"}}}}, "at #/properties/a/items: "),
        ({"anyOf": [{"type": "string"}, {"type": "string", "pattern": "("}]}, "at #/anyOf/1: "),
        ({"$defs": {"x": {"not": {}}}, "properties": {"a": {"$ref": "#/$defs/x"}}}, "at #/"),
        ({"properties": {"a": {"$ref": "#/nowhere"}}}, "at #/properties/a: "),
        (
            {"properties": {"a": {"minimum": 5, "maximum": 3, "type": "integer"}}, "type": "object", "required": ["a"]},
            "at #",
        ),
    ],
)
def test_a_bad_schema_is_invalid_and_its_place_is_named(grammars: Grammars, schema: dict[str, Any], place: str) -> None:
    with pytest.raises(Invalid) as caught:
        grammars.from_schema(schema)
    assert caught.value.param == "response_format"
    assert place in caught.value.message


@pytest.mark.parametrize("schema", ["[1]", "{", "7", '{"items":' * 5000 + "{}" + "}" * 5000])
def test_what_is_no_schema_at_all_is_invalid(grammars: Grammars, schema: str) -> None:
    with pytest.raises(Invalid):
        grammars.from_schema(schema)


def test_a_schema_is_compiled_once(grammars: Grammars) -> None:
    schema = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "null"}}}
    assert grammars.from_schema(schema) is grammars.from_schema(json.dumps(schema))
