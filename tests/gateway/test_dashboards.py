"""Dashboards, rules and the documentation speak of metrics that exist, by labels that they have."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml

from registry.settings import Settings
from serving.gateway.commands import serve
from tests.gateway.exported import Exported, exported, table, with_drift

if TYPE_CHECKING:
    from tests.gateway.conftest import Running

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus").glob("*.rules.yml"))
TARGET = {"job", "instance"}
"""Labels that Prometheus gives to every sample of a target."""
BUILT_IN = {"up": TARGET, "ALERTS": TARGET | {"alertname", "severity"}}
DURATIONS = ("$__rate_interval", "$__interval", "$__range")
WITHOUT_LE = {"histogram_quantile"}


@pytest.fixture(scope="module")
def metrics(running: Running) -> dict[str, set[str]]:
    """Sample name -> the labels it has."""
    return {
        name: {*each.labels, *TARGET, *(["le"] if name.endswith("_bucket") else [])}
        for each in with_drift(running.gateway.metrics.registry)
        for name in each.samples
    } | BUILT_IN


def rules() -> Iterator[dict[str, Any]]:
    for path in RULES:
        for group in yaml.safe_load(path.read_text())["groups"]:
            yield from group["rules"]


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def in_dashboards() -> Iterator[str]:
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        yield from (target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", []))
        yield from (each["expr"] for each in dashboard["annotations"]["list"])
        for variable in dashboard["templating"]["list"]:
            if variable["type"] == "query":
                found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
                assert found, variable
                yield f"count by ({found[2]}) ({found[1]})"


def in_the_guide() -> Iterator[str]:
    """Expressions begin at the margin, and go on indented."""
    for block in re.findall(r"```promql\n(.*?)```", (ROOT / "docs" / "operations.md").read_text(), re.DOTALL):
        yield from (each for each in re.split(r"\n(?=\S)", block.strip()) if not each.startswith("#"))


def parsed(expression: str) -> Any:
    for name in DURATIONS:
        expression = expression.replace(name, "5m")
    return promql_parser.parse(expression)


def nodes(tree: Any) -> Iterator[Any]:
    """Every part of an expression."""
    yield tree
    for name in ("expr", "lhs", "rhs", "vector_selector", "param"):
        if (child := getattr(tree, name, None)) is not None:
            yield from nodes(child)
    for child in getattr(tree, "args", None) or ():
        yield from nodes(child)


def check(expression: str, metrics: dict[str, set[str]]) -> None:
    """Every name is exported, every matched or kept label belongs to each metric that it is asked of."""
    tree = parsed(expression)
    names = set()
    for node in nodes(tree):
        if isinstance(node, promql_parser.VectorSelector):
            assert node.name in metrics or node.name in recorded(), f"{node.name} is not exported: {expression}"
            names.add(node.name)
            for matcher in node.matchers.matchers:
                assert matcher.name in metrics.get(node.name, TARGET), f"no {matcher.name} in {node.name}: {expression}"
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            below = {each.name for each in nodes(node) if isinstance(each, promql_parser.VectorSelector)}
            for label in node.modifier.labels:
                assert all(label in metrics.get(name, TARGET) for name in below), f"no {label} in {below}: {expression}"
    assert names, expression


def test_there_are_some() -> None:
    assert len([*in_dashboards()]) > 40
    assert len([*rules()]) > 10


@pytest.mark.parametrize("expression", [*in_dashboards()])
def test_dashboards_ask_for_what_is_exported(expression: str, metrics: dict[str, set[str]]) -> None:
    check(expression, metrics)


def test_the_guide_asks_for_what_is_exported(metrics: dict[str, set[str]]) -> None:
    for expression in in_the_guide():
        check(expression, metrics)


@pytest.mark.parametrize("rule", [*rules()], ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_ask_for_what_is_exported(rule: dict[str, Any], metrics: dict[str, set[str]]) -> None:
    check(rule["expr"], metrics)
    if "alert" in rule:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert f"| `{rule['alert']}` |" in (ROOT / "docs" / "operations.md").read_text(), "the guide does not know it"


@pytest.mark.parametrize("expression", ["lorimer_absent", "sum by (nothing) (lorimer_running)", 'up{color="x"}'])
def test_the_check_checks(expression: str, metrics: dict[str, set[str]]) -> None:
    with pytest.raises(AssertionError):
        check(expression, metrics)


@pytest.fixture(scope="module")
def promtool() -> str:
    local = ROOT / ".cache" / "promtool" / "usr" / "bin" / "promtool"
    promtool = shutil.which("promtool") or (str(local) if local.is_file() else None)
    if promtool is None:
        assert os.environ.get("CI") != "true", "sh tests/install-tools.sh installs promtool"
        pytest.skip("promtool is not installed: sh tests/install-tools.sh")
    return promtool


def test_promtool_agrees_and_alerts_fire_when_they_should(promtool: str) -> None:
    tests = [str(path) for path in sorted((DEPLOY / "prometheus").glob("*.rules.test.yml"))]
    for arguments in (["check", "rules", *map(str, RULES)], ["test", "rules", *tests]):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_reads_what_is_exported(promtool: str, running: Running) -> None:
    running.chat("alpha", max_tokens=2)
    text = running.http.get("/metrics").text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert not done.stderr


def shown(name: str, found: list[Exported]) -> None:
    """The guide holds this table, between two comments. UPDATE_DOCS=1 writes it anew."""
    guide = ROOT / "docs" / "operations.md"
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    text = guide.read_text()
    before, _, rest = text.partition(begin)
    told, closed, after = rest.partition(end)
    assert closed, f"docs/operations.md has no place for the {name}"
    if os.environ.get("UPDATE_DOCS"):
        guide.write_text(before + begin + table(found) + end + after)
    else:
        assert told == table(found), f"docs/operations.md is stale: run this test with UPDATE_DOCS=1 ({name})"


def test_the_guide_lists_every_metric(running: Running) -> None:
    ours = [each for each in with_drift(running.gateway.metrics.registry) if each.name.startswith("lorimer_")]
    shown("metrics of a gateway", ours)


def test_the_guide_lists_vllms_names(start: Callable[..., Running]) -> None:
    found = exported(start(vllm_metric_aliases=True).gateway.metrics.registry)
    shown("metrics by vLLM's names", [each for each in found if each.name.startswith("vllm:")])


def test_the_manifests_are_of_this_program() -> None:
    """Every setting named exists; the time to stop is longer than the drain; probes ask routes that are open."""
    manifests = [*yaml.safe_load_all((DEPLOY / "kubernetes" / "gateway.yaml").read_text())]
    pod = manifests[0]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    unit = (DEPLOY / "systemd" / "lorimer-gateway.service").read_text()
    for name in [*(each["name"] for each in container["env"]), *re.findall(r"LORIMER_\w+", unit)]:
        assert name.removeprefix("LORIMER_").lower() in Settings.__struct_fields__, name
    options = {option for parameter in serve.params for option in parameter.opts}
    for arguments in (container["args"], shlex.split(re.search("ExecStart=(.*)", unit)[1])):  # type: ignore[index]
        assert {each for each in arguments if each.startswith("--")} <= options
    drain_s = Settings().drain_s
    assert pod["terminationGracePeriodSeconds"] > drain_s
    assert int(re.search(r"TimeoutStopSec=(\d+)", unit)[1]) > drain_s  # type: ignore[index]
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    assert probes == {"/health", "/ready"}
