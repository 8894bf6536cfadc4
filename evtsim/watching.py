"""A replay with an eye on one port: every change of its state and its bits."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from evtsim.dtypes import BUCKET_PORTS, CHANGE, WATCH, Array, Columns, OutcomeColumns, Tables
from evtsim.errors import EvtsimError, shown
from evtsim.kernels.watch import UNSEEN, replay_watching
from evtsim.outcomes import Outcomes
from evtsim.simulator import BLOCK, Simulator
from evtsim.trace import Trace

WatchedStretch = tuple[int, Columns, Outcomes, Array]
"""What :func:`watch` gives: see there."""

FIRST_CHANGES = 1024
"""Room for the changes in one stretch, to begin with."""


def watch(sim: Simulator, trace: Trace, dom: int, port: int) -> Iterator[WatchedStretch]:
    """Apply every record of a trace with an eye on one port.

    Parameters
    ----------
    sim : Simulator
        That counts no statistics.
    trace : Trace
        As for :meth:`Simulator.apply`.
    dom, port : int
        A configured domain, and a port that any domain of the host could have.

    Returns
    -------
    iterator of tuple
        For each stretch, once its records are applied: start, the number of its first record
        in the trace; its Columns; its Outcomes; and its changes, a structured ndarray of
        dtypes.CHANGE with a row for each change of the port's state, pending or mask.
        The changes are valid until the next stretch. Guests that are not seen to do so catch
        up after the last one.

    Raises
    ------
    EvtsimError
        There is no such domain or port, or the simulator counts statistics.
    TraceError
        As :meth:`Simulator.apply`.
    """
    if sim.state.level:
        raise EvtsimError("a port is watched without statistics (stats=None)")
    most_ports = len(sim.state.tables.buckets) * BUCKET_PORTS
    for what, number, count in (("domain", dom, len(sim.host)), ("port", port, most_ports)):
        if not isinstance(number, (int, np.integer)) or not 0 <= number < count:
            raise EvtsimError(f"no {what} {shown(number)} (expected 0 to {count - 1})")
    eye = _Eye(dom, port)
    return eye.follow(sim.stretches(trace, eye.step))


class _Eye:
    """What is seen of a port, stretch by stretch."""

    def __init__(self, dom: int, port: int) -> None:
        self.watched = np.zeros(1, WATCH)
        self.watched["dom"], self.watched["port"] = dom, port
        self.watched["state"] = UNSEEN
        self.changes = np.zeros(FIRST_CHANGES, CHANGE)
        self.routes = np.zeros(BLOCK, np.int64)

    def step(
        self, tables: Tables, columns: Columns, store: OutcomeColumns, start: int, stop: int
    ) -> int:
        """Apply records, as many as there is room for changes."""
        if self.watched["used"][0] == len(self.changes):
            self.changes = np.concatenate([self.changes, np.zeros_like(self.changes)])
        done: int = replay_watching(
            tables, columns, store, start, stop, self.routes, self.watched, self.changes
        )
        return done

    def follow(
        self, stretches: Iterator[tuple[int, Columns, Outcomes]]
    ) -> Iterator[WatchedStretch]:
        """Add the changes to every stretch."""
        for start, columns, outcomes in stretches:
            yield start, columns, outcomes, self.changes[: int(self.watched["used"][0])]
            self.watched["used"] = 0
