"""The reference model with guests: every vcpu handles its own events, one thing at a time.

A handler is a generator: what it does between two ``yield`` happens in no time, and what it yields
is how long the event it has just delivered keeps it busy. A host looks for whatever is due next
in a plain search, lets the time until then pass, and has it happen; it never works ahead of that.

A change of the ABI ends the rounds in progress of all the domain's vcpus, each at the end of the
event that it is handling. Whatever such a round had still to look at is forgotten.

What does not belong here: anything that makes it faster, and anything imported from evtsim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Literal, NamedTuple

from tests.observed import ObservedHost
from tests.reference import (
    Domain,
    DomainConfig,
    Effect,
    Fifo,
    Op,
    Outcome,
    Record,
    State,
    TwoLevel,
)

VIRQ_TIMER = 0
EOI, HANDLER = 0, 1  # in the order in which they happen at one instant on one vcpu

# All others count as interdomain: UNBOUND, since that is what it was or may become, and FREE,
# which is pending only where something has been left over.
TYPE_OF_STATE = {State.PIRQ: "pirq", State.VIRQ: "virq", State.IPI: "ipi"}


@dataclass
class GuestConfig:
    """How the kernel of a domain behaves, and how long it takes.

    ``wake`` and ``handler`` are called with dom, vcpu and number, and return ns.
    """

    wake: Callable[[int, int, int], int]
    handler: Callable[[int, int, int], int]
    scan: Literal["linux", "lowest"] = "linux"
    eoi: Literal["edge", "late"] = "edge"
    eoi_ns: int = 0


class Delivery(NamedTuple):
    """One event that reached its handler."""

    ts: int
    dom: int
    vcpu: int
    port: int
    type: str  # what the port was when its bit was set
    raised_ts: int
    latency: int
    coalesced: int
    batch: int  # number of the run on that vcpu, from 1


class Due(NamedTuple):
    """Something that is going to happen. Its order is the order of what happens."""

    ts: int
    dom: int
    vcpu: int
    kind: int
    port: int


@dataclass
class Event:
    """A pending bit's history, from when it was set."""

    raised_ts: int
    type: str
    coalesced: int = 0


@dataclass
class Handler:
    """The handler of a vcpu that is not idle: scheduled at first, running once it has a run."""

    due: int
    run: Iterator[int] | None = None


class Eoi(NamedTuple):
    """An unmask to come, for an event that this vcpu handled."""

    due: int
    vcpu: int


class GuestDomain(Domain):
    """A domain and what its kernel is doing, all of which ends with the domain."""

    def __init__(self, host: GuestHost, domid: int, config: DomainConfig, alive: bool) -> None:
        super().__init__(domid, config, alive, host.profile)
        self.host = host
        self.events: dict[int, Event] = {}
        self.handlers: dict[int, Handler] = {}  # of the vcpus that are not idle
        self.eois: dict[int, Eoi] = {}  # of ports whose handling has begun
        # Linux's current_word_idx and current_bit_idx of every vcpu.
        self.cursor = [(0, 0) for _ in self.vcpus]

    def set_pending(self, port: int, vcpu: int) -> Effect:
        """Notify a port, and remember when and how often."""
        effect = super().set_pending(port, vcpu)
        if effect & Effect.COALESCED:
            self.events[port].coalesced += 1
        elif effect & Effect.SET:
            self.events[port] = self._event_now(port)
        return effect

    def _event_now(self, port: int) -> Event:
        return Event(self.host.now, TYPE_OF_STATE.get(self.channels[port].state, "interdomain"))

    def switch_abi(self, abi: TwoLevel | Fifo) -> None:
        """Change the ABI. The bits of the 2-level ABI that come back begin at this time."""
        super().switch_abi(abi)
        self.events = {port: self._event_now(port) for port in abi.pending_ports()}

    def mark(self, vcpu: int) -> Effect:
        """Tell a vcpu that there are events for it, and hear of it if that was a kick."""
        effect = super().mark(vcpu)
        if effect & Effect.KICK:
            self.host.schedule(self, vcpu)
        return effect

    def active_bits(self, word: int, vcpu: int) -> list[int]:
        """Read a word, as the numbers of its bits."""
        first = word * self.config.word_bits
        bits = range(self.config.word_bits)
        return [bit for bit in bits if self.abi.active(first + bit, vcpu)]

    def take_selector(self, vcpu: int) -> set[int]:
        """Read and clear a vcpu's selector, as Linux's xchg does."""
        selector = set(self.vcpus[vcpu].pending_sel)
        self.vcpus[vcpu].pending_sel.clear()
        return selector


