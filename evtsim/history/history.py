"""Going back: snapshots of the state, the life of a port."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.errors import EvtsimError, shown
from evtsim.history.explanation import Explanation, explain
from evtsim.history.lives import PortLife
from evtsim.progress import Shown, shown_progress
from evtsim.simulator import Simulator
from evtsim.state import State
from evtsim.trace import Trace
from evtsim.watching import watch

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array
    from evtsim.guest import Guest
    from evtsim.host import Host

EVERY = 1 << 18
"""Records between snapshots if nothing is said: some ten milliseconds of replay."""

MEMORY = 256 << 20
"""Bytes of snapshots if nothing is said."""


class History:
    """A trace as its replay goes: the state before any record, ports' lives, and explanations.

    Nothing is replayed before it is asked for. On the way to a record, the state is kept every
    `every` records; from then on, going back to any record passed costs at most so many records.
    When the snapshots outgrow `memory`, `every` doubles and each second one is dropped: of a host
    whose tables are as large as `memory`, none is kept, and every question replays from the start.

    Parameters
    ----------
    trace : Trace
        From its first record on: what came before decides the answers.
    host : Host, optional
        Overrides the trace's own.
    guest : Guest, optional
        Handles all events; upcall records of the trace then do nothing.
    every : int
        Records from one snapshot to the next, at the beginning.
    memory : int
        The most bytes of snapshots.

    Attributes
    ----------
    trace : Trace
    host : Host
    guest : Guest or None
    every : int
        As it is now.

    Raises
    ------
    EvtsimError
        The trace is a slice that does not start at record 0, or a parameter makes no sense.
    HostError
        There is no host.

    Examples
    --------
    >>> import evtsim
    >>> b = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    >>> for operation in (
    ...     b.alloc_unbound(dom=1, remote_dom=0, ts=0),
    ...     b.bind_interdomain(dom=0, remote_dom=1, remote_port=1, ts=10),
    ...     b.send(dom=0, port=1, ts=20),
    ...     b.send(dom=0, port=7, ts=30),
    ... ):
    ...     pass
    >>> history = evtsim.History(b.trace())
    >>> history.at(2).ports().query("state == 3")[["dom", "port", "pending"]].values.tolist()
    [[0, 1, 1], [1, 1, 0]]
    >>> history.port(1, 1)[["record", "op_name", "from_state_name", "to_state_name", "pending"]]
       record           op_name from_state_name to_state_name  pending
    0       0     alloc_unbound            FREE       UNBOUND        0
    1       1  bind_interdomain         UNBOUND   INTERDOMAIN        0
    2       2              send     INTERDOMAIN   INTERDOMAIN        1
    >>> history.explain(3).errno_name
    'EINVAL'
    """

    def __init__(
        self,
        trace: Trace,
        host: Host | None = None,
        guest: Guest | None = None,
        every: int = EVERY,
        *,
        memory: int = MEMORY,
    ) -> None:
        if not isinstance(trace, Trace):
            raise EvtsimError(f"trace is {shown(trace)} (expected an evtsim.Trace)")
        if trace.first != 0:
            raise EvtsimError(
                f"a slice from record {trace.first} on has no history (expected one from 0 on)"
            )
        for name, value, least in (("every", every, 1), ("memory", memory, 0)):
            if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < least:
                raise EvtsimError(f"{name} is {shown(value)} (expected at least {least})")
        self.trace = trace
        self.host = trace.require_host(host)
        self.guest = guest
        self.every = int(every)
        self.memory = int(memory)
        self._snapshots: dict[int, dict[str, Array]] = {}
        Simulator(self.host, guest)  # complains about what cannot be simulated

    def __len__(self) -> int:
        return len(self.trace)

    # The state -----------------------------------------------------------------------------------

    def at(self, i: int, *, progress: Shown = None) -> State:
        """Return the state that record i finds.

        With a guest, all that is due before the record's ts has happened. After the last record
        nothing more has.

        Parameters
        ----------
        i : int
            0 (the start) to the number of records (the end).
        progress : callable or True, optional
            Called as ``progress(done, total)`` on the way; True shows a bar.

        Returns
        -------
        State
            The caller's own.

        Raises
        ------
        EvtsimError
            There is no such record.
        TraceError
            The trace is damaged.
        """
        return self.simulator(i, progress=progress).state

    def simulator(self, i: int, *, progress: Shown = None) -> Simulator:
        """Return a simulator in the state of :meth:`at`, to go on from there as one likes.

        Parameters and errors are those of :meth:`at`.
        """
        i = self._number(i, len(self.trace))
        sim = self._go_to(i, progress)
        if self.guest is not None and i < len(self.trace):
            sim.advance(self.ts(i))
        return sim

    def ts(self, i: int) -> int:
        """Return the ts of a record, in ns."""
        return int(self.trace[i : i + 1].ts[0])

    def _number(self, i: int, last: int) -> int:
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not 0 <= i <= last:
            reach = f"0 to {last}" if last >= 0 else "none, the trace is empty"
            raise EvtsimError(f"record {shown(i)} is not in the trace (expected {reach})")
        return int(i)

    def _go_to(self, i: int, progress: Shown = None) -> Simulator:
        """Return a simulator to which the first i records were applied, keeping snapshots."""
        sim = self._resume(i)
        with shown_progress(progress, "replaying", "records") as show:
            while sim.records < i:
                stop = min(i, (sim.records // self.every + 1) * self.every)
                sim.apply(self.trace[sim.records : stop], outcomes=False)
                if stop % self.every == 0 and stop not in self._snapshots:
                    self._keep(stop, sim.state.snapshot())
                if show is not None:
                    show(sim.records, i)
        return sim

    def _resume(self, i: int) -> Simulator:
        """Return a simulator at the last snapshot that is not after record i."""
        sim = Simulator(self.host, self.guest)
        start = max((kept for kept in self._snapshots if kept <= i), default=0)
        if start:
            sim.state.restore(self._snapshots[start])
        return sim

    def _keep(self, place: int, snapshot: dict[str, Array]) -> None:
        """Keep a snapshot; when all together are too large, keep them half as densely."""
        self._snapshots[place] = snapshot
        while self._snapshots and self.nbytes > self.memory:
            self.every *= 2
            self._snapshots = {k: s for k, s in self._snapshots.items() if k % self.every == 0}

    @property
    def nbytes(self) -> int:
        """Bytes that the snapshots take."""
        return sum(table.nbytes for kept in self._snapshots.values() for table in kept.values())

    # Ports ---------------------------------------------------------------------------------------

    def port(self, dom: int, port: int, *, progress: Shown = None) -> pd.DataFrame:
        """Return the life of a port: all that changed its state, its pending or its mask bit.

        Parameters
        ----------
        dom : int
            A configured domain, alive or not.
        port : int
            0 to the most that the domain could ever have, used or not.
        progress : callable or True, optional
            Called as ``progress(done, total)`` on the way; True shows a bar.

        Returns
        -------
        DataFrame
            A row for each record that changed something, and with a guest for each moment between
            records at which its handlers or EOIs did; docs/history.md has the columns.

        Raises
        ------
        EvtsimError
            There is no such domain or port.
        TraceError
            The trace is damaged.
        """
        watching = watch(Simulator(self.host, self.guest), self.trace, dom, port)
        life = PortLife(int(dom), int(port))
        with shown_progress(progress, "replaying", "records") as show:
            for start, columns, outcomes, changes in watching:
                life.add(start, columns, outcomes, changes)
                if show is not None:
                    show(start + len(columns.ts), len(self.trace))
        return life.frame()

    def last_change(self, dom: int, port: int, field: str, before: int) -> dict[str, Any] | None:
        """Return the last change of one of a port's bits before a record, or None.

        Looks stretch by stretch from the record back, so it costs as much as the change is old.

        Parameters
        ----------
        dom, port : int
        field : {"pending", "mask"}
        before : int
            Number of the record.

        Returns
        -------
        dict or None
            The row of :meth:`port`.
        """
        stop = before + 1  # with the record itself, since the guest's row may stand before it
        while stop > 0:
            start = max(0, min(stop, before) - 1) // self.every * self.every
            if not any(kept <= start for kept in self._snapshots):
                start = 0
            sim = self._go_to(start)
            life = PortLife(dom, port)
            for place, columns, outcomes, changes in watch(sim, self.trace[start:stop], dom, port):
                life.add(start + place, columns, outcomes, changes)
            found = life.last(field, before)
            if found is not None:
                return found
            stop = start
        return None

    # Words ---------------------------------------------------------------------------------------

    def explain(self, i: int, *, progress: Shown = None) -> Explanation:
        """Say what a record did and why its rc is what it is.

        Parameters
        ----------
        i : int
            0 to the number of records - 1.
        progress : callable or True, optional
            Called as ``progress(done, total)`` on the way; True shows a bar.

        Returns
        -------
        Explanation

        Raises
        ------
        EvtsimError
            There is no such record.
        TraceError
            The trace is damaged.
        """
        i = self._number(i, len(self.trace) - 1)
        return explain(self, i, self.simulator(i, progress=progress))

    def __repr__(self) -> str:
        kept = len(self._snapshots)
        return f"<History of {len(self):,} records: {kept} snapshots, every {self.every:,} records>"
