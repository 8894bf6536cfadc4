"""Numbers that Xen publishes, and those that traces add to them. No behaviour.

Hypercall sub-operations, port states, status codes and VIRQs carry the values of Xen's public
headers (``public/event_channel.h``, ``public/xen.h``, ``public/errno.h``). Records that are no
hypercalls (:class:`Op` from 64 on) and the effect flags are evtsim's own.
"""

from dataclasses import dataclass
from enum import IntEnum, IntFlag

DOMID_SELF = 0x7FF0
"""The domain id that stands for the caller."""

MAX_DOMAINS = 32_752
"""Domain ids from 0 to DOMID_FIRST_RESERVED - 1."""

MAX_VCPUS = 8192
"""The most vcpus that one domain may be configured with."""

NR_VIRQS = 24
MAX_PORT_2L = {32: 1024, 64: 4096}
"""Ports of the 2-level ABI by word size: a selector word of words."""

MAX_PORT_FIFO = 131_072
"""Ports of the FIFO ABI; Domain.max_port lies below it."""

FIFO_PRIORITIES = 16
"""Priorities of the FIFO ABI's queues, 0 the highest."""

FIFO_DEFAULT_PRIORITY = 7
FIFO_PAGE_WORDS = 1024
"""Event words in a page of the FIFO ABI's array."""

FIFO_PAGES = MAX_PORT_FIFO // FIFO_PAGE_WORDS
FIFO_CONTROL_LAST = 4024
"""The largest offset of a control block in its page."""


class EventWord(IntFlag):
    """The bits of a FIFO event word (EVTCHN_FIFO_*); below them LINK, a port."""

    PENDING = 1 << 31
    MASKED = 1 << 30
    LINKED = 1 << 29
    BUSY = 1 << 28


FIFO_LINK_MASK = (1 << 17) - 1

FIRST_NON_HYPERCALL = 64


class Op(IntEnum):
    """What a record asks for: event_channel_op's sub-operations, then the rest."""

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
    INIT_CONTROL = 11
    EXPAND_ARRAY = 12
    SET_PRIORITY = 13
    RESET_CONT = 14
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


GIVE_RESULT = (
    *(Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_PIRQ, Op.STATUS, Op.ALLOC_UNBOUND, Op.BIND_IPI),
    Op.INIT_CONTROL,
)
"""Hypercalls that copy a result out, which Fault.OUT keeps them from."""

OP_ARGS: dict[Op, tuple[str, ...]] = {
    Op.BIND_INTERDOMAIN: ("remote_dom", "remote_port"),
    Op.BIND_VIRQ: ("virq", "vcpu"),
    Op.BIND_PIRQ: ("pirq", "flags"),
    Op.CLOSE: ("port",),
    Op.SEND: ("port",),
    Op.STATUS: ("dom", "port"),
    Op.ALLOC_UNBOUND: ("dom", "remote_dom"),
    Op.BIND_IPI: ("vcpu",),
    Op.BIND_VCPU: ("port", "vcpu"),
    Op.UNMASK: ("port",),
    Op.RESET: ("dom",),
    Op.INIT_CONTROL: ("vcpu", "offset"),
    Op.EXPAND_ARRAY: (),
    Op.SET_PRIORITY: ("port", "priority"),
    Op.RESET_CONT: ("dom",),
    Op.RAISE_VIRQ: ("virq", "vcpu"),
    Op.RAISE_PIRQ: ("pirq",),
    Op.MASK: ("port",),
    Op.CLEAR_PENDING: ("port",),
    Op.UPCALL: (),
    Op.POLL: ("port",),
    Op.SET_UPCALL_MASK: ("value",),
    Op.ALLOC_XEN: ("remote_domid",),
    Op.FREE_XEN: ("port",),
    Op.NOTIFY_XEN: ("port",),
    Op.DESTROY_DOMAIN: (),
    Op.CREATE_DOMAIN: (),
}
"""The names of arg0 and arg1 per operation, Xen's own where Xen has one."""


class Fault(IntFlag):
    """The ``flags`` of a hypercall's record: which of its copies fails."""

    IN = 1
    OUT = 2


class PortState(IntEnum):
    """ECS_* of Xen's sched.h."""

    FREE = 0
    RESERVED = 1
    UNBOUND = 2
    INTERDOMAIN = 3
    PIRQ = 4
    VIRQ = 5
    IPI = 6


class Status(IntEnum):
    """EVTCHNSTAT_* as ``status`` gives them back."""

    CLOSED = 0
    UNBOUND = 1
    INTERDOMAIN = 2
    PIRQ = 3
    VIRQ = 4
    IPI = 5


class Virq(IntEnum):
    """VIRQ_* of public/xen.h; 16 to 23 belong to the architecture."""

    TIMER = 0
    DEBUG = 1
    CONSOLE = 2
    DOM_EXC = 3
    TBUF = 4
    DEBUGGER = 6
    XENOPROF = 7
    CON_RING = 8
    PCPU_STATE = 9
    MEM_EVENT = 10
    ARGO = 11
    ENOMEM = 12
    XENPMU = 13


class Errno(IntEnum):
    """The error numbers that event channels answer with."""

    EPERM = 1
    ENOENT = 2
    ESRCH = 3
    EACCES = 13
    EFAULT = 14
    EBUSY = 16
    EEXIST = 17
    EINVAL = 22
    ENOSPC = 28
    ENOSYS = 38
    EOPNOTSUPP = 95


class Effect(IntFlag):
    """What a record did to pending bits, selectors and vcpus."""

    SET = 1
    COALESCED = 2
    MASKED = 4
    SELECTED = 8
    KICK = 16
    POLL_WAKE = 32
    DROPPED = 64
    XEN = 128
    SAVED = 256
    NO_CONTROL_BLOCK = 512


@dataclass(frozen=True)
class Profile:
    """What one version of Xen decides by a constant.

    Attributes
    ----------
    name : str
        The profile's name in host files and on the command line.
    bucket_ports : int
        How many ports become valid together.
    vcpu_virqs : frozenset of int
        VIRQs that every vcpu binds for itself.
    domain_virqs : frozenset of int
        VIRQs that every domain may bind, on vcpu 0. All others are global.
    fifo : bool
        Whether it has the FIFO ABI, and what else came with the Xen that has it.
    """

    name: str
    bucket_ports: int
    vcpu_virqs: frozenset[int]
    domain_virqs: frozenset[int]
    fifo: bool


_VCPU_VIRQS = frozenset({Virq.TIMER, Virq.DEBUG, Virq.XENOPROF})

PROFILES = {
    profile.name: profile
    for profile in (
        # In 2010's Xen a global VIRQ may be bound in any domain.
        Profile("xen-4.0", 128, _VCPU_VIRQS, frozenset(range(NR_VIRQS)) - _VCPU_VIRQS, False),
        Profile("xen-4.23", 64, _VCPU_VIRQS | {Virq.XENPMU}, frozenset({Virq.ARGO}), True),
    )
}


def op_name(number: int) -> str:
    """Name an operation's number as it stands in frames and CSV files (``send``, ``op_122``)."""
    try:
        return Op(number).name.lower()
    except ValueError:
        return f"op_{number}"


OP_NUMBERS = {op_name(op): int(op) for op in Op}
"""Operation numbers by the name that :func:`op_name` gives."""


def errno_name(rc: int) -> str:
    """Name an rc: '' for 0, 'EINVAL' for -22, 'errno_5' for one that Xen does not use here."""
    if rc >= 0:
        return ""
    try:
        return Errno(-rc).name
    except ValueError:
        return f"errno_{-rc}"
