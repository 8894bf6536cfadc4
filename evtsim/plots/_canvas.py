"""What all plots share: axes, units, colours, legends, and what to do without data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator, NullFormatter

from evtsim.run import Run

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    Data: TypeAlias = Run | pd.DataFrame

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's, without the yellow, which is too light for lines."""

HEAT = "cividis"
"""A map of colours whose lightness grows evenly, for the colour-blind and for print."""

TIME_UNITS = (("s", 1e9), ("ms", 1e6), ("µs", 1e3), ("ns", 1.0))

MOST_POINTS = 2_000
"""More points than this are drawn as a density."""

DENSE = 4
"""Of a density, cells with fewer points than this show the points: a lone one is no cell."""


def frame_of(data: Data, ask: Callable[[Run], pd.DataFrame]) -> pd.DataFrame:
    """Return the frame given, or ask the run for it."""
    return ask(data) if isinstance(data, Run) else data


def axes(ax: Axes | None) -> Axes:
    """Return the axes given, or those of a new figure."""
    if ax is None:
        import matplotlib.pyplot as plt

        ax = plt.subplots(figsize=(7.5, 4), layout="constrained")[1]
    return ax


def time_unit(ns: float) -> tuple[str, float]:
    """Return the unit in which a time is at least 1, and how many ns that is."""
    return next((unit for unit in TIME_UNITS if ns >= unit[1]), TIME_UNITS[-1])


def has_data(ax: Axes, data: Any, what: str) -> bool:
    """Tell whether there is anything to draw; if not, say so in the plot."""
    if len(data):
        return True
    ax.text(0.5, 0.5, what, transform=ax.transAxes, ha="center", va="center", color="0.4")
    ax.tick_params(labelbottom=False, labelleft=False)
    return False


def add_legend(ax: Axes) -> None:
    """Put a legend beside the axes, where it covers nothing."""
    ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)


def add_grid(ax: Axes) -> None:
    """Draw a light grid behind the data."""
    ax.grid(color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)


def whole_decades(ax: Axes, which: str, values: Any) -> None:
    """Let "x" or "y" be logarithmic, from one power of ten to another around all values."""
    low, high = np.floor(np.log10(np.min(values))), np.ceil(np.log10(np.max(values)))
    limits = (10.0**low, 10.0 ** max(high, low + 1))
    ax.set(**{f"{which}scale": "log", f"{which}lim": limits})
    plain_numbers(ax.xaxis if which == "x" else ax.yaxis)


def plain_numbers(axis: Axis) -> None:
    """Write 1,000 and not 10³, at the major ticks only."""
    axis.set_major_formatter("{x:,.10g}")
    axis.set_minor_formatter(NullFormatter())


def whole_numbers(*axes: Axis) -> None:
    """Let axes have ticks at whole numbers only."""
    for axis in axes:
        axis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))


def add_cloud(ax: Axes, x: Any, y: Any, what: str) -> None:
    """Draw points over a logarithmic x, and their density where they are too many to tell apart."""
    whole_decades(ax, "x", x)
    x, y = np.asarray(x), np.asarray(y)
    lone = _add_density(ax, x, y, what) if len(x) > MOST_POINTS else slice(None)
    size = 8 if len(x[lone]) < 200 else 5
    ax.plot(x[lone], y[lone], ".", ms=size, mew=0, color=COLOURS[0], alpha=0.5, label=f"a {what}")


def _add_density(ax: Axes, x: Any, y: Any, what: str) -> Any:
    """Draw the cells with many points, and return the numbers of the points in all others."""
    lone: list[int] = []

    def count(members: Any) -> float:
        if len(members) >= DENSE:
            return len(members)
        lone.extend(members)
        return np.nan  # no cell

    density = ax.hexbin(
        *(x, y, np.arange(len(x))),
        xscale="log",
        gridsize=(48, 18),
        extent=(*np.log10(ax.get_xlim()), *ax.get_ylim()),
        reduce_C_function=count,
        bins="log",
        cmap=HEAT,
    )
    plain_numbers(ax.xaxis)
    if len(lone) == len(x):  # spread so evenly that there is no cell
        density.remove()
    else:
        _add_colour_bar(ax, density, f"{what}s")
    return np.array(lone, np.int64)


def add_heat(ax: Axes, values: Any, extent: tuple[float, float, float, float], what: str) -> None:
    """Draw a table of counts as colours, logarithmically; zeros stay light."""
    ax.set_facecolor("0.93")
    image = ax.imshow(
        np.ma.masked_equal(values, 0),
        norm=LogNorm(vmin=1, vmax=max(2, values.max())),
        cmap=HEAT,
        aspect="auto",
        origin="lower",
        extent=extent,
        interpolation="nearest",
    )
    _add_colour_bar(ax, image, what)


def _add_colour_bar(ax: Axes, drawn: Any, what: str) -> None:
    bar = ax.figure.colorbar(drawn, ax=ax, label=what)
    low, high = drawn.norm.vmin, drawn.norm.vmax
    if high < 100 * max(low, 1):  # too little for powers of ten
        steps = (step * 10**power for power in range(7) for step in (1, 2, 5))
        bar.set_ticks([tick for tick in steps if low <= tick <= high])
        bar.minorticks_off()
    plain_numbers(bar.ax.yaxis)
