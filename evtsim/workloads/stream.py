"""A trace while it is being made: a host, provenance and chunks of records."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from evtsim._jit import announced
from evtsim.abi import Op
from evtsim.dtypes import Columns
from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.workloads.parameters import Parameter, read_all

if TYPE_CHECKING:
    from evtsim.dtypes import Array
    from evtsim.state import State

Progress = Callable[[int, int | None], None]
"""Is told the records that are done, and how many there will be if that is known."""

NO_LIMIT = 1 << 62

OF_THE_HOST = ("profile", "domains", "vcpus", "dom0_vcpus", "word_bits")
"""Parameters that say what a host given by the user says itself."""


class Model(Protocol):
    """A host, and what happens on it."""

    host: Host

    def pieces(self, size: int) -> Iterator[Columns]:
        """Make the records in pieces of a size, from ts 0 on: until nothing happens any more."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """A documented model with its parameters.

    Attributes
    ----------
    name : str
    what : str
        One line.
    parameters : tuple of Parameter
        In the order in which they are listed.
    build : callable
        Takes the values of all parameters by name, and a host if the user gave one.
    """

    name: str
    what: str
    parameters: tuple[Parameter, ...]
    build: Callable[[dict[str, Any], Host | None], Model]

    def stream(
        self, given: dict[str, Any], host: Host | None = None, start: State | None = None
    ) -> Stream:
        """Check parameters and return the stream of records.

        Raises
        ------
        EvtsimError
            A parameter does not fit, or says what the host, or the state, says already.
        """
        if start is not None:
            return self._continue(given, host, start)
        if host is not None:
            if not isinstance(host, Host):
                raise EvtsimError(f"host is {host!r} (expected an evtsim.Host)")
            for name in OF_THE_HOST:
                if given.get(name) is not None:
                    raise EvtsimError(f"host= and {name}= exclude each other")
        values = read_all(self.name, self.parameters, given)
        if values["duration_ns"] is not None and given.get("records") is None:
            values["records"] = None
        with announced():
            model = self.build(values, host)
        told = {
            name: value
            for name, value in values.items()
            if value is not None and (host is None or name not in OF_THE_HOST)
        }
        return Stream(model, self._meta(told), values)

    def _continue(self, given: dict[str, Any], host: Host | None, start: State) -> Stream:
        """Return the stream of records on the channels of a state."""
        from evtsim.state import State
        from evtsim.workloads.existing import COMMON, USED, Existing

        if host is not None:
            raise EvtsimError("host= and start= exclude each other")
        if not isinstance(start, State):
            raise EvtsimError(f"start is {start!r} (expected a simulator's state)")
        if self.name not in USED:
            raise EvtsimError(f"{self.name} begins with no state (expected {', '.join(USED)})")
        names = (*COMMON, *USED[self.name])
        declared = [parameter for parameter in self.parameters if parameter.name in names]
        last = int(start.tables.host["last_ts"][0])
        values = read_all(f"{self.name} on a state", declared, {"start_ns": last, **given})
        if values["duration_ns"] is not None and given.get("records") is None:
            values["records"] = None
        if values["start_ns"] < last:
            raise EvtsimError(f"start_ns is {values['start_ns']} (expected at least {last})")
        told = {name: value for name, value in values.items() if value is not None}
        meta = {
            **self._meta(told),
            "on": "channels of a state",
            "start": {"digest": start.digest(), "ts": last},
        }
        return Stream(Existing(self.name, start, values), meta, values)

    def _meta(self, told: dict[str, Any]) -> dict[str, Any]:
        """Return the provenance of a trace."""
        return {
            "made_by": "evtsim.workloads.generate",
            "workload": self.name,
            "generator": 1,
            "parameters": told,
        }


class Stream:
    """Records in chunks, made as they are asked for; a new walk makes them anew.

    Attributes
    ----------
    host : Host
    meta : dict
        Provenance, for the trace.
    limit : int or None
        The most records, if that was asked for.
    """

    def __init__(self, model: Model, meta: dict[str, Any], values: dict[str, Any]) -> None:
        self.host = model.host
        self.meta = meta
        self._pieces = model.pieces
        self._records: int = NO_LIMIT if values["records"] is None else values["records"]
        self._start: int = values["start_ns"]
        self._duration: int | None = values["duration_ns"]
        self._with_upcalls = values["deliver"] == "trace"
        self.limit = self._records if self._duration is None else None

    def chunks(
        self, size: int = CHUNK_RECORDS, progress: Progress | None = None
    ) -> Iterator[Columns]:
        """Make the records.

        Parameters
        ----------
        size : int
            The most records in a chunk. The records do not depend on it.
        progress : callable, optional
            Called after every chunk.

        Yields
        ------
        Columns
            Contiguous, read-only.
        """
        done = 0
        for piece in self._pieces(size):
            kept, last = self._cut(piece, self._records - done)
            done += len(kept.ts)
            if len(kept.ts):
                yield kept
            if progress is not None:
                progress(done, self.limit)
            if last or done == self._records:
                return

    def _cut(self, piece: Columns, room: int) -> tuple[Columns, bool]:
        """Return the records of a piece that belong to the trace, and whether they are the last."""
        chosen: Array | slice = slice(None)
        if not self._with_upcalls:
            chosen = np.flatnonzero(piece.op != Op.UPCALL)
        end, last = len(piece.ts[chosen]), False
        if self._duration is not None:
            end = int(np.searchsorted(piece.ts[chosen], np.uint64(self._duration)))
            last = bool(piece.ts[-1] >= self._duration)
        columns = [column[chosen][: min(end, room)] for column in piece]
        columns[0] = columns[0] + np.uint64(self._start)
        for column in columns:
            column.flags.writeable = False
        return Columns(*columns), last
