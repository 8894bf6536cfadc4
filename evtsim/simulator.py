"""Drives the kernels: stretch by stretch, growing the pool, with progress and checkpoints."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from evtsim import abi
from evtsim._jit import announced, prepare
from evtsim.crew import MAX_THREADS, Crew
from evtsim.dtypes import (
    NEVER,
    Columns,
    OutcomeColumns,
    Tables,
)
from evtsim.errors import ArgumentError, EvtsimError, HostError, TraceError, shown
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.interrupts import interrupts_wait
from evtsim.kernels.replay import advance, replay
from evtsim.kernels.resume import resume
from evtsim.outcomes import Answer, Outcomes
from evtsim.state import State
from evtsim.trace import Trace, TraceBuilder
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.trace.header import start_digest

if TYPE_CHECKING:
    from evtsim.interop.snapshots import Snapshot
    from evtsim.run import Run
    from evtsim.trace import TraceReader

Progress = Callable[[int, int], None]
"""Called with the records done and the records in all, after every chunk."""

Step = Callable[[Tables, Columns, OutcomeColumns, int, int], int]
"""Applies records from one to another of a stretch; the number of the first one not applied."""

LEVELS = (None, "domain", "port")

CACHED_BYTES = 1 << 20
"""Tables larger than this are prefetched from: what one core's cache is sure to hold."""

SHARED_RECORDS = 1 << 20
"""Records that are checked and applied together where threads share them: some whole chunks."""

BLOCK = 1 << 14
"""Records that are resolved before they are carried out."""


