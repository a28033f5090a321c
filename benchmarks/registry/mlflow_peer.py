"""The same operations on MLflow's model registry, run by MLflow's own interpreter: `mlflow_peer.py URI ROUNDS MODELS`.

Prints {operation: [seconds, ...]} as JSON. Registers versions without artifacts: only the registry itself is timed.
MLflow has no rollback; it is what its users do: read the alias, set it to the version before.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from mlflow.tracking import MlflowClient  # type: ignore[import-not-found]  # installed in its own environment


def timed(rounds: int, act: Callable[[int], object]) -> list[float]:
    seconds = []
    for number in range(rounds):
        begun = time.perf_counter()
        act(number)
        seconds.append(time.perf_counter() - begun)
    return seconds


def main(uri: str, rounds: int, models: int) -> None:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("a")

    def publish(_: int) -> None:
        client.create_model_version("a", source="file:///nowhere")

    def roll_back(_: int) -> None:
        now = client.get_model_version_by_alias("a", "prod")
        client.set_registered_model_alias("a", "prod", str(int(now.version) - 1))

    found = {
        "publish": timed(rounds + 2, publish),
        "alias": timed(rounds + 1, lambda number: client.set_registered_model_alias("a", "prod", str(number + 2))),
        "resolve": timed(rounds, lambda _: client.get_model_version_by_alias("a", "prod")),
        "rollback": timed(rounds, roll_back),
    }
    for number in range(models):
        client.create_registered_model(f"model-{number:05d}")
        client.create_model_version(f"model-{number:05d}", source="file:///nowhere")
    found["list"] = timed(3, lambda _: client.search_registered_models(max_results=1000))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
