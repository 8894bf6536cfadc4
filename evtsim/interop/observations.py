"""What event tracers of real hosts saw, as one kind of frame, and what such a frame tells.

No tracer records ports, so observations cannot be replayed: they tell how often and when vcpus
called, were told, woke up and ran. ``xentrace`` and ``ftrace`` make them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.errors import EvtsimError, check_at_least_one
from evtsim.frames import op_names

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array

KINDS = (
    "event_channel_op",
    "hypercall",
    "upcall",
    "interrupt",
    "wake",
    "block",
    "yield",
    "sleep",
    "runstate",
    "switch",
    "irq",
    "domain_added",
    "domain_removed",
    "lost",
    "lost_end",
)
"""What a row can be; docs/your-own-data.md says what its value is."""

COLUMNS = ("ts_ns", "pcpu", "dom", "vcpu", "kind", "value")

RUNNING, RUNNABLE, BLOCKED, OFFLINE = range(4)
"""Runstates (RUNSTATE_* of Xen's public/vcpu.h)."""

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p99.9": 0.999}

IDLE = 32767
"""The domain that runs where no other does (DOMID_IDLE)."""

VCPU = ["dom", "vcpu"]


def frame_of(ts: Array, pcpu: Array, dom: Array, vcpu: Array, kind: Array, value: Array) -> Any:
    """Make a frame of observations; kind holds indices into KINDS."""
    import pandas as pd

    return pd.DataFrame(
        {
            "ts_ns": np.asarray(ts, np.int64),
            "pcpu": np.asarray(pcpu, np.int32),
            "dom": np.asarray(dom, np.int32),
            "vcpu": np.asarray(vcpu, np.int32),
            "kind": pd.Categorical.from_codes(np.asarray(kind, np.int8), pd.Index(KINDS)),
            "value": np.asarray(value, np.int64),
        }
    )


def check(observations: Any) -> None:
    """Raise an EvtsimError unless this is a frame of observations."""
    import pandas as pd

    if not isinstance(observations, pd.DataFrame):
        what = type(observations).__name__
        raise EvtsimError(f"observations are a {what} (expected a DataFrame of xentrace or ftrace)")
    missing = [name for name in COLUMNS if name not in observations]
    if missing:
        raise EvtsimError(
            f"observations have no column {', '.join(missing)} (expected {', '.join(COLUMNS)})"
        )


def span_ns(observations: pd.DataFrame) -> int:
    """Return the time from the first to the last row, in ns."""
    ts = observations["ts_ns"]
    return int(ts.max() - ts.min()) if len(ts) else 0


def per_vcpu(observations: pd.DataFrame) -> pd.DataFrame:
    """Count what each vcpu did.

    Returns
    -------
    DataFrame
        dom, vcpu (-1: not known), calls (of event_channel_op), upcalls, wakes, blocks, runs
        (changes to running), calls_per_s, upcalls_per_s (over the whole span).
    """
    check(observations)
    rows = observations[~observations["kind"].isin(["lost", "lost_end"])]
    kind, value = rows["kind"], rows["value"]
    counted = rows[VCPU].assign(
        calls=kind == "event_channel_op",
        upcalls=kind == "upcall",
        wakes=kind == "wake",
        blocks=(kind == "block") | ((kind == "runstate") & (value == BLOCKED)),
        runs=(kind == "runstate") & (value == RUNNING),
    )
    table = counted.groupby(VCPU, as_index=False).sum()
    seconds = span_ns(observations) / 1e9
    for name in ("calls", "upcalls"):
        table[f"{name}_per_s"] = table[name] / seconds if seconds else 0.0
    return table


def by_operation(observations: pd.DataFrame) -> pd.DataFrame:
    """Count calls of event_channel_op by vcpu and sub-operation.

    Returns
    -------
    DataFrame
        dom, vcpu, op (abi.Op; -1: not recorded), op_name, calls.
    """
    import pandas as pd

    check(observations)
    calls = observations[observations["kind"] == "event_channel_op"]
    table = calls.groupby([*VCPU, "value"], as_index=False).size()
    table.columns = [*VCPU, "op", "calls"]
    names = op_names(table["op"].to_numpy(np.int64))
    names = names.rename_categories({"op_-1": "not recorded"})
    table.insert(3, "op_name", pd.Series(names, table.index))
    return table


def over_time(observations: pd.DataFrame, bins: int = 64) -> pd.DataFrame:
    """Count calls and upcalls of each vcpu over time.

    Parameters
    ----------
    bins : int
        The most bins; each is 2^k ns wide and begins at a multiple of that. An ArgumentError if it
        is not a whole number from 1 on.

    Returns
    -------
    DataFrame
        start_ns, width_ns, dom, vcpu, calls, upcalls; bins in which a vcpu had neither are left
        out.
    """
    check(observations)
    check_at_least_one("bins", bins)
    rows = observations[observations["kind"].isin(["event_channel_op", "upcall"])]
    last = int(observations["ts_ns"].max()) if len(observations) else 0
    width = 1
    while last // width >= bins:
        width *= 2
    counted = rows[VCPU].assign(
        start_ns=rows["ts_ns"] // width * width,
        calls=rows["kind"] == "event_channel_op",
        upcalls=rows["kind"] == "upcall",
    )
    table = counted.groupby(["start_ns", *VCPU], as_index=False).sum()
    table.insert(1, "width_ns", width)
    return table


def wake_latency(observations: pd.DataFrame) -> pd.DataFrame:
    """Return how long each vcpu that was woken took to run.

    From the first wake, or change from blocked to runnable, until the vcpu runs. Wakes of a vcpu
    that runs or is runnable already do not count, nor pairs between which records were lost.

    Returns
    -------
    DataFrame
        ts_ns (of the wake), dom, vcpu, latency_ns; by ts_ns.
    """
    check(observations)
    lost = observations["kind"].isin(["lost", "lost_end"]).cumsum()
    rows = observations.assign(gap=lost)
    rows = rows[rows["kind"].isin(["wake", "runstate", "switch"])]
    rows = rows.sort_values(VCPU, kind="stable")
    kind, value = rows["kind"], rows["value"]
    # The vcpu's runstate before each row, as far as it is known.
    state = value.where(kind == "runstate").groupby([rows["dom"], rows["vcpu"]]).ffill()
    before = state.groupby([rows["dom"], rows["vcpu"]]).shift()
    asleep = ~before.isin([RUNNING, RUNNABLE])
    woken = (kind == "wake") & asleep
    woken |= (kind == "runstate") & (value == RUNNABLE) & (before == BLOCKED)
    runs = (kind == "switch") | ((kind == "runstate") & (value == RUNNING))
    # Wakes and runs alone, of which a run that follows the first wake of a stretch ends it.
    rows = rows[woken | runs].assign(woken=woken[woken | runs])
    stretch = (~rows["woken"]).groupby([rows["dom"], rows["vcpu"]]).cumsum()
    rows = rows.assign(stretch=stretch - (~rows["woken"]).astype(int))
    first = rows[rows["woken"]].drop_duplicates([*VCPU, "stretch"])
    ends = rows[~rows["woken"]]
    pairs = first.merge(ends, on=[*VCPU, "stretch"], suffixes=("", "_run"))
    pairs = pairs[pairs["gap"] == pairs["gap_run"]].sort_values("ts_ns", kind="stable")
    pairs = pairs.assign(latency_ns=pairs["ts_ns_run"] - pairs["ts_ns"])
    return pairs[["ts_ns", *VCPU, "latency_ns"]].reset_index(drop=True)


def percentiles(latencies: pd.DataFrame) -> pd.DataFrame:
    """Sum up :func:`wake_latency`: dom, vcpu, wakes, p50, p90, p99, p99.9 and max, in ns."""
    import pandas as pd

    groups = latencies.groupby(VCPU)["latency_ns"]
    columns = {name: groups.quantile(q, interpolation="higher") for name, q in QUANTILES.items()}
    table = pd.DataFrame({"wakes": groups.size(), **columns, "max": groups.max()})
    return table.reset_index().astype(np.int64)


def gaps(observations: pd.DataFrame) -> pd.DataFrame:
    """Return where records were lost: pcpu, start_ns, end_ns, records."""
    import pandas as pd

    check(observations)
    starts = observations[observations["kind"] == "lost"]
    ends = observations[observations["kind"] == "lost_end"]
    # Both are in order, and a CPU's gaps do not overlap.
    columns = ["pcpu", "ts_ns", "value"]
    starts = starts.sort_values("pcpu", kind="stable")[columns].reset_index(drop=True)
    ends = ends.sort_values("pcpu", kind="stable")[columns].reset_index(drop=True)
    table = pd.DataFrame(
        {
            "pcpu": starts["pcpu"],
            "start_ns": starts["ts_ns"],
            "end_ns": ends["ts_ns"],
            "records": starts["value"],
        }
    )
    return table.sort_values("start_ns", kind="stable", ignore_index=True)
