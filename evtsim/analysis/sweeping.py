"""The same trace over and over, with other guests."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import statistics
from evtsim.analysis._common import share
from evtsim.analysis.latencies import latency_percentiles
from evtsim.errors import EvtsimError
from evtsim.guest import Guest
from evtsim.progress import Shown, shown_progress
from evtsim.run import replay
from evtsim.trace import Trace

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run


def sweep(
    trace: Trace | str | os.PathLike[str],
    grid: Mapping[str, Sequence[Any]],
    guest: Guest | None = None,
    progress: Shown = None,
) -> pd.DataFrame:
    """Replay a trace with every combination of a guest's parameters.

    Every run is drained: the guest goes on until nothing is left to do.

    Parameters
    ----------
    trace : Trace or path-like
        Best without upcalls of its own (workloads: ``deliver="model"``), which a guest ignores.
    grid : mapping of str to sequence
        Values for fields of :class:`evtsim.Guest`: ``{"wake_ns": [1_000, 10_000]}``.
    guest : Guest, optional
        What the other fields are.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every setting; True shows a bar.

    Returns
    -------
    DataFrame
        A row for every setting, in the grid's order, the last field changing fastest. A column
        for every field of the grid, with its values (distributions as text), then raised, coalesced
        (notifications), coalesced_share (0 to 1), delivered (events), kicks, upcalls, spurious
        (of them, without a delivery), spurious_share (0 to 1), largest_batch (events), p50_ns,
        p90_ns, p99_ns, p999_ns, max_ns (latency, ns; 0 without deliveries), pending (ports at the
        end).

    Raises
    ------
    EvtsimError
        A field or value is not one of a guest's.
    """
    import pandas as pd

    fields = [field.name for field in dataclasses.fields(Guest)]
    for name in grid:
        if name not in fields:
            raise EvtsimError(f"grid: no field {name!r} (expected some of: {', '.join(fields)})")
    settings = [
        dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
    ]
    guests = [dataclasses.replace(guest or Guest(), **setting) for setting in settings]
    if not isinstance(trace, Trace):
        trace = Trace.load(trace)
    rows = []
    with shown_progress(progress, "sweeping", "settings") as show:
        for done, (setting, each) in enumerate(zip(settings, guests, strict=True), 1):
            run = replay(trace, guest=each, stats="domain", outcomes=False, drain=True)
            rows.append({name: _cell(value) for name, value in setting.items()} | _measured(run))
            if show is not None:
                show(done, len(settings))
    return pd.DataFrame(rows, columns=[*grid, *MEASURED]).astype(MEASURED)


MEASURED: dict[str, Any] = {
    **dict.fromkeys(("raised", "coalesced"), np.int64),
    "coalesced_share": np.float64,
    **dict.fromkeys(("delivered", "kicks", "upcalls", "spurious"), np.int64),
    "spurious_share": np.float64,
    "largest_batch": np.int64,
    **dict.fromkeys(("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"), np.int64),
    "pending": np.int64,
}


def _cell(value: Any) -> Any:
    """Return a parameter's value as a frame may hold it."""
    return value if isinstance(value, (int, float, str, np.number)) else str(value)


def _measured(run: Run) -> dict[str, Any]:
    """Return the numbers of a run that MEASURED names."""
    types = statistics.by_type(run.state)
    numbers: dict[str, Any] = {n: sum(row[n] for row in types) for n in ("raised", "coalesced")}
    numbers |= statistics.vcpu_totals(run.state)
    latency = latency_percentiles(run, by="host").drop(columns="events")
    numbers |= {str(name): column.sum() for name, column in latency.items()}  # one row, or none
    numbers["coalesced_share"] = share(numbers["coalesced"], numbers["raised"])
    numbers["spurious_share"] = share(numbers["spurious"], numbers["upcalls"])
    return numbers
