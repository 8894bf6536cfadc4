"""A replay as what lasts and what happens: pending bits with their senders, kicks, errors.

The replay goes piece by piece, so that no more than a piece of it is in memory. The log of
deliveries tells when a bit was set and delivered. Who set it, and bits that went without a
delivery, follow from the records: a piece is cut where a record may change who notifies whom, and
the state at a cut says what the records up to the next one hit.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evtsim.abi import DOMID_SELF, Effect, Errno, Fault, Op, PortState
from evtsim.dtypes import LATENCY_TYPES, Columns
from evtsim.trace import Trace
from evtsim.trace.chunk import Chunk

if TYPE_CHECKING:
    from evtsim.dtypes import Array
    from evtsim.outcomes import Outcomes
    from evtsim.simulator import Simulator

EVERY_DELIVERY = 1 << 40
"""What a simulator's log has to keep: it is emptied after every piece."""

PIECE = 1 << 14
"""The most records in a piece: what it tells takes some hundred times the memory of records."""

REWIRING = (
    *(Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_PIRQ, Op.BIND_IPI, Op.BIND_VCPU),
    *(Op.ALLOC_UNBOUND, Op.CLOSE, Op.RESET, Op.ALLOC_XEN, Op.FREE_XEN),
    *(Op.DESTROY_DOMAIN, Op.CREATE_DOMAIN),
)
"""Operations after which a port may notify another port or vcpu."""

NOTIFYING = (Op.SEND, Op.NOTIFY_XEN, Op.RAISE_VIRQ, Op.RAISE_PIRQ, Op.UNMASK)
"""Operations of which the wiring tells what they hit."""

CLEARING = (
    *(Op.CLEAR_PENDING, Op.CLOSE, Op.FREE_XEN),
    *(Op.RESET, Op.DESTROY_DOMAIN, Op.INIT_CONTROL),
)
"""Operations after which bits may no longer be pending, in the ABI that the domain uses then."""

WHOLE_DOMAIN = (Op.RESET, Op.DESTROY_DOMAIN, Op.INIT_CONTROL)

UNTOLD = (Op.EXPAND_ARRAY, Op.RESET)
"""Operations after which bits may be pending without a record that tells which: what was saved is
notified anew, and 2-level bits from before FIFO are seen again. So it is after a
``bind_interdomain`` whose answer did not arrive. A piece ends with such a record."""


class Interval(NamedTuple):
    """From a pending bit set to its end, in ns; sender_dom is -1 where no domain sent."""

    start: int
    end: int
    dom: int
    vcpu: int
    port: int
    how: str  # delivered, cleared or pending: at the end
    kind: str  # of the channel, as in run.deliveries; "" where it is not known
    coalesced: int  # notifications that found the bit set; -1 where that is not known
    sender_dom: int
    sender_vcpu: int


class Moment(NamedTuple):
    """A kick (errno 0) or a record that failed, where it is seen: on the vcpu."""

    ts: int
    dom: int
    vcpu: int
    op: int
    errno: int


class Level(NamedTuple):
    """How many ports of a domain are pending from ts on."""

    ts: int
    dom: int
    ports: int


@dataclasses.dataclass
class Piece:
    """What a stretch of the replay brought to an end, or is of a moment in it."""

    intervals: list[Interval]
    moments: list[Moment]
    levels: list[Level]


@dataclasses.dataclass
class _Set:
    """A pending bit that was set and, as far as is known, still is."""

    start: int
    vcpu: int
    sender_dom: int
    sender_vcpu: int


Key = tuple[int, int]


