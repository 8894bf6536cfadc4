"""Trace files by their suffix: which module reads and writes which format."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evtsim._files import check_target, written_whole
from evtsim.dtypes import Columns
from evtsim.errors import FOLDER_FOR_FILE, NO_FILE, TraceError, reason
from evtsim.host import Host
from evtsim.outcomes import Outcomes
from evtsim.trace import arrow, csv, parquet
from evtsim.trace.chunk import Chunk, Contents

Write = Callable[[Columns, Outcomes | None], None]

FORMATS = {".arrow": arrow, ".parquet": parquet, ".csv": csv, ".csv.gz": csv}


def _format(path: str | os.PathLike[str]) -> Any:
    """Return the module for a path's suffix; ``-`` is CSV on the standard streams."""
    name = os.fspath(path)
    if name == "-":
        return csv
    for suffix, module in FORMATS.items():
        if name.endswith(suffix):
            return module
    raise TraceError("unknown suffix", path=path, expected=", ".join(FORMATS) + " or -")


def read(path: str | os.PathLike[str]) -> Contents:
    """Open a trace file, and read of it what is needed to say what it holds."""
    name = os.fspath(path)
    if name == "-" and sys.stdin is None:
        raise TraceError("no standard input", path=path)
    try:
        if name != "-":
            if Path(name).is_dir():
                raise TraceError(FOLDER_FOR_FILE, path=path)
            if not Path(name).exists():
                raise TraceError(NO_FILE, path=path)
        contents: Contents = _format(path).read(name)
    except OSError as error:
        raise _unreadable(error, path) from None
    if isinstance(contents.chunks, Iterator):
        return contents._replace(chunks=_read_on(contents.chunks, path))
    return contents


def _read_on(chunks: Iterator[Chunk], path: str | os.PathLike[str]) -> Iterator[Chunk]:
    """Yield chunks that are read as they are asked for."""
    try:
        yield from chunks
    except OSError as error:
        raise _unreadable(error, path) from None


def _unreadable(error: OSError, path: str | os.PathLike[str]) -> TraceError:
    return TraceError(reason(error), path=path)


@contextlib.contextmanager
def writer(
    path: str | os.PathLike[str],
    host: Host | None,
    meta: Mapping[str, Any],
    recorded: Sequence[str] = (),
    first: int = 0,
    *,
    overwrite: bool = True,
) -> Iterator[Write]:
    """Write a trace file chunk by chunk; it appears when all went well.

    Parameters
    ----------
    path : path-like
        Its suffix chooses the format; ``-`` is CSV on stdout.
    host : Host or None
    meta : mapping
        Provenance.
    recorded : sequence of str
        Names of the outcomes' fields that every chunk brings.
    first : int
        Number that the first record has in the trace this is a slice of.
    overwrite : bool
        Whether a file that is there already may be replaced.

    Yields
    ------
    callable
        Takes the Columns of a chunk and its Outcomes or None.
    """
    if os.fspath(path) != "-":
        check_target(path, overwrite=overwrite)
    module = _format(path)
    if os.fspath(path) == "-":
        with csv.writer("-", host, meta, recorded, first) as write:
            yield write
        return
    with (
        written_whole(path, overwrite=overwrite) as temporary,
        module.writer(str(temporary), host, meta, recorded, first) as write,
    ):
        yield write
