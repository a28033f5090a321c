"""A gateway on a tiny base whose chat template knows tools, as Hermes writes them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from registry.settings import Settings
from serving.base import load_base
from tests.gateway.conftest import Running, run

TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools:\n<tools>{% for tool in tools %}\n{{ tool | tojson }}{% endfor %}"
    "\n</tools>\nCall them within <tool_call></tool_call>.<|im_end|>\n{% endif %}"
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def tooled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    from benchmarks.soak.tiny import write_tiny_base

    root: Path = tmp_path_factory.mktemp("tooled")
    directory = write_tiny_base(root / "tiny-tools", hidden_size=48, heads=6, chat_template=TEMPLATE)
    settings: dict[str, Any] = {"base": str(directory), "dtype": "float32", "device": "cpu", "threads": 1}
    base = load_base(Settings(cache_dir=str(root / "base-cache"), **settings))
    yield from run(base, root)
