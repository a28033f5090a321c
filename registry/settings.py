"""Settings: `lorimer.toml`, overridden by `LORIMER_*`, overridden by flags. An unknown key is an error."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec

from registry.errors import Invalid

PREFIX = "LORIMER_"
Addressing = Literal["auto", "path", "virtual"]


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every setting there is. Sizes are in bytes, times in seconds, unless the name says otherwise."""

    store: str = "file://.lorimer"
    s3_endpoint: str | None = None
    """URL of an S3 server other than AWS. Credentials come from boto3's usual places, never from here."""
    s3_region: str | None = None
    """Without it, AWS_DEFAULT_REGION or the profile's, else us-east-1."""
    s3_addressing: Addressing = "auto"
    """How the bucket is named in URLs; auto is path where s3_endpoint is set."""
    s3_sse: Literal["", "AES256", "aws:kms"] = ""
    """Server-side encryption asked for with every object; empty leaves it to the bucket's default."""
    s3_sse_key_id: str = ""
    """The KMS key, where s3_sse is aws:kms; empty means the account's own."""
    cache_dir: str = "~/.cache/lorimer"
    cache_bytes: int = 64 << 30
    """Disk for verified adapters; those not asked for longest go first."""
    base: str = "smollm2-135m"
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the base and its adapters are held and multiplied; `auto` is a CUDA device where there is one."""
    tenant: str = "default"
    signing_key: str | None = None
    """File of the private key that this process signs with; `lorimer registry key new` makes one."""
    trusted_keys: str | None = None
    """File of root public keys: then nothing is believed that does not go back to one of them."""
    writer: str | None = None
    """The name this process goes by where registry.json admits a single writer; one process at a time."""
    threads: int = 0
    """Torch intra-operator threads; 0 = one per core."""

    host: str = "127.0.0.1"
    port: int = 8080
    drain_s: float = 30.0
    """After SIGTERM requests are taken for half of this at most, and those taken may use the rest."""
    drain_quiet_s: float = 1.0
    """After SIGTERM the door closes once no request has come for this long: routers have noticed."""
    body_timeout_s: float = 30.0
    """A request's body must have arrived by then."""
    stall_timeout_s: float = 60.0
    """A client that takes nothing of its answer for this long is given up."""
    max_body: int = 4 << 20
    file_bytes: int = 512 << 20
    """Most bytes of an uploaded file."""
    api_key_hashes: str = ""
    """SHA-256 in hex of bootstrap keys, separated by commas: every scope, this tenant. More: `lorimer keys`."""
    tls_cert: str = ""
    """PEM file of the certificate, and those between it and its root; then HTTP is spoken over TLS 1.3 only."""
    tls_key: str = ""
    """PEM file of the certificate's private key."""
    tls_client_ca: str = ""
    """PEM file of roots: then only clients connect that show a certificate of one of them."""
    jwt_issuer: str = ""
    """The OpenID Connect issuer whose tokens are let in beside API keys, exactly as its tokens name it."""
    jwt_audience: str = ""
    """What tokens must be made for."""
    jwt_jwks: str = ""
    """File or https URL of the issuer's public keys; empty: where the issuer's own description says, on its host."""
    jwt_algorithms: str = "RS256, PS256, ES256, EdDSA"
    jwt_leeway_s: float = 30.0
    """How far the issuer's clock may be from ours."""
    jwt_tenant_claim: str = ""
    """The claim that names the tenant; empty: all tokens are of this gateway's."""
    jwt_scope_claim: str = "scope"
    """The claim with the scopes: words in one text, or a list."""
    jwt_scope_prefix: str = ""
    """What our scopes begin with in tokens, such as `lorimer:`."""
    jwt_requests_per_minute: int = 0
    """What the tokens of one subject may use on each gateway, as a key's limits; 0: no limit."""
    jwt_tokens_per_minute: int = 0
    jwt_concurrency: int = 0

    max_batch: int = 32
    """Most rows in one step."""
    max_waiting: int = 256
    """Requests queued before the gateway answers 503."""
    prefill_tokens: int = 512
    """Most prompt tokens in one step."""
    kv_tokens: int = 65_536
    """Token positions the KV cache holds, over all rows."""
    prefix_tokens: int | None = None
    """Positions of these that ended rows may leave filled for prompts that begin alike; unset: a quarter."""
    max_context: int = 0
    """Longest prompt plus answer in tokens; 0 = what the base allows."""
    adapter_bytes: int = 1 << 30
    """Memory for resident adapters, and for those on their way."""
    pinned: str = ""
    """Models kept in memory whether or not they are asked for, separated by commas."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """From which level on there is a line; every request has one at info."""
    vllm_metric_aliases: bool = False
    """Export vLLM's metrics too, by its names and labels, for routers and dashboards made for it."""

    redactor: str = ""
    """`package.module:function`, str -> str, that every captured text goes through before it is kept."""
    capture_upkeep_s: float = 3600.0
    """How often a gateway takes out captures that have expired, and what came late of people who are forgotten."""
    observe_flush_s: float = 2.0
    """Observations wait at most this long before they are written to the bucket."""
    monitor_poll_s: float = 1.0
    false_alarms_per_day: float = 0.1
    """The promise of layer B, over the whole fleet."""
    worker_poll_s: float = 1.0
    lease_s: float = 30.0
    """A worker that has not renewed its claim for this long has lost it."""

    def cache_path(self) -> Path:
        return Path(self.cache_dir).expanduser()


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Merge file, environment and flags (`None` flags are unset) into one validated value."""
    values = _from_file(file or Path("lorimer.toml"), required=file is not None)
    values |= _from_environ(os.environ if environ is None else environ)
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    _refuse_unknown(values, "setting")
    try:
        return msgspec.convert(values, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Invalid(f"bad setting: {error}") from error


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    if not path.exists():
        if required:
            raise Invalid(f"settings file {path} does not exist")
        return {}
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{path}: {error}") from error
    _refuse_unknown(values, f"setting in {path}")
    return values


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    names = {key for key in environ if key.startswith(PREFIX)}
    values = {key.removeprefix(PREFIX).lower(): environ[key] for key in names}
    _refuse_unknown(values, "environment variable", prefix=PREFIX)
    return values


def _refuse_unknown(values: Mapping[str, Any], what: str, *, prefix: str = "") -> None:
    known = Settings.__struct_fields__
    for key in sorted(values):
        if key not in known:
            near = get_close_matches(key, known, 1)
            shown = prefix + key.upper() if prefix else key
            hint = f"did you mean {prefix + near[0].upper() if prefix else near[0]}?" if near else ""
            raise Invalid(f"unknown {what}: {shown}", hint=hint, param=key)
