"""A plot for each question: a run, or the frame that :mod:`evtsim.analysis` made of it.

Each function draws into ``ax``, or into a figure of its own if none is given, and returns the
Axes; nothing is shown or saved, no title is set. Legends stand outside of the axes, beside the
data. Colours are Okabe and Ito's, which the colour-blind can tell apart. Hosts of thousands of
domains are drawn by groups or as densities. Where there is nothing to draw, the plot says so.
"""

from evtsim.plots.channels import coalescing, fairness
from evtsim.plots.hosts import errors, matrix, port_occupancy
from evtsim.plots.latencies import latency_cdf, latency_percentiles
from evtsim.plots.sweeping import sweep
from evtsim.plots.times import pending, timeline

__all__ = [
    "coalescing",
    "errors",
    "fairness",
    "latency_cdf",
    "latency_percentiles",
    "matrix",
    "pending",
    "port_occupancy",
    "sweep",
    "timeline",
]
