"""Files that a tenant uploaded, each under an id of its own. Stores bytes; never reads a row.

    t/<tenant>/files/<id>/content        first, and checked
    t/<tenant>/files/<id>/record.json    last: a file exists once its record does, and no longer than that

So an upload or a deletion that is cut short leaves nothing that can be seen.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import msgspec

from registry.canonical import canonical, sha256_file
from registry.errors import Corrupt, NotFound, Unavailable
from registry.manifest import FileEntry
from registry.names import check_name
from registry.parallel import at_once
from registry.store import Store, create_surely
from registry.transfer import Meter, upload
from registry.ulid import time_of, ulid

BATCH = 64
"""Records read at once."""
GRACE_S = 86_400.0
"""No upload takes longer."""
_ID = re.compile(r"file-[0-9a-hjkmnp-tv-z]{26}")


class File(msgspec.Struct, frozen=True, kw_only=True):
    """`filename` is what the uploader called it: text to show, no path."""

    id: str
    filename: str
    purpose: str
    num_bytes: int
    sha256: str
    created_at: float


class Files:
    """All files of one tenant. Ids sort by age."""

    def __init__(self, store: Store, tenant: str = "default", clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._prefix = f"t/{check_name(tenant, 'tenant')}/files"
        self._clock = clock

    def put(self, path: Path, *, filename: str, purpose: str) -> File:
        """Store a file anew, whatever else there is; durable when this returns."""
        now = self._clock()
        file = File(
            id=f"file-{ulid(now).lower()}",
            filename=filename,
            purpose=purpose,
            num_bytes=path.stat().st_size,
            sha256=sha256_file(path),
            created_at=now,
        )
        entry = FileEntry(path="content", sha256=file.sha256, size=file.num_bytes)
        upload(self._store, self._content(file.id), path, entry, Meter(entry.size, None))
        if not create_surely(self._store, self._record(file.id), canonical(file)):
            raise Unavailable(f"{file.id} was taken at the same moment", hint="upload it again")
        return file

    def get(self, id: str) -> File:
        if not _ID.fullmatch(id):
            raise NotFound(f"no file {id[:100]!r}")
        try:
            return msgspec.json.decode(self._store.get(self._record(id)), type=File)
        except NotFound:
            raise NotFound(f"no file {id!r}") from None
        except msgspec.DecodeError as error:
            raise Corrupt(f"{self._record(id)} is not a readable record: {error}") from error

    def list(self, *, limit: int | None = None, after: str = "", newest_first: bool = False) -> Sequence[File]:
        """At most `limit` files, oldest first unless said otherwise; `after` the id of one, those that follow it."""
        ids = [id for id in self._store.folders(f"{self._prefix}/") if _ID.fullmatch(id)]
        ids.sort(reverse=newest_first)
        if after:
            ids = [id for id in ids if (id < after if newest_first else id > after)]
        return tuple(islice(self._found(ids), limit))

    def fetch(self, id: str, path: Path) -> File:
        """Write the file's bytes to `path`; Corrupt when they are not what was uploaded."""
        file = self.get(id)
        self._store.fetch(self._content(id), path)
        if sha256_file(path) != file.sha256:
            path.unlink(missing_ok=True)
            raise self._damaged(file)
        return file

    def chunks(self, id: str) -> Iterator[bytes]:
        """The file's bytes as a stream; Corrupt instead of its end when they are not what was uploaded."""
        return self._checked(self.get(id))

    def delete(self, id: str) -> None:
        """Take the file out, record first."""
        self.get(id)
        self._store.delete(self._record(id))
        self._store.delete(self._content(id))

    def sweep(self, grace_s: float = GRACE_S) -> int:
        """Delete what uploads and deletions that were cut short have left behind; how many. May be stopped anywhere."""
        keys = set(self._store.list(f"{self._prefix}/"))
        ids = {key.split("/")[-2] for key in keys}
        left = [id for id in ids if _ID.fullmatch(id) and self._record(id) not in keys and self._age_s(id) > grace_s]
        for id in left:
            self._store.delete(self._content(id))
        return len(left)

    def _age_s(self, id: str) -> float:
        return self._clock() - time_of(id.removeprefix("file-").upper())

    def _found(self, ids: Sequence[str]) -> Iterator[File]:
        for first in range(0, len(ids), BATCH):
            yield from (file for file in at_once(self._find, ids[first : first + BATCH]) if file is not None)

    def _find(self, id: str) -> File | None:
        """None while its upload has not ended, and once it is taken out."""
        try:
            return self.get(id)
        except NotFound:
            return None

    def _checked(self, file: File) -> Iterator[bytes]:
        """Every chunk waits for the next, so that the last is given only when all are known to be right."""
        state, waiting = hashlib.sha256(), b""
        for chunk in self._store.chunks(self._content(file.id)):
            state.update(chunk)
            if waiting:
                yield waiting
            waiting = chunk
        if state.hexdigest() != file.sha256:
            raise self._damaged(file)
        yield waiting

    def _damaged(self, file: File) -> Corrupt:
        return Corrupt(f"{self._content(file.id)} is damaged: its bytes do not have the sha256 of its record")

    def _content(self, id: str) -> str:
        return f"{self._prefix}/{id}/content"

    def _record(self, id: str) -> str:
        return f"{self._prefix}/{id}/record.json"
