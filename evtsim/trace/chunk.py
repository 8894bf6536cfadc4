"""A stretch of records that is loaded when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evtsim.dtypes import Columns
from evtsim.outcomes import Outcomes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evtsim.dtypes import Array
    from evtsim.host import Host

Loaded = tuple[Columns, Outcomes | None]

CHUNK_RECORDS = 1 << 17
"""Records in a chunk of a written file: some 3 MB, so that checking one leaves it in the cache."""


class Chunk:
    """Records that lie in one piece: a batch of a file, or arrays of the user's.

    Parameters
    ----------
    records : int
        How many.
    load : callable
        Gives the checked columns and recorded outcomes, and raises TraceError.
    walk : callable, optional
        Gives the same in pieces, for chunks that may be too large to be loaded whole.
    """

    def __init__(
        self,
        records: int,
        load: Callable[[], Loaded],
        walk: Callable[[], Iterator[Loaded]] | None = None,
    ) -> None:
        self.records = records
        self.load = load
        self.walk = walk or (lambda: iter((load(),)))

    @classmethod
    def of(cls, columns: Columns, recorded: Outcomes | None = None) -> Chunk:
        """Make a chunk of columns that are there already."""
        return cls(len(columns.ts), lambda: (columns, recorded))

    def keeping(self, names: Sequence[str]) -> Chunk:
        """Make a chunk with these of the recorded fields."""

        def load() -> Loaded:
            columns, recorded = self.load()
            if recorded is None or not names:
                return columns, None
            return columns, Outcomes(**{name: getattr(recorded, name) for name in names})

        return Chunk(self.records, load)

    def __getitem__(self, part: slice) -> Chunk:
        def load() -> Loaded:
            columns, recorded = self.load()
            return Columns(*(column[part] for column in columns)), recorded and recorded[part]

        return Chunk(len(range(*part.indices(self.records))), load)


class Contents(NamedTuple):
    """What a trace file holds, as far as opening it tells.

    `chunks` may be walked once only, if `records` is None: nobody knows how many there are
    before they have all been read. `first` is the number that the first record has in the trace
    this one is a slice of.
    """

    chunks: Iterable[Chunk]
    host: Host | None
    meta: dict[str, Any]
    first: int
    records: int | None


def join(chunks: list[Chunk]) -> Chunk:
    """Load chunks into one whose columns are contiguous, without a copy if it is one already."""
    loaded = [chunk.load() for chunk in chunks]
    if len(loaded) == 1:
        return Chunk.of(*loaded[0])
    pieces = zip(*(columns for columns, _ in loaded), strict=True)
    columns = Columns(*(_frozen(np.concatenate(parts)) for parts in pieces))
    outcomes = [recorded for _, recorded in loaded if recorded is not None]
    complete = len(outcomes) == len(loaded)
    return Chunk.of(columns, Outcomes.concat(outcomes) if complete else None)


def _frozen(column: Array) -> Array:
    column.flags.writeable = False
    return column
