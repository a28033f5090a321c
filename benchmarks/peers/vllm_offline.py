"""vLLM on the CPU, as a library: `LLM.generate` with one LoRARequest per row. Runs alone, in the peer's environment.

    python vllm_offline.py PLAN

Timed by vLLM's own first and last token of each request. In one process (no second interpreter to wake) and without
detokenising; the cases without adapters run on an engine without LoRA.
"""

from __future__ import annotations

import gc
import importlib.metadata
import os
import time
from pathlib import Path
from typing import Any

from protocol import Case, Prompts, measure, say, token_rate, told

SEATS = 16
RANK = 16
CONTEXT = 512
ENVIRON = {
    "VLLM_CPU_KVCACHE_SPACE": "2",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
}


def load(plan: dict[str, Any], lora: bool) -> Any:
    from vllm import LLM

    options: dict[str, Any] = {"enable_lora": True, "max_loras": SEATS, "max_cpu_loras": SEATS, "max_lora_rank": RANK}
    return LLM(
        model=plan["base"],
        dtype="bfloat16",
        max_num_seqs=SEATS,
        max_model_len=CONTEXT,
        enable_prefix_caching=False,
        disable_log_stats=False,
        **(options if lora else {}),
    )


class Rows:
    """One engine, and the adapters it may be asked for."""

    def __init__(self, llm: Any, adapters: list[str]) -> None:
        from vllm.lora.request import LoRARequest

        self.llm = llm
        self.adapters = [LoRARequest(f"a{number}", number + 1, path) for number, path in enumerate(adapters)]

    def rate(self, case: Case, prompts: Prompts) -> float:
        from vllm import SamplingParams

        count, answer = case["adapters"], case["answer"]
        loras = [self.adapters[row % count] for row in range(case["rows"])] if count else None
        sampling = SamplingParams(temperature=0, max_tokens=answer, ignore_eos=True, detokenize=False)
        started = time.monotonic()
        outputs = self.llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], sampling, lora_request=loras, use_tqdm=False
        )
        if any(len(output.outputs[0].token_ids) != answer for output in outputs):
            raise RuntimeError("vLLM ended a row early")
        spans = [(output.metrics.first_token_ts, output.metrics.last_token_ts) for output in outputs]
        return token_rate(case, prompts, started, spans)


def main() -> None:
    os.environ.update(ENVIRON)
    plan = told()
    preloaded = Path(os.environ.get("LD_PRELOAD", "nothing")).name
    settings = f"all cores, {preloaded} preloaded, " + " ".join(f"{k}={v}" for k, v in ENVIRON.items())
    say(about={"version": importlib.metadata.version("vllm-cpu"), "settings": settings})
    for lora in (False, True):
        cases = [case for case in plan["cases"] if bool(case["adapters"]) == lora]
        if cases:
            llm = load(plan, lora)
            measure({**plan, "cases": cases}, Rows(llm, plan["adapters"]).rate, in_turn=True)
            del llm
            gc.collect()


if __name__ == "__main__":
    main()
