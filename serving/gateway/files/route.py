"""/v1/files in OpenAI's dialect: upload, list, look at, download and delete what is to be trained on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Literal

from litestar import Response, delete, get, post
from litestar.exceptions import HTTPException
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from registry.errors import Invalid, LorimerError
from registry.files import File
from registry.tuning import needed_by
from serving.gateway.access import SCOPE, require_same_origin
from serving.gateway.auditing import audit
from serving.gateway.exchange import AnyRequest, gateway_of, respond
from serving.gateway.files.form import FRAME_BYTES, Form, too_large
from serving.gateway.files.lines import check_lines
from serving.gateway.files.scratch import scratch
from serving.gateway.gateway import Gateway
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.tenancy import tenant_of
from serving.gateway.trace import trace_of
from serving.gateway.wire.file import FileDeleted, FileForm, FileList, FileObject

PURPOSE = "fine-tune"
PACE_BYTES_PER_S = 128 << 10
"""An upload that keeps this pace may take longer than other bodies."""
MAX_LISTED = 1000
MAX_NAME = 255
NDJSON = "application/x-ndjson"


@post(
    "/v1/files",
    status_code=200,
    request_max_body_size=None,
    opt={SCOPE: "train", OPERATION: Operation(form=FileForm, answer=FileObject)},
)
async def upload_file(request: AnyRequest) -> Response[bytes]:
    """Keep a file of rows to train on."""
    gateway, tenant = gateway_of(request), tenant_of(request)
    require_same_origin(request)
    boundary = _boundary(request)
    if (request.content_length or 0) > gateway.settings.file_bytes + FRAME_BYTES:
        raise too_large(gateway.settings.file_bytes)
    trace_of(request).bytes_per_s = PACE_BYTES_PER_S
    with gateway.uploads.place(), scratch() as file:
        form = Form(gateway.settings.file_bytes, lambda data: gateway.in_thread(file.append, data))
        await form.read(request.stream(), boundary)
        filename = _checked(form)
        await gateway.in_thread(check_lines, file.path)
        kept = await gateway.in_thread(tenant.files.put, file.path, filename=filename, purpose=PURPOSE)
    trace_of(request).fields |= {"file": kept.id, "bytes": kept.num_bytes}
    return respond(_told(kept))


@get("/v1/files", opt={SCOPE: "train", OPERATION: Operation(answer=FileList)})
async def list_files(
    request: AnyRequest,
    *,
    purpose: Annotated[str, QueryParameter(description="Only files for this purpose.")] = "",
    limit: Annotated[int, QueryParameter(description="Most files to answer with, 1 to 1000.")] = 100,
    order: Annotated[
        Literal["asc", "desc"], QueryParameter(description="`desc`: the newest first; `asc`: the oldest.")
    ] = "desc",
    after: Annotated[str, QueryParameter(description="Only files that follow the one with this id.")] = "",
) -> Response[bytes]:
    """The tenant's files."""
    if not 1 <= limit <= MAX_LISTED:
        raise Invalid(f"limit must lie between 1 and {MAX_LISTED}", param="limit", code="invalid_value")
    if purpose not in ("", PURPOSE):
        return respond(FileList(data=(), has_more=False))
    files = tenant_of(request).files
    found = await gateway_of(request).in_thread(files.list, limit=limit + 1, after=after, newest_first=order == "desc")
    data = [_told(file) for file in found[:limit]]
    ends = (data[0].id, data[-1].id) if data else (None, None)
    return respond(FileList(data=data, has_more=len(found) > limit, first_id=ends[0], last_id=ends[1]))


@get("/v1/files/{file_id:str}", opt={SCOPE: "train", OPERATION: Operation(answer=FileObject)})
async def show_file(request: AnyRequest, file_id: FromPath[str]) -> Response[bytes]:
    """One file: its name, its size, when it came."""
    return respond(_told(await gateway_of(request).in_thread(tenant_of(request).files.get, file_id)))


@get("/v1/files/{file_id:str}/content", opt={SCOPE: "train", OPERATION: Operation(media_type=NDJSON)})
async def download_file(request: AnyRequest, file_id: FromPath[str]) -> Stream:
    """The bytes of a file as they were uploaded."""
    gateway, files = gateway_of(request), tenant_of(request).files
    file = await gateway.in_thread(files.get, file_id)
    chunks = await gateway.in_thread(files.chunks, file_id)
    first = await gateway.in_thread(next, chunks, b"")
    headers = {"content-length": str(file.num_bytes), "x-content-type-options": "nosniff"}
    return Stream(_streamed(gateway, request, first, chunks), media_type=NDJSON, headers=headers)


@delete("/v1/files/{file_id:str}", status_code=200, opt={SCOPE: "train", OPERATION: Operation(answer=FileDeleted)})
async def delete_file(request: AnyRequest, file_id: FromPath[str]) -> Response[bytes]:
    """Delete a file that no unfinished job needs. What was trained on it stays."""
    gateway, tenant = gateway_of(request), tenant_of(request)
    await gateway.in_thread(tenant.files.get, file_id)
    if (needing := needed_by(await gateway.in_thread(tenant.jobs.list), file_id)) is not None:
        hint = "cancel the job, or wait for its end"
        raise Invalid(f"{file_id} is needed by {needing.key}", hint=hint, param="file_id", code="file_in_use")
    await audit(request, "file.delete", file=file_id)
    await gateway.in_thread(tenant.files.delete, file_id)
    return respond(FileDeleted(id=file_id))


def _boundary(request: AnyRequest) -> str:
    media_type, options = request.content_type
    if media_type != "multipart/form-data" or not options.get("boundary"):
        raise HTTPException(status_code=415, detail="the content-type must be multipart/form-data, with a boundary")
    return options["boundary"]


def _checked(form: Form) -> str:
    """The file's name, once everything that the form must give is there."""
    for name in ("purpose", "file"):
        if name not in form.fields and (name != "file" or form.filename is None):
            raise Invalid(f"the form lacks {name!r}", param=name, code="invalid_value")
    if form.fields["purpose"] != PURPOSE:
        told = f"purpose {form.fields['purpose'][:100]!r} is not supported here; {PURPOSE!r} is"
        raise Invalid(told, param="purpose", code="unsupported_value")
    name = form.filename or ""
    if len(name) > MAX_NAME or not name.isprintable():
        raise Invalid(f"a file's name has at most {MAX_NAME} printable characters", param="file", code="invalid_value")
    return name


def _told(file: File) -> FileObject:
    return FileObject(
        id=file.id,
        bytes=file.num_bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        purpose=file.purpose,
    )


async def _streamed(
    gateway: Gateway, request: AnyRequest, first: bytes, others: Iterator[bytes]
) -> AsyncIterator[bytes]:
    """What cannot be read to its end breaks the connection: the client misses bytes it was promised."""
    chunk: bytes | None = first
    try:
        while chunk is not None:
            yield chunk
            chunk = await gateway.in_thread(next, others, None)
    except LorimerError as error:
        trace_of(request).failure = error
        raise


ROUTES = [upload_file, list_files, show_file, download_file, delete_file]
