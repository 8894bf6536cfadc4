"""CSV files, which people write and edit: a header row, ``#`` comments, op by name or number.

Lines ``# host: {…}`` and ``# meta: {…}`` in front of the records carry the host and the
provenance as JSON.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import itertools
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from evtsim import __version__, abi
from evtsim.dtypes import Columns
from evtsim.errors import HostError, TraceError, shown
from evtsim.host import Host
from evtsim.outcomes import Outcomes
from evtsim.trace.chunk import Chunk, Contents, Loaded
from evtsim.trace.columns import (
    COLUMN_DTYPES,
    FIELDS,
    OUT_PREFIX,
    Place,
    fit_all,
    fit_arrow,
    require,
    to_arrow,
)

if TYPE_CHECKING:
    from evtsim.trace.files import Write

BLOCK = 1 << 21
"""Bytes that are parsed at a time: as much as stays in a cache, which halves the time."""

NUMBERS = {
    name: pa.from_numpy_dtype(dtype) for name, dtype in COLUMN_DTYPES.items() if name != "op"
}
"""The columns that hold numbers and nothing else."""


def _blocks(stream: BinaryIO, comments: list[str]) -> Iterator[bytes]:
    """Read whole lines block by block; comment lines are put aside."""
    mark = b"\xef\xbb\xbf"  # as some programs begin a file in UTF-8
    while block := stream.read(BLOCK):
        block = (block + stream.readline()).removeprefix(mark)
        mark = b""
        if not block.isascii():
            block.decode()  # text or nothing: pyarrow cannot report rows that are neither
        if b"#" in block:
            lines = block.splitlines(keepends=True)
            aside = [line.lstrip().startswith(b"#") for line in lines]
            comments += [
                line.decode().strip().lstrip("#").strip()
                for line, comment in zip(lines, aside, strict=True)
                if comment
            ]
            block = b"".join(n for n, comment in zip(lines, aside, strict=True) if not comment)
        if block.strip():
            yield block


def read(path: str) -> Contents:
    """Open a file, read its first block, and the others when they are asked for."""
    comments: list[str] = []
    chunks = _read_blocks(path, comments)
    begun = list(itertools.islice(chunks, 1))
    host, meta, first = _parse_comments(comments, path)
    comments.clear()
    return Contents(itertools.chain(begun, chunks), host, meta, first, None)


def _read_blocks(path: str, comments: list[str]) -> Iterator[Chunk]:
    """Parse a file block by block; it has no checksums, and its values are all looked at."""
    with contextlib.ExitStack() as stack:
        if path == "-":
            stream = sys.stdin.buffer
        elif path.endswith(".gz"):
            stream = cast(BinaryIO, stack.enter_context(gzip.open(path, "rb")))
        else:
            stream = stack.enter_context(open(path, "rb"))  # noqa: PTH123
        try:
            for number, chunk in enumerate(_chunks(_blocks(stream, comments), path)):
                if number and any(text.startswith("host:") for text in comments):
                    raise TraceError("a '# host:' line", path=path, expected="it before records")
                yield chunk
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise TraceError("not a whole gzip file", path=path, value=str(error)) from None
        except UnicodeDecodeError:
            raise TraceError("not a CSV file", path=path, expected="text in UTF-8") from None


def _chunks(blocks: Iterator[bytes], path: str) -> Iterator[Chunk]:
    """Parse a header line, then block by block."""
    names: list[str] | None = None
    first = 0
    for block in blocks:
        text = block.lstrip()
        if names is None:
            header, _, text = text.partition(b"\n")
            names = [name.strip().strip('"') for name in header.decode().split(",")]
            require(names, Place(path))
        if text.strip():
            chunk = _parse(text, names, Place(path, first))
            yield chunk
            first += chunk.records
    if names is None:
        raise TraceError("no header row", path=path, expected=",".join(FIELDS))


def _parse(text: bytes, names: list[str], place: Place) -> Chunk:
    """Parse whole lines; where numbers make trouble, as words, so that errors can name it."""
    with contextlib.suppress(pa.ArrowInvalid):
        table = _table(text, names, {name: NUMBERS.get(name, pa.string()) for name in names})
        if not any(table.column(name).null_count for name in names if name in NUMBERS):
            return Chunk.of(*_fit(table, place))
    return Chunk.of(*_fit(_words(text, names, place), place))


def _table(
    text: bytes, names: list[str], kinds: Mapping[str, pa.DataType], on_wrong: Any = None
) -> pa.Table:
    return pacsv.read_csv(
        pa.BufferReader(text),
        pacsv.ReadOptions(column_names=names, use_threads=False, block_size=2 * BLOCK),
        pacsv.ParseOptions(invalid_row_handler=on_wrong),
        pacsv.ConvertOptions(column_types=kinds),
    )


def _fit(table: pa.Table, place: Place) -> Loaded:
    names = [name for name in table.column_names if name in COLUMN_DTYPES]
    return fit_all({n: table.column(n).combine_chunks() for n in names}, place, fit_arrow)


def _words(text: bytes, names: list[str], place: Place) -> pa.Table:
    """Parse everything as words, and name a row that has too many of them or too few."""
    wrong: list[pacsv.InvalidRow] = []

    def on_wrong(row: pacsv.InvalidRow) -> str:
        wrong.append(row)
        return "error"

    try:
        return _table(text, names, dict.fromkeys(names, pa.string()), on_wrong)
    except pa.ArrowInvalid as error:
        if not wrong:
            raise TraceError("not a CSV file", path=place.path, value=_line(error)) from None
        row = wrong[0]
        raise TraceError(
            f"{row.actual_columns} fields in {shown(row.text)}",
            path=place.path,
            record=None if row.number is None else place.first + row.number - 1,
            expected=f"{row.expected_columns}",
        ) from None


def _parse_comments(comments: list[str], path: str) -> tuple[Host | None, dict[str, Any], int]:
    """Find host, provenance and number of the first record among the comments."""
    host: Host | None = None
    meta: dict[str, Any] = {}
    first = 0
    for comment in comments:
        name, _, text = comment.partition(":")
        if name == "host":
            try:
                host = Host.from_json_text(text)
            except HostError as error:
                raise TraceError(f"its '# host:' line: {error}", path=path) from None
        elif name == "meta":
            with contextlib.suppress(ValueError, RecursionError):  # a comment of somebody else's
                data = json.loads(text)
                meta = data if isinstance(data, dict) else meta
        elif name == "first" and text.strip().isdecimal():
            if len(text.strip()) > 20:  # Python itself refuses those of thousands of digits
                raise TraceError("its '# first:' line is no record's number", path=path)
            first = int(text)
    return host, meta, first


@contextlib.contextmanager
def writer(
    path: str, host: Host | None, meta: Mapping[str, Any], recorded: Sequence[str], first: int
) -> Iterator[Write]:
    """Write a file chunk by chunk; see files.writer."""
    names = [*FIELDS, *(OUT_PREFIX + name for name in recorded)]
    with contextlib.ExitStack() as stack:
        if path == "-":
            stream = sys.stdout.buffer
        elif path.endswith(".gz"):
            # no clock time in the file, and not the temporary name
            raw = stack.enter_context(open(path, "wb"))  # noqa: PTH123
            stream = cast(BinaryIO, stack.enter_context(gzip.GzipFile("", "wb", 6, raw, mtime=0)))
        else:
            stream = stack.enter_context(open(path, "wb"))  # noqa: PTH123
        head = [f"# evtsim {__version__}"]
        head += [f"# host: {host.to_json_text()}"] if host else []
        head += [f"# meta: {json.dumps(dict(meta), sort_keys=True)}"] if meta else []
        head += [f"# first: {first}"] if first else []
        stream.write("\n".join([*head, ",".join(names), ""]).encode())
        options = pacsv.WriteOptions(include_header=False, quoting_style="none")

        def write(columns: Columns, outcomes: Outcomes | None) -> None:
            values = [to_arrow(column) for column in columns]
            values[FIELDS.index("op")] = _op_words(columns.op)
            values += [to_arrow(c) for _, c in outcomes.fields()] if outcomes is not None else []
            buffer = io.BytesIO()
            pacsv.write_csv(pa.record_batch(values, names=names), buffer, options)
            stream.write(buffer.getbuffer())

        yield write


def _op_words(op: Any) -> pa.Array:
    """Return the operations by name."""
    numbers, codes = np.unique(op, return_inverse=True)
    return pa.array([abi.op_name(int(n)) for n in numbers], pa.string()).take(to_arrow(codes))


def _line(error: Exception) -> str:
    return str(error).partition("\n")[0]
