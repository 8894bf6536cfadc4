"""What domains do: to each other, to their ports, and wrongly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim import analysis
from evtsim.plots._canvas import (
    COLOURS,
    add_grid,
    add_heat,
    add_legend,
    axes,
    frame_of,
    has_data,
    plain_numbers,
    whole_decades,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evtsim.plots._canvas import Data

MOST_ERRORS = 12
"""Kinds of errors that get a line of their own."""


def matrix(data: Data, ax: Axes | None = None) -> Axes:
    """Draw notifications from domains to domains.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.matrix` of it.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, lambda run: analysis.matrix(run, most=128))
    ax.set(xlabel="target (domid)", ylabel="sender (domid)")
    if not has_data(ax, frame.to_numpy().nonzero()[0], "no notifications between domains"):
        return ax
    together = frame.index[1] - frame.index[0] if len(frame) > 1 else 1
    end = float(frame.index[-1] + together) - 0.5
    add_heat(ax, frame.to_numpy(), (-0.5, end, -0.5, end), "notifications")
    whole_numbers(ax.xaxis, ax.yaxis)
    return ax


def port_occupancy(data: Data, ax: Axes | None = None) -> Axes:
    """Draw how many ports domains use, against how many they may, the fullest domain first.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.exhaustion` of it.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, analysis.exhaustion)
    ax.set(xlabel="domains, fullest first (rank)", ylabel="ports in use (ports)")
    if not has_data(ax, frame, "no domains"):
        return ax
    rank = np.arange(1, len(frame) + 1)
    marker = "." if len(frame) < 50 else ""
    ax.plot(rank, frame["usable"], marker=marker, color=COLOURS[1], linestyle="--", label="limit")
    ax.plot(rank, frame["in_use_peak"], marker=marker, color=COLOURS[0], label="at most")
    ax.plot(rank, frame["in_use"], ".", color=COLOURS[4], markersize=5, label="at the end")
    ax.set_yscale("symlog", linthresh=1)
    ax.set_ylim(0, frame["usable"].max() * 2)
    plain_numbers(ax.yaxis)
    if len(frame) > 10:
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
    else:
        ax.set_xticks(rank)
    add_grid(ax)
    add_legend(ax)
    return ax


def errors(data: Data, ax: Axes | None = None) -> Axes:
    """Draw the commonest errors, by operation and errno.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.errors` of it, by anything.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, lambda run: analysis.errors(run, by="operation"))
    ax.set(xlabel="failed (records)", ylabel="operation: errno")
    if not has_data(ax, frame, "no errors"):
        return ax
    keys = ["op_name", "errno_name"]
    counts = frame.groupby(keys, observed=True)["records"].sum().sort_values(ascending=False)
    names = [": ".join(map(str, key)) for key in counts.index[:MOST_ERRORS].tolist()]
    values = counts.to_list()[:MOST_ERRORS]
    if len(counts) > MOST_ERRORS:
        names.append(f"{len(counts) - MOST_ERRORS} other kinds")
        values.append(counts.sum() - sum(values))
    place = -np.arange(len(names))
    ax.plot(values, place, "o", color=COLOURS[0])
    for x, y in zip(values, place, strict=True):
        ax.annotate(f"{x:,}", (x, y), xytext=(7, 0), textcoords="offset points", va="center")
    ax.set_yticks(place, names)
    ax.set_ylim(-len(names) + 0.5, 0.5)
    whole_decades(ax, "x", [*values, 4 * max(values)])  # with room for the last number
    add_grid(ax)
    return ax
