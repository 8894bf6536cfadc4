"""How long events wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import analysis
from evtsim.plots._canvas import (
    COLOURS,
    add_grid,
    add_legend,
    axes,
    frame_of,
    has_data,
    time_unit,
    whole_decades,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evtsim.plots._canvas import Data

QUANTILES = {
    "p50_ns": "p50",
    "p90_ns": "p90",
    "p99_ns": "p99",
    "p999_ns": "p99.9",
    "max_ns": "max",
}
DASHES = ("-", (0, (8, 2)), (0, (5, 2)), (0, (3, 2)), (0, (1, 2)))
"""Of the quantiles' lines, from the back to the front."""

LATENCY = "latency, set to delivered ({})"


def latency_cdf(data: Data, ax: Axes | None = None) -> Axes:
    """Draw which share of events waited no longer than what, by type of channel.

    Parameters
    ----------
    data : Run or DataFrame
        Or its ``latency``.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, lambda run: run.latency)
    frame = frame[frame["type"] != "all"]
    bins = frame.groupby(["type", "low_ns", "high_ns"], as_index=False)["events"].sum()
    unit, ns = time_unit(_median(bins))
    ax.set(xlabel=LATENCY.format(unit), ylabel="events that waited no longer (%)", ylim=(0, 103))
    if not has_data(ax, bins, "no deliveries"):
        return ax
    for (name, one), colour in zip(bins.groupby("type"), COLOURS, strict=False):
        share = 100 * one["events"].cumsum() / one["events"].sum()
        # Through every bin from its lowest to its highest; flat where no bin has events.
        x = np.maximum(one[["low_ns", "high_ns"]].to_numpy(), 1) / ns
        y = np.column_stack([share - 100 * one["events"] / one["events"].sum(), share])
        label = f"{name}\n({one['events'].sum():,} events)"
        ax.plot(x.ravel(), y.ravel(), color=colour, label=label)
    whole_decades(ax, "x", np.maximum(bins[["low_ns", "high_ns"]], 1) / ns)
    add_grid(ax)
    add_legend(ax)
    return ax


def latency_percentiles(data: Data, ax: Axes | None = None, by: str = "type") -> Axes:
    """Draw latency percentiles: bars by type of channel, or lines over groups of domains.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.latency_percentiles` of it, by anything.
    ax : Axes, optional
    by : {"type", "host", "group", "priority"}
        For a run.

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, lambda run: analysis.latency_percentiles(run, by))
    unit, ns = time_unit(frame["p50_ns"].median() if len(frame) else 0)
    over_domains = "first_dom" in frame
    ax.set(
        xlabel="domain (domid)" if over_domains else "percentile of events (%)",
        ylabel=LATENCY.format(unit),
    )
    if not has_data(ax, frame, "no deliveries"):
        return ax
    add_grid(ax)
    values = np.maximum(frame[list(QUANTILES)], 1) / ns  # 0 has no logarithm
    whole_decades(ax, "y", values)
    (_draw_over_domains if over_domains else _draw_bars)(ax, frame, values)
    add_legend(ax)
    return ax


def _draw_bars(ax: Axes, frame: Any, values: Any) -> None:
    key = next((name for name in ("type", "priority") if name in frame), None)
    names = frame[key] if key else ["all"] * len(frame)
    place, width = np.arange(len(QUANTILES)), 0.8 / len(frame)
    for i, (name, colour) in enumerate(zip(names, COLOURS * 3, strict=False)):
        shift = (i - (len(frame) - 1) / 2) * width
        ax.bar(place + shift, values.iloc[i], width * 0.92, color=colour, label=f"{name}")
    ax.set_xticks(place, list(QUANTILES.values()))
    ax.grid(visible=False, axis="x")


def _draw_over_domains(ax: Axes, frame: Any, values: Any) -> None:
    """Draw lines that may coincide: each has gaps in which the one behind it shows."""
    marker = "o" if len(frame) < 50 else ""
    for i, (column, name) in enumerate(QUANTILES.items()):
        ax.plot(
            frame["first_dom"],
            values[column],
            linestyle=DASHES[i],
            linewidth=1.6,
            marker=marker,
            markersize=7 - 1.2 * i,
            markeredgewidth=0,
            color=COLOURS[i],
            label=name,
        )
    whole_numbers(ax.xaxis)


def _median(bins: Any) -> float:
    """Return the highest ns of the bin that the median lies in."""
    ascending = bins.sort_values("high_ns")
    reached = ascending["events"].cumsum() * 2 >= ascending["events"].sum()
    return float(ascending.loc[reached, "high_ns"].min()) if len(bins) else 0.0
