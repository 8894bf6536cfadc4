"""What domains do when they start, stop and move: scripts of instructions, in Linux's order.

Sources: the channels that a toolstack makes for a guest are those of xend's and libxl's domain
builders (xenstore first, then the console). A guest binds as Linux does in ``xen_setup_timer``,
``xen_init_lock_cpu``, ``xen_smp_intr_init`` and ``xen_smp_intr_init_pv``, after
``xen_init_IRQ`` (on the other side of a migration, ``xen_irq_resume``) has masked every port;
``request_irq`` ends in an unmask. Devices follow the xenbus handshake: the frontend's
``xenbus_alloc_evtchn``, the backend's ``bind_interdomain_evtchn_to_irq``. In xend, what resumes
a domain after a suspend is a reset of all its channels (``_resetChannels``).

Under the FIFO ABI vcpu 0's control block comes in ``xen_init_IRQ``; another vcpu's after its
ports, by the order of CPUHP_XEN_PREPARE and CPUHP_XEN_EVTCHN_PREPARE. The event array grows as
ports are bound, which is the generator's business, and brings the masks.

Of the masks at the beginning, those of ports that are not used are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evtsim.abi import FIFO_PRIORITIES, Op, Virq
from evtsim.workloads._kernels import tables as t

if TYPE_CHECKING:
    from evtsim.dtypes import Array

Instruction = tuple[int, int, int, int, int]  # as in tables.INSTRUCTION

ALL_KINDS = (1 << 16) - 1

LINGERING_PHASES = 5
"""Until all have noticed that a guest was destroyed."""

IPIS = (t.SPIN_UNLOCK, t.RESCHEDULE, t.CALL_FUNCTION, t.CALL_FUNCTION_SINGLE, t.IRQ_WORK)
VIRQS = {t.TIMER_VIRQ: Virq.TIMER, t.DEBUG_VIRQ: Virq.DEBUG}


class Abi(NamedTuple):
    """The ABI that guests set up, and which ports they give a priority of their own.

    Attributes
    ----------
    fifo : bool
        Else the 2-level one, which has no priorities.
    timers_first : bool
        VIRQ_TIMER has the highest one, as in Linux's xen_setup_timer.
    by_device : bool
        Both ends of a guest's device n have priority n.
    """

    fifo: bool
    timers_first: bool
    by_device: bool


def _do(op: int, who: int, channel: int = -1, arg: int = 0, pause: int = t.STEP) -> Instruction:
    return int(op), who, pause, channel, arg


def table(instructions: Iterable[Instruction]) -> Array:
    """Return a script as an array of INSTRUCTION, END included."""
    return np.array([*instructions, _do(t.END, t.GUEST)], t.INSTRUCTION)


# What one ABI alone asks for takes no draw, so that boots are alike under both.


def _init_control(vcpu: int) -> Instruction:
    """Give a vcpu its control block."""
    return _do(Op.INIT_CONTROL, t.GUEST, arg=vcpu, pause=t.NONE)


def _set_priority(who: int, channel: int, priority: int) -> Instruction:
    """Give a port its priority, for when it is linked next."""
    return _do(Op.SET_PRIORITY, who, channel, priority, pause=t.NONE)


def _init_irq(abi: Abi, ports: int) -> Iterator[Instruction]:
    """Set the FIFO ABI up, or mask every port before any is bound."""
    if abi.fifo:
        yield _init_control(0)
        return
    for port in range(1, ports + 1):
        yield _do(Op.MASK, t.GUEST, arg=port, pause=t.NONE)


def _vcpus(abi: Abi, vcpus: int) -> Iterator[Instruction]:
    """Bring the vcpus up: each one's VIRQs and IPIs, in Linux's order."""
    for vcpu in range(vcpus):
        for slot in range(t.PER_VCPU):
            channel = t.PER_DOMAIN + t.PER_VCPU * vcpu + slot
            if slot in VIRQS:
                yield _do(Op.BIND_VIRQ, t.GUEST, channel, VIRQS[slot] | vcpu << 8)
            else:
                yield _do(Op.BIND_IPI, t.GUEST, channel, vcpu)
            yield _do(Op.UNMASK, t.GUEST, channel)
            if slot == t.TIMER_VIRQ and abi.timers_first:
                yield _set_priority(t.GUEST, channel, 0)
        if abi.fifo and vcpu:
            yield _init_control(vcpu)
        yield _do(t.WAIT, t.GUEST, pause=t.PHASE)


def _pirqs(first: int, pirqs: int) -> Iterator[Instruction]:
    """Take the interrupts of a domain's devices."""
    for pirq in range(pirqs):
        yield _do(Op.BIND_PIRQ, t.GUEST, first + pirq, pirq)
        yield _do(Op.UNMASK, t.GUEST, first + pirq)


