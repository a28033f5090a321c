"""PEFT's own mixed batches: `generate(adapter_names=...)`. Runs alone, in the environment of the peer.

    python peft_generate.py PLAN

The cases without adapters run on the bare transformers model, before PEFT wraps it; the attention implementation that
is faster there is used throughout.
"""

from __future__ import annotations

import importlib.metadata
import time
from typing import Any

import torch
from peft import PeftModel
from protocol import Case, Prompts, measure, say, token_rate, told
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

PROBE: Case = {"name": "probe", "rows": 16, "adapters": 0, "answer": 16}


class Watch(StoppingCriteria):
    """Stops nothing: notes when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def wrap(tree: Any, adapters: list[str]) -> Any:
    model = PeftModel.from_pretrained(tree, adapters[0], adapter_name="a0", autocast_adapter_dtype=False)
    for number, path in enumerate(adapters[1:], 1):
        model.load_adapter(path, f"a{number}", autocast_adapter_dtype=False)
    return model.eval()


def rate(model: Any, case: Case, prompts: Prompts) -> float:
    count = case["adapters"]
    names = {"adapter_names": [f"a{row % count}" for row in range(case["rows"])]} if count else {}
    ids, watch = torch.tensor(prompts), Watch()
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=case["answer"],
            min_new_tokens=case["answer"],
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([watch]),
            **names,
        )
    return token_rate(case, prompts, started, [(watch.times[0], watch.times[-1])])


def choose_attention(tree: Any) -> str:
    """sdpa or eager, whichever decodes faster."""
    prompts = [[100 + row * 64 + place for place in range(64)] for row in range(PROBE["rows"])]
    rates = {}
    for attention in ("sdpa", "eager"):
        tree.set_attn_implementation(attention)
        rate(tree, PROBE, prompts)
        rates[attention] = rate(tree, PROBE, prompts)
    best = max(rates, key=lambda attention: rates[attention])
    tree.set_attn_implementation(best)
    return best


def main() -> None:
    plan = told()
    torch.set_num_threads(plan["threads"])
    model: Any = AutoModelForCausalLM.from_pretrained(plan["base"], dtype=torch.bfloat16).eval()
    say(about={"version": importlib.metadata.version("peft"), "settings": f"attention {choose_attention(model)}"})
    bare = [case for case in plan["cases"] if not case["adapters"]]
    mixed = [case for case in plan["cases"] if case["adapters"]]
    measure({**plan, "cases": bare}, lambda case, prompts: rate(model, case, prompts), in_turn=True)
    if mixed:
        wrapped = wrap(model, plan["adapters"][: max(case["adapters"] for case in mixed)])
        measure({**plan, "cases": mixed}, lambda case, prompts: rate(wrapped, case, prompts), in_turn=True)


if __name__ == "__main__":
    main()
