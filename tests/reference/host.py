"""The operations: hypercalls, what the hypervisor does, what the guest does.

Methods of `ReferenceHost` named after an operation trust the record to have passed `apply`'s
checks; they raise `XenError` where Xen returns an error. What a notification did travels upwards
as an `Effect`, from `set_pending` through the operation into its `Outcome`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tests.reference.domain import Channel, Domain
from tests.reference.fifo import (
    CONTROL_BLOCK_BYTES,
    DEFAULT_PRIORITY,
    LOWEST_PRIORITY,
    PAGE_BYTES,
    WORDS_PER_PAGE,
    ControlBlock,
    Fifo,
)
from tests.reference.interface import (
    DOMID_SELF,
    FIRST_NON_HYPERCALL,
    HYPERCALLS_WITH_RESULT,
    DomainConfig,
    Effect,
    Errno,
    Flag,
    Op,
    Outcome,
    Record,
    State,
    XenError,
    check,
)
from tests.reference.profiles import PROFILES
from tests.reference.tables import Tables
from tests.reference.two_level import TwoLevel

NR_VIRQS = 24


class ReferenceHost(Tables):
    """All domains of a machine, and the operations on them."""

    def __init__(self, domains: Sequence[DomainConfig], profile: str = "xen-4.0") -> None:
        self.profile = PROFILES[profile]
        self.domains = [
            self.new_domain(domid, config, config.alive) for domid, config in enumerate(domains)
        ]

    def new_domain(self, domid: int, config: DomainConfig, alive: bool) -> Domain:
        """Make a domain of the kind this host works with, all zero."""
        return Domain(domid, config, alive, self.profile)

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
        check(record.op in self.profile.operations, Errno.ENOSYS)
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
            Op.INIT_CONTROL: lambda: self.init_control(domain, arg0, arg1),
            Op.EXPAND_ARRAY: lambda: self.expand_array(domain),
            Op.SET_PRIORITY: lambda: self.set_priority(domain, arg0, arg1),
            Op.RESET_CONT: lambda: self.reset_cont(domain, domid),
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

    def _named(self, caller: Domain, domid: int) -> Domain:
        """Find the domain a caller wants to act on. Its own number may be as foreign as any."""
        if domid == DOMID_SELF:
            return caller
        target = self._living(domid)
        if not self.profile.own_number_is_self:
            check(caller.config.privileged, Errno.EPERM)
        return target

    def _permit(self, caller: Domain, target: Domain) -> None:
        """Ask whether a caller may act on a domain, unless that was asked when it was named."""
        if self.profile.own_number_is_self:
            check(target is caller or caller.config.privileged, Errno.EPERM)

    def _notify_peer(self, channel: Channel) -> Effect:
        """Notify the other end of an interdomain channel."""
        remote = self.domains[channel.remote_dom]
        peer = remote.channels[channel.remote_port]
        return remote.notify(channel.remote_port, peer.notify_vcpu)

    # Hypercalls

    def alloc_unbound(self, caller: Domain, domid: int, remote_domid: int) -> Outcome:
        """Offer a port to a domain, which need not exist yet."""
        domain = self._named(caller, domid)
        port = domain.get_free_port()
        self._permit(caller, domain)
        if remote_domid == DOMID_SELF:
            remote_domid = caller.domid
        domain.occupy(port, State.UNBOUND, remote_dom=remote_domid)
        domain.abi.init_port(port)
        return Outcome(port=port)

    def bind_interdomain(self, caller: Domain, domid: int, remote_port: int) -> Outcome:
        """Connect a new local port to a port offered by another domain."""
        remote = caller if domid == DOMID_SELF else self._living(domid)
        port = caller.get_free_port()
        peer = remote.channel(remote_port)
        check(peer.state == State.UNBOUND and peer.remote_dom == caller.domid, Errno.EINVAL)
        local = caller.occupy(
            port, State.INTERDOMAIN, remote_dom=remote.domid, remote_port=remote_port
        )
        caller.abi.init_port(port)
        # The peer keeps its notify_vcpu, and Xen's attachment if it has one.
        peer.state = State.INTERDOMAIN
        peer.remote_port = port
        # Whatever the peer sent while unbound was lost, so the binder is made to look once.
        effect = caller.notify(port, local.notify_vcpu)
        return Outcome(port=port, effects=effect)

    def bind_virq(self, domain: Domain, virq: int, vcpu: int) -> Outcome:
        """Give a VIRQ a port."""
        check(virq < NR_VIRQS, Errno.EINVAL)
        check(virq in self.profile.per_vcpu_virqs or vcpu == 0, Errno.EINVAL)
        domain.check_vcpu(vcpu)
        if self.profile.global_virqs_are_dom0s and self.profile.is_global(virq):
            check(domain.domid == 0, Errno.EBUSY)
        virq_to_port = domain.vcpus[vcpu].virq_to_port
        check(virq not in virq_to_port, Errno.EEXIST)
        port = domain.get_free_port()
        domain.occupy(port, State.VIRQ, notify_vcpu=vcpu, irq=virq)
        domain.abi.init_port(port)
        virq_to_port[virq] = port
        return Outcome(port=port)

    def bind_pirq(self, domain: Domain, pirq: int) -> Outcome:
        """Give a physical interrupt a port."""
        check(pirq < domain.config.nr_pirqs, Errno.EINVAL)
        check(domain.config.pirq_permitted, Errno.EPERM)
        check(pirq not in domain.pirq_to_port, Errno.EEXIST)
        port = domain.get_free_port()
        domain.occupy(port, State.PIRQ, irq=pirq)
        domain.abi.init_port(port)
        domain.pirq_to_port[pirq] = port
        return Outcome(port=port)

    def bind_ipi(self, domain: Domain, vcpu: int) -> Outcome:
        """Create a port that notifies a vcpu of the same domain."""
        domain.check_vcpu(vcpu)
        port = domain.get_free_port()
        domain.occupy(port, State.IPI, notify_vcpu=vcpu)
        domain.abi.init_port(port)
        return Outcome(port=port)

    def close(self, domain: Domain, port: int) -> Outcome:
        """Free a port of the guest's."""
        channel = domain.channel(port)
        check(not channel.consumer_is_xen, Errno.EINVAL)
        check(channel.state > State.RESERVED, Errno.EINVAL)
        self.free_port(domain, port)
        return Outcome()

    def free_port(self, domain: Domain, port: int) -> None:
        """Free a port in use, and let go of whatever it was bound to."""
        channel = domain.channels[port]
        match channel.state:
            case State.VIRQ:
                # A global VIRQ sits in vcpu 0's table, wherever bind_vcpu moved the port.
                per_vcpu = channel.irq in self.profile.per_vcpu_virqs
                owner = channel.notify_vcpu if per_vcpu else 0
                del domain.vcpus[owner].virq_to_port[channel.irq]
            case State.PIRQ:
                del domain.pirq_to_port[channel.irq]
            case State.INTERDOMAIN:
                peer = self.domains[channel.remote_dom].channels[channel.remote_port]
                peer.state = State.UNBOUND
                peer.remote_dom = domain.domid
                peer.remote_port = 0
        domain.vacate(port)

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
                return Outcome(effects=domain.notify(port, channel.notify_vcpu))
            case State.UNBOUND:
                # No error: the other end may be about to bind, or just gone.
                return Outcome(effects=Effect.DROPPED)
            case _:
                raise XenError(Errno.EINVAL)

    def status(self, caller: Domain, domid: int, port: int) -> Outcome:
        """Tell what a port is."""
        domain = self._named(caller, domid)
        channel = domain.channel(port)
        self._permit(caller, domain)
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
        if channel.irq not in self.profile.per_vcpu_virqs:
            movable.add(State.VIRQ)
        check(channel.state in movable, Errno.EINVAL)
        channel.notify_vcpu = vcpu
        return Outcome()

    def unmask(self, domain: Domain, port: int) -> Outcome:
        """Clear a port's mask bit, and deliver what it held back; only a kick ends a poll here."""
        channel = domain.channel(port)
        if self.profile.usable_only and not domain.usable(port):
            return Outcome()
        return Outcome(effects=domain.abi.unmask(port, channel.notify_vcpu))

    def reset(self, caller: Domain, domid: int) -> Outcome:
        """Close all ports of a domain that can be closed, and go back to the 2-level ABI."""
        domain = self._named(caller, domid)
        self._permit(caller, domain)
        for port in range(len(domain.channels)):
            if domain.usable(port):
                self.free_port(domain, port)
        if domain.fifo:
            domain.switch_abi(TwoLevel(domain))
        return Outcome()

    def reset_cont(self, caller: Domain, domid: int) -> Outcome:
        """Go on with a reset: there is never one to go on with, as resets are done at once."""
        self._permit(caller, self._named(caller, domid))
        raise XenError(Errno.EBUSY)

    def init_control(self, domain: Domain, vcpu: int, offset: int) -> Outcome:
        """Map a vcpu's control block; the first one switches the domain to the FIFO ABI."""
        domain.check_vcpu(vcpu)
        check(offset <= PAGE_BYTES - CONTROL_BLOCK_BYTES and offset % 8 == 0, Errno.EINVAL)
        if domain.fifo is None:
            self._switch_to_fifo(domain)
        fifo = domain.fifo
        assert fifo is not None
        check(vcpu not in fifo.blocks, Errno.EINVAL)
        fifo.blocks[vcpu] = ControlBlock()
        return Outcome()

    def _switch_to_fifo(self, domain: Domain) -> None:
        """Switch the ABI, and keep in mind what is pending until there is an array to say so."""
        for port in range(1, min(len(domain.channels), domain.abi.limit)):
            channel = domain.channels[port]
            channel.saved_pending |= domain.abi.is_pending(port)
            channel.priority = DEFAULT_PRIORITY
        domain.switch_abi(Fifo(domain))

    def expand_array(self, domain: Domain) -> Outcome:
        """Make the event array longer, and notify what could not be notified without it."""
        fifo = domain.fifo
        if fifo is None:
            raise XenError(Errno.EOPNOTSUPP)
        first = fifo.num_evtchns
        check(first < fifo.limit, Errno.ENOSPC)
        fifo.add_page()
        effect = Effect.NONE
        for port in range(first, min(first + WORDS_PER_PAGE, len(domain.channels))):
            channel = domain.channels[port]
            # Whatever has become of the port since: nobody asks, and the note is never removed.
            if channel.saved_pending:
                effect |= domain.set_pending(port, channel.notify_vcpu)
        return Outcome(effects=effect)

    def set_priority(self, domain: Domain, port: int, priority: int) -> Outcome:
        """Choose the queue a port goes to when it is linked next."""
        channel = domain.channel(port)
        check(domain.fifo is not None, Errno.ENOSYS)
        check(domain.usable(port), Errno.EACCES)
        check(priority <= LOWEST_PRIORITY, Errno.EINVAL)
        channel.priority = priority
        return Outcome()

    # What the hypervisor does

    def raise_virq(self, domain: Domain, virq: int, vcpu: int) -> Outcome:
        """Raise a VIRQ."""
        check(virq < NR_VIRQS, Errno.EINVAL)
        domain.check_vcpu(vcpu)
        owner = vcpu if virq in self.profile.per_vcpu_virqs else 0
        port = domain.vcpus[owner].virq_to_port.get(virq)
        if port is None:
            return Outcome()
        # A per-vcpu VIRQ cannot be moved, so its notify_vcpu is always its owner.
        effect = domain.notify(port, domain.channels[port].notify_vcpu)
        return Outcome(port=port, effects=effect)

    def raise_pirq(self, domain: Domain, pirq: int) -> Outcome:
        """Deliver a physical interrupt."""
        check(pirq < domain.config.nr_pirqs, Errno.EINVAL)
        port = domain.pirq_to_port.get(pirq)
        if port is None:
            return Outcome()
        effect = domain.notify(port, domain.channels[port].notify_vcpu)
        return Outcome(port=port, effects=effect)

    def alloc_xen(self, domain: Domain, vcpu: int, remote_domid: int) -> Outcome:
        """Open a channel whose local end is Xen itself. DOMID_SELF stands for nobody here."""
        port = domain.get_free_port()
        # Nothing prepares the port for the ABI: no guest is meant to see its events.
        channel = domain.occupy(port, State.UNBOUND, notify_vcpu=vcpu, remote_dom=remote_domid)
        channel.consumer_is_xen = True
        return Outcome(port=port)

    def free_xen(self, domain: Domain, port: int) -> Outcome:
        """Close a channel of Xen's own, which is attached to Xen until it is closed."""
        check(domain.channel(port).consumer_is_xen, Errno.EINVAL)
        self.free_port(domain, port)
        return Outcome()

    def notify_xen(self, domain: Domain, port: int) -> Outcome:
        """Notify the peer of a channel of Xen's own, which is always a guest's port."""
        channel = domain.channel(port)
        check(channel.consumer_is_xen, Errno.EINVAL)
        if channel.state != State.INTERDOMAIN:
            return Outcome()
        return Outcome(effects=self._notify_peer(channel))

    def destroy_domain(self, domain: Domain) -> Outcome:
        """Close all ports and end a domain."""
        for port in reversed(range(len(domain.channels))):
            if domain.channels[port].state > State.RESERVED:
                self.free_port(domain, port)
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
        check(domain.abi.has_bits(port), Errno.EINVAL)
        domain.abi.set_mask(port)
        return Outcome()

    def clear_pending(self, domain: Domain, port: int) -> Outcome:
        """Clear a pending bit in shared memory."""
        check(domain.abi.has_bits(port), Errno.EINVAL)
        domain.abi.clear_pending(port)
        return Outcome()

    def upcall(self, domain: Domain, vcpu: int) -> Outcome:
        """Run the event handler: take every event that the vcpu was told of."""
        v = domain.vcpus[vcpu]
        if v.upcall_mask or not v.upcall_pending:
            return Outcome()
        v.upcall_pending = False
        delivered = 0
        for port in domain.abi.upcall(vcpu):
            domain.abi.clear_pending(port)
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
        if self.profile.usable_only:
            check(domain.usable(port), Errno.EINVAL)
        else:
            check(port < domain.abi.limit, Errno.EINVAL)
        if domain.abi.is_pending(port):
            return Outcome(port=1)
        v.blocked = True
        v.poll_port = port
        domain.poll_mask.add(vcpu)
        return Outcome()

    def set_upcall_mask(self, domain: Domain, vcpu: int, value: int) -> Outcome:
        """Write evtchn_upcall_mask; an event waiting behind it is not announced again."""
        domain.vcpus[vcpu].upcall_mask = value != 0
        return Outcome()