def dom0(abi: Abi, vcpus: int, pirqs: int, ports: int) -> Iterator[Instruction]:
    """Start dom0, which keeps `ports` ports for itself and its guests."""
    yield _do(Op.CREATE_DOMAIN, t.GUEST)
    yield from _init_irq(abi, ports)
    yield from _vcpus(abi, vcpus)
    for channel, virq in ((t.VIRQ_CONSOLE, Virq.CONSOLE), (t.VIRQ_DOM_EXC, Virq.DOM_EXC)):
        yield _do(Op.BIND_VIRQ, t.GUEST, channel, int(virq))
        yield _do(Op.UNMASK, t.GUEST, channel)
    yield from _pirqs(t.PER_DOMAIN + t.PER_VCPU * vcpus, pirqs)
    yield _do(t.RUN, t.GUEST)


def _xenstore(times: int) -> Iterator[Instruction]:
    """Ask xenstored something, and get the answer."""
    for _ in range(times):
        yield _do(Op.SEND, t.GUEST, t.XENSTORE, pause=t.PHASE)
        yield _do(Op.SEND, t.SERVICE, t.XENSTORE)


def _device(abi: Abi, channel: int, device: int, vcpu: int) -> Iterator[Instruction]:
    """Connect a frontend to its backend, and let both serve vcpus of their own."""
    priority = device % FIFO_PRIORITIES
    yield _do(Op.ALLOC_UNBOUND, t.GUEST, channel)
    if abi.by_device:
        yield _set_priority(t.GUEST, channel, priority)
    yield _do(Op.UNMASK, t.GUEST, channel)
    yield from _xenstore(1)
    yield _do(Op.BIND_INTERDOMAIN, t.SERVICE, channel)
    if abi.by_device:
        yield _set_priority(t.SERVICE, channel, priority)
    yield _do(Op.UNMASK, t.SERVICE, channel)
    yield from _rebind(t.SERVICE, channel, vcpu)
    if vcpu:
        yield from _rebind(t.GUEST, channel, vcpu)


def _rebind(who: int, channel: int, vcpu: int) -> Iterator[Instruction]:
    """Let a port notify another vcpu, as Linux's rebind_evtchn_to_cpu does."""
    yield _do(Op.MASK, who, channel)
    yield _do(Op.BIND_VCPU, who, channel, vcpu)
    yield _do(Op.UNMASK, who, channel)


def guest(abi: Abi, vcpus: int, devices: int, pirqs: int, ports: int) -> Iterator[Instruction]:
    """Start a guest, or a driver domain, which has PIRQs and keeps ports for its own guests."""
    yield _do(Op.CREATE_DOMAIN, t.GUEST)
    for channel in (t.XENSTORE, t.CONSOLE):
        yield _do(Op.ALLOC_UNBOUND, t.DOM0, channel)
    for channel in (t.XENSTORE, t.CONSOLE):
        yield _do(Op.BIND_INTERDOMAIN, t.SERVICE, channel)
        yield _do(Op.UNMASK, t.SERVICE, channel)
    yield _do(t.WAIT, t.GUEST, pause=t.PHASE)
    yield from _init_irq(abi, ports)
    yield from _vcpus(abi, vcpus)
    for channel in (t.CONSOLE, t.XENSTORE):
        yield _do(Op.UNMASK, t.GUEST, channel)
    yield from _xenstore(2)
    first = t.PER_DOMAIN + t.PER_VCPU * vcpus
    yield from _pirqs(first, pirqs)
    for device in range(devices):
        yield from _device(abi, first + device, device, device % vcpus)
        yield _do(t.WAIT, t.GUEST, pause=t.PHASE)
    yield _do(t.RUN, t.GUEST)


