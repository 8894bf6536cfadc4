"""A slow, readable model of Xen's event channels, to compare the fast simulator with.

Everything is a plain Python object and every operation is one method, in the order in which
docs/semantics.md lists its checks and its effect. What does not belong here: anything that makes
it faster, anything imported from evtsim (sharing a definition would mean sharing its mistakes),
and anything about time, since ``ts`` has no say in what an operation does.

Methods of `ReferenceHost` named after an operation trust the record to have passed `apply`'s
checks; they raise `XenError` where Xen returns an error. What a notification did travels upwards
as an `Effect`, from `set_pending` through the operation into its `Outcome`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, IntFlag
from typing import NamedTuple

DOMID_SELF = 0x7FF0
EVTCHNS_PER_BUCKET = 128
NR_VIRQS = 24
PER_VCPU_VIRQS = {0, 1, 7}  # TIMER, DEBUG, XENOPROF


class Op(IntEnum):
    """Operations: Xen's hypercall numbers, then what happens around the hypercalls."""

    BIND_INTERDOMAIN = 0
    BIND_VIRQ = 1
    BIND_PIRQ = 2
    CLOSE = 3
    SEND = 4
    STATUS = 5
    ALLOC_UNBOUND = 6
    BIND_IPI = 7
    BIND_VCPU = 8
    UNMASK = 9
    RESET = 10
    RAISE_VIRQ = 64
    RAISE_PIRQ = 65
    MASK = 66
    CLEAR_PENDING = 67
    UPCALL = 68
    POLL = 69
    SET_UPCALL_MASK = 70
    ALLOC_XEN = 71
    FREE_XEN = 72
    NOTIFY_XEN = 73
    DESTROY_DOMAIN = 74
    CREATE_DOMAIN = 75


FIRST_NON_HYPERCALL = 64
BINDS = {Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_PIRQ, Op.ALLOC_UNBOUND, Op.BIND_IPI}
HYPERCALLS_WITH_RESULT = BINDS | {Op.STATUS}


class Flag(IntFlag):
    """Bits of a record's ``flags``: a guest pointer that cannot be read, or written."""

    FAULT_IN = 1
    FAULT_OUT = 2


class Errno(IntEnum):
    """Xen's error numbers, as far as event channels use them."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EFAULT = 14
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    ENOSYS = 38


class State(IntEnum):
    """What a port is."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    PIRQ = 4
    VIRQ = 5
    IPI = 6


class Effect(IntFlag):
    """What an operation did beside its return values."""

    NONE = 0
    SET = 1
    COALESCED = 2
    MASKED = 4
    SELECTED = 8
    KICK = 16
    POLL_WAKE = 32
    DROPPED = 64
    XEN = 128


class XenError(Exception):
    """An operation failed; whatever it did before failing stays done."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno


def check(condition: bool, errno: Errno) -> None:
    """Go on only if a condition holds."""
    if not condition:
        raise XenError(errno)


class Record(NamedTuple):
    """One line of a trace."""

    ts: int
    dom: int
    vcpu: int
    op: int
    flags: int
    arg0: int
    arg1: int


class Outcome(NamedTuple):
    """What one record gave back and did."""

    rc: int = 0
    port: int = 0
    vcpu: int = 0
    remote_dom: int = 0
    remote_port: int = 0
    effects: int = 0


@dataclass
class DomainConfig:
    """What is fixed about a domain, however often it is destroyed and created anew."""

    vcpus: int = 1
    privileged: bool = False
    word_bits: int = 64
    nr_pirqs: int = 0
    pirq_permitted: bool = False
    alive: bool = True
    max_port: int = 131071


@dataclass
class Channel:
    """One port, as Xen sees it: pending and mask live in the guest's memory instead."""

    state: State = State.FREE
    notify_vcpu: int = 0
    consumer_is_xen: bool = False
    remote_dom: int = 0  # UNBOUND, INTERDOMAIN
    remote_port: int = 0  # INTERDOMAIN
    irq: int = 0  # VIRQ, PIRQ


@dataclass
class Vcpu:
    """One virtual processor: its part of shared memory, then what Xen knows of it."""

    upcall_pending: bool = False
    upcall_mask: bool = False
    pending_sel: set[int] = field(default_factory=set)  # numbers of the words to look at
    blocked: bool = False
    poll_port: int = 0
    virq_to_port: dict[int, int] = field(default_factory=dict)