class Simulator:
    """A host that takes records and answers them as Xen would.

    Parameters
    ----------
    host : Host
    guest : Guest, optional
        Handles all events by itself; upcall records then do nothing.
    stats : {None, "domain", "port"}
        What to count on the way: nothing, what belongs to vcpus, domains and the host, or
        ports too. See docs/statistics.md.
    threads : int
        The most cores to use. The answers do not depend on it. Worth it for hosts of thousands of
        domains, with statistics for hundreds; with a log of deliveries, one is used.
    deliveries : int, optional
        Keep a log of deliveries, and no more than so many: the earliest. Needs stats="port".

    Attributes
    ----------
    host : Host
    compile_seconds : float
        What compiling kernels took of the time that was spent here.

    Examples
    --------
    >>> import evtsim
    >>> sim = evtsim.Simulator(evtsim.Host.uniform(2))
    >>> sim.call("alloc_unbound", dom=1, remote_dom=0)
    Answer(rc=0, port=1)
    >>> sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=1)
    Answer(rc=0, port=1, effects=SET|SELECTED|KICK)
    >>> sim.call("send", dom=0, port=7)
    Answer(rc=-22 (EINVAL))
    """

    def __init__(
        self,
        host: Host,
        guest: Guest | None = None,
        stats: str | None = None,
        threads: int = 1,
        *,
        deliveries: int | None = None,
        _state: State | None = None,
    ) -> None:
        if not isinstance(host, Host):
            raise HostError(f"host is {host!r} (expected an evtsim.Host)")
        if not isinstance(threads, (int, np.integer)) or not 1 <= threads <= MAX_THREADS:
            raise ArgumentError("threads", threads, f"1 to {MAX_THREADS}")
        if guest is not None and not isinstance(guest, Guest):
            raise EvtsimError(f"guest is {shown(guest)} (expected an evtsim.Guest or None)")
        self.host = host
        self.guest = guest
        if stats not in LEVELS:
            raise EvtsimError(f"stats is {stats!r} (expected None, 'domain' or 'port')")
        if deliveries is not None and (
            not isinstance(deliveries, (int, np.integer)) or deliveries < 1
        ):
            raise ArgumentError("deliveries", deliveries, "at least 1, or None")
        if deliveries is not None and stats != "port":
            raise EvtsimError("a log of deliveries needs stats='port'")
        self._state = _state or State(host, LEVELS.index(stats), guest, int(deliveries or 0))
        self._whole = True
        self.compile_seconds = 0.0
        self._routes = np.zeros(BLOCK, np.int64)
        self._crew = Crew(int(threads), len(host)) if threads > 1 and not deliveries else None

    @property
    def state(self) -> State:
        """The tables as they are now, with frames to look at them.

        An EvtsimError once an interrupt has left them half changed; everything that needs them
        raises it then.
        """
        self._require_whole()
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state

    def _require_whole(self) -> None:
        if not self._whole:
            raise EvtsimError(
                f"the simulator was interrupted at work after {self.records:,} records, or is "
                "still at it: its state is half done (expected a new one, or a checkpoint's)"
            )

    @contextlib.contextmanager
    def _work(self) -> Iterator[State]:
        """Change the state: nobody gets at it before the change is whole, or if it never is.

        Ctrl-C waits for that, unless kernels are compiled, which takes too long to wait for.
        """
        self._require_whole()
        with (
            announced() as announcer,
            interrupts_wait(unless=lambda: announcer.started is not None),
        ):
            self._whole = False
            yield self._state
            self._state.tables.result[...] = 0  # of the last operation; of which, depends on blocks
            self._whole = True
        self.compile_seconds += announcer.seconds

    @property
    def records(self) -> int:
        """Records applied so far."""
        return int(self._state.tables.host["records"][0])

    @property
    def last_ts(self) -> int:
        """The time up to which everything has happened, in ns: the last record's, or later."""
        return int(self._state.tables.host["last_ts"][0])

    @property
    def stretch(self) -> int:
        """Records that are applied at a time: more where threads share them."""
        return CHUNK_RECORDS if self._crew is None else SHARED_RECORDS

    def prepare(self) -> None:
        """Have numba compile the kernels, or load them: now rather than with the first record."""
        columns = TraceBuilder(self.host).trace().columns
        store = _columns_of(Outcomes.zeros(0))
        with self._work() as state:
            prepare(replay, state.tables, columns, store, 0, 0, self._routes, False)
            if self.guest is not None:
                prepare(advance, state.tables, np.uint64(0))
            if self._crew:
                self._crew.prepare(state.tables, columns, store)

    def apply(
        self, trace: Trace, outcomes: bool = True, *, progress: Progress | None = None
    ) -> Outcomes | None:
        """Apply every record of a trace.

        Parameters
        ----------
        trace : Trace
            Its first ts must not be before the last one applied. Its host is not looked at.
        outcomes : bool
            Whether to keep what each record answered, 18 bytes each.
        progress : callable, optional
            Called as ``progress(done, total)`` after every chunk of records.

        Returns
        -------
        Outcomes or None

        Raises
        ------
        TraceError
            The trace is damaged or its time runs backwards. Records before the chunk in which
            that shows have been applied; :attr:`records` tells how many.
        HostError
            The trace was made for the channels of a state, and here are none.
        """
        self._require_whole()
        self._check_trace(trace)
        total = len(trace)
        store = Outcomes.zeros(total) if outcomes else None
        size = self.stretch
        scratch = Outcomes.zeros(min(total, size)) if store is None else None
        for start, columns, _ in trace.stretches(size, joined=self._crew is not None):
            part = slice(start, start + len(columns.ts))
            if store is None:
                assert scratch is not None
                part = slice(0, len(columns.ts))
            self._apply_stretch(columns, (store or scratch)[part], trace, start)  # type: ignore[index]
            if progress is not None:
                progress(start + len(columns.ts), total)
        return store

    def stretches(self, trace: Trace, step: Step) -> Iterator[tuple[int, Columns, Outcomes]]:
        """Apply every record of a trace with another loop over records.

        Parameters
        ----------
        trace : Trace
            As for :meth:`apply`.
        step : callable
            Applies records, and sees guests catch up that their records make do so.

        Returns
        -------
        iterator of tuple
            For each stretch, once its records are applied: start, the number of its first record
            in the trace; its Columns; its Outcomes. Other guests catch up after the last one.

        Raises
        ------
        TraceError
            As :meth:`apply`.
        """
        self._require_whole()
        self._check_trace(trace)
        return self._stretches(trace, step)

    def _stretches(self, trace: Trace, step: Step) -> Iterator[tuple[int, Columns, Outcomes]]:
        for start, columns, _ in trace.stretches():
            outcomes = Outcomes.zeros(len(columns.ts))
            self._apply_stretch(columns, outcomes, trace, start, step)
            yield start, columns, outcomes
        if len(trace) and self.guest is not None:
            self._let_guests_run(self.last_ts)

    def _check_trace(self, trace: Trace) -> None:
        if not isinstance(trace, Trace):
            raise EvtsimError(f"trace is {shown(trace)} (expected an evtsim.Trace)")
        self.check_start(trace)

    def check_start(self, trace: Trace | TraceReader) -> None:
        """Raise a HostError if a trace that goes on from a state would meet a host anew.

        Its records are of ports that such a host does not have: nearly all would be errors.
        """
        if trace.first != 0 or start_digest(trace.meta) is None:
            return
        if not (self.state.tables.ports["state"] > abi.PortState.RESERVED).any():
            raise HostError(
                f"{trace.path or 'trace'}: was made for the channels of a state, which a host does "
                "not have at its start (expected replay --from FILE, or Simulator.load)"
            )

    def advance(self, ts: int) -> None:
        """Let time go on to ts: what the guests have to do before it happens.

        What is due at ts itself has not happened yet: a record of that ts comes first.

        Parameters
        ----------
        ts : int
            ns; not before the last record's.

        Raises
        ------
        EvtsimError
            There is no guest, or ts lies in the past.
        """
        self._require_guest()
        if not isinstance(ts, (int, np.integer)) or not self.last_ts <= ts < NEVER:
            raise EvtsimError(f"ts is {shown(ts)} (expected at least {self.last_ts})")
        self._let_guests_run(ts)

    def drain(self) -> None:
        """Let the guests go on until nothing is due; time goes on to the last thing they did.

        Raises
        ------
        EvtsimError
            There is no guest.
        """
        self._require_guest()
        self._let_guests_run(NEVER)

    def _require_guest(self) -> None:
        if self.guest is None:
            raise EvtsimError("there is no guest to let run (guest= gives one)")

    def _let_guests_run(self, ts: int) -> None:
        with self._work() as state:
            _advance(state, ts)

    def _replay(
        self, tables: Tables, columns: Columns, store: OutcomeColumns, start: int, stop: int
    ) -> int:
        """Apply records and nothing else."""
        prefetching = tables.ports.nbytes > CACHED_BYTES
        while start < stop:
            until = stop
            if self._crew:
                start = self._crew.replay(tables, columns, store, start, stop, prefetching)
                until = min(stop, max(self._crew.waits, start))
            done: int = replay(tables, columns, store, start, until, self._routes, prefetching)
            if done < until:
                return done
            start = until
        return stop

    def _apply_stretch(
        self,
        columns: Columns,
        outcomes: Outcomes,
        trace: Trace,
        start: int,
        step: Step | None = None,
    ) -> None:
        """Apply one checked stretch, growing the pool as often as it asks for that.

        All domains catch up, unless there is a step that wants to see them do so.
        """
        stop = len(columns.ts)
        first_ts = int(columns.ts[0])
        if first_ts < self.last_ts:
            raise TraceError(
                "begins before the last record applied",
                path=trace.path,
                record=trace.first + start,
                field="ts",
                value=first_ts,
                expected=f"at least {self.last_ts}",
            )
        store = _columns_of(outcomes)
        with self._work() as state:
            row = state.tables.host
            state.begin(first_ts)
            done = 0
            while done < stop:
                done = (step or self._replay)(state.tables, columns, store, done, stop)
                if done < stop:
                    state.grow()
            if self._crew:
                self._crew.settle(state.tables)
            row["records"] += stop
            row["last_ts"] = columns.ts[-1]
            if self.guest is not None and step is None:
                _advance(state, int(columns.ts[-1]))

    def call(self, op: str, **arguments: int) -> Answer:
        """Apply one operation by name, for exploring.

        Parameters
        ----------
        op : str
            A method of :class:`TraceBuilder`: ``"send"``, ``"bind_virq"``, …
        **arguments
            Those of that method; ts is the last record's if not given.

        Returns
        -------
        Answer
            rc, port, vcpu, remote_dom, remote_port and effects.
        """
        builder = TraceBuilder(self.host)
        if op not in abi.OP_NUMBERS or not hasattr(builder, op):
            known = ", ".join(name for name in abi.OP_NUMBERS if hasattr(builder, name))
            raise EvtsimError(f"no operation {op!r} (expected one of: {known})")
        try:
            getattr(builder, op)(**{"ts": self.last_ts, **arguments})
        except TypeError as error:
            raise EvtsimError(f"{op}: {str(error).partition(') ')[2]}") from None
        outcome = self.apply(builder.trace())
        assert outcome is not None
        values = {name: int(column[0]) for name, column in outcome.fields()}
        return Answer(**{**values, "effects": abi.Effect(values["effects"])})  # type: ignore[arg-type]

    def run(self) -> Run:
        """Return what everything applied so far leaves, without outcomes."""
        from evtsim.run import Run

        return Run.of(self)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = True) -> None:
        """Write a checkpoint, whole or not at all."""
        from evtsim.checkpoint import save

        save(path, self.state, overwrite=overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], threads: int = 1) -> Simulator:
        """Read a checkpoint.

        Parameters
        ----------
        path : path-like
        threads : int
            As for :class:`Simulator`; a checkpoint does not say.

        Raises
        ------
        EvtsimError
            The file is damaged, foreign or of another version of the format.
        """
        from evtsim.checkpoint import load

        return cls._of(load(path), threads)

    @classmethod
    def _of(cls, state: State, threads: int = 1) -> Simulator:
        """Go on with a state, which is not copied."""
        kept, level = state.deliveries_kept or None, LEVELS[state.level]
        return cls(state.host, state.guest, level, threads, deliveries=kept, _state=state)

    @classmethod
    def from_dump(
        cls,
        snapshot: Snapshot,
        host: Host | None = None,
        guest: Guest | None = None,
        stats: str | None = None,
        *,
        ts: int = 0,
        deliveries: int | None = None,
        threads: int = 1,
    ) -> Simulator:
        """Begin with the state that a dump tells: see docs/dumps.md for what it does not say.

        Vcpus that the dump shows as told have their upcall before them: a guest runs its
        handlers, and without one the trace's upcalls take what is pending. Where the dump
        contradicts itself, a warning says what was made of it.

        Parameters
        ----------
        snapshot : Snapshot
            One of :func:`evtsim.interop.dumps.read`.
        host : Host, optional
            :meth:`Host.from_dump`'s, if not given. Alive are the domains of the dump.
        guest, stats, deliveries, threads
            As for :class:`Simulator`.
        ts : int
            ns; when the dump was taken. Pending bits count as set then, by one notification.

        Raises
        ------
        HostError
            The host lacks domains, vcpus or the ABI of the dump.
        """
        from evtsim.interop.starting import host_of, state_of

        if isinstance(ts, bool) or not isinstance(ts, (int, np.integer)) or not 0 <= ts < NEVER:
            raise EvtsimError(f"ts is {shown(ts)} (expected 0 to {NEVER - 1})")
        host = host_of(snapshot) if host is None else host
        sim = cls(host, guest, stats, threads, deliveries=deliveries)
        level, kept = sim.state.level, sim.state.deliveries_kept
        sim.state, notes = state_of(snapshot, sim.host, level, guest, kept, int(ts))
        if guest is not None:
            with announced() as announcer:
                resume(sim.state.tables, np.uint64(ts))
            sim.compile_seconds += announcer.seconds
        if notes:
            more = f"; and {len(notes) - 3:,} more" if len(notes) > 3 else ""
            warnings.warn("; ".join(notes[:3]) + more, stacklevel=2)
        return sim

    def __repr__(self) -> str:
        return f"<Simulator of {self.host!r} after {self.records:,} records>"


def _columns_of(outcomes: Outcomes) -> OutcomeColumns:
    return OutcomeColumns(*(column for _, column in outcomes.fields()))


def _advance(state: State, ts: int) -> None:
    """Let the guests do what is due before ts, with as much room in the log as they need."""
    if ts != NEVER:
        state.begin(ts)
    while not advance(state.tables, np.uint64(ts)):
        state.grow()
