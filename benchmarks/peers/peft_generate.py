"""PEFT's own mixed batches: `generate(adapter_names=...)`. Runs alone, in the environment of the peer.

    python peft_generate.py MODEL_DIRECTORY CASES_JSON     prints {case: tokens per second}

A case is {"name", "rows", "adapters", "prompt", "answer"}; decode is timed as in serving/bench.py, from every row's
first token to the last token. The attention implementation that is faster without adapters is used.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, StoppingCriteria, StoppingCriteriaList

LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
RANK = 16
ROUNDS = 2


class Watch(StoppingCriteria):
    """Stops nothing: notes when each token came."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        self.times.append(time.perf_counter())
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def load(directory: str, adapters: int) -> Any:
    tree = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    config = LoraConfig(r=RANK, target_modules=LINEARS, init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(tree, config, adapter_name="a0", autocast_adapter_dtype=False)
    for number in range(1, adapters):
        model.add_adapter(f"a{number}", config, autocast_adapter_dtype=False)
    return model.eval()


def choose_attention(model: Any) -> str:
    probe = {"rows": 16, "adapters": 0, "prompt": 64, "answer": 16}
    rates = {}
    for attention in ("sdpa", "eager"):
        model.get_base_model().set_attn_implementation(attention)
        rate(model, probe)
        rates[attention] = rate(model, probe)
    best = max(rates, key=lambda attention: rates[attention])
    model.get_base_model().set_attn_implementation(best)
    return best


def rate(model: Any, case: dict[str, Any]) -> float:
    rows, count = case["rows"], case["adapters"]
    names = [f"a{row % count}" if count else "__base__" for row in range(rows)]
    prompt = torch.tensor(
        [[3 + (row * 31 + place * 7) % 1000 for place in range(case["prompt"])] for row in range(rows)]
    )
    watch = Watch()
    started = time.perf_counter()
    with torch.inference_mode():
        model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            adapter_names=names,
            max_new_tokens=case["answer"],
            min_new_tokens=case["answer"],
            do_sample=False,
            stopping_criteria=StoppingCriteriaList([watch]),
        )
    if case["answer"] == 1:
        return float(rows * case["prompt"] / (watch.times[0] - started))
    return float(rows * (case["answer"] - 1) / (watch.times[-1] - watch.times[0]))


def main() -> None:
    directory, cases = sys.argv[1], json.loads(sys.argv[2])
    torch.set_num_threads(int(sys.argv[3]))
    model = load(directory, max(case["adapters"] for case in cases))
    print(f"attention: {choose_attention(model)}", file=sys.stderr)
    rates: dict[str, float] = {}
    for case in cases:
        rate(model, {**case, "answer": min(case["answer"], 4)})
        rates[case["name"]] = statistics.median(rate(model, case) for _ in range(ROUNDS))
        print(f"{case['name']}: {rates[case['name']]:.0f}", file=sys.stderr)
    print(json.dumps(rates))


if __name__ == "__main__":
    main()