# A scan of the 2-level ABI yields the ports that were active when their word was read, and still
# are when their turn comes. It goes on only when the handler has dealt with the one before.


def scan_lowest(domain: GuestDomain, vcpu: int) -> Iterator[int]:
    """Look through one round's events from the lowest port upwards."""
    for word in sorted(domain.take_selector(vcpu)):
        for bit in domain.active_bits(word, vcpu):
            port = word * domain.config.word_bits + bit
            if domain.abi.active(port, vcpu):
                yield port


def scan_linux(domain: GuestDomain, vcpu: int) -> Iterator[int]:
    """Look through one round's events as Linux's evtchn_2l_handle_events does."""
    word_bits = domain.config.word_bits
    timer = domain.vcpus[vcpu].virq_to_port.get(VIRQ_TIMER)
    if timer is not None and domain.abi.active(timer, vcpu):
        yield timer

    selector = domain.take_selector(vcpu)
    start_word, start_bit = domain.cursor[vcpu]
    word = start_word
    for turn in count():
        if not selector:
            return
        words_left = [w for w in selector if w >= word]
        if not words_left:
            word = 0
            continue
        word = min(words_left)
        bits = domain.active_bits(word, vcpu)
        bit = start_bit if word == start_word and turn == 0 else 0
        while bits_left := [b for b in bits if b >= bit]:
            bit = min(bits_left)
            port = word * word_bits + bit
            # The next one to look, be it in the next run, starts after this event. (Linux says so
            # after the event, but nobody looks before.)
            bit = (bit + 1) % word_bits
            domain.cursor[vcpu] = (word if bit else (word + 1) % word_bits, bit)
            if domain.abi.active(port, vcpu):
                yield port
            if bit == 0:
                break
        # The start word's lower part is still to come, after all others.
        if word != start_word or turn != 0:
            selector.discard(word)
        word = (word + 1) % word_bits


def scan_fifo(domain: GuestDomain, vcpu: int) -> Iterator[int]:
    """Look through one round's events by priority, whichever scan is configured."""
    return domain.abi.upcall(vcpu)


SCANS = {"linux": scan_linux, "lowest": scan_lowest}


