"""How near domains are to their last port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim.analysis._common import share

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run


def exhaustion(run: Run) -> pd.DataFrame:
    """Tell how many ports domains use, of how many, and when these will be gone.

    The forecast: a domain's use goes on to grow as it did on average over the second half of the
    run. Above 256 domains the timeline has groups of them; then a domain has that part of its
    group's growth which it has of the group's ports.

    Parameters
    ----------
    run : Run
        With stats.

    Returns
    -------
    DataFrame
        A row for every configured domain, nearest to its limit first: dom, in_use (ports now),
        in_use_peak (at most), usable (ports that the ABI's limit leaves: one is reserved),
        peak_share (0 to 1), enospc (records of this caller that failed with ENOSPC),
        first_enospc_ns (ns, of the first; missing if none), growth (ports per second, over the
        second half of the run), forecast_ns (ns; when the last port will be in use; missing
        without growth).
    """
    operations = run.operations
    failed = operations[operations["errno_name"] == "ENOSPC"].groupby("dom")
    host = run.state.tables.host[0]
    frame = run.domains[["dom", "in_use", "in_use_peak"]].copy()
    frame["usable"] = run.domains["limit"].astype(np.int64) - 1
    frame["peak_share"] = share(frame["in_use_peak"], frame["usable"])
    frame["enospc"] = frame["dom"].map(failed["records"].sum()).fillna(0).astype(np.int64)
    first = failed["first_ts"].min().astype("UInt64")  # a float would round it
    frame["first_enospc_ns"] = first.reindex(frame["dom"]).array
    frame["growth"] = _growth(run, frame)
    left = (frame["usable"] - frame["in_use"]) / frame["growth"].where(frame["growth"] > 0)
    frame["forecast_ns"] = float(host["last_ts"]) + left * 1e9
    return frame.sort_values("peak_share", ascending=False, kind="stable", ignore_index=True)


def _growth(run: Run, domains: pd.DataFrame) -> pd.Series[float]:
    """Return the ports per second that domains came to use over the second half of the run."""
    host = run.state.tables.host[0]
    first, last = float(host["first_ts"]), float(host["last_ts"])
    timeline = run.timeline
    late = timeline[(timeline["group"] >= 0) & (timeline["start_ns"] >= (first + last) / 2)]
    group = domains["dom"] // (1 << int(host["group_shift"]))
    opened = group.map(late.groupby("group")["opened"].sum()).fillna(0)
    part = share(domains["in_use"], domains["in_use"].groupby(group).transform("sum"))
    seconds = (last - late["start_ns"].min()) / 1e9 if len(late) else np.nan
    growth: pd.Series[float] = opened * part.fillna(0) / seconds
    return growth
