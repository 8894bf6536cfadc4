"""What goes into the reference model and what comes out: numbers, records, outcomes, errors.

No behaviour, and nothing about what a domain is made of.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import NamedTuple

DOMID_SELF = 0x7FF0
FIRST_NON_HYPERCALL = 64


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


BINDS = {Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_PIRQ, Op.ALLOC_UNBOUND, Op.BIND_IPI}
HYPERCALLS_WITH_RESULT = BINDS | {Op.STATUS, Op.INIT_CONTROL}


class Flag(IntFlag):
    """Bits of a record's ``flags``: a guest pointer that cannot be read, or written."""

    FAULT_IN = 1
    FAULT_OUT = 2


class Errno(IntEnum):
    """Xen's error numbers, as far as event channels use them."""

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
    SAVED = 256
    NO_CONTROL_BLOCK = 512


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