class GuestHost(ObservedHost):
    """A host whose guests handle their events themselves, with the observer's counts."""

    domains: list[GuestDomain]

    def __init__(
        self,
        domains: Sequence[DomainConfig],
        guest: Callable[[int], GuestConfig],
        profile: str = "xen-4.0",
    ) -> None:
        super().__init__(domains, profile)
        self.guest = guest
        self.deliveries: list[Delivery] = []
        # By (dom, vcpu). They go on when a domain is destroyed and created anew.
        self.wakes: Counter[tuple[int, int]] = Counter()
        self.handled: Counter[tuple[int, int]] = Counter()
        self.runs: Counter[tuple[int, int]] = Counter()

    def new_domain(self, domid: int, config: DomainConfig, alive: bool) -> GuestDomain:
        return GuestDomain(self, domid, config, alive)

    # Time

    def apply(self, record: Record) -> Outcome:
        """Execute one record, after everything that was due before it."""
        self.advance(record.ts)
        return super().apply(record)

    def advance(self, ts: int) -> None:
        """Have everything happen that is due before this time, but nothing that is due at it."""
        while (due := self.next_due()) and due.ts < ts:
            self._happen(due)
        self._let_time_pass(max(ts, self.now))

    def drain(self) -> None:
        """Go on until nothing is due."""
        while due := self.next_due():
            self._happen(due)

    def next_due(self) -> Due | None:
        """Find what happens next."""
        due = []
        for domain in self.domains:
            for port, eoi in domain.eois.items():
                due.append(Due(eoi.due, domain.domid, eoi.vcpu, EOI, port))
            for vcpu, handler in domain.handlers.items():
                due.append(Due(handler.due, domain.domid, vcpu, HANDLER, 0))
        return min(due, default=None)

    def _happen(self, due: Due) -> None:
        self._let_time_pass(due.ts)
        kicks, blocked = self._kicked_and_blocked()
        domain = self.domains[due.dom]
        if due.kind == EOI:
            self.unmask(domain, due.port)
        else:
            self._go_on(domain, due.vcpu)
        self._count_vcpus(kicks, blocked)
        self._count_domains()

    # Handlers

    def schedule(self, domain: GuestDomain, vcpu: int) -> None:
        """Have a vcpu that knows of events handle them soon, if it is idle and listens."""
        if vcpu in domain.handlers or domain.vcpus[vcpu].upcall_mask:
            return
        key = (domain.domid, vcpu)
        wake = self.guest(domain.domid).wake(*key, self.wakes[key])
        self.wakes[key] += 1
        domain.handlers[vcpu] = Handler(self.now + wake)

    def _go_on(self, domain: GuestDomain, vcpu: int) -> None:
        """Start the handler of a vcpu, or go on after the event it has been handling."""
        handler = domain.handlers[vcpu]
        if handler.run is None:
            if domain.vcpus[vcpu].upcall_mask:
                del domain.handlers[vcpu]
                return
            handler.run = self._run(domain, vcpu)
        handling = next(handler.run, None)
        if handling is None:
            del domain.handlers[vcpu]
        else:
            handler.due = self.now + handling

    def _run(self, domain: GuestDomain, vcpu: int) -> Iterator[int]:
        """Handle events for as long as there are any, and yield how long each one takes."""
        v = domain.vcpus[vcpu]
        counts = self.vcpu[domain.domid, vcpu]
        counts["upcalls"] += 1
        self.runs[domain.domid, vcpu] += 1
        delivered = 0
        while v.upcall_pending:
            v.upcall_pending = False
            abi = domain.abi
            scan = scan_fifo if domain.fifo else SCANS[self.guest(domain.domid).scan]
            for port in scan(domain, vcpu):
                delivered += 1
                counts["delivered"] += 1
                counts["largest_batch"] = max(counts["largest_batch"], delivered)
                yield self._deliver(domain, vcpu, port)
                if domain.abi is not abi:
                    break
        counts["spurious"] += delivered == 0

    def _deliver(self, domain: GuestDomain, vcpu: int, port: int) -> int:
        """Begin to handle an event; tell how long that takes."""
        guest = self.guest(domain.domid)
        key = (domain.domid, vcpu)
        handling = guest.handler(*key, self.handled[key])
        self.handled[key] += 1
        domain.abi.clear_pending(port)
        event = domain.events.pop(port)
        since, latency = event.raised_ts, self.now - event.raised_ts
        channel = (port, event.type, since, latency, event.coalesced)
        self.deliveries.append(Delivery(self.now, *key, *channel, batch=self.runs[key]))
        self._count_delivered((domain.domid, port), self.now)
        if guest.eoi == "late":
            domain.abi.set_mask(port)
            # The mask bit keeps the port from being handled again before this is over, unless the
            # ABI changes: then the later of the two takes the place of the earlier.
            domain.eois[port] = Eoi(self.now + handling + guest.eoi_ns, vcpu)
        return handling

    # Operations that mean something to the guest's kernel

    def set_upcall_mask(self, domain: GuestDomain, vcpu: int, value: int) -> Outcome:
        """Write evtchn_upcall_mask; the kernel itself looks for events that waited behind it."""
        outcome = super().set_upcall_mask(domain, vcpu, value)
        if domain.vcpus[vcpu].upcall_pending:
            self.schedule(domain, vcpu)
        return outcome

    def mask(self, domain: GuestDomain, port: int) -> Outcome:
        """Set a mask bit, for longer than until the EOI."""
        outcome = super().mask(domain, port)
        domain.eois.pop(port, None)
        return outcome

    def unmask(self, domain: GuestDomain, port: int) -> Outcome:
        """Clear a port's mask bit, which leaves nothing to do for an EOI."""
        domain.eois.pop(port, None)
        return super().unmask(domain, port)

    def free_port(self, domain: GuestDomain, port: int) -> None:
        """Free a port, after the EOI it was waiting for."""
        if port in domain.eois:
            self.unmask(domain, port)
        super().free_port(domain, port)

    def destroy_domain(self, domain: GuestDomain) -> Outcome:
        """End a domain with all that its kernel was about to do."""
        domain.eois.clear()  # or closing would unmask; the rest goes with the object
        return super().destroy_domain(domain)

    def upcall(self, domain: GuestDomain, vcpu: int) -> Outcome:
        """Do nothing: handlers run when the model says so, not when a trace does."""
        return Outcome()

    def _count_upcall(self, record: Record, outcome: Outcome, kicks: set[tuple[int, int]]) -> None:
        if record.op == Op.UPCALL:
            self.vcpu[record.dom, record.vcpu]["ignored_upcalls"] += 1
