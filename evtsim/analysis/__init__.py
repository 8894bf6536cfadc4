"""Questions to a run: each is one function that returns a tidy DataFrame.

docs/analysis.md documents every column. A function reads the run's frames and state, and never
changes them; what it needs and the run did not count is an EvtsimError that names the option. A
run in which nothing of the kind happened gives an empty frame with the same columns.

What belongs here turns a run into a frame. What counts belongs to the kernels, what draws to
``plots``.
"""

from evtsim.analysis.comparison import compare
from evtsim.analysis.failures import errors
from evtsim.analysis.handlers import fairness, selector_words
from evtsim.analysis.latencies import latency_percentiles
from evtsim.analysis.limits import exhaustion
from evtsim.analysis.notifications import coalescing, pending
from evtsim.analysis.outliers import storms
from evtsim.analysis.sweeping import sweep
from evtsim.analysis.traffic import edges, matrix
from evtsim.analysis.undelivered import stuck

__all__ = [
    "coalescing",
    "compare",
    "edges",
    "errors",
    "exhaustion",
    "fairness",
    "latency_percentiles",
    "matrix",
    "pending",
    "selector_words",
    "storms",
    "stuck",
    "sweep",
]
