"""llama.cpp's server: base and adapters as GGUF, one slot per row, continuous batching. Standard library only.

    python llama_server.py PLAN SERVER BASE_GGUF ADAPTER_GGUF...

Timed by the server's own `timings` of each request, so that HTTP costs it nothing. The server lets only rows of the
same adapter into one batch and serves the others in turn: a round is charged for the time in which any row was at work.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from protocol import Case, Prompts, covered, measure, say, told

SLOTS = 16
CONTEXT = 8192
START_S = 120.0
REQUEST_S = 300.0
GREEDY = {"temperature": 0.0, "samplers": ["top_k"], "top_k": 1, "ignore_eos": True, "cache_prompt": False}


@contextlib.contextmanager
def serving(command: list[str]) -> Iterator[int]:
    """A server on a free port, stopped at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    server = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=sys.stderr)
    try:
        _wait_until_healthy(server, port)
        yield port
    finally:
        server.send_signal(signal.SIGTERM)
        try:
            server.wait(10)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_healthy(server: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise RuntimeError(f"llama-server ended with code {server.returncode}; see the log above")
        with contextlib.suppress(OSError):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise RuntimeError(f"llama-server was not ready within {START_S:.0f} s")


class Client:
    def __init__(self, port: int) -> None:
        self.port = port
        self.threads = ThreadPoolExecutor(SLOTS)

    def rate(self, case: Case, prompts: Prompts) -> float:
        count = case["adapters"]
        jobs = [
            self.threads.submit(self._complete, prompt, case["answer"], row % count if count else None)
            for row, prompt in enumerate(prompts)
        ]
        spans = [job.result() for job in jobs]
        if case["answer"] == 1:
            return sum(map(len, prompts)) / covered((start, first) for start, first, _ in spans)
        return float(case["rows"] * (case["answer"] - 1) / covered((first, last) for _, first, last in spans))

    def _complete(self, prompt: list[int], answer: int, adapter: int | None) -> tuple[float, float, float]:
        """When the row's prompt was begun, when its first token came and when its last."""
        lora = [] if adapter is None else [{"id": adapter, "scale": 1.0}]
        body = json.dumps({**GREEDY, "prompt": prompt, "n_predict": answer, "lora": lora})
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=REQUEST_S)
        connection.request("POST", "/completion", body, {"content-type": "application/json"})
        response = connection.getresponse()
        value: dict[str, Any] = json.loads(response.read())
        done = time.perf_counter()
        if response.status != 200:
            raise RuntimeError(f"llama-server answered {response.status}: {value}")
        timings = value["timings"]
        if timings["predicted_n"] != answer or timings["prompt_n"] != len(prompt):
            raise RuntimeError(f"llama-server computed {timings['prompt_n']} + {timings['predicted_n']} tokens")
        first = done - timings["predicted_ms"] / 1e3
        return first - timings["prompt_ms"] / 1e3, first, done


def main() -> None:
    plan, (server, base, *adapters) = told(), sys.argv[2:]
    settings = ["-np", str(SLOTS), "-c", str(CONTEXT), "-t", str(plan["threads"]), "-fa", "on", "--no-webui"]
    say(about={"settings": " ".join(settings)})
    plain = [case for case in plan["cases"] if not case["adapters"]]
    adapted = [case for case in plan["cases"] if case["adapters"]]
    loras = ["--lora-init-without-apply", "--lora", ",".join(adapters)]
    for cases, more in ((plain, []), (adapted, loras)):  # loaded adapters are computed even where no row wants one
        if cases:
            with serving([server, "-m", base, *settings, *more]) as port:
                measure({**plan, "cases": cases}, Client(port).rate, in_turn=True)


if __name__ == "__main__":
    main()
