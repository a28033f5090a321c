"""A request for fine-tuning, checked and made into the job that workers read. Files no job, trains nothing."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from registry.errors import Invalid, NotFound
from registry.files import Files
from registry.jobs import Job
from registry.names import check_name
from registry.tuning import KIND, TuneJob
from registry.ulid import ulid
from serving.gateway.choosing import Catalog
from serving.gateway.dialect.question import refuse
from serving.gateway.errors import RateLimited
from serving.gateway.principal import Principal
from serving.gateway.wire.fine_tuning import Auto, Hyperparameters, JobRequest, JobUnsupported
from serving.gateway.wire.unsupported import unsupported

ID = re.compile(r"ftjob-[0-9a-z]{26}")
ID_LENGTH = 26
SHORT = 8
MAX_KEY = 255
MAX_UNFINISHED = 64
"""Of one tenant."""
Number = TypeVar("Number", int, float)


def job_id(now: float, principal: Principal, idempotency_key: str | None) -> str:
    """A new one; with a key, the one that this principal's key always means."""
    if idempotency_key is None:
        return f"ftjob-{ulid(now).lower()}"
    if not 1 <= len(idempotency_key) <= MAX_KEY:
        told = f"an idempotency key has 1 to {MAX_KEY} characters"
        raise Invalid(told, param="idempotency-key", code="invalid_value")
    return f"ftjob-{hashlib.sha256(f'{principal.id} {idempotency_key}'.encode()).hexdigest()[:ID_LENGTH]}"


def order_of(body: JobRequest, id: str, principal: Principal, catalog: Catalog) -> TuneJob:
    """What is asked for, as far as the body and the credential alone tell. Asks no store."""
    _check_supported(body)
    principal.require_use(body.model)
    adapter = f"ft-{id[-SHORT:]}" if body.suffix is None else check_name(body.suffix, "suffix")
    if adapter in catalog.base_names:
        raise Invalid(f"{adapter!r} is the base's name", param="suffix", code="invalid_value")
    principal.require_use(adapter)
    wanted = _hyperparameters(body)
    return TuneJob(
        adapter=adapter,
        base=catalog.base_weights,
        training_file=body.training_file,
        validation_file=body.validation_file,
        model=body.model,
        epochs=_given(wanted.n_epochs),
        batch_size=_given(wanted.batch_size),
        learning_rate_multiplier=_given(wanted.learning_rate_multiplier),
        seed=body.seed or 0,
        metadata=body.metadata or {},
    )


def resolve(order: TuneJob, files: Files, catalog: Catalog) -> TuneJob:
    """With the version that `model` means now, once its files are there. Blocks on the store."""
    choice = catalog.choose(order.model)
    if choice.is_shared:
        told = f"{order.model!r} belongs to another tenant: it can be used, not trained on"
        raise Invalid(told, hint="name the base, or an adapter of your own", param="model", code="invalid_value")
    for param, id in (("training_file", order.training_file), ("validation_file", order.validation_file)):
        try:
            if id is not None:
                files.get(id)
        except NotFound as error:
            raise Invalid(str(error), hint="upload it to /v1/files", param=param, code="file_not_found") from error
    if choice.version is None:
        return order
    if choice.version.manifest.base.weights_sha256 != catalog.base_weights:
        told = f"{order.model!r} was made for another base than {catalog.base_names[0]}"
        raise Invalid(told, hint="ask a gateway of that base", param="model", code="invalid_value")
    return msgspec.structs.replace(order, parent=f"{choice.version.adapter}@{choice.version.digest}")


def require_room(jobs: Iterable[Job]) -> None:
    """RateLimited where a tenant has as many unfinished jobs as it may have."""
    waiting = sum(not job.finished and job.spec.get("kind") == KIND for job in jobs)
    if waiting >= MAX_UNFINISHED:
        told = f"{waiting} fine-tuning jobs have not ended, which is all there may be"
        raise RateLimited(told, hint="wait for one to end, or cancel one", budget="requests", retry_after_s=60.0)


def is_same(order: TuneJob, filed: TuneJob) -> bool:
    """Whether a job answers an order. What `model` meant when it was filed may have moved since."""
    return order == msgspec.structs.replace(filed, parent=None)


def _check_supported(body: JobRequest) -> None:
    if (name := unsupported(body, JobUnsupported.__struct_fields__)) is not None:
        refuse({name: True})
    if body.method is not None:
        refuse({f"method.{body.method.type}": body.method.type != "supervised"})


def _hyperparameters(body: JobRequest) -> Hyperparameters:
    if body.method is not None:
        return body.method.supervised.hyperparameters
    return body.hyperparameters or Hyperparameters()


def _given(value: Auto | Number) -> Number | None:
    return None if value == "auto" else value
