"""Storms: ports that leave the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.analysis._common import per_second, share

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

NORMAL = 1.4826
"""The standard deviation of a normal distribution, in median absolute deviations."""

LEAST_GAP = 8
"""A storm is so many times as busy as the busiest port that is none."""

LEAST_NOTIFICATIONS = 100
"""A port with fewer has no share of coalesced ones worth comparing."""

LEAST_SHARE = 0.25
"""A port of which less coalesces is no storm, however quiet the others are."""

SPREADS = {"rate": 0.5, "coalescing": 0.02}
"""The least median absolute deviations: where all others are alike, any other port would leave
them. Of ln(rate), and of the coalesced share."""


def storms(run: Run, threshold: float = 3.5) -> pd.DataFrame:
    """Find ports whose rate or coalescing leaves the rest.

    A port leaves the rest if its modified z-score is above the threshold: its distance from the
    median of all ports with notifications, in 1.4826 times the median absolute deviation from it
    (Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993, who advise 3.5). By rate:
    that of the logarithm of its notifications, since rates of healthy hosts are spread over
    orders of magnitude (deviation of 0.5 at least: a storm is 13 times as busy as the median
    port). Popularity has a long tail, so besides there must be a gap: all storms are 8 times as
    busy as the busiest port that is none. By coalescing: that of the share of coalesced
    notifications, of ports with 100 notifications or more (deviation of 0.02 and share of 0.25 at
    least).

    When: from the first to the last bin in which the timeline of the port's group of domains has
    half the notifications of its busiest bin, or more.

    Parameters
    ----------
    run : Run
        With stats="port".
    threshold : float
        In standard deviations, if the rest were normal.

    Returns
    -------
    DataFrame
        Most notifications first: dom, port, state_name (what the port is now), reason ("rate",
        "coalescing" or "rate, coalescing"), raised (notifications), rate (notifications per
        second over the whole run), times_median (raised, over that of the median port),
        coalesced_share (0 to 1), begin_ns, end_ns, busiest_ns (ns; when, see above, and where the
        busiest bin begins).
    """
    import pandas as pd

    ports = run.ports
    ports = ports[ports["raised"] > 0]
    coalesced_share = share(ports["coalesced"], ports["raised"])
    often = ports["raised"] >= LEAST_NOTIFICATIONS
    by_rate = _leaves_by_rate(np.log(ports["raised"]), threshold)
    z_share = _z_score(coalesced_share[often], SPREADS["coalescing"]).reindex(ports.index)
    by_share = (z_share > threshold) & (coalesced_share >= LEAST_SHARE)
    reason = np.where(by_rate, np.where(by_share, "rate, coalescing", "rate"), "coalescing")
    frame = ports[["dom", "port", "state_name"]].assign(
        reason=reason.astype(str),
        raised=ports["raised"],
        rate=per_second(ports["raised"], run),
        times_median=ports["raised"] / ports["raised"].median(),
        coalesced_share=coalesced_share,
    )
    frame = frame[by_rate | by_share]
    frame = frame.sort_values("raised", ascending=False, kind="stable", ignore_index=True)
    found: pd.DataFrame = pd.concat([frame, _busy_times(run.timeline, frame["dom"])], axis=1)
    return found


def _leaves_by_rate(rate: Any, threshold: float) -> Any:
    """Tell of each logarithm of a rate whether it is far from the median, and above a gap."""
    ascending = rate.sort_values()
    far = _z_score(ascending, SPREADS["rate"]) > threshold
    return (far & (ascending.diff() >= np.log(LEAST_GAP))).cummax().reindex(rate.index)


def _z_score(values: Any, least: float) -> Any:
    """Return modified z-scores, with a deviation of at least so much."""
    distance = values - values.median()
    return distance / (NORMAL * max(distance.abs().median(), least))


def _busy_times(timeline: pd.DataFrame, dom: pd.Series[Any]) -> pd.DataFrame:
    """Return begin_ns, end_ns and busiest_ns of the group of every domain given."""
    groups = timeline[timeline["group"] >= 0].assign(
        raised=timeline["set"] + timeline["coalesced"],
        end_ns=timeline["start_ns"] + timeline["width_ns"].astype(np.uint64),
    )
    groups = groups.sort_values(["first_dom", "start_ns"])
    most = groups.groupby("first_dom")["raised"].transform("max")
    busy = groups[groups["raised"] * 2 >= most].groupby("first_dom")
    peak = groups[groups["raised"] == most].groupby("first_dom")
    times = busy.agg(begin_ns=("start_ns", "min"), end_ns=("end_ns", "max"))
    times["busiest_ns"] = peak["start_ns"].min()
    place = np.searchsorted(times.index, dom, side="right") - 1
    return times.iloc[place].reset_index(drop=True)
