"""What changed between two runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import statistics
from evtsim.analysis._common import choose, share
from evtsim.analysis.latencies import latency_percentiles

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

PORT = ["dom", "port"]
PORT_METRICS = [
    *("sends", "dropped", "to_xen", "raised", "set", "coalesced", "masked", "delivered", "cleared"),
    *("outstanding", "pending_ns", "masked_ns", "latency_sum", "latency_max", "longest_gap"),
]


def compare(run_a: Run, run_b: Run, by: str = "metric") -> pd.DataFrame:
    """Tell what changed from one run to another, the largest change first.

    Parameters
    ----------
    run_a, run_b : Run
        By "metric": of any statistics; what only one of them counted is left out. By "port": with
        stats="port".
    by : {"metric", "port"}
        A row for every number of the run as a whole; or for every port and number of its that
        changed.

    Returns
    -------
    DataFrame
        dom, port (by port only), metric (as in the run's totals, vcpus, ports and
        latency_percentiles), a, b (in the metric's unit), change (b - a), relative (change over
        the larger of the two, -1 to 1; 0 if both are 0). By metric, sorted by `relative`. By port
        there is also of_total (change over the metric's sum over all ports in the run that has
        more of it), and rows are sorted by that: a change is large if it matters for the host.
    """
    if choose(by, ("metric", "port")) == "port":
        return _by_port(run_a, run_b)
    import pandas as pd

    a, b = _metrics(run_a), _metrics(run_b)
    names = [name for name in a if name in b]
    frame = pd.DataFrame(
        {
            "metric": np.array(names, str),
            "a": np.array([a[name] for name in names], float),
            "b": np.array([b[name] for name in names], float),
        }
    )
    _add_change(frame)
    return frame.sort_values("relative", key=abs, ascending=False, kind="stable", ignore_index=True)


def _metrics(run: Run) -> dict[str, Any]:
    """Return the numbers of a run as a whole."""
    metrics = run.totals()
    if run.has("vcpus"):
        metrics |= statistics.vcpu_totals(run.state)
    if run.has("latency"):
        for row in latency_percentiles(run).to_dict("records"):
            kind = row.pop("type")
            metrics |= {f"{kind} {name}": value for name, value in row.items()}
    return metrics


def _by_port(run_a: Run, run_b: Run) -> pd.DataFrame:
    """Compare the counts of every port, in either run or in both."""
    a, b = (run.ports.set_index(PORT)[PORT_METRICS].astype(float) for run in (run_a, run_b))
    a, b = a.align(b, fill_value=0.0)
    totals = np.maximum(a.sum().to_numpy(), b.sum().to_numpy())
    row, column = np.nonzero((a != b).to_numpy())
    frame = a.index[row].to_frame(index=False)
    frame["metric"] = np.array(PORT_METRICS, str)[column]
    frame["a"], frame["b"] = a.to_numpy()[row, column], b.to_numpy()[row, column]
    _add_change(frame)
    frame["of_total"] = share(frame["change"], totals[column])
    return frame.sort_values("of_total", key=abs, ascending=False, kind="stable", ignore_index=True)


def _add_change(frame: pd.DataFrame) -> None:
    frame["change"] = frame["b"] - frame["a"]
    larger = frame[["a", "b"]].abs().max(axis=1)
    frame["relative"] = share(frame["change"], larger).fillna(0.0)
