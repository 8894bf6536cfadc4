"""What an operation did where it was carried out: sentences, from the states before and after."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np

from evtsim import abi
from evtsim.abi import Effect, Op, PortState, Status
from evtsim.history.effects import Notified, Since
from evtsim.history.moment import Moment, Port, View, named
from evtsim.history.rules import upcall_waits, virq_name
from evtsim.outcomes import Answer

MOST = 8
"""Of a list of ports or vcpus no more are named."""


@dataclasses.dataclass(frozen=True)
class Deed:
    """A record that was carried out.

    Attributes
    ----------
    before : Moment
    after : View
    answer : Answer
    since : callable
        Says since when a port's bit is what it is before the record.
    """

    before: Moment
    after: View
    answer: Answer
    since: Since

    def notified(self, target: Port) -> Iterator[str]:
        """Yield what notifying, or unmasking, a port did."""
        notified = Notified(self.before, self.after, target, self.answer.effects, self.since)
        yield from notified.lines()

    def new_port(self, dom: int) -> Port:
        """Return the port of a domain that came into use: it is not always in the answer."""
        used = [
            np.flatnonzero(v.states(dom) > PortState.RESERVED) for v in (self.before, self.after)
        ]
        (port,) = np.setdiff1d(used[1], used[0])
        return self.after.port(dom, int(port))


def some(numbers: list[int] | set[int], what: str) -> str:
    """Name ports or vcpus, the first of them if there are many."""
    ordered = sorted(numbers)
    text = ", ".join(map(str, ordered[:MOST]))
    rest = f" and {len(ordered) - MOST:,} more" if len(ordered) > MOST else ""
    return f"{what}{'s' if len(ordered) > 1 else ''} {text}{rest}"


def _bind_interdomain(d: Deed) -> Iterator[str]:
    m = d.before
    port = d.new_port(d.before.dom)
    peer = m.port(m.target, m.arg1)
    yield f"{port} and {peer}, which was UNBOUND and open to it, are connected"
    if peer.pending:
        yield "the peer's pending bit stays as it was"
    yield "the new port is notified, so that what was sent before is looked for"
    yield from d.notified(port)


def _bind(d: Deed) -> Iterator[str]:
    m = d.before
    what = {Op.BIND_VIRQ: virq_name(m.arg0), Op.BIND_PIRQ: f"PIRQ {m.arg0}", Op.BIND_IPI: "an IPI"}
    port = d.new_port(d.before.dom)
    yield f"{port} is bound to {what[Op(m.op)]} and notifies vcpu {port.notify_vcpu}"
    if port.mask and m.in_reach(port.dom, port.port):
        yield f"its mask bit is set{d.since(port.dom, port.port, 'mask')}, and stays so"


def _closed(after: View, port: Port) -> Iterator[str]:
    yield f"{port}, {port.state.name}{' and attached to Xen' if port.xen else ''}, is FREE"
    if port.state == PortState.VIRQ:
        yield f"{virq_name(port.remote_port)} can be bound again"
    elif port.state == PortState.PIRQ:
        yield f"PIRQ {port.remote_port} can be bound again"
    elif port.state == PortState.INTERDOMAIN and after.alive(port.remote_dom):
        peer = f"dom {port.remote_dom}'s port {port.remote_port}"
        yield f"its peer, {peer}, is UNBOUND and open to dom {port.dom}; nothing tells it"
    if port.pending:
        still = after.alive(port.dom) and after.port(port.dom, port.port).pending
        yield f"its pending bit {'stays, as Xen had it' if still else 'is cleared undelivered'}"


def _close(d: Deed) -> Iterator[str]:
    m = d.before
    yield from _closed(d.after, m.own)
    if m.own.mask and d.after.port(m.dom, m.arg0).mask:
        yield "its mask bit stays"


def _send(d: Deed) -> Iterator[str]:
    m = d.before
    port = m.own
    if Effect.DROPPED in d.answer.effects:
        yield f"{port} is UNBOUND and waits for dom {named(port.remote_dom)}: DROPPED"
    elif Effect.XEN in d.answer.effects:
        yield f"{port}'s peer is Xen's, which is called without a pending bit: XEN"
    elif port.state == PortState.IPI:
        yield from d.notified(port)
    else:
        yield from d.notified(m.port(port.remote_dom, port.remote_port))


STATUS_OF = {state: Status[state.name] for state in list(PortState)[2:]}
"""The codes of ports in use; all others are CLOSED."""


def _status(d: Deed) -> Iterator[str]:
    m = d.before
    port = m.port(m.target, m.arg1)
    code = STATUS_OF.get(port.state, Status.CLOSED)
    yield f"{port} is {port.state.name}: code {code.value} ({code.name})"


def _alloc_unbound(d: Deed) -> Iterator[str]:
    port = d.new_port(d.before.target)
    yield f"{port} is UNBOUND and open to dom {named(port.remote_dom)}"


def _bind_vcpu(d: Deed) -> Iterator[str]:
    m = d.before
    port, new = m.own, m.arg1
    yield f"{port} notifies vcpu {new} from now on; before, vcpu {port.notify_vcpu}"
    if m.fifo(m.dom):
        if m.linked(m.dom, m.arg0):
            queue = m.port_fifo(m.dom, m.arg0, "last_vcpu")
            yield f"it stays linked in vcpu {queue}'s queue until that vcpu takes it"
    elif port.pending and not port.mask and port.notify_vcpu != new:
        old = port.notify_vcpu
        yield f"it is pending: vcpu {new} hears nothing of that, and vcpu {old} will pass it by"


def _unmask(d: Deed) -> Iterator[str]:
    m = d.before
    port = m.own
    if m.modern and not port.usable:
        yield f"{port} is {port.state.name}{' and Xen has it' if port.xen else ''}: not usable, so "
        yield "nothing is done"
        return
    if m.fifo(m.dom) and m.word(m.dom, m.arg0) is None:
        yield f"{port} has no event word: nothing is done"
        return
    if port.mask:
        yield f"{port} was masked{d.since(m.dom, m.arg0, 'mask')}, and is not any more"
    else:
        yield f"{port} was not masked"
    if port.pending and (port.mask or m.fifo(m.dom)):
        yield from d.notified(port)
        if not d.answer.effects:
            yield "it is pending, and its vcpu's selector bit is 1 already: the vcpu was told then"
    elif not port.pending:
        yield "it is not pending, so nobody is told"


def _reset(d: Deed) -> Iterator[str]:
    m = d.before
    ports = m.ports(m.target)
    closed = [port for port in ports if not port.xen]
    numbers = [port.port for port in closed]
    yield f"closed of dom {m.target}: {some(numbers, 'port') if closed else 'nothing'}"
    kept = [port.port for port in ports if port.xen]
    if kept:
        yield f"passed by, as Xen has them: {some(kept, 'port')}"
    yield from _parted(closed)
    if m.fifo(m.target):
        yield "the domain is back under the 2-level ABI"


def _parted(ports: list[Port]) -> Iterator[str]:
    """Yield what closing ports meant for other domains."""
    peers = {p.remote_dom for p in ports if p.state == PortState.INTERDOMAIN}
    others = {dom for dom in peers if dom != ports[0].dom}
    if others:
        yield f"their peers in {some(others, 'dom')} are UNBOUND"
    lost = [port.port for port in ports if port.pending]
    if lost:
        yield f"pending and cleared undelivered: {some(lost, 'port')}"


def _init_control(d: Deed) -> Iterator[str]:
    m = d.before
    yield f"dom {m.dom}'s vcpu {m.arg0} has a control block"
    if not m.fifo(m.dom):
        yield f"dom {m.dom} is under the FIFO ABI from now on, and its event array is empty"
        # Port 0 is not looked at.
        saved = {port for port in m.pending(m.dom) if 0 < port < m.abi_limit(m.dom)}
        if saved:
            yield f"pending and saved until they have a word: {some(saved, 'port')}"


def _expand_array(d: Deed) -> Iterator[str]:
    m = d.before
    words = d.after.domain(m.dom, "event_pages") * abi.FIFO_PAGE_WORDS
    yield f"dom {m.dom}'s event array has {words:,} words"
    told = d.after.pending(m.dom) - m.pending(m.dom)
    if told:
        yield f"saved before and notified now: {some(told, 'port')}"
    if Effect.NO_CONTROL_BLOCK in d.answer.effects:
        yield "others were saved for a vcpu without control block: NO_CONTROL_BLOCK, they are lost"


def _set_priority(d: Deed) -> Iterator[str]:
    m = d.before
    old = m.port_fifo(m.dom, m.arg0, "priority")
    yield f"{m.own} has priority {m.arg1} when it is linked the next time; before, {old}"


def _raise(d: Deed) -> Iterator[str]:
    m = d.before
    if m.op == Op.RAISE_VIRQ:
        what, port = virq_name(m.arg0), m.virq_port(m.dom, m.arg0, m.arg1)
    else:
        what, port = f"PIRQ {m.arg0}", m.pirq_port(m.dom, m.arg0)
    if not port:
        yield f"{what} is bound to no port of dom {m.dom}: nothing happens"
        return
    yield f"{what} is bound to port {port}"
    yield from d.notified(m.port(m.dom, port))


def _mask(d: Deed) -> Iterator[str]:
    m = d.before
    _, mask = m.bits(m.dom, m.arg0)
    since = d.since(m.dom, m.arg0, "mask") if mask else ""
    was = f"was masked already{since}" if mask else "is masked from now on"
    yield f"dom {m.dom}'s port {m.arg0}{_of_nobody(m)} {was}"


def _clear_pending(d: Deed) -> Iterator[str]:
    m = d.before
    pending, _ = m.bits(m.dom, m.arg0)
    since = d.since(m.dom, m.arg0, "pending") if pending else ""
    was = f"was pending{since}, and is not any more: undelivered" if pending else "was not pending"
    yield f"dom {m.dom}'s port {m.arg0}{_of_nobody(m)} {was}"


def _of_nobody(m: Moment) -> str:
    return "" if m.valid(m.dom, m.arg0) else " (not valid, but it has bits)"


def _upcall(d: Deed) -> Iterator[str]:
    m = d.before
    vcpu = f"dom {m.dom}'s vcpu {m.vcpu}"
    if m.guest:
        yield "nothing: the guest model handles events by itself"
    elif m.vcpu_field("upcall_mask"):
        yield f"nothing: {vcpu} masks upcalls"
    elif not m.vcpu_field("upcall_pending"):
        yield f"nothing: upcall_pending of {vcpu} is 0"
    else:
        taken = m.pending(m.dom) - d.after.pending(m.dom)
        yield f"{vcpu} takes its events: {some(taken, 'port') if taken else 'none'}"
        yield from _left(d, taken)


def _left(d: Deed, taken: set[int]) -> Iterator[str]:
    """Yield what an upcall looked at and left."""
    m = d.before
    if m.fifo(m.dom):
        if not m.has_control(m.dom, m.vcpu):
            yield "it has no control block, and so no queue to look at"
        return
    selector = m.vcpu_field("pending_sel")
    shift = m.domain(m.dom, "word_shift")
    looked = {port for port in m.pending(m.dom) if selector >> (port >> shift) & 1} - taken
    masked = {port for port in looked if m.port(m.dom, port).mask}
    if masked:
        yield f"left behind the mask: {some(masked, 'port')}"
    if looked - masked:
        yield f"left to other vcpus: {some(looked - masked, 'port')}"


def _poll(d: Deed) -> Iterator[str]:
    m = d.before
    if upcall_waits(m):
        yield "it returns at once: an upcall is pending and not masked"
    elif d.answer.port:
        since = d.since(m.dom, m.arg0, "pending")
        yield f"it returns at once: dom {m.dom}'s port {m.arg0} is pending{since}"
    else:
        yield f"dom {m.dom}'s vcpu {m.vcpu} waits for port {m.arg0}{' (any)' * (not m.arg0)}"
        if m.vcpu_field("upcall_pending"):
            yield "its upcall_pending is 1 behind the upcall mask, so no kick will wake it"


def _set_upcall_mask(d: Deed) -> Iterator[str]:
    m = d.before
    vcpu = f"dom {m.dom}'s vcpu {m.vcpu}"
    yield f"{vcpu} {'masks' if m.arg0 else 'does not mask'} upcalls"
    if not m.arg0 and m.vcpu_field("upcall_pending"):
        yield "its upcall_pending is 1, and Xen does not tell it anew"


def _alloc_xen(d: Deed) -> Iterator[str]:
    port = d.new_port(d.before.dom)
    yield f"{port} is UNBOUND, attached to Xen and open to dom {named(port.remote_dom)}"


def _free_xen(d: Deed) -> Iterator[str]:
    yield from _closed(d.after, d.before.own)


def _notify_xen(d: Deed) -> Iterator[str]:
    port = d.before.own
    if port.state == PortState.INTERDOMAIN:
        yield from d.notified(d.before.port(port.remote_dom, port.remote_port))
    else:
        yield f"{port} is {port.state.name}: nobody is bound to it, and nothing happens"


def _destroy(d: Deed) -> Iterator[str]:
    m = d.before
    ports = m.ports(m.dom)
    yield f"dom {m.dom} is not alive any more; closed: {len(ports):,} ports"
    yield from _parted(ports)


def _create(d: Deed) -> Iterator[str]:
    dom = d.before.dom
    yield f"dom {dom} is alive, with {d.after.domain(dom, 'nr_ports')} valid ports, none in use"


DEEDS: dict[Op, Callable[[Deed], Iterator[str]]] = {
    Op.BIND_INTERDOMAIN: _bind_interdomain,
    Op.BIND_VIRQ: _bind,
    Op.BIND_PIRQ: _bind,
    Op.CLOSE: _close,
    Op.SEND: _send,
    Op.STATUS: _status,
    Op.ALLOC_UNBOUND: _alloc_unbound,
    Op.BIND_IPI: _bind,
    Op.BIND_VCPU: _bind_vcpu,
    Op.UNMASK: _unmask,
    Op.RESET: _reset,
    Op.INIT_CONTROL: _init_control,
    Op.EXPAND_ARRAY: _expand_array,
    Op.SET_PRIORITY: _set_priority,
    Op.RAISE_VIRQ: _raise,
    Op.RAISE_PIRQ: _raise,
    Op.MASK: _mask,
    Op.CLEAR_PENDING: _clear_pending,
    Op.UPCALL: _upcall,
    Op.POLL: _poll,
    Op.SET_UPCALL_MASK: _set_upcall_mask,
    Op.ALLOC_XEN: _alloc_xen,
    Op.FREE_XEN: _free_xen,
    Op.NOTIFY_XEN: _notify_xen,
    Op.DESTROY_DOMAIN: _destroy,
    Op.CREATE_DOMAIN: _create,
}

SECTIONS: dict[Op, str] = {
    Op.BIND_INTERDOMAIN: "Notifying a port",
    Op.CLOSE: "Closing, and what stays",
    Op.SEND: "Notifying a port",
    Op.BIND_VCPU: "bind_vcpu and an event that is pending",
    Op.UNMASK: "Unmask",
    Op.RESET: "Reset, destroy, create",
    Op.INIT_CONTROL: "The FIFO ABI",
    Op.EXPAND_ARRAY: "The FIFO ABI",
    Op.SET_PRIORITY: "The FIFO ABI",
    Op.RAISE_VIRQ: "Notifying a port",
    Op.RAISE_PIRQ: "Notifying a port",
    Op.UPCALL: "Upcall",
    Op.POLL: "Poll and unblock",
    Op.ALLOC_XEN: "Channels attached to Xen",
    Op.FREE_XEN: "Channels attached to Xen",
    Op.NOTIFY_XEN: "Channels attached to Xen",
    Op.DESTROY_DOMAIN: "Reset, destroy, create",
    Op.CREATE_DOMAIN: "Reset, destroy, create",
}
"""Where docs/semantics.md says what an operation does, if not in its table of operations."""
FIFO_SECTION = "The FIFO ABI"
IN_FIFO = (Op.BIND_INTERDOMAIN, Op.SEND, Op.UNMASK, Op.RAISE_VIRQ, Op.RAISE_PIRQ, Op.UPCALL)
"""Operations of which the FIFO ABI has a section of its own."""


def tell(deed: Deed) -> list[str]:
    """Say what a record did that was carried out."""
    return list(DEEDS[Op(deed.before.op)](deed))
