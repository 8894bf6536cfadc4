"""Recorded against simulated: whether the simulator answers as the recorded system did."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.errors import EvtsimError, shown
from evtsim.outcomes import Outcomes
from evtsim.progress import Shown, shown_progress
from evtsim.simulator import Simulator
from evtsim.trace import Trace, TraceReader
from evtsim.trace.chunk import CHUNK_RECORDS

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array, Columns
    from evtsim.state import State

NEIGHBOURS = 3
"""Records shown before and after the first that differs."""


@dataclasses.dataclass(frozen=True)
class Verification:
    """The result of :func:`verify`; true when every record agrees.

    Attributes
    ----------
    agreed, total : int
        Records that agree in every recorded field, and all records.
    first : int or None
        Number of the first record that does not.
    compared : tuple of str
        The recorded fields.
    by_op : dict of str to tuple of int
        Per operation: records that differ, records.
    by_field : dict of str to int
        Per recorded field: records that differ in it.
    context : list of dict
        The first difference with its neighbours: record, its fields, recorded and simulated.
    """

    agreed: int
    total: int
    first: int | None
    compared: tuple[str, ...]
    by_op: dict[str, tuple[int, int]]
    by_field: dict[str, int]
    context: list[dict[str, Any]] = dataclasses.field(default_factory=list, repr=False)

    def __bool__(self) -> bool:
        return self.agreed == self.total

    def __str__(self) -> str:
        fields = ", ".join(self.compared)
        if self:
            return f"all {self.total:,} records agree in {fields}"
        differ = self.total - self.agreed
        return (
            f"{differ:,} of {self.total:,} records differ in {fields}; the first is {self.first:,}"
        )

    def frame(self) -> pd.DataFrame:
        """Return the first difference with its neighbours as a DataFrame."""
        import pandas as pd

        return pd.DataFrame(self.context)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            "agrees": bool(self),
            **dataclasses.asdict(self),
            "by_op": {
                name: {"differ": differ, "records": records}
                for name, (differ, records) in self.by_op.items()
            },
        }

    def _repr_html_(self) -> str:
        table = "" if self else self.frame()._repr_html_()  # type: ignore[operator]
        return f"<b>Verification</b>: {self}{table}"


def verify(
    trace: Trace | TraceReader,
    *,
    start: State | None = None,
    progress: Shown = None,
    threads: int = 1,
) -> Verification:
    """Replay a trace and compare with what it recorded.

    Parameters
    ----------
    trace : Trace or TraceReader
        With recorded outcomes, from its first record on: what came before decides the answers.
        Of a file no more is in memory than is being compared.
    start : State, optional
        What the records found, if not a host anew: a simulator's, which is not changed.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every piece of the trace; True shows a bar. The
        total of a CSV file that a reader reads is None.
    threads : int
        The most cores to use; see :class:`Simulator`.

    Raises
    ------
    EvtsimError
        The trace has no recorded outcomes, or is a slice that does not start at record 0,
        without a state.
    """
    if not isinstance(trace, (Trace, TraceReader)):
        raise EvtsimError(f"trace is {shown(trace)} (expected an evtsim.Trace)")
    reader = TraceReader.of(trace) if isinstance(trace, Trace) else trace
    begin = reader.first + reader.taken
    if reader.taken or (begin and start is None):
        raise EvtsimError(
            f"a slice from record {begin} on cannot be verified (expected one from 0 on, or the "
            "state that it found)"
        )
    piece = reader.take(CHUNK_RECORDS)
    recorded = piece.recorded if len(piece) or isinstance(trace, TraceReader) else trace.recorded
    if recorded is None or not list(recorded.fields()):
        raise EvtsimError(f"{reader.path or 'trace'}: has no recorded outcomes to compare with")
    if start is None:
        sim = Simulator(reader.require_host(), threads=threads)
    else:
        sim = Simulator._of(start.copy(), threads)
    comparison = Comparison([name for name, _ in recorded.fields()], begin)
    with shown_progress(progress, "verifying", "records") as show:
        while len(piece):
            columns, recorded = piece.columns, piece.recorded
            simulated = sim.apply(piece)
            assert recorded is not None
            assert simulated is not None
            comparison.add(columns, recorded, simulated)
            if show is not None:
                show(comparison.total, reader.records)  # type: ignore[arg-type]
            piece = reader.take(sim.stretch)
    return comparison.result()


class Comparison:
    """Recorded and simulated outcomes, compared piece by piece.

    Parameters
    ----------
    fields : sequence of str
        The recorded ones.
    begin : int
        Number of the first record.

    Attributes
    ----------
    total : int
        Records compared so far.
    """

    def __init__(self, fields: Sequence[str], begin: int = 0) -> None:
        self.begin = begin
        self.total = 0
        self._first: int | None = None
        self._by_field = dict.fromkeys(fields, 0)
        self._by_op = np.zeros((2, 1 << 16), np.int64)  # that differ, and all
        self._context: list[dict[str, Any]] = []  # at first: of the records before
        self._missing = NEIGHBOURS + 1  # of the first that differs, and those after it

    def add(self, columns: Columns, recorded: Outcomes, simulated: Outcomes) -> None:
        """Compare the next records."""
        anywhere: Array = np.zeros(len(columns.ts), bool)
        for name in self._by_field:
            mask = getattr(recorded, name) != getattr(simulated, name)
            self._by_field[name] += int(np.count_nonzero(mask))
            anywhere |= mask
        for row, ops in enumerate((columns.op[anywhere], columns.op)):
            self._by_op[row] += np.bincount(ops, minlength=1 << 16)
        if self._missing:
            self._look(anywhere, columns, recorded, simulated)
        self.total += len(anywhere)

    def result(self) -> Verification:
        """Tell what all records so far come to."""
        differ, total = self._by_op
        return Verification(
            agreed=self.total - int(differ.sum()),
            total=self.total,
            first=self._first,
            compared=tuple(self._by_field),
            by_op={
                abi.op_name(op): (int(differ[op]), int(total[op]))
                for op in np.flatnonzero(total).tolist()
            },
            by_field=dict(self._by_field),
            context=[] if self._first is None else self._context,
        )

    def _look(
        self, differs: Array, columns: Columns, recorded: Outcomes, simulated: Outcomes
    ) -> None:
        """Keep the records around the first difference, which pieces may part."""

        def rows(begin: int, end: int) -> list[dict[str, Any]]:
            span = range(begin, min(end, len(differs)))
            return [_row(self.begin + self.total, i, columns, recorded, simulated) for i in span]

        index = 0
        if self._first is None:
            index = int(np.argmax(differs)) if differs.any() else len(differs)
            before = rows(max(0, index - NEIGHBOURS), index)
            self._context = [*self._context, *before][-NEIGHBOURS:]
            if index == len(differs):
                return
            self._first = self.begin + self.total + index
        after = rows(index, index + self._missing)
        self._context += after
        self._missing -= len(after)


def _row(
    start: int, i: int, columns: Columns, recorded: Outcomes, simulated: Outcomes
) -> dict[str, Any]:
    """Describe a record of a piece that begins with record `start`."""
    row: dict[str, Any] = {"record": start + i, "op": abi.op_name(int(columns.op[i]))}
    row.update((n, int(getattr(columns, n)[i])) for n in ("ts", "dom", "vcpu", "arg0", "arg1"))
    for name, was in recorded.fields():
        row[f"recorded_{name}"] = int(was[i])
        row[f"simulated_{name}"] = int(getattr(simulated, name)[i])
    return row
