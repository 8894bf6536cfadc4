"""What became of notifications: coalesced, or a bit that waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim import statistics
from evtsim.analysis._common import choose, per_second, share
from evtsim.errors import EvtsimError

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

PORT = ["dom", "port", "state_name"]
GROUPINGS = {"port": PORT, "domain": ["dom"], "rate": ["rate_low"], "priority": ["priority"]}


def coalescing(run: Run, by: str = "port") -> pd.DataFrame:
    """Tell how many notifications found their port's bit set already.

    Parameters
    ----------
    run : Run
        With stats="port"; by="type" needs "domain" only.
    by : {"port", "domain", "type", "rate", "priority"}
        What makes a row. "rate": ports whose rate lies in the same power of two.

    Returns
    -------
    DataFrame
        Rows with notifications only, most first (by rate: slowest first). First what makes the
        row: dom, port and state_name (what the port is now); dom; type; rate_low (notifications
        per second; up to its double); or priority. Then ports (with notifications; not by port
        or type), raised (notifications), coalesced (of them), coalesced_share (0 to 1) and rate
        (notifications per second over the whole run).
    """
    import pandas as pd

    if choose(by, [*GROUPINGS, "type"]) == "type":
        statistics.require(run.state, 1, "coalescing")
        rows = statistics.by_type(run.state)
        counts = {n: np.array([row[n] for row in rows], np.int64) for n in ("raised", "coalesced")}
        types = np.array([row["type"] for row in rows], str)
        frame = pd.DataFrame({"type": types, **counts})
    else:
        ports = run.ports
        ports = ports[ports["raised"] > 0].assign(ports=1)
        ports["rate_low"] = 2.0 ** np.floor(np.log2(per_second(ports["raised"], run)))
        if by == "priority" and "priority" not in ports:
            raise EvtsimError(f"by='priority': profile {run.host.profile} has no priorities")
        counted = [*(["ports"] if by != "port" else []), "raised", "coalesced"]
        frame = ports.groupby(GROUPINGS[by], as_index=False, observed=True)[counted].sum()
    frame["coalesced_share"] = share(frame["coalesced"], frame["raised"])
    frame["rate"] = per_second(frame["raised"], run)
    if by == "rate":
        return frame
    return frame.sort_values("raised", ascending=False, kind="stable", ignore_index=True)


def pending(run: Run) -> pd.DataFrame:
    """Tell how many pending bits were set, over time.

    Parameters
    ----------
    run : Run
        With stats.

    Returns
    -------
    DataFrame
        A row for every bin of the timeline, of the host (group -1) and of every group of domains:
        start_ns, width_ns (ns), group, first_dom, last_dom, pending (bits set at the bin's end).
    """
    timeline = run.timeline
    change = timeline["set"] - timeline["delivered"] - timeline["cleared"]
    frame = timeline[["start_ns", "width_ns", "group", "first_dom", "last_dom"]].copy()
    frame["pending"] = change.groupby(timeline["group"]).cumsum()
    return frame
