"""What a parameter of the guest does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from evtsim.errors import EvtsimError, shown
from evtsim.plots._canvas import (
    COLOURS,
    add_grid,
    add_legend,
    axes,
    has_data,
    plain_numbers,
    time_unit,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":", "-.")
MOST_LINES = len(COLOURS) * len(STYLES)

UNITS = {
    "raised": "notifications",
    "coalesced": "notifications",
    "delivered": "events",
    "largest_batch": "events",
    "pending": "ports",
}
"""Of columns that are no times and no shares; the others are counted."""


def sweep(
    frame: pd.DataFrame, y: str = "coalesced_share", x: str | None = None, ax: Axes | None = None
) -> Axes:
    """Draw curves of what a sweep measured.

    Parameters
    ----------
    frame : DataFrame
        Of :func:`evtsim.analysis.sweep`.
    y : str
        What was measured: a column of it.
    x : str, optional
        The parameter along the axis, the grid's first if not given. Every combination of the
        others is a line; those that have one value are not told.
    ax : Axes, optional

    Returns
    -------
    Axes

    Raises
    ------
    EvtsimError
        There is no such column, or there are more than 28 lines.
    """
    grid = [str(name) for name in frame.columns[: list(frame).index("raised")]]
    if x is None:
        x = grid[0] if grid else ""
    for name, value, known in (("x", x, grid), ("y", y, [str(name) for name in frame])):
        if value not in known:
            raise EvtsimError(f"{name} is {shown(value)} (expected one of: {', '.join(known)})")
    others = [name for name in grid if name != x and len(frame[name].unique()) > 1]
    lines = list(frame.groupby(others, sort=False)) if others else [((), frame)]
    if len(lines) > MOST_LINES:
        raise EvtsimError(f"{len(lines)} lines are too many (expected at most {MOST_LINES})")
    ax = axes(ax)
    scaled = {name: _scaled(frame[name], name) for name in (x, y)}
    ax.set(xlabel=scaled[x][1], ylabel=scaled[y][1])
    if not has_data(ax, frame, "no settings"):
        return ax
    for i, (setting, line) in enumerate(lines):
        label = ", ".join(f"{n} = {v}" for n, v in zip(others, setting, strict=True))
        style = STYLES[i // len(COLOURS)] + "o"
        points = (scaled[x][0][line.index], scaled[y][0][line.index])
        ax.plot(*points, style, color=COLOURS[i % len(COLOURS)], markersize=4, label=label)
    if (
        frame[x].dtype.kind in "iuf"
        and frame[x].min() > 0
        and frame[x].max() >= 30 * frame[x].min()
    ):
        ax.set_xscale("log")
        plain_numbers(ax.xaxis)
    elif frame[x].dtype.kind not in "iuf":
        for word in ax.get_xticklabels():  # words are long
            word.set(rotation=20, ha="right", rotation_mode="anchor")
    ax.set_ylim(bottom=0)
    plain_numbers(ax.yaxis)
    add_grid(ax)
    if others:
        add_legend(ax)
    return ax


def _scaled(values: Any, name: str) -> tuple[Any, str]:
    """Return values in a unit that suits them, and what to call them."""
    words = name.replace("_", " ")
    if values.dtype.kind not in "iuf":
        return values.astype(str), f"{words} (distribution)"
    if name.endswith("_ns"):
        unit, ns = time_unit(values.median() if len(values) else 0)
        return values / ns, f"{words.removesuffix(' ns')} ({unit})"
    if name.endswith("_share"):
        return 100 * values, f"{words.removesuffix(' share')} (%)"
    return values, f"{words} ({UNITS.get(name, 'count')})"