def attacker(abi: Abi) -> Iterator[Instruction]:
    """Start a domain that binds nothing."""
    yield _do(Op.CREATE_DOMAIN, t.GUEST)
    yield from _init_irq(abi, 0)
    yield _do(t.RUN, t.GUEST)


def _close(abi: Abi, who: int, channels: Iterable[int]) -> Iterator[Instruction]:
    """Mask and close, as Linux's shutdown of an interrupt does.

    Under the FIFO ABI a port that is closed while it is linked is busy, and Xen does not give it
    again until the guest has come by; so the guest comes by before.
    """
    for channel in channels:
        yield _do(Op.MASK, who, channel, pause=t.NONE)
        if abi.fifo:
            yield _do(t.UNLINKED, who, channel, pause=t.GRACE)
        yield _do(Op.CLOSE, who, channel)


def restart(abi: Abi, boot: list[Instruction], channels: range) -> Iterator[Instruction]:
    """Shut a guest down, device by device, and start another one in its place."""
    yield _do(t.HALT, t.GUEST, arg=ALL_KINDS, pause=t.PHASE)
    yield from _close(abi, t.GUEST, channels)
    yield from _close(abi, t.SERVICE, channels)
    yield _do(Op.RAISE_VIRQ, t.DOM0, t.VIRQ_DOM_EXC, Virq.DOM_EXC, pause=t.PHASE)
    yield _do(Op.DESTROY_DOMAIN, t.GUEST)
    yield _do(Op.RAISE_VIRQ, t.DOM0, t.VIRQ_DOM_EXC, Virq.DOM_EXC, pause=t.PHASE)
    yield from _close(abi, t.SERVICE, (t.XENSTORE, t.CONSOLE))
    yield _do(t.WAIT, t.GUEST, pause=t.DOWN)
    yield from boot


def crash(abi: Abi, boot: list[Instruction], channels: range) -> Iterator[Instruction]:
    """Destroy a guest whose load goes on for a moment: what comes too late fails or is dropped."""
    yield _do(t.HALT, t.GUEST, arg=1 << t.TIMER, pause=t.NONE)
    yield _do(Op.DESTROY_DOMAIN, t.GUEST)
    for _ in range(LINGERING_PHASES):
        yield _do(t.WAIT, t.GUEST, pause=t.PHASE)
    yield _do(t.HALT, t.GUEST, arg=ALL_KINDS)
    yield _do(Op.RAISE_VIRQ, t.DOM0, t.VIRQ_DOM_EXC, Virq.DOM_EXC, pause=t.PHASE)
    yield from _close(abi, t.SERVICE, (*channels, t.XENSTORE, t.CONSOLE))
    yield _do(t.WAIT, t.GUEST, pause=t.DOWN)
    yield from boot


def migrate(abi: Abi, boot: list[Instruction], channels: range) -> Iterator[Instruction]:
    """Suspend a guest, reset its channels and let it bind anew, as on the other side."""
    yield _do(t.HALT, t.GUEST, arg=ALL_KINDS, pause=t.PHASE)
    yield from _close(abi, t.SERVICE, (*channels, t.XENSTORE, t.CONSOLE))
    yield _do(Op.RESET, t.DOM0)
    yield _do(t.WAIT, t.GUEST, pause=t.DOWN)
    yield from boot[1:]  # it exists


@functools.cache
def lives(abi: Abi, vcpus: int, devices: int) -> tuple[Array, ...]:
    """Return a guest's scripts: boot, restart, crash, migrate."""
    first = t.PER_DOMAIN + t.PER_VCPU * vcpus
    boot = list(guest(abi, vcpus, devices, 0, first + devices))
    channels = range(first, first + devices)
    scripts = (boot, *(make(abi, boot, channels) for make in (restart, crash, migrate)))
    return tuple(table(script) for script in scripts)
