"""How single ports and vcpus fare."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim import analysis
from evtsim.plots._canvas import (
    COLOURS,
    add_cloud,
    add_grid,
    add_legend,
    axes,
    frame_of,
    has_data,
    time_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evtsim.plots._canvas import Data


MIN_PERCENT = 2
"""What an axis of shares that are nearly nothing goes up to."""


def coalescing(data: Data, ax: Axes | None = None) -> Axes:
    """Draw which share of a port's notifications coalesces, against how many there are.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.coalescing` of it, by port or by domain.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, analysis.coalescing)
    frame = frame[frame["rate"] > 0]
    what = "port" if "port" in frame else "domain"
    ax.set(xlabel="rate (notifications per second)", ylabel="coalesced (%)", ylim=(-3, 103))
    if not has_data(ax, frame, "no notifications"):
        return ax
    percent = 100 * frame["coalesced_share"]
    # As far as the ports reach, so that a few percent are told apart; but not into nothing.
    top = min(max(MIN_PERCENT, 1.1 * percent.max()), 100)
    ax.set_ylim(-0.03 * top, 1.03 * top)
    add_grid(ax)
    add_cloud(ax, frame["rate"], percent, what)
    octaves = frame.groupby(np.floor(np.log2(frame["rate"])))
    share = 100 * octaves["coalesced"].sum() / octaves["raised"].sum()
    rate = octaves["rate"].mean()
    ax.plot(rate, share, "o-", color=COLOURS[1], markersize=4, label="all of that rate")
    add_legend(ax)
    return ax


def fairness(data: Data, ax: Axes | None = None) -> Axes:
    """Draw how evenly the ports of vcpus are served: Jain's index against the longest gap.

    Vcpus of which no port had two deliveries have no gap, and are left out.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.fairness` of it.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, analysis.fairness)
    frame = frame[frame["longest_gap_ns"] > 0]
    unit, ns = time_unit(frame["longest_gap_ns"].median() if len(frame) else 0)
    ax.set(
        xlabel=f"longest gap between two deliveries of a port ({unit})",
        ylabel="Jain's index of mean latencies\n(1: all ports wait alike)",
        ylim=(-0.03, 1.03),
    )
    if not has_data(ax, frame, "no port with two deliveries"):
        return ax
    add_grid(ax)
    add_cloud(ax, frame["longest_gap_ns"] / ns, frame["jain_latency"], "vcpu")
    return ax
