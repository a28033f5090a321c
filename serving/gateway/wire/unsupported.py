"""Fields that OpenAI's and vLLM's requests have and this gateway does not honour: refused by name, never passed over.

Each changes the answer. A value that asks for what is done anyway is let through.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

HARMLESS: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "background": (False,),
    "continue_final_message": (False,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "include_stop_str_in_output": (False,),
    "length_penalty": (1,),
    "modalities": (["text"],),
    "priority": (0,),
    "reasoning_effort": ("none",),
    "service_tier": ("auto", "default"),
    "skip_special_tokens": (True,),
    "store": (False,),
    "truncation": ("disabled",),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
}
"""Field -> the values of it that ask for nothing else than what is done."""


class Unsupported(msgspec.Struct, frozen=True, kw_only=True):
    """vLLM's, on every generating endpoint."""

    allowed_token_ids: Any = None
    bad_words: Any = None
    guided_choice: Any = None
    guided_grammar: Any = None
    guided_json: Any = None
    guided_regex: Any = None
    include_stop_str_in_output: Any = None
    length_penalty: Any = None
    logits_processors: Any = None
    priority: Any = None
    prompt_logprobs: Any = None
    skip_special_tokens: Any = None
    structured_outputs: Any = None
    truncate_prompt_tokens: Any = None
    use_beam_search: Any = None


def unsupported(body: msgspec.Struct, names: Iterable[str]) -> str | None:
    """The first of the named fields that the body gives a value that is not harmless."""
    return next((name for name in names if not _is_harmless(name, getattr(body, name))), None)


def _is_harmless(name: str, value: object) -> bool:
    if value is None or value in ([], {}, ""):
        return True
    return any(value == each and (value is True) == (each is True) for each in HARMLESS.get(name, ()))
