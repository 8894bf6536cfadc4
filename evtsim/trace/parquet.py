"""Parquet files: page checksums, and a CRC-32 per row group in the footer."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from evtsim.dtypes import Columns
from evtsim.errors import TraceError
from evtsim.host import Host
from evtsim.outcomes import Outcomes
from evtsim.trace import header
from evtsim.trace.arrow import batch, schema
from evtsim.trace.chunk import CHUNK_RECORDS, Chunk, Contents, Loaded
from evtsim.trace.columns import COLUMN_DTYPES, Place, checksum, fit_all, fit_arrow, require

if TYPE_CHECKING:
    from evtsim.trace.files import Write

FIELD_ID = b"PARQUET:field_id"
FIRST_ID = 5701
"""Ids of the columns in files of ours: one flipped bit may hide the footer's entries, all of them
at once, but not these as well."""

CHUNKS = "evtsim.chunks"  # footer: JSON, [records, CRC-32] of every row group


@contextlib.contextmanager
def writer(
    path: str, host: Host | None, meta: Mapping[str, Any], recorded: Sequence[str], first: int
) -> Iterator[Write]:
    """Write a file chunk by chunk, one row group each; see files.writer."""
    plain = schema(recorded)
    shape = pa.schema(
        field.with_metadata({FIELD_ID: str(FIRST_ID + i).encode()}) for i, field in enumerate(plain)
    )
    groups: list[tuple[int, int]] = []
    # Times as differences: a third of the space of all, and half of the time. What else a column
    # holds are few numbers, or many that a dictionary gives up on by itself.
    with pq.ParquetWriter(
        path,
        shape,
        compression="zstd",
        write_page_checksum=True,
        use_dictionary=[name for name in shape.names if name != "ts"],
        column_encoding={"ts": "DELTA_BINARY_PACKED"},
    ) as out:

        def write(columns: Columns, outcomes: Outcomes | None) -> None:
            if len(columns.ts):
                groups.append((len(columns.ts), checksum(columns, outcomes)))
                out.write_batch(batch(shape, columns, outcomes), row_group_size=len(columns.ts))

        yield write
        entries: dict[Any, Any] = {**header.encode(host, meta, first), CHUNKS: json.dumps(groups)}
        out.add_key_value_metadata(entries)


def read(path: str) -> Contents:
    """Open a file: look at its footer now and at a row group when it is needed."""
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        metadata = dict(file.metadata.metadata or {})
        fields = list(file.schema_arrow)
        names = [field.name for field in fields]
        rows = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from None
    host, meta, start = header.decode(metadata, path)
    require(names, Place(path))
    sums: list[int | None] = [None] * len(rows)
    ids = [(field.metadata or {}).get(FIELD_ID) for field in fields]
    marked = [str(FIRST_ID + i).encode() == number for i, number in enumerate(ids)]
    if header.is_ours(metadata) or any(marked):
        try:
            groups = json.loads(metadata[CHUNKS.encode()])
            sums = [crc for _, crc in groups]
            intact = [records for records, _ in groups] == rows
        except (KeyError, ValueError, TypeError):
            intact = False
        if not intact:
            raise header.damaged(path, "its footer does not match its row groups")
    chunks = []
    first = 0
    for group, (records, crc) in enumerate(zip(rows, sums, strict=True)):
        load = functools.partial(_load, file, group, records, crc, Place(path, first))
        walk = functools.partial(_walk, file, group, Place(path, first))
        chunks.append(Chunk(records, load, walk if crc is None else None))
        first += records
    return Contents(chunks, host, meta, start, first)


def _load(file: pq.ParquetFile, group: int, records: int, crc: int | None, place: Place) -> Loaded:
    """Read a row group, check its sum and make its columns."""
    try:
        names = _known(file)
        table = file.read_row_group(group, columns=names, use_threads=False).combine_chunks()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise _unreadable(place.path, error) from None
    source = {
        name: table.column(name).chunk(0)
        if records
        else pa.array([], table.schema.field(name).type)
        for name in names
        if table.num_rows == records
    }
    loaded = fit_all(source, place, fit_arrow)
    if crc is not None and checksum(*loaded) != crc:
        what = f"records {place.first} to {place.first + records - 1} do not match their checksum"
        raise header.damaged(place.path or "", what)
    return loaded


def _walk(file: pq.ParquetFile, group: int, place: Place) -> Iterator[Loaded]:
    """Read a row group piece by piece: a stranger's may be all of a file."""
    options = {"row_groups": [group], "columns": _known(file), "use_threads": False}
    pieces = file.iter_batches(CHUNK_RECORDS, **options)
    while True:
        try:
            data = next(pieces, None)
            if data is None:
                return
            data.validate(full=True)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(place.path, error) from None
        source = {name: data.column(i) for i, name in enumerate(data.schema.names)}
        yield fit_all(source, place, fit_arrow)
        place = Place(place.path, place.first + data.num_rows)


def _known(file: pq.ParquetFile) -> list[str]:
    """Return the names of the columns that mean something."""
    return [name for name in file.schema_arrow.names if name in COLUMN_DTYPES]


def _unreadable(path: str | None, error: Exception) -> TraceError:
    return TraceError("not a whole Parquet file", path=path, value=str(error).partition("\n")[0])