class Watch:
    """Replays and tells; use :meth:`pieces` once.

    Parameters
    ----------
    sim : Simulator
        Fresh, with stats="port" and deliveries=EVERY_DELIVERY.
    first, last : int
        ns; what ended before first is not told, and the replay stops after last.
    drain : bool
        Whether guests go on after the last record, if last comes after it.
    """

    def __init__(self, sim: Simulator, first: int, last: int, drain: bool) -> None:
        self.sim = sim
        self.first = first
        self.last = last
        self.drain = drain
        self.sets: dict[Key, list[_Set]] = {}
        self.pending = np.zeros(len(sim.host), np.int64)

    def pieces(
        self, trace: Trace, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[Piece]:
        """Replay the trace up to the window's end."""
        began = ended = False
        for start, columns, _ in trace.stretches(PIECE):
            low = int(np.searchsorted(columns.ts, np.uint64(self.first), "left"))
            high = int(np.searchsorted(columns.ts, np.uint64(self.last), "right"))
            if low and not began:
                self.sim.apply(_part(columns, 0, low), outcomes=False)
                self.sim.state.take_deliveries()
            if low < len(columns.ts) and not began:
                began = True
                yield self._opening()
            for begin, end in _cuts(columns, low if began else high, high):
                yield self._apply(_part(columns, begin, end))
            if progress is not None:
                progress(start + len(columns.ts), len(trace))
            if high < len(columns.ts):
                ended = True
                break
        if not began:
            yield self._opening()
        yield self._rest(ended)

    def _opening(self) -> Piece:
        """Take what is pending when the window begins."""
        frame = self.sim.state.ports()
        frame = frame[frame["pending"] != 0]
        dom, port = frame["dom"].to_numpy(np.int64), frame["port"].to_numpy(np.int64)
        since = self._since(dom, port)
        rows = zip(dom.tolist(), port.tolist(), since, frame["notify_vcpu"].tolist(), strict=True)
        for d, p, start, vcpu in rows:
            self.sets[d, p] = [_Set(start, vcpu, -1, -1)]
        return Piece([], [], self._corrected(max(self.first, self.sim.last_ts)))

    def _since(self, dom: Array, port: Array) -> list[int]:
        """Return since when ports have been pending."""
        state = self.sim.state
        since: list[int] = state.tables.port_stats["since"][state.pool_index(dom, port)].tolist()
        return since

    def _apply(self, part: Trace) -> Piece:
        """Apply records up to the next cut."""
        columns = part.columns
        outcomes = self.sim.apply(part)
        assert outcomes is not None
        dom, port, vcpu = self._hit(columns, outcomes)
        changes = self._remember(columns, outcomes, dom, port, vcpu)
        intervals, passed = self._deliver()
        intervals += self._clear(columns, outcomes, passed)
        self._look_for_untold(columns, outcomes)
        changes += [(interval.end, interval.dom, -1) for interval in intervals]
        levels = self._levels(changes) + self._corrected(self.sim.last_ts)
        return Piece(intervals, _moments(columns, outcomes, dom, vcpu), levels)

    def _rest(self, ended: bool) -> Piece:
        """Let guests go on to the window's end, and tell what is pending then."""
        if self.sim.guest is not None:
            if ended:
                self.sim.advance(max(self.last, self.sim.last_ts))
            elif self.drain:
                self.sim.drain()
        intervals, _ = self._deliver()
        levels = self._levels([(interval.end, interval.dom, -1) for interval in intervals])
        end = max(self.last, self.sim.last_ts) if ended else self.sim.last_ts
        frame = self.sim.state.ports()
        frame = frame[frame["pending"] != 0]
        dom, port = frame["dom"].to_numpy(np.int64), frame["port"].to_numpy(np.int64)
        rows = zip(
            self._since(dom, port),
            *(frame[name].tolist() for name in ("dom", "notify_vcpu", "port")),
            strict=True,
        )
        for start, d, v, p in rows:
            known = self.sets.get((d, p), [_Set(start, v, -1, -1)])[-1]
            sender = (known.sender_dom, known.sender_vcpu) if known.start == start else (-1, -1)
            intervals.append(Interval(start, end, d, v, p, "pending", "", -1, *sender))
        return Piece(intervals, [], levels)

    # Who is hit ----------------------------------------------------------------------------------

    def _hit(self, columns: Columns, outcomes: Outcomes) -> tuple[Array, Array, Array]:
        """Return the port that each record notifies or unmasks, and its notify vcpu.

        Where that is not known, dom and port are -1: of ``expand_array``, and of a
        ``bind_interdomain`` whose answer did not arrive. The state is the one after the records;
        a piece in which it matters has none that rewire.
        """
        assert outcomes.port is not None
        tables, op = self.sim.state.tables, columns.op
        caller, argument = columns.dom.astype(np.int64), columns.arg0.astype(np.int64)
        raised = np.isin(op, (Op.RAISE_VIRQ, Op.RAISE_PIRQ)) & (outcomes.port != 0)
        known = raised | np.isin(op, (Op.SEND, Op.NOTIFY_XEN, Op.UNMASK))
        port = np.where(raised, outcomes.port, argument)
        known &= caller < len(self.pending)
        known &= port < tables.domains["nr_ports"][np.where(known, caller, 0)]
        dom, port = np.where(known, caller, 0), np.where(known, port, 0)
        rows = tables.ports[self.sim.state.pool_index(dom, port)]
        away = np.isin(op, (Op.SEND, Op.NOTIFY_XEN)) & (rows["state"] == PortState.INTERDOMAIN)
        dom = np.where(away, rows["remote_dom"], dom)
        port = np.where(away, rows["remote_port"], port).astype(np.int64)
        vcpu = tables.ports["notify_vcpu"][self.sim.state.pool_index(dom, port)]
        # A new channel notified vcpu 0, and may be gone or elsewhere by now.
        new = (op == Op.BIND_INTERDOMAIN) & (outcomes.port != 0)
        dom = np.where(new, caller, np.where(known, dom, -1))
        port = np.where(new, outcomes.port, np.where(known, port, -1))
        return dom, port, np.where(known, vcpu, 0)

    # What was set, delivered, cleared ------------------------------------------------------------

    def _remember(
        self, columns: Columns, outcomes: Outcomes, dom: Array, port: Array, vcpu: Array
    ) -> list[tuple[int, int, int]]:
        """Note the bits that records set; the changes of pending ports, as (ts, dom, +1)."""
        assert outcomes.effects is not None
        rows = np.flatnonzero((outcomes.effects & Effect.SET != 0) & (port >= 0))
        sent = columns.op[rows] == Op.SEND
        callers = (column[rows].astype(np.int64) for column in (columns.dom, columns.vcpu))
        senders = (np.where(sent, caller, -1) for caller in callers)
        values = (columns.ts[rows], dom[rows], port[rows], vcpu[rows], *senders)
        changes = []
        for ts, d, p, v, *sender in zip(*(a.tolist() for a in values), strict=True):
            self.sets.setdefault((d, p), []).append(_Set(ts, v, *sender))
            changes.append((ts, d, 1))
        return changes

    def _deliver(self) -> tuple[list[Interval], list[tuple[Key, _Set]]]:
        """Take the log of deliveries; besides, known bits of before that were not delivered."""
        log = self.sim.state.take_deliveries()
        names = ("raised_ts", "ts", "dom", "vcpu", "port", "type", "coalesced")
        intervals = []
        passed: list[tuple[Key, _Set]] = []
        for start, ts, dom, vcpu, port, kind, coalesced in zip(
            *(log[name].tolist() for name in names), strict=True
        ):
            key = dom, port
            sender = -1, -1
            waiting = self.sets.get(key, [])
            while waiting and waiting[0].start <= start:
                known = waiting.pop(0)
                if known.start == start:
                    sender = known.sender_dom, known.sender_vcpu
                    break
                passed.append((key, known))
            if not waiting:
                self.sets.pop(key, None)
            type_name = LATENCY_TYPES[kind % 4]
            intervals.append(
                Interval(start, ts, dom, vcpu, port, "delivered", type_name, coalesced, *sender)
            )
        return intervals, passed

    def _clear(
        self, columns: Columns, outcomes: Outcomes, gone: list[tuple[Key, _Set]]
    ) -> list[Interval]:
        """Return the bits that went without a delivery, at the record that cleared each."""
        assert outcomes.rc is not None
        rows = np.flatnonzero(np.isin(columns.op, CLEARING) & (outcomes.rc == 0))
        records = [(int(columns.ts[i]), *_cleared_by(columns, i)) for i in rows.tolist()]
        for key in self._suspects(records):
            waiting = self.sets[key]
            while len(waiting) > 1:
                gone.append((key, waiting.pop(0)))
            if not self._is_pending(key, waiting[0].start):
                gone.append((key, waiting[0]))
                del self.sets[key]
        intervals = []
        for (dom, port), bit in gone:
            end = next(
                (ts for ts, d, p in records if d == dom and p in (-1, port) and ts >= bit.start),
                bit.start,
            )
            sender = bit.sender_dom, bit.sender_vcpu
            intervals.append(
                Interval(bit.start, end, dom, bit.vcpu, port, "cleared", "", -1, *sender)
            )
        return intervals

    def _suspects(self, records: list[tuple[int, int, int]]) -> list[Key]:
        """Return the known pending ports that clearing records may have hit."""
        whole = {dom for _, dom, port in records if port < 0}
        single = {(dom, port) for _, dom, port in records if port >= 0}
        hit = single & self.sets.keys()
        if whole:
            hit |= {key for key in self.sets if key[0] in whole}
        return sorted(hit)

    def _look_for_untold(self, columns: Columns, outcomes: Outcomes) -> None:
        """Take up the pending bits of domains in which any may have been set."""
        state = self.sim.state
        assert outcomes.rc is not None
        did = np.where(columns.op == Op.BIND_INTERDOMAIN, -Errno.EFAULT, 0)
        rows = np.flatnonzero(_untold(columns) & (outcomes.rc == did))
        for number in sorted({_cleared_by(columns, i)[0] for i in rows.tolist()}):
            port = np.arange(int(state.tables.domains["nr_ports"][number]))
            dom = np.full(len(port), number)
            pending = np.flatnonzero(state.bits(dom, port)[0])
            dom, port = dom[pending], port[pending]
            vcpus = state.tables.ports["notify_vcpu"][state.pool_index(dom, port)].tolist()
            for p, vcpu, since in zip(port.tolist(), vcpus, self._since(dom, port), strict=True):
                known = self.sets.setdefault((number, p), [])
                if not known or known[-1].start != since:
                    known.append(_Set(since, vcpu, -1, -1))

    def _is_pending(self, key: Key, since: int) -> bool:
        state = self.sim.state
        dom, port = np.array(key[:1]), np.array(key[1:])
        if not state.tables.domains["alive"][dom[0]]:
            return False
        return bool(state.bits(dom, port)[0][0]) and self._since(dom, port) == [since]

    # How many are pending ------------------------------------------------------------------------

    def _levels(self, changes: list[tuple[int, int, int]]) -> list[Level]:
        """Sum changes up to a level for every domain and time at which there was one."""
        levels: dict[tuple[int, int], int] = {}
        for ts, dom, change in sorted(changes):
            self.pending[dom] += change
            levels[dom, ts] = int(self.pending[dom])
        return [Level(ts, dom, max(ports, 0)) for (dom, ts), ports in levels.items()]

    def _corrected(self, ts: int) -> list[Level]:
        """Take the simulator's own counts; a level where they differ."""
        true = self.sim.state.tables.domain_pending["now"].astype(np.int64)
        wrong = np.flatnonzero(true != self.pending)
        self.pending = true.copy()
        return [Level(ts, dom, int(true[dom])) for dom in wrong.tolist()]


def _part(columns: Columns, begin: int, end: int) -> Trace:
    return Trace([Chunk.of(Columns(*(column[begin:end] for column in columns)))])


def _cuts(columns: Columns, low: int, high: int) -> Iterator[tuple[int, int]]:
    """Cut so that no piece has both records that rewire and records that notify.

    Besides, records after which it has to be looked for what is pending end a piece.
    """
    if low >= high:
        return
    op = columns.op[low:high]
    rewiring = np.isin(op, REWIRING)
    either = np.flatnonzero(rewiring | np.isin(op, NOTIFYING))
    changed = rewiring[either]
    cuts = low + either[1:][changed[:-1] != changed[1:]]
    part = Columns(*(column[low:high] for column in columns))
    after = low + 1 + np.flatnonzero(_untold(part))
    bounds = np.unique([low, *cuts.tolist(), *after.tolist(), high]).tolist()
    yield from itertools.pairwise(bounds)


def _untold(columns: Columns) -> Array:
    """Tell which records may leave bits pending of which they do not tell the port."""
    unanswered = (columns.op == Op.BIND_INTERDOMAIN) & (columns.flags & Fault.OUT != 0)
    untold: Array = np.isin(columns.op, UNTOLD) | unanswered
    return untold


def _cleared_by(columns: Columns, record: int) -> tuple[int, int]:
    """Return the domain and the port that a record clears; port -1: all."""
    dom, op, arg = int(columns.dom[record]), columns.op[record], int(columns.arg0[record])
    if op == Op.RESET:
        named = arg & 0xFFFF
        return dom if named == DOMID_SELF else named, -1
    return dom, -1 if op in WHOLE_DOMAIN else arg


def _moments(columns: Columns, outcomes: Outcomes, dom: Array, vcpu: Array) -> list[Moment]:
    """Return kicks, on the vcpu that was kicked, and errors, on the caller's."""
    assert outcomes.effects is not None
    assert outcomes.rc is not None
    kicks = np.flatnonzero(outcomes.effects & Effect.KICK != 0)
    # A new channel notifies vcpu 0; what else kicks, expand_array, mostly kicks its caller.
    known = (dom[kicks] >= 0) | (columns.op[kicks] == Op.BIND_INTERDOMAIN)
    where = np.where(dom[kicks] >= 0, dom[kicks], columns.dom[kicks])
    which = np.where(known, vcpu[kicks], columns.vcpu[kicks])
    failed = np.flatnonzero(outcomes.rc < 0)
    callers = (column[failed] for column in (columns.ts, columns.dom, columns.vcpu, columns.op))
    parts = [
        [columns.ts[kicks], where, which, columns.op[kicks], np.zeros(len(kicks), np.int64)],
        [*callers, -outcomes.rc[failed]],
    ]
    return [Moment(*row) for part in parts for row in zip(*(a.tolist() for a in part), strict=True)]
