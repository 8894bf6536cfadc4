"""Arrow IPC files: memory-mapped, a CRC-32 in every record batch's own metadata."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from evtsim.dtypes import Columns
from evtsim.errors import TraceError
from evtsim.host import Host
from evtsim.outcomes import Outcomes
from evtsim.trace import header
from evtsim.trace.chunk import Chunk, Loaded
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
    from evtsim.trace.files import Contents, Write

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
    try:
        # The map stays open as long as any chunk refers to it.
        reader = pa.ipc.open_file(pa.memory_map(path, "r"))
        batches = [
            reader.get_batch_with_custom_metadata(i) for i in range(reader.num_record_batches)
        ]
        names = reader.schema.names
    except (pa.ArrowException, ValueError, UnicodeDecodeError) as error:
        raise TraceError("not a whole Arrow file", path=path, value=_line(error)) from None
    metadata = reader.schema.metadata
    host, meta, start = header.decode(metadata, path)
    require(names, Place(path))
    marks = [custom or {} for _, custom in batches]
    ours = header.is_ours(metadata) or any(header.is_ours(dict(mark)) for mark in marks)
    if ours:
        _check_structure(reader.schema, metadata, batches, marks, path)
    chunks = []
    first = 0
    for data, mark in zip((data for data, _ in batches), marks, strict=True):
        if data.num_rows:
            crc = int(mark[CRC]) if ours else None
            load = functools.cache(functools.partial(_load, data, crc, Place(path, first)))
            chunks.append(Chunk(data.num_rows, load))
            first += data.num_rows
    return chunks, host, meta, start


def _check_structure(
    shape: pa.Schema, metadata: Any, batches: list[Any], marks: list[Any], path: str
) -> None:
    """Raise a TraceError if a file of ours lost or changed anything but values."""
    recorded = [n.removeprefix(OUT_PREFIX) for n in shape.names[len(FIELDS) :]]
    known = all(OUT_PREFIX + name in COLUMN_DTYPES for name in recorded)
    if not known or not header.is_ours(metadata) or shape != schema(recorded):
        raise header.damaged(path, "its schema has changed")
    rows = [data.num_rows for data, _ in batches]
    total = marks[-1].get(RECORDS) if marks else None
    if rows[-1:] != [0] or total != str(sum(rows)).encode():
        raise header.damaged(path, "record batches are missing")
    for data, mark in zip((data for data, _ in batches[:-1]), marks[:-1], strict=True):
        if not mark.get(CRC, b"").isdigit():
            raise header.damaged(path, "a record batch has no checksum")
        try:
            data.validate(full=True)
        except pa.ArrowInvalid as error:
            raise header.damaged(path, _line(error)) from None


def _load(data: pa.RecordBatch, crc: int | None, place: Place) -> Loaded:
    """Check a batch's sum and make its columns."""
    if crc is None:
        try:
            data.validate(full=True)  # offsets and indices that point nowhere
        except pa.ArrowInvalid as error:
            raise TraceError("not valid Arrow data", path=place.path, value=_line(error)) from None
    source = {name: data.column(i) for i, name in enumerate(data.schema.names)}
    loaded = fit_all({n: c for n, c in source.items() if n in COLUMN_DTYPES}, place, fit_arrow)
    if crc is not None and checksum(*loaded) != crc:
        last = place.first + data.num_rows - 1
        what = f"records {place.first} to {last} do not match their checksum"
        raise header.damaged(place.path or "", what)
    return loaded


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
