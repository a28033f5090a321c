"""vLLM's /v1/load_lora_adapter and /v1/unload_lora_adapter, in its words: adapters of the registry kept in memory.

What is loaded stays in memory on this gateway and follows its alias until it is unloaded; either way it answers
whoever names it. Nothing is ever read from a path or a URL.
"""

from __future__ import annotations

import msgspec
from litestar import Response, post

from registry.errors import Invalid
from registry.names import parse_ref
from serving.gateway.access import SCOPE
from serving.gateway.auditing import audit
from serving.gateway.choosing import Choice
from serving.gateway.errors import ModelNotFound
from serving.gateway.exchange import AnyRequest, gateway_of, read
from serving.gateway.leasing import lease_of
from serving.gateway.openapi.operation import OPERATION, Operation
from serving.gateway.principal import principal_of
from serving.gateway.tenancy import Tenant, tenant_of
from serving.gateway.wire.lora import LoadLora, LoraError, LoraErrorDetail, UnloadLora

TEXT = "text/plain; charset=utf-8"
FAULTS = {400: LoraError, 404: LoraError}
REFERENCES = "no path and no URL: lora_path refers to the registry as `adapter`, `adapter@v7` or `adapter@sha256:...`"


@post(
    "/v1/load_lora_adapter",
    status_code=200,
    opt={SCOPE: "admin", OPERATION: Operation(body=LoadLora, answer=str, media_type=TEXT, errors=FAULTS)},
)
async def load_lora_adapter(request: AnyRequest) -> Response[bytes]:
    """Bring an adapter of the registry into memory and keep it there."""
    gateway, tenant, body = gateway_of(request), tenant_of(request), await read(request, LoadLora)
    if not body.lora_name or not body.lora_path:
        return _fault("Both 'lora_name' and 'lora_path' must be provided.")
    for model in (body.lora_name, body.lora_path):
        principal_of(request).require_use(model)
    if body.lora_name in tenant.catalog.base_names:
        return _fault(f"The lora adapter '{body.lora_name}' conflicts with a served base model.")
    if tenant.follower.is_pinned(body.lora_name) and not body.load_inplace:
        return _fault(
            f"The lora adapter '{body.lora_name}' has already been loaded. If you want to load the adapter in place, "
            "set 'load_inplace' to True."
        )
    try:
        parse_ref(body.lora_path)
    except Invalid:
        return _fault(REFERENCES)
    try:
        choice = await gateway.in_thread(_named, tenant, body)
    except ModelNotFound:
        return _fault(f"Loading lora {body.lora_name} failed: No adapter found for {body.lora_path}", status=404)
    if choice is None:
        return _fault(f"'{body.lora_name}' is no name of '{body.lora_path}'; names are given in the registry")
    for digest, name in choice.names.items():
        gateway.quarantine.check(digest, name)
    await audit(request, "lora.load", adapter=choice.adapter, digest=choice.digest)
    lease = await lease_of(choice, gateway.residency, gateway.base)
    try:
        await gateway.in_thread(tenant.follower.pin, body.lora_name)
    finally:
        if lease is not None:
            lease.release()
    return _told(f"Success: LoRA adapter '{body.lora_name}' added successfully.")


@post(
    "/v1/unload_lora_adapter",
    status_code=200,
    opt={SCOPE: "admin", OPERATION: Operation(body=UnloadLora, answer=str, media_type=TEXT, errors=FAULTS)},
)
async def unload_lora_adapter(request: AnyRequest) -> Response[bytes]:
    """Let an adapter that was loaded leave memory when room is needed. It still answers whoever names it."""
    gateway, tenant, body = gateway_of(request), tenant_of(request), await read(request, UnloadLora)
    if not body.lora_name:
        return _fault("'lora_name' needs to be provided to unload a LoRA adapter.")
    principal_of(request).require_use(body.lora_name)
    if not tenant.follower.is_pinned(body.lora_name):
        return _fault(f"The lora adapter '{body.lora_name}' cannot be found.", status=404)
    await audit(request, "lora.unload", adapter=body.lora_name)
    await gateway.in_thread(tenant.follower.unpin, body.lora_name)
    return _told(f"Success: LoRA adapter '{body.lora_name}' removed successfully.")


def _named(tenant: Tenant, body: LoadLora) -> Choice | None:
    """What the path refers to; None where the name means something else. Blocks on the store."""
    choice = tenant.catalog.choose(body.lora_path)
    try:
        named = choice if body.lora_name == body.lora_path else tenant.catalog.choose(body.lora_name)
    except ModelNotFound:
        return None
    return named if named.digest == choice.digest else None


def _told(text: str) -> Response[bytes]:
    return Response(text.encode(), media_type=TEXT)


def _fault(message: str, status: int = 400) -> Response[bytes]:
    kind = "NotFoundError" if status == 404 else "InvalidUserInput"
    error = LoraError(error=LoraErrorDetail(message=message, type=kind, code=status))
    headers = {"x-should-retry": "false"}
    return Response(msgspec.json.encode(error), status_code=status, media_type="application/json", headers=headers)


ROUTES = [load_lora_adapter, unload_lora_adapter]
