"""Recorded against simulated: whether the simulator answers as the recorded system did."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.errors import EvtsimError, shown
from evtsim.outcomes import FIELDS, Outcomes
from evtsim.progress import Shown, shown_progress
from evtsim.simulator import Simulator
from evtsim.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array
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
    trace: Trace, *, start: State | None = None, progress: Shown = None, threads: int = 1
) -> Verification:
    """Replay a trace and compare with what it recorded.

    Parameters
    ----------
    trace : Trace
        With recorded outcomes, from its first record on: what came before decides the answers.
    start : State, optional
        What the records found, if not a host anew: a simulator's, which is not changed.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every chunk of records; True shows a bar.
    threads : int
        The most cores to use; see :class:`Simulator`.

    Raises
    ------
    EvtsimError
        The trace has no recorded outcomes, or is a slice that does not start at record 0.
    """
    if not isinstance(trace, Trace):
        raise EvtsimError(f"trace is {shown(trace)} (expected an evtsim.Trace)")
    if trace.first != 0:
        raise EvtsimError(
            f"a slice from record {trace.first} on cannot be verified (expected one from 0 on)"
        )
    recorded = trace.recorded
    if recorded is None or not list(recorded.fields()):
        raise EvtsimError(f"{trace.path or 'trace'}: has no recorded outcomes to compare with")
    with shown_progress(progress, "verifying", "records") as show:
        if start is None:
            sim = Simulator(trace.require_host(), threads=threads)
        else:
            sim = Simulator._of(start.copy(), threads)
        simulated = sim.apply(trace, progress=show)
    assert simulated is not None
    return compare(trace, recorded, simulated)


def compare(trace: Trace, recorded: Outcomes, simulated: Outcomes) -> Verification:
    """Compare two outcomes of a trace in the fields that the first one has."""
    differs = {name: column != getattr(simulated, name) for name, column in recorded.fields()}
    anywhere: Array = np.zeros(len(trace), bool)
    for mask in differs.values():
        anywhere |= mask
    where = np.flatnonzero(anywhere)
    by_op = {}
    for number in np.unique(trace.op).tolist():
        of_op = trace.op == number
        by_op[abi.op_name(number)] = (int((anywhere & of_op).sum()), int(of_op.sum()))
    first = int(where[0]) if len(where) else None
    return Verification(
        agreed=len(trace) - len(where),
        total=len(trace),
        first=first,
        compared=tuple(differs),
        by_op=by_op,
        by_field={name: int(mask.sum()) for name, mask in differs.items()},
        context=[] if first is None else _context(trace, recorded, simulated, first),
    )


def _context(
    trace: Trace, recorded: Outcomes, simulated: Outcomes, first: int
) -> list[dict[str, Any]]:
    """Describe the records around the first difference."""
    rows = []
    for i in range(max(0, first - NEIGHBOURS), min(len(trace), first + NEIGHBOURS + 1)):
        row: dict[str, Any] = {"record": i, "op": abi.op_name(int(trace.op[i]))}
        row.update((n, int(getattr(trace, n)[i])) for n in ("ts", "dom", "vcpu", "arg0", "arg1"))
        for name in FIELDS:
            was = getattr(recorded, name)
            if was is not None:
                row[f"recorded_{name}"] = int(was[i])
                row[f"simulated_{name}"] = int(getattr(simulated, name)[i])
        rows.append(row)
    return rows