class Domain:
    """A domain and the bookkeeping that involves no other domain."""

    def __init__(self, domid: int, config: DomainConfig, alive: bool) -> None:
        self.domid = domid
        self.config = config
        self.alive = alive
        self.port_limit = config.word_bits * config.word_bits
        self.channels: list[Channel] = []  # grows by whole buckets: an index in it is a valid port
        self.pending: set[int] = set()
        self.mask: set[int] = set()
        self.vcpus = [Vcpu() for _ in range(config.vcpus)]
        self.poll_mask: set[int] = set()
        self.pirq_to_port: dict[int, int] = {}
        if alive:
            # Port 0 is never given out, so that 0 can mean "no port".
            self.allocate_bucket()
            self.channels[0].state = State.RESERVED

    def allocate_bucket(self) -> None:
        """Make the next ports valid; they stay so until the domain is destroyed."""
        self.channels.extend(Channel() for _ in range(EVTCHNS_PER_BUCKET))

    def get_free_port(self) -> int:
        """Find the port the next allocation takes, without taking it."""
        for port, channel in enumerate(self.channels):
            if channel.state == State.FREE:
                return port
        first_of_next_bucket = len(self.channels)
        check(first_of_next_bucket < self.port_limit, Errno.ENOSPC)
        self.allocate_bucket()
        return first_of_next_bucket

    def channel(self, port: int) -> Channel:
        """Look a valid port up."""
        check(port < len(self.channels), Errno.EINVAL)
        return self.channels[port]

    def check_vcpu(self, vcpu: int) -> None:
        """Refuse a vcpu that the domain does not have."""
        check(vcpu < len(self.vcpus), Errno.ENOENT)

    def set_pending(self, port: int, vcpu: int) -> Effect:
        """Notify a port on a vcpu: the one way in which an event reaches a guest."""
        if port in self.pending:
            # Whoever set the bit has told the guest already, pollers included.
            return Effect.COALESCED
        self.pending.add(port)
        effect = Effect.SET
        if port in self.mask:
            effect |= Effect.MASKED
        else:
            effect |= self.select(port, vcpu)
        return effect | self.wake_pollers(port)

    def select(self, port: int, vcpu: int) -> Effect:
        """Point a vcpu to the word of a port, and kick it if it knew of no event at all."""
        v = self.vcpus[vcpu]
        word = port // self.config.word_bits
        if word in v.pending_sel:
            return Effect.NONE
        v.pending_sel.add(word)
        if v.upcall_pending:
            return Effect.SELECTED
        v.upcall_pending = True
        return Effect.SELECTED | Effect.KICK | self.unblock(vcpu)

    def wake_pollers(self, port: int) -> Effect:
        """End the polls that wait for this port, and those on port 0, which match any."""
        effect = Effect.NONE
        for vcpu in sorted(self.poll_mask):
            if self.vcpus[vcpu].poll_port in (0, port):
                self.poll_mask.discard(vcpu)
                self.vcpus[vcpu].poll_port = 0
                effect |= self.unblock(vcpu)
        return effect

    def unblock(self, vcpu: int) -> Effect:
        """Let a vcpu run. A poll on port 0 looks like no poll here, so its poll_mask bit stays."""
        v = self.vcpus[vcpu]
        if v.poll_port != 0:
            self.poll_mask.discard(vcpu)
            v.poll_port = 0
        if not v.blocked:
            return Effect.NONE
        v.blocked = False
        return Effect.POLL_WAKE


