"""/v1/files on the wire. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Purpose = Literal["fine-tune"]
Content = Annotated[str, Meta(extra_json_schema={"format": "binary"})]


class FileForm(msgspec.Struct, frozen=True, kw_only=True):
    """A form, `multipart/form-data`, in whatever order."""

    file: Content
    """JSON Lines in UTF-8: an object on every line. Its name is kept as a text, and never used as a path."""
    purpose: Purpose


class FileObject(msgspec.Struct, frozen=True, kw_only=True):
    """An uploaded file."""

    id: str
    bytes: int
    created_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"
    object: Literal["file"] = "file"


class FileList(msgspec.Struct, frozen=True, kw_only=True):
    """Some of the tenant's files."""

    data: Sequence[FileObject]
    has_more: bool
    """Whether more follow: ask again with `after` set to the last id."""
    first_id: str | None = None
    last_id: str | None = None
    object: Literal["list"] = "list"


class FileDeleted(msgspec.Struct, frozen=True, kw_only=True):
    """That a file is no more."""

    id: str
    deleted: bool = True
    object: Literal["file"] = "file"
