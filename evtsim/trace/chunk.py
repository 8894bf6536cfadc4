"""Stretches of records: loaded when they are needed, cut, put together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evtsim.dtypes import Columns
from evtsim.errors import TraceError
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
        return Chunk(len(range(*part.indices(self.records))), lambda: cut(self.load(), part))


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


def cut(loaded: Loaded, part: slice) -> Loaded:
    """Return a part of a stretch, as views."""
    columns, recorded = loaded
    return Columns(*(column[part] for column in columns)), recorded and recorded[part]


def join(stretches: list[Loaded]) -> Loaded:
    """Put stretches end to end, with contiguous columns; without a copy if it is one only."""
    if len(stretches) == 1:
        return stretches[0]
    pieces = zip(*(columns for columns, _ in stretches), strict=True)
    columns = Columns(*(_frozen(np.concatenate(parts)) for parts in pieces))
    outcomes = [recorded for _, recorded in stretches if recorded is not None]
    return columns, Outcomes.concat(outcomes) if len(outcomes) == len(stretches) else None


class Cutter:
    """Stretches as they come, given out in the lengths that somebody asks for.

    Parameters
    ----------
    source : iterator
        Of stretches, which may end in a TraceError.
    """

    def __init__(self, source: Iterator[Loaded]) -> None:
        self._source = source
        self._rest: Loaded | None = None
        self._error: TraceError | None = None

    def take(self, records: int) -> list[Loaded]:
        """Return the next records: so many, or what is left, in one stretch or several.

        What stands in front of damage is given out before the error is raised, so that how far
        one gets does not depend on the lengths asked for.
        """
        taken: list[Loaded] = []
        while records:
            stretch = self._next(raising=not taken)
            if stretch is None:
                break
            there = len(stretch[0].ts)
            if there > records:
                self._rest = cut(stretch, slice(records, None))
                stretch, there = cut(stretch, slice(records)), records
            taken.append(stretch)
            records -= there
        return taken

    def _next(self, *, raising: bool) -> Loaded | None:
        rest, self._rest = self._rest, None
        if rest is not None:
            return rest
        try:
            if self._error is None:
                return next((one for one in self._source if len(one[0].ts)), None)
        except TraceError as error:
            self._error = error
        if raising:
            raise self._error
        return None


def _frozen(column: Array) -> Array:
    column.flags.writeable = False
    return column
