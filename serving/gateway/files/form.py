"""A form with one file, read as it arrives: its fields to memory, its file to the disk. Knows no route.

chunks of the body -> parts -> file: written a piece at a time, elsewhere
                            -> any other: at most a few hundred bytes
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from litestar.exceptions import HTTPException
from multipart import MultipartError, MultipartSegment, PushMultipartParser

from registry.errors import Invalid

FILE = "file"
PIECE_BYTES = 1 << 20
MAX_PARTS = 16
MAX_FIELD_BYTES = 1024
MAX_NAME = 100
"""Of a field that is told of."""
FRAME_BYTES = 64 << 10
"""What the form may have beside the file: boundaries, headers, fields."""

Write = Callable[[bytes], Awaitable[object]]


@dataclass(eq=False)
class Form:
    """What has arrived. `fields` by name; of the file what its uploader calls it and its size."""

    max_file_bytes: int
    write: Write
    """Appends to the file; may block elsewhere."""
    fields: dict[str, str] = field(default_factory=dict)
    filename: str | None = None
    num_bytes: int = 0
    _text: bytearray = field(default_factory=bytearray, init=False)
    _piece: bytearray = field(default_factory=bytearray, init=False)

    async def read(self, chunks: AsyncIterator[bytes], boundary: str) -> None:
        """To the end of the body. Invalid for what is no form; 413 for more than may be."""
        try:
            parser = PushMultipartParser(boundary, max_segment_count=MAX_PARTS, strict=True)
            await self._parse(parser, chunks)
            parser.close()
        except (MultipartError, UnicodeError, LookupError) as error:
            raise Invalid(f"the body is not a form: {error}", code="invalid_form") from error
        await self._flush()

    async def _parse(self, parser: PushMultipartParser, chunks: AsyncIterator[bytes]) -> None:
        segment: MultipartSegment | None = None
        num_bytes = 0
        async for chunk in chunks:
            num_bytes += len(chunk)
            if num_bytes > self.max_file_bytes + FRAME_BYTES:
                raise too_large(self.max_file_bytes)
            if not chunk or parser.closed:
                continue
            for part in parser.parse(chunk):
                if isinstance(part, MultipartSegment):
                    segment = part
                    self._begin(part)
                elif part is None:
                    assert segment is not None, "a part ends after it began"
                    self._end(segment)
                elif segment is not None:
                    await self._take(segment, part)

    def _begin(self, segment: MultipartSegment) -> None:
        name = segment.name[:MAX_NAME]
        if segment.name in self.fields or (segment.name == FILE and self.filename is not None):
            raise Invalid(f"the form gives {name!r} twice", param=name, code="invalid_form")
        if segment.name == FILE:
            self.filename = segment.filename or FILE
        self._text.clear()

    async def _take(self, segment: MultipartSegment, part: bytes) -> None:
        if segment.name != FILE:
            self._text += part
            if len(self._text) > MAX_FIELD_BYTES:
                name = segment.name[:MAX_NAME]
                raise Invalid(f"{name!r} is longer than {MAX_FIELD_BYTES} bytes", param=name, code="invalid_value")
            return
        self.num_bytes += len(part)
        if self.num_bytes > self.max_file_bytes:
            raise too_large(self.max_file_bytes)
        self._piece += part
        if len(self._piece) >= PIECE_BYTES:
            await self._flush()

    def _end(self, segment: MultipartSegment) -> None:
        if segment.name != FILE:
            self.fields[segment.name] = self._text.decode("utf-8")

    async def _flush(self) -> None:
        if self._piece:
            piece, self._piece = bytes(self._piece), bytearray()
            await self.write(piece)


def too_large(max_file_bytes: int) -> HTTPException:
    return HTTPException(status_code=413, detail=f"a file may have {max_file_bytes:,} bytes")
