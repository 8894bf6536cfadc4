"""Load on the channels that a state has already, a dump's say: nothing is bound or closed.

Everything starts in slots of equal length, one thing in each at a moment drawn within it; what
follows from it (an answer, an upcall) comes later. Slots are made by windows, and what reaches
beyond a window waits for the next, so that the records do not depend on how they are cut.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi, draws
from evtsim.abi import Op, PortState, Virq
from evtsim.dtypes import RECORD_DTYPE, XEN_HERE, XEN_PEER, Columns
from evtsim.errors import EvtsimError

if TYPE_CHECKING:
    from evtsim.dtypes import Array
    from evtsim.host import Host
    from evtsim.state import State

WINDOW = 4096
"""Slots that are made at once."""

COMMON = ("records", "duration_ns", "start_ns", "seed", "deliver")
USED: Mapping[str, tuple[str, ...]] = {
    "channels": ("rate", "upcalls", "masks", "unmasks"),
    "io": ("rate", "service_ns", "wake_ns"),
    "ipi": ("rate", "wake_ns"),
    "timer": ("rate", "wake_ns"),
    "storm": ("storm_rate", "wake_ns"),
}
"""Parameters that count where a workload begins with a state, besides those of all."""

# Streams of draws: when in its slot, what, and how long the rest takes.
MOMENT, WHICH, WHERE, SERVICE, WAKE, BACK = range(1, 7)


class Existing:
    """A workload on the channels of a state.

    Parameters
    ----------
    name : str
        A key of USED.
    state : State
        Looked at, not changed.
    values : dict
        The workload's parameters.
    """

    def __init__(self, name: str, state: State, values: Mapping[str, Any]) -> None:
        self.host: Host = state.host
        self.name = name
        self.seed: int = values["seed"]
        self.wake = int(values.get("wake_ns", 0))
        self.service = int(values.get("service_ns", 0))
        self._look(state)
        sources, a_second = self._sources(name, values)
        if not len(sources):
            raise EvtsimError(f"the state has no ports for {name} (expected {WANTED[name]})")
        self.sources: Array = sources
        self.step = max(1, round(1e9 / a_second))
        parts = (
            [values[share] for share in ("upcalls", "masks", "unmasks")]
            if name == "channels"
            else []
        )
        if sum(parts) > 1:
            raise EvtsimError(f"shares other than sends sum up to {sum(parts):g} (expected 0 to 1)")
        self.bounds = np.cumsum([round(part * 2**32) for part in parts]).astype(np.uint64)

    def _look(self, state: State) -> None:
        """Take of the state what the records need."""
        ports = state.ports()
        columns = ("dom", "port", "state", "notify_vcpu", "remote_dom", "remote_port", "irq")
        self.ports = {name: ports[name].to_numpy(np.int64) for name in columns}
        index = state.pool_index(self.ports["dom"], self.ports["port"])
        xen = state.tables.ports["xen"][index]
        self.ports["peer_vcpu"] = state.tables.ports["peer_vcpu"][index].astype(np.int64)
        fifo = state.tables.domains["fifo"][self.ports["dom"]] != 0
        words = state.tables.domains["event_pages"][self.ports["dom"]].astype(np.int64)
        limit = np.where(
            fifo,
            words * abi.FIFO_PAGE_WORDS,
            1 << 2 * state.tables.domains["word_shift"][self.ports["dom"]].astype(np.int64),
        )
        own = (xen & XEN_HERE) == 0
        usable = own & (self.ports["port"] < limit)
        self.connected = usable & (xen & XEN_PEER == 0)
        self.connected &= self.ports["state"] == PortState.INTERDOMAIN
        self.ipis = usable & (self.ports["state"] == PortState.IPI)
        self.timers = (self.ports["state"] == PortState.VIRQ) & (self.ports["irq"] == Virq.TIMER)
        vcpus = state.vcpus()
        told = vcpus[vcpus["upcall_pending"] == 1]
        self.told = told[["dom", "vcpu"]].to_numpy(np.int64)

    def _sources(self, name: str, values: Mapping[str, Any]) -> tuple[Array, float]:
        """Return the places of the ports that a slot draws from, and how many slots a second."""
        ports = self.ports
        if name == "channels":
            return np.flatnonzero(self.connected | self.ipis), values["rate"]
        if name == "timer":
            chosen = np.flatnonzero(self.timers)
            return chosen, values["rate"] * max(1, len(chosen))
        if name == "ipi":
            chosen = np.flatnonzero(self.ipis)
            return chosen, values["rate"] * max(1, len(np.unique(ports["dom"][chosen])))
        # A frontend is the end with the higher domid, or port.
        near = ports["dom"] << 17 | ports["port"]
        fronts = np.flatnonzero(
            self.connected & (near > (ports["remote_dom"] << 17 | ports["remote_port"]))
        )
        if name == "storm":
            return fronts[-1:], values["storm_rate"]
        return fronts, values["rate"] * max(1, len(np.unique(ports["dom"][fronts])))

    def pieces(self, size: int) -> Iterator[Columns]:
        """Make the records in pieces, without an end."""
        waiting = self._first()
        ready: Array = np.zeros(0, RECORD_DTYPE)
        window = 0
        while True:
            while len(ready) < size:
                made = np.concatenate([waiting, self._window(window)])
                window += 1
                made = made[np.argsort(made["ts"], kind="stable")]
                whole = int(np.searchsorted(made["ts"], np.uint64(window * WINDOW * self.step)))
                ready, waiting = np.concatenate([ready, made[:whole]]), made[whole:]
            piece, ready = ready[:size], ready[size:]
            yield Columns(*(np.ascontiguousarray(piece[name]) for name in Columns._fields))

    def _first(self) -> Array:
        """Return the upcalls of vcpus that have been told already."""
        words = draws.words(self.seed, 0, 0, len(self.told))
        dom, vcpu = self.told.T
        return records(_around(self.wake, words), dom, vcpu, Op.UPCALL)

    def _window(self, number: int) -> Array:
        """Return what starts in a window's slots, and what follows from it."""
        start, stop = number * WINDOW, (number + 1) * WINDOW

        def words(stream: int) -> Array:
            return draws.words(self.seed, stream, start, stop)

        ts = np.arange(start, stop) * self.step + draws.below(self.step, words(MOMENT))
        slots = np.arange(start, stop)
        # Timers tick in turn, so each is periodic; all else is drawn.
        turn = slots % len(self.sources)
        which = turn if self.name == "timer" else draws.below(len(self.sources), words(WHICH))
        place = self.sources[which]
        port = {name: column[place] for name, column in self.ports.items()}
        dom, vcpu = port["dom"], port["notify_vcpu"]
        if self.name == "channels":
            return self._mixed(ts, port, words(WHERE))
        woken = ts + _around(self.wake, words(WAKE))
        if self.name == "timer":
            tick = records(ts, dom, vcpu, Op.RAISE_VIRQ, int(Virq.TIMER), vcpu)
            return np.concatenate([tick, records(woken, dom, vcpu, Op.UPCALL)])
        if self.name == "ipi":
            sent = records(ts, dom, vcpu, Op.SEND, port["port"])
            return np.concatenate([sent, records(woken, dom, vcpu, Op.UPCALL)])
        sent = records(ts, dom, vcpu, Op.SEND, port["port"])
        far, far_vcpu = port["remote_dom"], port["peer_vcpu"]
        taken = records(woken, far, far_vcpu, Op.UPCALL)
        if self.name == "storm":
            return np.concatenate([sent, taken])
        done = woken + _around(self.service, words(SERVICE))
        answer = records(done, far, far_vcpu, Op.SEND, port["remote_port"])
        back = records(done + _around(self.wake, words(BACK)), dom, vcpu, Op.UPCALL)
        return np.concatenate([sent, taken, answer, back])

    def _mixed(self, ts: Array, port: Mapping[str, Array], drawn: Array) -> Array:
        """Return sends, upcalls, masks and unmasks by their shares."""
        kind = np.searchsorted(self.bounds, drawn >> np.uint64(32), side="right")
        op = np.array([Op.UPCALL, Op.MASK, Op.UNMASK, Op.SEND], np.uint16)[kind]
        arg0 = np.where(op == Op.UPCALL, 0, port["port"])
        return records(ts, port["dom"], port["notify_vcpu"], op, arg0)


WANTED = {
    "channels": "INTERDOMAIN or IPI ports of guests",
    "io": "channels between guests",
    "ipi": "IPI ports",
    "timer": "ports of VIRQ_TIMER",
    "storm": "channels between guests",
}


def records(ts: Array, dom: Array, vcpu: Array, op: Any, arg0: Any = 0, arg1: Any = 0) -> Array:
    """Return records of these columns."""
    table: Array = np.zeros(len(ts), RECORD_DTYPE)
    for name, column in (
        ("ts", ts), ("dom", dom), ("vcpu", vcpu), ("op", op), ("arg0", arg0), ("arg1", arg1)
    ):  # fmt: skip
        table[name] = column
    return table


def _around(mean_ns: int, words: Array) -> Array:
    """Draw times from half of a mean to one and a half of it, uniformly."""
    return mean_ns // 2 + draws.below(mean_ns + 1, words)