class ReferenceHost:
    """All domains of a machine, and the operations on them."""

    def __init__(self, domains: Sequence[DomainConfig]) -> None:
        self.domains = [
            self.new_domain(domid, config, config.alive) for domid, config in enumerate(domains)
        ]

    def new_domain(self, domid: int, config: DomainConfig, alive: bool) -> Domain:
        """Make a domain of the kind this host works with, all zero."""
        return Domain(domid, config, alive)

    def apply(self, record: Record) -> Outcome:
        """Execute one record."""
        try:
            outcome = self._checked(record)
        except XenError as error:
            return Outcome(rc=-error.errno)
        copies_out = record.op in HYPERCALLS_WITH_RESULT
        if copies_out and record.flags & Flag.FAULT_OUT:
            # The caller never learns its result, but nothing is rolled back.
            return Outcome(rc=-Errno.EFAULT, effects=outcome.effects)
        return outcome

    def _checked(self, record: Record) -> Outcome:
        """Make the checks in front of every operation."""
        check(record.dom < len(self.domains), Errno.ESRCH)
        domain = self.domains[record.dom]
        if record.op == Op.CREATE_DOMAIN:
            domain.check_vcpu(record.vcpu)
            return self.create_domain(domain)
        check(domain.alive, Errno.ESRCH)
        domain.check_vcpu(record.vcpu)
        check(record.op in list(Op), Errno.ENOSYS)
        check(not (record.op < FIRST_NON_HYPERCALL and record.flags & Flag.FAULT_IN), Errno.EFAULT)
        return self._dispatch(Op(record.op), domain, record.vcpu, record.arg0, record.arg1)

    def _dispatch(self, op: Op, domain: Domain, vcpu: int, arg0: int, arg1: int) -> Outcome:
        """Name the arguments, cutting domain ids to the 16 bits the public structs have."""
        domid = arg0 & 0xFFFF
        operations: dict[Op, Callable[[], Outcome]] = {
            Op.BIND_INTERDOMAIN: lambda: self.bind_interdomain(domain, domid, arg1),
            Op.BIND_VIRQ: lambda: self.bind_virq(domain, arg0, arg1),
            Op.BIND_PIRQ: lambda: self.bind_pirq(domain, arg0),
            Op.CLOSE: lambda: self.close(domain, arg0),
            Op.SEND: lambda: self.send(domain, arg0),
            Op.STATUS: lambda: self.status(domain, domid, arg1),
            Op.ALLOC_UNBOUND: lambda: self.alloc_unbound(domain, domid, arg1 & 0xFFFF),
            Op.BIND_IPI: lambda: self.bind_ipi(domain, arg0),
            Op.BIND_VCPU: lambda: self.bind_vcpu(domain, arg0, arg1),
            Op.UNMASK: lambda: self.unmask(domain, arg0),
            Op.RESET: lambda: self.reset(domain, domid),
            Op.RAISE_VIRQ: lambda: self.raise_virq(domain, arg0, arg1),
            Op.RAISE_PIRQ: lambda: self.raise_pirq(domain, arg0),
            Op.MASK: lambda: self.mask(domain, arg0),
            Op.CLEAR_PENDING: lambda: self.clear_pending(domain, arg0),
            Op.UPCALL: lambda: self.upcall(domain, vcpu),
            Op.POLL: lambda: self.poll(domain, vcpu, arg0),
            Op.SET_UPCALL_MASK: lambda: self.set_upcall_mask(domain, vcpu, arg0),
            Op.ALLOC_XEN: lambda: self.alloc_xen(domain, vcpu, domid),
            Op.FREE_XEN: lambda: self.free_xen(domain, arg0),
            Op.NOTIFY_XEN: lambda: self.notify_xen(domain, arg0),
            Op.DESTROY_DOMAIN: lambda: self.destroy_domain(domain),
        }
        return operations[op]()

    def _living(self, domid: int) -> Domain:
        check(domid < len(self.domains) and self.domains[domid].alive, Errno.ESRCH)
        return self.domains[domid]

    def _target(self, caller: Domain, domid: int) -> Domain:
        """Find the domain a caller wants to act on. Its own number is as foreign as any."""
        if domid == DOMID_SELF:
            return caller
        target = self._living(domid)
        check(caller.config.privileged, Errno.EPERM)
        return target

    def _notify_peer(self, channel: Channel) -> Effect:
        """Notify the other end of an interdomain channel."""
        remote = self.domains[channel.remote_dom]
        peer = remote.channels[channel.remote_port]
        return remote.set_pending(channel.remote_port, peer.notify_vcpu)

    # Hypercalls

    def alloc_unbound(self, caller: Domain, domid: int, remote_domid: int) -> Outcome:
        """Offer a port to a domain, which need not exist yet."""
        domain = self._target(caller, domid)
        port = domain.get_free_port()
        if remote_domid == DOMID_SELF:
            remote_domid = caller.domid
        domain.channels[port] = Channel(State.UNBOUND, remote_dom=remote_domid)
        return Outcome(port=port)

    def bind_interdomain(self, caller: Domain, domid: int, remote_port: int) -> Outcome:
        """Connect a new local port to a port offered by another domain."""
        remote = caller if domid == DOMID_SELF else self._living(domid)
        port = caller.get_free_port()
        peer = remote.channel(remote_port)
        check(peer.state == State.UNBOUND and peer.remote_dom == caller.domid, Errno.EINVAL)
        local = Channel(State.INTERDOMAIN, remote_dom=remote.domid, remote_port=remote_port)
        caller.channels[port] = local
        # The peer keeps its notify_vcpu, and Xen's attachment if it has one.
        peer.state = State.INTERDOMAIN
        peer.remote_port = port
        # Whatever the peer sent while unbound was lost, so the binder is made to look once.
        effect = caller.set_pending(port, local.notify_vcpu)
        return Outcome(port=port, effects=effect)

    def bind_virq(self, domain: Domain, virq: int, vcpu: int) -> Outcome:
        """Give a VIRQ a port."""
        check(virq < NR_VIRQS, Errno.EINVAL)
        check(virq in PER_VCPU_VIRQS or vcpu == 0, Errno.EINVAL)
        domain.check_vcpu(vcpu)
        virq_to_port = domain.vcpus[vcpu].virq_to_port
        check(virq not in virq_to_port, Errno.EEXIST)
        port = domain.get_free_port()
        domain.channels[port] = Channel(State.VIRQ, notify_vcpu=vcpu, irq=virq)
        virq_to_port[virq] = port
        return Outcome(port=port)

    def bind_pirq(self, domain: Domain, pirq: int) -> Outcome:
        """Give a physical interrupt a port."""
        check(pirq < domain.config.nr_pirqs, Errno.EINVAL)
        check(domain.config.pirq_permitted, Errno.EPERM)
        check(pirq not in domain.pirq_to_port, Errno.EEXIST)
        port = domain.get_free_port()
        domain.channels[port] = Channel(State.PIRQ, irq=pirq)
        domain.pirq_to_port[pirq] = port
        return Outcome(port=port)

    def bind_ipi(self, domain: Domain, vcpu: int) -> Outcome:
        """Create a port that notifies a vcpu of the same domain."""
        domain.check_vcpu(vcpu)
        port = domain.get_free_port()
        domain.channels[port] = Channel(State.IPI, notify_vcpu=vcpu)
        return Outcome(port=port)

    def close(self, domain: Domain, port: int) -> Outcome:
        """Free a port, and let go of whatever it was bound to."""
        channel = domain.channel(port)
        check(not channel.consumer_is_xen, Errno.EINVAL)
        match channel.state:
            case State.FREE | State.RESERVED:
                raise XenError(Errno.EINVAL)
            case State.VIRQ:
                # A global VIRQ sits in vcpu 0's table, wherever bind_vcpu moved the port.
                owner = channel.notify_vcpu if channel.irq in PER_VCPU_VIRQS else 0
                del domain.vcpus[owner].virq_to_port[channel.irq]
            case State.PIRQ:
                del domain.pirq_to_port[channel.irq]
            case State.INTERDOMAIN:
                peer = self.domains[channel.remote_dom].channels[channel.remote_port]
                peer.state = State.UNBOUND
                peer.remote_dom = domain.domid
                peer.remote_port = 0
        domain.pending.discard(port)
        domain.channels[port] = Channel()
        return Outcome()

    def send(self, domain: Domain, port: int) -> Outcome:
        """Notify whoever is at the other end of a port."""
        channel = domain.channel(port)
        check(not channel.consumer_is_xen, Errno.EINVAL)
        match channel.state:
            case State.INTERDOMAIN:
                peer = self.domains[channel.remote_dom].channels[channel.remote_port]
                if peer.consumer_is_xen:
                    # Xen looks at no bitmap: it is called directly.
                    return Outcome(effects=Effect.XEN)
                return Outcome(effects=self._notify_peer(channel))
            case State.IPI:
                return Outcome(effects=domain.set_pending(port, channel.notify_vcpu))
            case State.UNBOUND:
                # No error: the other end may be about to bind, or just gone.
                return Outcome(effects=Effect.DROPPED)
            case _:
                raise XenError(Errno.EINVAL)

    def status(self, caller: Domain, domid: int, port: int) -> Outcome:
        """Tell what a port is."""
        channel = self._target(caller, domid).channel(port)
        # The codes follow the states, except that FREE and RESERVED are both "closed".
        code = max(0, channel.state - State.RESERVED)
        # What the state gives no meaning to is 0 in the channel already.
        number = channel.remote_port or channel.irq
        return Outcome(0, code, channel.notify_vcpu, channel.remote_dom, number)

    def bind_vcpu(self, domain: Domain, port: int, vcpu: int) -> Outcome:
        """Move the notifications to come to another vcpu; one already pending does not move."""
        domain.check_vcpu(vcpu)
        channel = domain.channel(port)
        check(not channel.consumer_is_xen, Errno.EINVAL)
        # Per-vcpu VIRQs and IPIs belong to the vcpu they were made for.
        movable = {State.UNBOUND, State.INTERDOMAIN, State.PIRQ}
        if channel.irq not in PER_VCPU_VIRQS:
            movable.add(State.VIRQ)
        check(channel.state in movable, Errno.EINVAL)
        channel.notify_vcpu = vcpu
        return Outcome()

    def unmask(self, domain: Domain, port: int) -> Outcome:
        """Clear a port's mask bit, and deliver what it held back; only a kick ends a poll here."""
        channel = domain.channel(port)
        if port not in domain.mask:
            return Outcome()
        domain.mask.discard(port)
        if port not in domain.pending:
            return Outcome()
        return Outcome(effects=domain.select(port, channel.notify_vcpu))

    def reset(self, caller: Domain, domid: int) -> Outcome:
        """Close all ports of a domain that can be closed."""
        domain = self._target(caller, domid)
        for port, channel in enumerate(domain.channels):
            if channel.state > State.RESERVED and not channel.consumer_is_xen:
                self.close(domain, port)
        return Outcome()

    # What the hypervisor does

    def raise_virq(self, domain: Domain, virq: int, vcpu: int) -> Outcome:
        """Raise a VIRQ."""
        check(virq < NR_VIRQS, Errno.EINVAL)
        domain.check_vcpu(vcpu)
        owner = vcpu if virq in PER_VCPU_VIRQS else 0
        port = domain.vcpus[owner].virq_to_port.get(virq)
        if port is None:
            return Outcome()
        # A per-vcpu VIRQ cannot be moved, so its notify_vcpu is always its owner.
        effect = domain.set_pending(port, domain.channels[port].notify_vcpu)
        return Outcome(port=port, effects=effect)

    def raise_pirq(self, domain: Domain, pirq: int) -> Outcome:
        """Deliver a physical interrupt."""
        check(pirq < domain.config.nr_pirqs, Errno.EINVAL)
        port = domain.pirq_to_port.get(pirq)
        if port is None:
            return Outcome()
        effect = domain.set_pending(port, domain.channels[port].notify_vcpu)
        return Outcome(port=port, effects=effect)

    def alloc_xen(self, domain: Domain, vcpu: int, remote_domid: int) -> Outcome:
        """Open a channel whose local end is Xen itself. DOMID_SELF stands for nobody here."""
        port = domain.get_free_port()
        domain.channels[port] = Channel(State.UNBOUND, vcpu, True, remote_domid)
        return Outcome(port=port)

    def free_xen(self, domain: Domain, port: int) -> Outcome:
        """Close a channel of Xen's own."""
        channel = domain.channel(port)
        check(channel.consumer_is_xen, Errno.EINVAL)
        channel.consumer_is_xen = False
        return self.close(domain, port)

    def notify_xen(self, domain: Domain, port: int) -> Outcome:
        """Notify the peer of a channel of Xen's own, which is always a guest's port."""
        channel = domain.channel(port)
        check(channel.consumer_is_xen, Errno.EINVAL)
        if channel.state != State.INTERDOMAIN:
            return Outcome()
        return Outcome(effects=self._notify_peer(channel))

    def destroy_domain(self, domain: Domain) -> Outcome:
        """Close all ports and end a domain."""
        for port, channel in enumerate(domain.channels):
            channel.consumer_is_xen = False
            if channel.state > State.RESERVED:
                self.close(domain, port)
        self.domains[domain.domid] = self.new_domain(domain.domid, domain.config, alive=False)
        return Outcome()

    def create_domain(self, domain: Domain) -> Outcome:
        """Begin a domain, as if there had never been one of that number."""
        check(not domain.alive, Errno.EEXIST)
        self.domains[domain.domid] = self.new_domain(domain.domid, domain.config, alive=True)
        return Outcome()

    # What the guest does

    def mask(self, domain: Domain, port: int) -> Outcome:
        """Set a mask bit: a write to shared memory, which knows no valid ports."""
        check(port < domain.port_limit, Errno.EINVAL)
        domain.mask.add(port)
        return Outcome()

    def clear_pending(self, domain: Domain, port: int) -> Outcome:
        """Clear a pending bit in shared memory."""
        check(port < domain.port_limit, Errno.EINVAL)
        domain.pending.discard(port)
        return Outcome()

    def upcall(self, domain: Domain, vcpu: int) -> Outcome:
        """Run the event handler: take the selector, then every event in its words."""
        v = domain.vcpus[vcpu]
        if v.upcall_mask or not v.upcall_pending:
            return Outcome()
        v.upcall_pending = False
        words = sorted(v.pending_sel)
        v.pending_sel.clear()
        delivered = 0
        for word in words:
            first = word * domain.config.word_bits
            for port in range(first, first + domain.config.word_bits):
                if port not in domain.pending or port in domain.mask:
                    continue
                if domain.channels[port].notify_vcpu == vcpu:
                    domain.pending.discard(port)
                    delivered += 1
        return Outcome(port=delivered)

    def poll(self, domain: Domain, vcpu: int, port: int) -> Outcome:
        """Wait for one port, which a poll tests but never consumes."""
        v = domain.vcpus[vcpu]
        check(not v.blocked, Errno.EINVAL)
        # A poll of port 0 may have left its bit; whatever way this one ends, it starts anew.
        domain.poll_mask.discard(vcpu)
        if v.upcall_pending and not v.upcall_mask:
            return Outcome(port=1)
        check(port < domain.port_limit, Errno.EINVAL)
        if port in domain.pending:
            return Outcome(port=1)
        v.blocked = True
        v.poll_port = port
        domain.poll_mask.add(vcpu)
        return Outcome()

    def set_upcall_mask(self, domain: Domain, vcpu: int, value: int) -> Outcome:
        """Write evtchn_upcall_mask; an event waiting behind it is not announced again."""
        domain.vcpus[vcpu].upcall_mask = value != 0
        return Outcome()

    # What can be looked at

    def _alive(self) -> Iterator[Domain]:
        return (domain for domain in self.domains if domain.alive)

    def ports(self) -> list[dict[str, int]]:
        """List every valid port."""
        return [
            {
                "dom": domain.domid,
                "port": port,
                "state": int(channel.state),
                "notify_vcpu": channel.notify_vcpu,
                "xen": int(channel.consumer_is_xen),
                "remote_dom": channel.remote_dom,
                "remote_port": channel.remote_port,
                "irq": channel.irq,
                "pending": int(port in domain.pending),
                "mask": int(port in domain.mask),
            }
            for domain in self._alive()
            for port, channel in enumerate(domain.channels)
        ]

    def vcpus(self) -> list[dict[str, int]]:
        """List every vcpu."""
        return [
            {
                "dom": domain.domid,
                "vcpu": vcpu,
                "upcall_pending": int(v.upcall_pending),
                "upcall_mask": int(v.upcall_mask),
                "polling": int(vcpu in domain.poll_mask),
                "blocked": int(v.blocked),
                "pending_sel": _as_bits(v.pending_sel),
                "poll_port": v.poll_port,
            }
            for domain in self._alive()
            for vcpu, v in enumerate(domain.vcpus)
        ]

    def virqs(self) -> list[dict[str, int]]:
        """List the bound VIRQs, each with the vcpu whose table holds it."""
        return [
            {"dom": domain.domid, "vcpu": vcpu, "irq": virq, "port": port}
            for domain in self._alive()
            for vcpu, v in enumerate(domain.vcpus)
            for virq, port in sorted(v.virq_to_port.items())
        ]

    def pirqs(self) -> list[dict[str, int]]:
        """List the bound PIRQs, whose table belongs to the domain: vcpu is always 0."""
        return [
            {"dom": domain.domid, "vcpu": 0, "irq": pirq, "port": port}
            for domain in self._alive()
            for pirq, port in sorted(domain.pirq_to_port.items())
        ]

    def shared_info(self, dom: int) -> tuple[list[int], list[int]]:
        """Copy the pending and mask bitmaps, as 64-bit words whatever the domain's word size."""
        domain = self.domains[dom]
        pending, mask = _as_bits(domain.pending), _as_bits(domain.mask)
        first_bits = range(0, domain.port_limit, 64)
        return (
            [(pending >> bit) & (2**64 - 1) for bit in first_bits],
            [(mask >> bit) & (2**64 - 1) for bit in first_bits],
        )


def _as_bits(numbers: set[int]) -> int:
    return sum(1 << number for number in numbers)
