"""`lorimer jobs`: words around the job logs. Decides nothing itself."""

from __future__ import annotations

import json
from typing import Any

import click
import msgspec

from registry.adapters import open_registry
from registry.errors import Invalid
from registry.jobs import Jobs
from registry.terminal import Terminal, command, table, when


@click.group()
def jobs() -> None:
    """Retraining and other work, filed in the registry and claimed by workers."""


@jobs.command("list")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "cancelled"]))
@command
def list_jobs(terminal: Terminal, state: str | None) -> None:
    """Every job, oldest first."""
    found = [job for job in _jobs(terminal).list() if state in (None, job.state)]
    rows = [
        (job.key, job.state, job.spec.get("kind", "-"), job.spec.get("adapter", "-"), job.worker or "-",
         when(job.updated_at))
        for job in found
    ]  # fmt: skip
    drawn = table(["job", "state", "kind", "adapter", "worker", "changed"], rows)
    terminal.result(msgspec.to_builtins(found), drawn if rows else "no jobs")


@jobs.command("show")
@click.argument("key")
@command
def show_job(terminal: Terminal, key: str) -> None:
    """One job: what was asked, who works on it, how far it is, what came of it."""
    job = _jobs(terminal).get(key)
    values = msgspec.to_builtins(job)
    values.pop("created")
    rows = [(name, json.dumps(value) if isinstance(value, dict) else value) for name, value in values.items()]
    terminal.result(values, table(["", ""], rows))


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


def _jobs(terminal: Terminal) -> Jobs:
    opened = open_registry(terminal.settings)
    return Jobs(opened.store, opened.tenant)
