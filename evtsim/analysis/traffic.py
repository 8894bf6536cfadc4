"""Who talks to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim.analysis._common import per_second, share
from evtsim.errors import check_at_least_one

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run


def edges(run: Run) -> pd.DataFrame:
    """List the pairs of domains of which one notified the other.

    Parameters
    ----------
    run : Run
        With stats="port".

    Returns
    -------
    DataFrame
        Most notifications first: dom (sender), target, raised (notifications), coalesced (of
        them), coalesced_share (0 to 1), rate (notifications per second over the whole run).
    """
    frame = run.edges
    frame["coalesced_share"] = share(frame["coalesced"], frame["raised"])
    frame["rate"] = per_second(frame["raised"], run)
    return frame.sort_values("raised", ascending=False, kind="stable", ignore_index=True)


def matrix(run: Run, most: int = 256) -> pd.DataFrame:
    """Count notifications from every domain to every other.

    Parameters
    ----------
    run : Run
        With stats="port".
    most : int
        Of more domains, neighbouring domids are put together, as many as it takes.

    Returns
    -------
    DataFrame
        Notifications, int64: a row for every sender (index "dom"), a column for every target;
        labels are the first domids of their groups.

    Raises
    ------
    ArgumentError
        most is not a whole number from 1 on.
    """
    import pandas as pd

    check_at_least_one("most", most)
    pairs = run.edges
    together = -(-len(run.host) // most)
    first = np.arange(0, len(run.host), together)
    counts = np.zeros((len(first), len(first)), np.int64)
    place = (pairs["dom"].to_numpy() // together, pairs["target"].to_numpy() // together)
    np.add.at(counts, place, pairs["raised"].to_numpy())
    labels = pd.Index(first, name="dom")
    return pd.DataFrame(counts, index=labels, columns=labels.rename("target"))
