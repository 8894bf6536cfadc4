"""The same trace over and over, with other guests."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import cluster, statistics
from evtsim.analysis._common import share
from evtsim.analysis.latencies import latency_percentiles
from evtsim.errors import EvtsimError, shown
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.progress import Shown, shown_progress
from evtsim.run import replay
from evtsim.trace import Trace

if TYPE_CHECKING:
    import pandas as pd
    from distributed import Client

    from evtsim.run import Run


def sweep(
    trace: Trace | str | os.PathLike[str],
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    guest: Guest | None = None,
    progress: Shown = None,
    client: Client | str | int | None = None,
    host: Host | None = None,
) -> pd.DataFrame:
    """Replay a trace with every combination of a guest's parameters.

    Every run is drained: the guest goes on until nothing is left to do.

    Parameters
    ----------
    trace : Trace or path-like
        Best without upcalls of its own (workloads: ``deliver="model"``), which a guest ignores.
        With `client` a path, which the workers open.
    grid : mapping of str to sequence, or sequence of mappings
        Values for fields of :class:`evtsim.Guest`, of which every combination is tried:
        ``{"wake_ns": [1_000, 10_000]}``. Or the settings themselves, one by one, with the same
        fields each.
    guest : Guest, optional
        What the other fields are.
    progress : callable or True, optional
        Called as ``progress(done, total)`` after every setting; True shows a bar.
    client : distributed.Client, str or int, optional
        Replays on a Dask cluster, a setting at a time on every worker: a client's, that of a
        scheduler's address, or one made here of so many processes. The frame is the same.
    host : Host, optional
        Overrides the trace's own.

    Returns
    -------
    DataFrame
        A row for every setting, in the grid's order, the last field changing fastest. A column
        for every field of the grid, with its values (distributions as text, and then all of
        them), then raised, coalesced
        (notifications), coalesced_share (0 to 1), delivered (events), kicks, upcalls, spurious
        (of them, without a delivery), spurious_share (0 to 1), largest_batch (events), p50_ns,
        p90_ns, p99_ns, p999_ns, max_ns (latency, ns; 0 without deliveries), pending (ports at the
        end).

    Raises
    ------
    EvtsimError
        A field or value is not one of a guest's, or a worker could not replay the trace.
    """
    import pandas as pd

    names, settings = _settings(grid)
    guests = [dataclasses.replace(guest or Guest(), **setting) for setting in settings]
    rows: list[dict[str, Any]] = [{}] * len(settings)
    with shown_progress(progress, "sweeping", "settings") as show:
        for done, (number, numbers) in enumerate(_replays(trace, host, guests, client), 1):
            if isinstance(numbers, EvtsimError):
                raise numbers
            cells = {name: _cell(value) for name, value in settings[number].items()}
            rows[number] = cells | numbers
            if show is not None:
                show(done, len(settings))
    frame = pd.DataFrame(rows, columns=[*names, *MEASURED]).astype(MEASURED)
    mixed = [name for name in names if len({isinstance(v, str) for v in frame[name]}) > 1]
    return frame.astype(dict.fromkeys(mixed, str))


def _settings(
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return a grid's fields and its settings, one by one."""
    if isinstance(grid, Mapping):
        names = list(grid)
        settings = [
            dict(zip(names, each, strict=True)) for each in itertools.product(*grid.values())
        ]
    else:
        settings = [dict(setting) for setting in grid]
        names = list(settings[0]) if settings else []
    fields = [field.name for field in dataclasses.fields(Guest)]
    for name in names:
        if name not in fields:
            raise EvtsimError(f"grid: no field {name!r} (expected some of: {', '.join(fields)})")
    for setting in settings:
        if list(setting) != names:
            raise EvtsimError(f"grid: fields {list(setting)} (expected {names}, as in the first)")
    return names, settings


def _replays(
    trace: Trace | str | os.PathLike[str],
    host: Host | None,
    guests: Sequence[Guest],
    client: Client | str | int | None,
) -> Iterator[tuple[int, Any]]:
    """Yield what was measured with each guest, by its number: here, or on a cluster as it comes."""
    if client is None:
        loaded = trace if isinstance(trace, Trace) else Trace.load(trace, host)
        return ((number, _replay(loaded, host, each)) for number, each in enumerate(guests))
    if isinstance(trace, Trace):
        raise EvtsimError(f"trace is {shown(trace)} (expected a path, which workers can open)")
    return _on_cluster(str(Path(trace).absolute()), host, guests, client)


def _on_cluster(
    path: str, host: Host | None, guests: Sequence[Guest], client: Client | str | int
) -> Iterator[tuple[int, Any]]:
    work = functools.partial(_replay_file, path, host)
    with cluster.connected(client, most=len(guests)) as connected:
        yield from cluster.each(connected, work, guests, RETRIES)


def _replay(trace: Trace, host: Host | None, guest: Guest) -> dict[str, Any]:
    run = replay(trace, host, guest, stats="domain", outcomes=False, drain=True)
    return measured(run)


def _replay_file(path: str, host: Host | None, guest: Guest) -> dict[str, Any]:
    """Measure one setting on a worker."""
    trace = Trace.load(path, host)
    cluster.warm_kernels(trace.require_host().profile, True, "domain")
    return _replay(trace, host, guest)


RETRIES = 2
"""Of a setting whose worker failed."""

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


def measured(run: Run) -> dict[str, Any]:
    """Return the numbers of a run that MEASURED names; needs stats."""
    types = statistics.by_type(run.state)
    numbers: dict[str, Any] = {n: sum(row[n] for row in types) for n in ("raised", "coalesced")}
    numbers |= statistics.vcpu_totals(run.state)
    latency = latency_percentiles(run, by="host").drop(columns="events")
    numbers |= {str(name): column.sum() for name, column in latency.items()}  # one row, or none
    numbers["coalesced_share"] = share(numbers["coalesced"], numbers["raised"])
    numbers["spurious_share"] = share(numbers["spurious"], numbers["upcalls"])
    return numbers
