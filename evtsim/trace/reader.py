"""TraceReader: a trace file of any length, read in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from evtsim.errors import ArgumentError, EvtsimError
from evtsim.host import Host
from evtsim.trace import columns as door
from evtsim.trace.chunk import CHUNK_RECORDS, Chunk, Contents, Cutter, Loaded
from evtsim.trace.columns import Place
from evtsim.trace.trace import Trace


class TraceReader:
    """A trace that goes by, piece after piece, as traces of their own.

    Whatever the file is, no more of it is in memory than a piece, and what its format makes
    inseparable: a record batch of a compressed Arrow file, 2 MB of a CSV file. Of an Arrow file
    that is not compressed, pieces are views of the memory map.

    Parameters
    ----------
    path : path-like
        As for :meth:`Trace.load`: ``.arrow``, ``.parquet``, ``.csv``, ``.csv.gz``, or ``-``.
    host : Host, optional
        Overrides the file's own.

    Attributes
    ----------
    path : str or None
    host : Host or None
    meta : dict
        Provenance.
    first : int
        Number that the first record has in the trace this one is a slice of; mostly 0.
    records : int or None
        How many there are; None for CSV, of which nobody knows before the end.

    Raises
    ------
    TraceError
        The file cannot be read or is damaged; of its records, when they are reached.

    Examples
    --------
    >>> import evtsim
    >>> reader = evtsim.TraceReader(evtsim.samples.path("mixed.parquet"))
    >>> reader.records
    50000
    >>> sum(len(chunk) for chunk in reader)
    50000
    """

    path: str | None
    host: Host | None
    meta: dict[str, Any]
    first: int
    records: int | None

    def __init__(self, path: str | os.PathLike[str], host: Host | None = None) -> None:
        from evtsim.trace import files

        self._begin(files.read(path), host, os.fspath(path))

    @classmethod
    def of(cls, trace: Trace, host: Host | None = None) -> TraceReader:
        """Read a trace that is there already as a file would be."""
        reader = cls.__new__(cls)
        chunks = (Chunk.of(columns, recorded) for _, columns, recorded in trace.stretches())
        contents = Contents(chunks, trace.host, trace.meta, trace.first, len(trace))
        reader._begin(contents, host, trace.path)
        return reader

    def _begin(self, contents: Contents, host: Host | None, path: str | None) -> None:
        self.path = path
        self.host = host or contents.host
        self.meta = contents.meta
        self.first = contents.first
        self.records = contents.records
        self._number = contents.first
        self._cutter: Cutter | None = Cutter(self._checked(iter(contents.chunks)))

    def __iter__(self) -> Iterator[Trace]:
        """Yield the records, once: 131,072 at a time, values and times checked."""
        return self._walk(self._claim())

    def take(self, records: int) -> Trace:
        """Take the next records, checked likewise: so many, or what is left, or none.

        Raises
        ------
        EvtsimError
            That is no number of records.
        TraceError
            The next record is damaged or cannot be read. If it is a later one, the records in
            front of it are taken first.
        """
        if not isinstance(records, (int, np.integer)) or records < 0:
            raise ArgumentError("records", records, "0 or more")
        cutter = self._claim()
        piece = self._piece(cutter.take(records))
        self._cutter = cutter  # but not after an error: what was read in vain will not come again
        return piece

    @property
    def taken(self) -> int:
        """Records that were taken so far."""
        return self._number - self.first

    def _claim(self) -> Cutter:
        cutter, self._cutter = self._cutter, None
        if cutter is None:
            raise EvtsimError(f"{self.path or 'trace'}: a reader reads once (open another)")
        return cutter

    def _walk(self, cutter: Cutter) -> Iterator[Trace]:
        while stretches := cutter.take(CHUNK_RECORDS):
            yield self._piece(stretches)

    def _piece(self, stretches: list[Loaded]) -> Trace:
        chunks, first = [Chunk.of(*loaded) for loaded in stretches], self._number
        piece = Trace(chunks, self.host, self.meta, path=self.path, first=first)
        self._number += len(piece)
        return piece

    def _checked(self, chunks: Iterator[Chunk]) -> Iterator[Loaded]:
        number, last = self.first, 0
        for chunk in chunks:
            for columns, recorded in chunk.walk():
                last = door.check_order(columns.ts, last, Place(self.path, number))
                yield columns, recorded
                number += len(columns.ts)

    def require_host(self, host: Host | None = None) -> Host:
        """Return the host given, or the trace's own; a HostError if there is neither."""
        return Trace([], self.host, path=self.path).require_host(host)

    def source(self, digest: str) -> dict[str, Any]:
        """Return what a run says of the trace it replayed: name, provenance, digest."""
        name = {"name": Path(self.path).name} if self.path else {}
        return {**name, "meta": self.meta, "digest": digest}

    def __repr__(self) -> str:
        records = "records" if self.records is None else f"{self.records:,} records"
        return f"<TraceReader of {records} from {self.path}, host {self.host!r}>"
