"""Arrow IPC files: memory-mapped, a CRC-32 in every record batch's own metadata."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evtsim.dtypes import Columns
from evtsim.errors import TraceError
from evtsim.host import Host
from evtsim.outcomes import Outcomes
from evtsim.trace import header
from evtsim.trace.chunk import CHUNK_RECORDS, Chunk, Contents, Loaded
from evtsim.trace.columns import (
    COLUMN_DTYPES,
    FIELDS,
    OUT_PREFIX,
    Place,
    checksum,
    fit_all,
    fit_arrow,
    require,
    to_arrow,
)

if TYPE_CHECKING:
    from evtsim.trace.files import Write

CRC = b"evtsim.crc32"
RECORDS = b"evtsim.records"  # in an empty last batch: how many records there were


def schema(recorded: Sequence[str], metadata: dict[bytes, bytes] | None = None) -> pa.Schema:
    """Return the schema of a file of ours."""
    names = [*FIELDS, *(OUT_PREFIX + name for name in recorded)]
    fields = [pa.field(n, pa.from_numpy_dtype(COLUMN_DTYPES[n]), nullable=False) for n in names]
    return pa.schema(fields, metadata=metadata)


def batch(schema: pa.Schema, columns: Columns, recorded: Outcomes | None) -> pa.RecordBatch:
    """Make a record batch of a chunk without copying it."""
    outcomes = [column for _, column in recorded.fields()] if recorded is not None else []
    arrays = [to_arrow(column) for column in (*columns, *outcomes)]
    return pa.record_batch(arrays, schema=schema)


@contextlib.contextmanager
def writer(
    path: str, host: Host | None, meta: Mapping[str, Any], recorded: Sequence[str], first: int
) -> Iterator[Write]:
    """Write a file chunk by chunk; see files.writer."""
    shape = schema(recorded, header.encode(host, meta, first))
    records = 0
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, shape) as out:

        def write(columns: Columns, outcomes: Outcomes | None) -> None:
            nonlocal records
            crc = str(checksum(columns, outcomes)).encode()
            out.write_batch(batch(shape, columns, outcomes), custom_metadata={CRC: crc})
            records += len(columns.ts)

        yield write
        nothing = pa.RecordBatch.from_pylist([], schema=shape)
        out.write_batch(nothing, custom_metadata={RECORDS: str(records).encode()})


def read(path: str) -> Contents:
    """Open a file: look at its structure now and at its records when they are needed."""
    with _whole(path):
        # The map stays open as long as any chunk refers to it.
        source = pa.memory_map(path, "r")
        reader = pa.ipc.open_file(source)
        names = reader.schema.names
    metadata = reader.schema.metadata
    host, meta, start = header.decode(metadata, path)
    require(names, Place(path))
    with _whole(path):
        rows, marks = _shapes(reader if header.is_ours(metadata) else _narrow(source))
    ours = header.is_ours(metadata) or any(header.is_ours(dict(mark)) for mark in marks)
    if ours:
        _check_structure(reader, rows, marks, path)
    chunks = []
    first = 0
    for index, (records, mark) in enumerate(zip(rows, marks, strict=True)):
        if records:
            batch = _Batch(reader, index, int(mark[CRC]) if ours else None, Place(path, first))
            chunks.append(Chunk(records, batch.load, None if ours else batch.walk))
            first += records
    return Contents(chunks, host, meta, start, first)


def _narrow(source: Any) -> Any:
    """Open a file for its first column: a stranger's may be compressed, and all is unpacked."""
    return pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=[0]))


def _shapes(reader: Any) -> tuple[list[int], list[Any]]:
    """Return every batch's records and metadata, and keep none of the batches."""
    rows, marks = [], []
    for index in range(reader.num_record_batches):
        data, custom = reader.get_batch_with_custom_metadata(index)
        rows.append(data.num_rows)
        marks.append(custom or {})
    return rows, marks


@contextlib.contextmanager
def _whole(path: str) -> Iterator[None]:
    """Turn what pyarrow says of a file that is cut or none of Arrow's into a TraceError."""
    try:
        yield
    except (pa.ArrowException, ValueError, UnicodeDecodeError) as error:
        raise TraceError("not a whole Arrow file", path=path, value=_line(error)) from None


def _check_structure(reader: Any, rows: list[int], marks: list[Any], path: str) -> None:
    """Raise a TraceError if a file of ours lost or changed anything but values."""
    shape, metadata = reader.schema, reader.schema.metadata
    recorded = [n.removeprefix(OUT_PREFIX) for n in shape.names[len(FIELDS) :]]
    known = all(OUT_PREFIX + name in COLUMN_DTYPES for name in recorded)
    if not known or not header.is_ours(metadata) or shape != schema(recorded):
        raise header.damaged(path, "its schema has changed")
    total = marks[-1].get(RECORDS) if marks else None
    if rows[-1:] != [0] or total != str(sum(rows)).encode():
        raise header.damaged(path, "record batches are missing")
    for index, mark in enumerate(marks[:-1]):
        if not mark.get(CRC, b"").isdigit():
            raise header.damaged(path, "a record batch has no checksum")
        with _whole(path):
            data = reader.get_batch(index)
        try:
            data.validate(full=True)
        except pa.ArrowInvalid as error:
            raise header.damaged(path, _line(error)) from None


class _Batch:
    """One record batch: looked up in the map whenever it is needed, its sum checked once."""

    def __init__(self, reader: Any, index: int, crc: int | None, place: Place) -> None:
        self._reader = reader
        self._index = index
        self._crc = crc
        self._place = place

    def load(self) -> Loaded:
        """Check the sum and make the columns, which are views of the file if they can be."""
        data = self._read()
        loaded = _columns(data, self._place)
        if self._crc is not None and checksum(*loaded) != self._crc:
            first, last = self._place.first, self._place.first + data.num_rows - 1
            what = f"records {first} to {last} do not match their checksum"
            raise header.damaged(self._place.path or "", what)
        self._crc = None
        return loaded

    def walk(self) -> Iterator[Loaded]:
        """Make the columns piece by piece: a stranger's batch may be all of a file."""
        data, place = self._read(), self._place
        for begin in range(0, data.num_rows, CHUNK_RECORDS):
            piece = data.slice(begin, CHUNK_RECORDS)
            yield _columns(piece, Place(place.path, place.first + begin))

    def _read(self) -> pa.RecordBatch:
        with _whole(self._place.path or ""):
            data = self._reader.get_batch(self._index)
        if self._crc is None:
            try:
                data.validate(full=True)  # offsets and indices that point nowhere
            except pa.ArrowInvalid as error:
                raise TraceError(
                    "not valid Arrow data", path=self._place.path, value=_line(error)
                ) from None
        return data


def _columns(data: pa.RecordBatch, place: Place) -> Loaded:
    source = {name: data.column(i) for i, name in enumerate(data.schema.names)}
    return fit_all({n: c for n, c in source.items() if n in COLUMN_DTYPES}, place, fit_arrow)


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
