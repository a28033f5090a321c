"""What granian needs to speak TLS: the certificate, its key, and whose certificates clients must show.

The files are read when the gateway starts; a renewed certificate is taken up by the next start. Knows no credential.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

from registry.errors import Invalid
from registry.settings import Settings


def tls_options(settings: Settings) -> dict[str, Any]:
    """Granian's options; none for plain HTTP. Invalid where the files do not go together."""
    if not settings.tls_cert and not settings.tls_key:
        if settings.tls_client_ca:
            raise Invalid("tls_client_ca needs tls_cert and tls_key", param="tls_cert")
        return {}
    certificate, key = _file(settings.tls_cert, "tls_cert"), _file(settings.tls_key, "tls_key")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError) as error:
        raise Invalid(f"tls_cert and tls_key do not go together: {error}", param="tls_key") from error
    options: dict[str, Any] = {"ssl_cert": certificate, "ssl_key": key}
    if settings.tls_client_ca:
        roots = _file(settings.tls_client_ca, "tls_client_ca")
        try:
            context.load_verify_locations(roots)
        except (ssl.SSLError, OSError) as error:
            raise Invalid(f"tls_client_ca holds no certificates: {error}", param="tls_client_ca") from error
        options |= {"ssl_ca": roots, "ssl_client_verify": True}
    return options


def _file(name: str, setting: str) -> Path:
    path = Path(name).expanduser()
    if not name or not path.is_file():
        raise Invalid(f"{setting} names no file: {name!r}", param=setting)
    return path
