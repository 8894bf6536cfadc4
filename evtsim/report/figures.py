"""The plots, as SVG that takes its colours from the page and needs no font of its own."""

from __future__ import annotations

import dataclasses
import io
import re
from typing import TYPE_CHECKING, Any

from evtsim import analysis, plots
from evtsim.plots._canvas import COLOURS

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from evtsim.report.answers import Answers

INCHES = (6.4, 3.7)
INK, GRID, MUTED, CELL = "#14161a", "#e6e6e6", "#666666", "#ededed"
"""What text and lines, grids, notes and empty cells are drawn with; the page knows better."""

THEMED = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",
    COLOURS[0].lower(): "var(--first)",
    GRID: "var(--grid)",
    MUTED: "var(--muted)",
    CELL: "var(--cell)",
}
STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.size": 10.5,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor"), INK),
    **dict.fromkeys(("xtick.color", "ytick.color"), INK),
}


@dataclasses.dataclass(frozen=True)
class Figure:
    """A plot of the page.

    Attributes
    ----------
    name : str
    title : str
    alt : str
        What is drawn, for who cannot see it.
    caption : str
        How to read it.
    svg : str
    """

    name: str
    title: str
    alt: str
    caption: str
    svg: str


def figures(answers: Answers) -> list[Figure]:
    """Draw all plots that have something to show."""
    made = []
    for name, (needs, draw, title, alt, caption) in PLOTS.items():
        if needs(answers):
            svg = _svg(name, lambda ax, draw=draw: draw(answers, ax))  # type: ignore[misc]
            made.append(Figure(name, title, alt, caption, svg))
    return made


def _svg(name: str, draw: Callable[[Axes], Axes]) -> str:
    """Draw into a figure of no window system's, and make it fit into a page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    # Ids in it are hashes of what they name: those of different plots must differ.
    style: Any = {**STYLE, "svg.hashsalt": name}
    with mpl.rc_context():
        mpl.rcdefaults()  # a page does not depend on how others like their plots
        mpl.rcParams.update(style)
        canvas = Canvas(figsize=INCHES, layout="constrained")
        draw(canvas.subplots())
        file = io.StringIO()
        canvas.savefig(file, format="svg", metadata={"Date": None})
    return _inlined(file.getvalue())


def _inlined(svg: str) -> str:
    """Leave out what a page has no use for, and let it choose the colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    svg = svg.replace("<svg", '<svg aria-hidden="true"', 1)
    svg = re.sub(r'<g id="PolyCollection_\d+"', '<g class="heat"', svg)
    svg = re.sub(r' id="([^"]*)"', lambda m: m[0] if f"#{m[1]}" in svg else "", svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 var(--sans)", svg)
    svg = re.sub(r' (?:d|x|y|points)="[^"]*"', _rounded, svg)
    for drawn, themed in THEMED.items():
        svg = svg.replace(drawn, themed)
    return re.sub(r">\s+<", ">\n<", svg)


def _rounded(attribute: re.Match[str]) -> str:
    """Cut coordinates to a hundredth of a point."""
    return re.sub(r"(\.\d\d)\d+", r"\1", attribute[0])


def _over_domains(answers: Answers, ax: Axes) -> Axes:
    return plots.latency_percentiles(answers.run, ax, by="group")


def _counted(answers: Answers) -> bool:
    return answers.counted and answers.totals["records"] > 0


def _delivered(answers: Answers) -> bool:
    return answers.counted and not answers.latency.empty


def _notified(answers: Answers) -> bool:
    return answers.by_port and not answers.coalescing.empty


Plot = tuple["Callable[[Answers], bool]", "Callable[[Answers, Axes], Axes]", str, str, str]

PLOTS: dict[str, Plot] = {
    "timeline": (
        _counted,
        lambda answers, ax: plots.timeline(answers.run, ax),
        "Notifications over time",
        "Notifications that set a bit, those that coalesced, and deliveries, per second, over "
        "the time of the run.",
        "Rates of the whole host. The last bin goes on after the last record.",
    ),
    "pending": (
        lambda answers: _counted(answers) and bool(answers.totals["raised"]),
        lambda answers, ax: plots.pending(analysis.pending(answers.run), ax),
        "Pending bits",
        "A map of how many pending bits are set, by domain and time.",
        "A cell is the most that one of its bins ended with; empty ones had none.",
    ),
    "latency": (
        _delivered,
        lambda answers, ax: plots.latency_cdf(answers.run, ax),
        "Latency",
        "Which share of events waited no longer than what, by type of channel.",
        "From the bit set to the event delivered.",
    ),
    "percentiles": (
        _delivered,
        lambda answers, ax: plots.latency_percentiles(answers.run, ax),
        "Latency percentiles",
        "Bars of the median, the 90th, 99th and 99.9th percentile and the longest latency, by "
        "type of channel.",
        "The table Types of channels has the numbers.",
    ),
    "domains": (
        lambda answers: _delivered(answers) and answers.by_port and len(answers.run.host) > 1,
        _over_domains,
        "Latency by domain",
        "Latency percentiles over the domains' numbers.",
        "One domain each up to 256; beyond that neighbouring domids together.",
    ),
    "coalescing": (
        _notified,
        lambda answers, ax: plots.coalescing(answers.coalescing, ax),
        "Coalescing",
        "The share of each port's notifications that coalesced, against its rate.",
        "Every port; the line is all ports of a rate together.",
    ),
    "fairness": (
        lambda answers: answers.by_port and bool((answers.fairness["longest_gap_ns"] > 0).any()),
        lambda answers, ax: plots.fairness(answers.fairness, ax),
        "Fairness",
        "Jain's index of the mean latencies of each vcpu's ports, against the longest gap "
        "between two deliveries of one of them.",
        "At 1 all ports of a vcpu wait alike.",
    ),
    "occupancy": (
        _counted,
        lambda answers, ax: plots.port_occupancy(answers.exhaustion, ax),
        "Ports in use",
        "Ports that domains use, at most and at the end, and their limits, the fullest domain "
        "first.",
        "Where the points reach the dashed line, ports have run out.",
    ),
    "matrix": (
        lambda answers: answers.by_port and not answers.edges.empty and len(answers.run.host) > 1,
        lambda answers, ax: plots.matrix(answers.run, ax),
        "Who talks to whom",
        "A map of notifications from domain to domain.",
        "Senders upwards, targets to the right.",
    ),
    "errors": (
        lambda answers: answers.counted and not answers.errors.empty,
        lambda answers, ax: plots.errors(answers.errors, ax),
        "Errors",
        "How many records failed, by operation and errno.",
        "Note the logarithmic axis.",
    ),
}
"""When to draw, how, the title, what is drawn, how to read it; by name, in the page's order."""
