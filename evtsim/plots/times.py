"""What happens over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import analysis
from evtsim.dtypes import TIMELINE
from evtsim.errors import EvtsimError, shown
from evtsim.plots._canvas import (
    COLOURS,
    add_grid,
    add_heat,
    add_legend,
    axes,
    frame_of,
    has_data,
    plain_numbers,
    time_unit,
    whole_numbers,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from evtsim.plots._canvas import Data

ROWS, COLUMNS = 128, 256
"""The most that are drawn: smaller dots would not be seen."""

FROM_START = "time from the first bin ({})"


def timeline(
    data: Data,
    ax: Axes | None = None,
    counts: Sequence[str] = ("set", "coalesced", "delivered"),
) -> Axes:
    """Draw rates of the whole host over time.

    The last bin goes on after the last record, so the last rate may look low.

    Parameters
    ----------
    data : Run or DataFrame
        Or its ``timeline``.
    ax : Axes, optional
    counts : sequence of str
        Columns of the timeline.

    Returns
    -------
    Axes

    Raises
    ------
    EvtsimError
        The timeline has no such column.
    """
    frame = frame_of(data, lambda run: run.timeline)
    counts = [counts] if isinstance(counts, str) else list(counts)
    for name in counts:
        if name not in (TIMELINE.names or ()):
            raise EvtsimError(
                f"counts has {shown(name)} (expected some of: {', '.join(TIMELINE.names or ())})"
            )
    ax = axes(ax)
    frame = frame[frame["group"] == -1]
    start, unit, ns = _from_start(frame)
    ax.set(xlabel=FROM_START.format(unit), ylabel="notifications and events (per second)")
    if not has_data(ax, frame, "no records"):
        return ax
    first = np.arange(0, len(frame), _step(len(frame), COLUMNS))
    seconds = np.add.reduceat(frame["width_ns"].to_numpy(), first) / 1e9
    times = np.append(start.iloc[first], _duration(frame) / ns)
    for i, name in enumerate(counts):
        rate = np.add.reduceat(frame[name].to_numpy(), first) / seconds
        # Thinner from line to line: set and delivered often lie upon each other.
        width = max(2.4 - 0.8 * i, 0.8)
        ax.step(
            times, np.append(rate, rate[-1]), where="post", label=name, linewidth=width,
            color=COLOURS[i % len(COLOURS)], linestyle="--" if i >= len(COLOURS) else "-",
        )  # fmt: skip
    if ax.dataLim.ymin >= 0:  # ports in use may become fewer
        ax.set_ylim(bottom=0)
    ax.margins(x=0.01)
    plain_numbers(ax.yaxis)
    add_grid(ax)
    add_legend(ax)
    return ax


def pending(data: Data, ax: Axes | None = None) -> Axes:
    """Draw how many pending bits are set, by groups of domains and time.

    A cell is the most that any of its bins of the timeline ended with.

    Parameters
    ----------
    data : Run or DataFrame
        Or :func:`evtsim.analysis.pending` of it.
    ax : Axes, optional

    Returns
    -------
    Axes
    """
    ax = axes(ax)
    frame = frame_of(data, analysis.pending)
    frame = frame[frame["group"] >= 0]
    _, unit, ns = _from_start(frame)
    ax.set(xlabel=FROM_START.format(unit), ylabel="domain (domid)")
    if not has_data(ax, frame, "no records"):
        return ax
    groups = frame["group"].nunique()
    table = _largest(frame["pending"].to_numpy().reshape(groups, -1))
    together = (frame["last_dom"] - frame["first_dom"]).max() + 1  # the last group may have fewer
    top = frame["first_dom"].max() + together - 0.5
    extent = (0.0, _duration(frame) / ns, -0.5, top)
    add_heat(ax, table, extent, "pending bits (ports)")
    whole_numbers(ax.yaxis)
    return ax


def _from_start(frame: Any) -> tuple[Any, str, float]:
    """Return the times from the first bin, their unit, and how many ns that is."""
    start = frame["start_ns"] - (frame["start_ns"].min() if len(frame) else 0)
    unit, ns = time_unit(_duration(frame))
    return start / ns, unit, ns


def _duration(frame: Any) -> float:
    """Return how long the bins last together, in ns."""
    if not len(frame):
        return 0.0
    last = int(frame["start_ns"].max()) - int(frame["start_ns"].min())
    return float(last + int(frame["width_ns"].iloc[0]))


def _largest(table: Any) -> Any:
    """Put neighbouring cells together, the largest of them, until a heat map can show them."""
    for axis, most in enumerate((ROWS, COLUMNS)):
        first = np.arange(0, table.shape[axis], _step(table.shape[axis], most))
        table = np.maximum.reduceat(table, first, axis=axis)
    return table


def _step(count: int, most: int) -> int:
    """Return how many neighbours to put together to have no more than so many."""
    return -(-count // most)
