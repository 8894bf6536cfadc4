"""How near domains are to their last port."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim.abi import Op
from evtsim.analysis._common import share

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

MAKES_A_PORT = (
    *(Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_PIRQ, Op.BIND_IPI),
    Op.ALLOC_XEN,
)


def exhaustion(run: Run) -> pd.DataFrame:
    """Tell how many ports domains use, of how many, and when these will be gone.

    The forecast: a domain's use goes on to grow as it did on average since the first port that it
    opened. What was opened at the beginning and never since makes it too early.

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
        first_enospc_ns (ns, of the first; missing if none), growth (ports per second since the
        first that it opened), forecast_ns (ns; when the last port will be in use; missing without
        growth).
    """
    operations = run.operations
    failed = operations[operations["errno_name"] == "ENOSPC"].groupby("dom")
    opened = operations[operations["op"].isin(MAKES_A_PORT) & (operations["rc"] == 0)]
    begin = opened.groupby("dom")["first_ts"].min()
    host = run.state.tables.host[0]
    frame = run.domains[["dom", "in_use", "in_use_peak"]].copy()
    frame["usable"] = run.domains["limit"].astype(np.int64) - 1
    frame["peak_share"] = share(frame["in_use_peak"], frame["usable"])
    frame["enospc"] = frame["dom"].map(failed["records"].sum()).fillna(0).astype(np.int64)
    frame["first_enospc_ns"] = frame["dom"].map(failed["first_ts"].min()).astype("UInt64")
    since = frame["dom"].map(begin.astype(float)).fillna(float(host["first_ts"]))
    frame["growth"] = share(frame["in_use"], (float(host["last_ts"]) - since) / 1e9)
    left = (frame["usable"] - frame["in_use"]) / frame["growth"].where(frame["growth"] > 0)
    frame["forecast_ns"] = float(host["last_ts"]) + left * 1e9
    return frame.sort_values("peak_share", ascending=False, kind="stable", ignore_index=True)
