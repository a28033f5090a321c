"""A version written for others: a PEFT folder, that folder with a model signature, or an OCI image layout.

The bytes depend on the version, its name and the key alone. The folder appears whole or not at all.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, get_args

from registry.adapters import Registry
from registry.errors import Invalid
from registry.exchange import bundle, oci
from registry.exchange.elliptic import PrivateKey
from registry.folders import appearing
from registry.names import ModelRef
from registry.store import Progress, write_atomically
from registry.verification import fetch_into
from registry.versions import Version

Format = Literal["peft", "oms", "oci"]
FORMATS: tuple[Format, ...] = get_args(Format)


def export(
    registry: Registry,
    ref: str | ModelRef,
    directory: Path,
    *,
    form: Format,
    key: PrivateKey | None = None,
    progress: Progress | None = None,
) -> Version:
    """Write the version that `ref` means into a new `directory`; every file is checked on its way."""
    if form == "oms" and key is None:
        raise Invalid("a model signature needs a key", hint="give one with --key, or choose --format peft", param="key")
    if form == "peft" and key is not None:
        raise Invalid("a plain PEFT folder has no place for a signature", hint="choose --format oms", param="key")
    version = registry.obtainable(ref)
    signature = bundle.sign(version.manifest, version.adapter, key) if key else None
    with appearing(directory) as folder:
        if form == "oci":
            files = folder / "files"
            fetch_into(registry.store, version, files, progress)
            oci.write(folder, version.manifest, files, f"v{version.number}", signature)
            shutil.rmtree(files)
        else:
            fetch_into(registry.store, version, folder, progress)
            if signature is not None:
                write_atomically(folder / bundle.SIGNATURE_FILE, [signature])
    return version
