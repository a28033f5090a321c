"""`lorimer registry push | pull | export | import | copy`: adapters on their way in and out. Decides nothing itself."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from registry import bases
from registry.adapter_config import CONFIG_FILE, read_adapter_config
from registry.adapters import Registry, Version, open_registry
from registry.commands.version import version_record
from registry.datasets import Datasets
from registry.errors import Invalid, Refused
from registry.exchange import adoption, elliptic
from registry.exchange.export import FORMATS, Format
from registry.exchange.export import export as write
from registry.exchange.findings import Found, find
from registry.exchange.parcel import open_parcel
from registry.manifest import BaseProfile, DatasetRecord, Parent
from registry.names import parse_ref
from registry.settings import Settings
from registry.terminal import Terminal, command, key_value, progress_bar


@click.command()
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--alias", "aliases", multiple=True, help="Move this alias to the new version in the same step.")
@click.option("--base-id", help="Which registered base, when the adapter fits several.")
@click.option("--parent", help="The version it was trained from: a reference such as support@v3.")
@click.option("--dataset", type=click.Path(path_type=Path), help="JSONL it was trained on; stored and recorded.")
@click.option("--metric", "metrics", multiple=True, metavar="KEY=VALUE", help="Record a number, such as loss=0.42.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Record a tag in the manifest.")
@click.option("--keep", multiple=True, metavar="FILE", help="Take this file too, which would be left out.")
@click.option("--reason", default="", help="Recorded with the alias move.")
@command
def push(
    terminal: Terminal,
    *,
    directory: Path,
    name: str,
    aliases: tuple[str, ...],
    base_id: str | None,
    parent: str | None,
    dataset: Path | None,
    metrics: tuple[str, ...],
    tags: tuple[str, ...],
    keep: tuple[str, ...],
    reason: str,
) -> None:
    """Publish the PEFT adapter in DIRECTORY as the next version of NAME.

    DIRECTORY is a folder of PEFT's, a trainer's checkpoint, or a snapshot in the Hugging Face cache. What
    is only beside the adapter (tokenizer, optimizer, model card) is left out, and named. Checked first:
    plain files only, no pickles, tensors that fit the base, finite values. The same files pushed again
    are the same version. Nothing is visible until everything is stored.
    """
    opened, found = open_registry(terminal.settings), find(directory, keep)
    _name_left_out(terminal, found)
    with found.folder(_scratch(terminal.settings)) as folder, progress_bar(terminal, f"pushing {name}") as progress:
        version = opened.publish(
            name,
            folder,
            profile=_profile(opened, folder, base_id),
            parent=None if parent is None else _parent(opened.show(parent)),
            dataset=None if dataset is None else _dataset(opened, dataset),
            metrics=dict(_number(metric) for metric in metrics),
            tags=_source(found) | dict(key_value(tag) for tag in tags),
            aliases=dict.fromkeys(aliases, msgspec.UNSET),
            reason=reason,
            progress=progress,
        )
    left_out = [{"path": each.path, "reason": each.reason} for each in found.left_out]
    terminal.result(version_record(version) | {"left_out": left_out}, _arrived(version, aliases))


@click.command()
@click.argument("ref")
@click.argument("directory", type=click.Path(path_type=Path))
@command
def pull(terminal: Terminal, ref: str, directory: Path) -> None:
    """Fetch a version into a new DIRECTORY, every file checked against the manifest."""
    with progress_bar(terminal, f"pulling {ref}") as progress:
        version = open_registry(terminal.settings).pull(ref, directory, progress)
    terminal.result(version_record(version), f"{version.name} -> {directory}")


@click.command()
@click.argument("ref")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option("--format", "form", type=click.Choice(FORMATS), default="peft", show_default=True, help="See above.")
@click.option("--key", type=click.Path(path_type=Path), help="Sign with this private key: PEM, P-256, P-384 or P-521.")
@command
def export(terminal: Terminal, *, ref: str, directory: Path, form: Format, key: Path | None) -> None:
    """Write a version into a new DIRECTORY for others.

    \b
    peft   the folder that PEFT loads
    oms    that folder with model.sig, an OpenSSF model signature (needs --key):
           model_signing verify key --public_key key.pub --signature DIRECTORY/model.sig DIRECTORY
    oci    an OCI image layout, signed too with --key:
           skopeo copy --preserve-digests oci:DIRECTORY:v3 docker://registry.example/adapters/support:v3

    The same version and key make the same bytes.
    """
    signer = None if key is None else elliptic.read_private_key(key)
    with progress_bar(terminal, f"exporting {ref}") as progress:
        version = write(open_registry(terminal.settings), ref, directory, form=form, key=signer, progress=progress)
    terminal.result(version_record(version), f"{version.name} {version.digest} -> {directory} ({form})")


@click.command("import")
@click.argument("directory", type=click.Path(path_type=Path))
@click.argument("name")
@click.option("--key", type=click.Path(path_type=Path), help="The signer's public key (PEM); a signature is demanded.")
@click.option("--tag", help="Which version of an OCI layout that holds several.")
@click.option("--alias", "aliases", multiple=True, help="Move this alias to the version in the same step.")
@click.option("--reason", default="", help="Recorded with the alias move.")
@command
def import_(
    terminal: Terminal,
    *,
    directory: Path,
    name: str,
    key: Path | None,
    tag: str | None,
    aliases: tuple[str, ...],
    reason: str,
) -> None:
    """Publish what was exported as OCI layout, or signed as OMS folder, under NAME.

    Every digest is checked, and a signature that is there must be good. What lorimer exported keeps its
    digest; a folder that others signed is pushed as a new version.
    """
    opened = open_registry(terminal.settings)
    parcel = open_parcel(directory, key=None if key is None else elliptic.read_public_key(key), tag=tag)
    with progress_bar(terminal, f"importing {name}") as progress:
        version = adoption.take_in(
            opened,
            name,
            parcel,
            aliases=aliases,
            reason=reason,
            scratch=_scratch(terminal.settings),
            progress=progress,
        )
    terminal.result(version_record(version) | {"signed": parcel.is_signed}, _arrived(version, aliases))


@click.command()
@click.argument("ref")
@click.option("--to", "url", required=True, help="Registry to copy to: file:///dir or s3://bucket/prefix.")
@click.option("--to-endpoint", help="Its S3 endpoint, if it is another one; empty: AWS.")
@click.option("--to-tenant", help="Its tenant; the same as here if not given.")
@click.option("--as", "name", help="Its adapter's name; the same as here if not given.")
@click.option("--alias", "aliases", multiple=True, help="Move this alias there to the version in the same step.")
@click.option("--reason", default="", help="Recorded with the alias move.")
@command
def copy(
    terminal: Terminal,
    *,
    ref: str,
    url: str,
    to_endpoint: str | None,
    to_tenant: str | None,
    name: str | None,
    aliases: tuple[str, ...],
    reason: str,
) -> None:
    """Publish a version in another registry, under the same digest and manifest.

    Read and checked here, checked and stored there. The profile of its base goes along; its dataset and
    its parents do not. Doing it again changes nothing.
    """
    settings = terminal.settings
    there = msgspec.structs.replace(
        settings,
        store=url,
        s3_endpoint=settings.s3_endpoint if to_endpoint is None else to_endpoint or None,
        tenant=to_tenant or settings.tenant,
    )
    source, target = open_registry(settings), open_registry(there)
    with progress_bar(terminal, f"copying {ref}") as progress:
        version = adoption.copy(
            source,
            ref,
            target,
            name or parse_ref(ref).adapter,
            aliases=aliases,
            reason=reason,
            scratch=_scratch(settings),
            progress=progress,
        )
    terminal.result(version_record(version), f"{_arrived(version, aliases)} in {target.store.url}")


def _name_left_out(terminal: Terminal, found: Found) -> None:
    for each in found.left_out:
        terminal.say(f"left out {each.path} ({each.reason})")


def _scratch(settings: Settings) -> Path:
    return settings.cache_path() / "exchange"


def _source(found: Found) -> dict[str, str]:
    """Where a snapshot of the Hub came from belongs to its lineage."""
    return {"source": found.snapshot.source} if found.snapshot else {}


def _profile(opened: Registry, folder: Path, base_id: str | None) -> BaseProfile | None:
    if base_id is None:
        return None
    if not (folder / CONFIG_FILE).is_file():
        raise Refused(f"{folder} has no {CONFIG_FILE}")
    return bases.choose(opened.bases(), read_adapter_config(folder / CONFIG_FILE).base_model_name_or_path, base_id)


def _parent(version: Version) -> Parent:
    return Parent(adapter=version.adapter, digest=version.digest)


def _dataset(opened: Registry, path: Path) -> DatasetRecord:
    """Stored beside the adapters, and counted: one row a line."""
    if not path.is_file():
        raise Invalid(f"{path} is not a file", param="dataset")
    with path.open("rb") as file:
        rows = sum(1 for line in file if line.strip())
    datasets = Datasets(opened.store, opened.tenant)
    sha256 = datasets.put(path)
    return DatasetRecord(uri=datasets.uri(sha256), sha256=sha256, rows=rows)


def _number(text: str) -> tuple[str, float]:
    key, value = key_value(text)
    try:
        return key, float(value)
    except ValueError:
        raise Invalid(f"metric {key} is not a number: {value!r}", param="metric") from None


def _arrived(version: Version, aliases: tuple[str, ...]) -> str:
    also = f", now {', '.join(aliases)}" if aliases else ""
    return f"{version.name} {version.digest}{also}"
