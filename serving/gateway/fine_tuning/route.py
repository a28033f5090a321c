"""/v1/fine_tuning/jobs in OpenAI's dialect: filed here, done by workers, told from the job's log."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated

from litestar import Response, get, post
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream
from msgspec import to_builtins

from registry.errors import Conflict, Invalid, NotFound
from registry.jobs import Job
from registry.tuning import KIND, read_tune_job
from serving.gateway.access import SCOPE, require_same_origin
from serving.gateway.asking import HEADERS
from serving.gateway.auditing import audit
from serving.gateway.exchange import AnyRequest, gateway_of, read, respond
from serving.gateway.fine_tuning.card import card, checkpoint
from serving.gateway.fine_tuning.diary import Diary
from serving.gateway.fine_tuning.following import follow
from serving.gateway.fine_tuning.order import ID, is_same, job_id, order_of, require_room, resolve
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import Principal, principal_of
from serving.gateway.tenancy import Tenant, tenant_of
from serving.gateway.trace import trace_of
from serving.gateway.wire.fine_tuning import (
    FineTuningJob,
    FineTuningJobList,
    JobCheckpointList,
    JobEvent,
    JobEventList,
    JobRequest,
)

MAX_LISTED = 100
_METADATA = re.compile(r"metadata\[(.{1,64})\]", re.DOTALL)

Limit = Annotated[int, QueryParameter(description="Most to answer with, 1 to 100.")]


@post(
    "/v1/fine_tuning/jobs",
    status_code=200,
    opt={SCOPE: "train", OPERATION: Operation(body=JobRequest, answer=FineTuningJob, fails=(429,))},
)
async def create_tuning_job(request: AnyRequest) -> Response[bytes]:
    """File a job that trains an adapter and publishes it if it is no worse than what it began from.

    With the header `idempotency-key`, the same request again gives the job that it gave before.
    """
    gateway, tenant, principal = gateway_of(request), tenant_of(request), principal_of(request)
    body = await read(request, JobRequest)
    id = job_id(tenant.registry.clock(), principal, request.headers.get("idempotency-key"))
    order = order_of(body, id, principal, tenant.catalog)
    trace_of(request).fields |= {"job": id, "adapter": order.adapter}
    job = await gateway.in_thread(_there, tenant, id)
    if job is None:
        require_room(await gateway.in_thread(tenant.jobs.list))
        resolved = await gateway.in_thread(resolve, order, tenant.files, tenant.catalog)
        await audit(request, "job.create", job=id, adapter=order.adapter, file=order.training_file)
        job = await gateway.in_thread(tenant.jobs.submit, id, to_builtins(resolved), actor=principal.id)
    if not is_same(order, read_tune_job(job.spec)):
        told = f"this key already stands for {id}, which was asked for otherwise"
        raise Invalid(told, hint="use a new key", param="idempotency-key", code="idempotency_key_in_use")
    return respond(card(job, tenant.name))


@get("/v1/fine_tuning/jobs", opt={SCOPE: "train", OPERATION: Operation(answer=FineTuningJobList)})
async def list_tuning_jobs(
    request: AnyRequest,
    *,
    limit: Limit = 20,
    after: Annotated[str, QueryParameter(description="Only jobs older than the one with this id.")] = "",
) -> Response[bytes]:
    """The tenant's fine-tuning jobs, newest first.

    `metadata[key]=value` in the query, once or several times, keeps those that carry it.
    """
    _check_limit(limit)
    tenant, principal = tenant_of(request), principal_of(request)
    jobs = await gateway_of(request).in_thread(tenant.jobs.list)
    wanted = {name[1]: value for key, value in request.query_params.items() if (name := _METADATA.fullmatch(key))}
    shown = [job for job in reversed(jobs) if _is_shown(job, principal) and _carries(job, wanted)]
    found = _older(shown, after) if after else shown
    data = [card(job, tenant.name) for job in found[:limit]]
    return respond(FineTuningJobList(data=data, has_more=len(found) > limit))


@get("/v1/fine_tuning/jobs/{job_id:str}", opt={SCOPE: "train", OPERATION: Operation(answer=FineTuningJob)})
async def show_tuning_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    """One fine-tuning job, as it stands."""
    return respond(card(await _job(request, job_id), tenant_of(request).name))


@post(
    "/v1/fine_tuning/jobs/{job_id:str}/cancel",
    status_code=200,
    opt={SCOPE: "train", OPERATION: Operation(answer=FineTuningJob)},
)
async def cancel_tuning_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    """Cancel a job that has not ended; its worker stops within moments."""
    require_same_origin(request)
    gateway, tenant, job = gateway_of(request), tenant_of(request), await _job(request, job_id)
    if job.state == "cancelled":
        return respond(card(job, tenant.name))
    await audit(request, "job.cancel", job=job_id, adapter=job.spec["adapter"])
    try:
        job = await gateway.in_thread(tenant.jobs.cancel, job_id)
    except Conflict as error:
        raise Invalid(error.message, param="job_id", code="job_has_ended") from error
    return respond(card(job, tenant.name))


@get(
    "/v1/fine_tuning/jobs/{job_id:str}/events",
    opt={SCOPE: "train", OPERATION: Operation(answer=JobEventList, events=JobEvent)},
)
async def list_tuning_events(
    request: AnyRequest,
    job_id: FromPath[str],
    *,
    limit: Limit = 20,
    after: Annotated[
        str, QueryParameter(description="Only events older than the one with this id; of a stream, newer ones.")
    ] = "",
    stream: Annotated[
        bool, QueryParameter(description="As server-sent events, oldest first, until the job ends.")
    ] = False,
) -> Response[bytes] | Stream:
    """What happened to a job, newest first."""
    _check_limit(limit)
    gateway, tenant, job = gateway_of(request), tenant_of(request), await _job(request, job_id)
    diary = Diary(tenant.jobs, job)
    number = diary.number_of(after) if after else None
    if stream:
        trace = trace_of(request)
        gateway.followers.enter(trace)
        events = follow(gateway, tenant, job_id, number or 0, trace)
        return Stream(events, media_type="text/event-stream", headers=HEADERS)
    found = await gateway.in_thread(diary.newest, limit + 1, number)
    return respond(JobEventList(data=found[:limit], has_more=len(found) > limit))


@get(
    "/v1/fine_tuning/jobs/{job_id:str}/checkpoints",
    opt={SCOPE: "train", OPERATION: Operation(answer=JobCheckpointList)},
)
async def list_tuning_checkpoints(
    request: AnyRequest,
    job_id: FromPath[str],
    *,
    limit: Limit = 10,
    after: Annotated[str, QueryParameter(description="Only checkpoints that follow the one with this id.")] = "",
) -> Response[bytes]:
    """The version that a job has published; before that, nothing."""
    _check_limit(limit)
    found = checkpoint(await _job(request, job_id))
    if found is None or after == found.id:
        return respond(JobCheckpointList(data=()))
    return respond(JobCheckpointList(data=(found,), first_id=found.id, last_id=found.id))


@post(
    "/v1/fine_tuning/jobs/{job_id:str}/pause",
    status_code=200,
    opt={SCOPE: "train", OPERATION: Operation(answer=FineTuningJob)},
)
async def pause_tuning_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    """Not supported: refused with 400. A worker that stops leaves a checkpoint, and the next one goes on from there."""
    raise _unsupported(await _job(request, job_id), "paused")


@post(
    "/v1/fine_tuning/jobs/{job_id:str}/resume",
    status_code=200,
    opt={SCOPE: "train", OPERATION: Operation(answer=FineTuningJob)},
)
async def resume_tuning_job(request: AnyRequest, job_id: FromPath[str]) -> Response[bytes]:
    """Not supported: refused with 400, as no job is ever paused."""
    raise _unsupported(await _job(request, job_id), "resumed")


async def _job(request: AnyRequest, id: str) -> Job:
    """A fine-tuning job that the principal may see. NotFound for anything else."""
    job = await gateway_of(request).in_thread(_there, tenant_of(request), id) if ID.fullmatch(id) else None
    if job is None or not _is_shown(job, principal_of(request)):
        raise NotFound(f"no fine-tuning job {id[:100]!r}")
    trace_of(request).fields |= {"job": id}
    return job


def _unsupported(job: Job, what: str) -> Invalid:
    told = f"{job.key} cannot be {what}: jobs run to their end, or are cancelled"
    return Invalid(told, hint="cancel it, and file another", param="job_id", code="unsupported_action")


def _there(tenant: Tenant, id: str) -> Job | None:
    try:
        return tenant.jobs.get(id)
    except NotFound:
        return None


def _is_shown(job: Job, principal: Principal) -> bool:
    return job.spec.get("kind") == KIND and principal.may_use(str(job.spec.get("adapter", "")))


def _carries(job: Job, wanted: Mapping[str, str]) -> bool:
    return wanted.items() <= (job.spec.get("metadata") or {}).items()


def _older(found: Sequence[Job], id: str) -> Sequence[Job]:
    for index, job in enumerate(found):
        if job.key == id:
            return found[index + 1 :]
    raise Invalid(f"{id[:100]!r} is no job of this list", param="after", code="invalid_value")


def _check_limit(limit: int) -> None:
    if not 1 <= limit <= MAX_LISTED:
        raise Invalid(f"limit must lie between 1 and {MAX_LISTED}", param="limit", code="invalid_value")


ROUTES = [
    create_tuning_job,
    list_tuning_jobs,
    show_tuning_job,
    cancel_tuning_job,
    list_tuning_events,
    list_tuning_checkpoints,
    pause_tuning_job,
    resume_tuning_job,
]
