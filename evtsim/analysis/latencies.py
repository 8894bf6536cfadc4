"""How long events wait: quantiles of the latency histograms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.analysis._common import choose
from evtsim.dtypes import PORT_LEVEL
from evtsim.statistics import QUANTILES, exact, longest_latencies, require

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

KEYS = {
    "host": [],
    "type": ["type"],
    "group": ["first_dom", "last_dom"],
    "priority": ["priority"],
}
COLUMNS = [f"{name.replace('.', '')}_ns" for name in QUANTILES]


def latency_percentiles(run: Run, by: str = "type") -> pd.DataFrame:
    """Tell how long it took from the bit set to the event delivered.

    Parameters
    ----------
    run : Run
        With stats; by="group" needs stats="port".
    by : {"type", "host", "group", "priority"}
        What makes a row: types of channels, the whole host, groups of domains as in the
        timeline, or priorities (-1: under the 2-level ABI).

    Returns
    -------
    DataFrame
        Rows with deliveries only. First what makes the row: type; nothing; first_dom and
        last_dom; or priority. Then events (delivered) and p50_ns, p90_ns, p99_ns, p999_ns and
        max_ns, in ns: the highest value of the histogram's bin that each lies in, hence up to
        1/32 too much, though never above the longest latency of the ports concerned where
        stats="port" knows that.
    """
    keys = KEYS[choose(by, KEYS)]
    histogram = run.latency
    if by == "group":
        require(run.state, PORT_LEVEL, "latency by groups of domains")
    histogram = histogram[(histogram["type"] == "all") == (by == "group")].assign(host=0)
    by_keys = keys or ["host"]
    frame = _quantiles(histogram, by_keys).reset_index()
    if run.has("ports"):
        _cap(frame, run, by)
    return frame[[*keys, "events", *COLUMNS, "max_ns"]]


def _quantiles(histogram: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return events and quantiles of every group of a histogram's rows, by the keys."""
    bins = histogram.groupby([*keys, "low_ns", "high_ns"], observed=True)["events"].sum()
    counts = bins.reset_index()
    groups = counts.groupby(keys, observed=True)
    seen, total = groups["events"].cumsum(), groups["events"].transform("sum")
    frame = groups["events"].sum().to_frame()
    for name, quantile in zip(COLUMNS, QUANTILES.values(), strict=True):
        reached = counts[seen >= np.ceil(quantile * total)]
        frame[name] = reached.groupby(keys, observed=True)["high_ns"].min()
    frame["max_ns"] = groups["high_ns"].max()
    return frame


def _cap(frame: pd.DataFrame, run: Run, by: str) -> None:
    """Let no quantile lie above the longest latency of the ports concerned."""
    longest = run.ports.groupby("dom")["latency_max"].max()
    cap: Any
    if by == "type":
        known = longest_latencies(run.state)
        edges = zip(frame["type"], frame["max_ns"].tolist(), strict=True)
        cap = np.array([exact(int(edge), known[name]) for name, edge in edges], np.uint64)
    elif by == "group":
        first = np.searchsorted(frame["first_dom"], longest.index, side="right") - 1
        cap = longest.groupby(first).max().reindex(frame.index).to_numpy()
    else:
        cap = longest.max()
    for name in [*COLUMNS, "max_ns"]:
        frame[name] = np.minimum(frame[name], cap)
