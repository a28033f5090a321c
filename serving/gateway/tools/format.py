"""How a base writes the calls it makes, told from its chat template. Applies no template and reads no answer."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import lru_cache

from serving.base import Base


@dataclass(frozen=True)
class ToolFormat:
    """A call is an object with `name` and `key`, after `opens` and before `closes`."""

    opens: str
    closes: str = ""
    key: str = "arguments"
    is_list: bool = False
    """Calls stand in one JSON array."""
    may_be_bare: bool = False
    """An answer that begins as an object is a call though nothing opens it."""
    has_short_ids: bool = False
    """Its templates take ids of nine letters and digits, and no others."""

    def new_id(self) -> str:
        """For a call that was just made."""
        return secrets.token_hex(5)[:9] if self.has_short_ids else f"call_{secrets.token_hex(12)}"


HERMES = ToolFormat("<tool_call>", "</tool_call>")
"""Hermes 2 and 3, Qwen 2.5 and 3."""
MISTRAL = ToolFormat("[TOOL_CALLS]", is_list=True, has_short_ids=True)
"""Mistral's tokenizers up to their third version, Mixtral, Nemo."""
LLAMA = ToolFormat("<|python_tag|>", key="parameters", may_be_bare=True)
"""Llama 3.1, 3.2 and 3.3."""


@lru_cache(64)
def format_of_template(template: str) -> ToolFormat | None:
    """None for a template that knows no tools, or has the model write calls in a way that is not known here."""
    if re.search(r"\btools\b", template) is None:
        return None
    if HERMES.opens in template:
        return None if "<function=" in template else HERMES
    if MISTRAL.opens in template:
        return None if "[ARGS]" in template else MISTRAL
    if LLAMA.opens in template or '"parameters": dictionary' in template:
        return LLAMA
    return None


def format_of(base: Base) -> ToolFormat | None:
    template = base.tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("tool_use") or template.get("default")
    return format_of_template(template) if isinstance(template, str) else None
