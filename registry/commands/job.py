"""`lorimer jobs`: words around the job logs. Decides nothing itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import click
import msgspec

from registry.adapters import open_registry
from registry.errors import Invalid
from registry.jobs import Job, Jobs
from registry.terminal import Terminal, command, table, when


@click.group()
def jobs() -> None:
    """Retraining, fine-tuning and other work, filed in the registry and claimed by workers."""


@jobs.command("list")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@command
def list_jobs(terminal: Terminal, state: str | None) -> None:
    """Every job, oldest first."""
    found = [job for job in _jobs(terminal).list() if state in (None, job.state)]
    rows = [
        (job.key, job.state, job.spec.get("kind", "-"), job.spec.get("adapter", "-"), job.worker or "-",
         when(job.updated_at), _standing(job))
        for job in found
    ]  # fmt: skip
    drawn = table(["job", "state", "kind", "adapter", "worker", "changed", "what"], rows)
    terminal.result(msgspec.to_builtins(found), drawn if rows else "no jobs")


@jobs.command("show")
@click.argument("key")
@command
def show_job(terminal: Terminal, key: str) -> None:
    """One job: what was asked, who works on it, how far it is, what came of it."""
    job = _jobs(terminal).get(key)
    values = msgspec.to_builtins(job)
    values.pop("created")
    terminal.result(values, table(["", ""], [*_lines(values)]))


@jobs.command()
@click.argument("key")
@click.argument("spec")
@command
def submit(terminal: Terminal, key: str, spec: str) -> None:
    """File a job under KEY; SPEC is a JSON object. The same KEY again returns the job that is there.

    \b
    lorimer jobs submit manual-1 '{"kind": "drift-retrain", "adapter": "support"}'
    """
    try:
        values = msgspec.json.decode(spec, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise Invalid(f"SPEC is not a JSON object: {error}", param="spec") from error
    job = _jobs(terminal).submit(key, values)
    text = f"job {job.key} filed" if job.created else f"job {job.key} was filed before and is {job.state}"
    terminal.result(msgspec.to_builtins(job), text)


@jobs.command()
@click.argument("key")
@click.option("--reason", default="", help="Recorded in the job.")
@command
def cancel(terminal: Terminal, key: str, reason: str) -> None:
    """Cancel a job; a worker on it stops at its next renewal."""
    job = _jobs(terminal).cancel(key, reason=reason)
    terminal.result(msgspec.to_builtins(job), f"job {key} is {job.state}")


def _standing(job: Job) -> str:
    """How far it is, what came of it, or why nothing did."""
    if job.state == "running" and "stage" in job.progress:
        return "{stage} {step}/{steps}".format_map({"step": "?", "steps": "?", **job.progress})
    if job.state == "succeeded" and job.result.get("version"):
        return f"{job.spec.get('adapter')}@v{job.result['version']}"
    return job.error or "; ".join(job.result.get("reasons", ()))


def _lines(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """A line for each value that says something."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _lines(value, f"{above}{name}.")
        elif value not in (None, "", []):
            yield f"{above}{name}", _said(name, value)


def _said(name: str, value: object) -> str:
    if isinstance(value, float) and name.endswith(("_at", "_until")):
        return when(value) if value else "-"
    return "; ".join(str(each) for each in value) if isinstance(value, list) else str(value)


def _jobs(terminal: Terminal) -> Jobs:
    opened = open_registry(terminal.settings)
    return Jobs(opened.store, opened.tenant)
