"""What Xen asks in front of every operation, and of domains, ports and vcpus in many of them.

The checks of single operations, and their order, are in `rules`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from evtsim import abi
from evtsim.abi import GIVE_RESULT, OP_ARGS, Errno, Fault, Op, PortState
from evtsim.history import xen
from evtsim.history.moment import Moment, named

FRONT = "Checks in front of every operation"
OPERATIONS = "Operations"
NAMING = "Who may name which domain"
FREE_PORT = "Finding a free port"
POLL = "Poll and unblock"
FAULTS = "Faults"
XEN_CHANNELS = "Channels attached to Xen"
MODERN = "Profile xen-4.23"
FIFO = "The FIFO ABI"


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that is asked before an operation is carried out.

    Attributes
    ----------
    errno : Errno
        The answer where it fails.
    rule : str
        When it fails, in general.
    words : callable
        Says of a moment how it fails there, or returns None where it passes.
    section : str
        Heading of docs/semantics.md.
    function : Function or None
        The function that decides; None: the operation's own.
    """

    errno: Errno
    rule: str
    words: Callable[[Moment], str | None]
    section: str = OPERATIONS
    function: xen.Function | None = None


# In front of every operation ---------------------------------------------------------------------


def _not_configured(m: Moment) -> str | None:
    if m.configured(m.dom):
        return None
    return f"the host has no dom {m.dom}: it has {len(m.tables.domains)}"


def _not_alive(m: Moment) -> str | None:
    return None if m.alive(m.dom) else f"dom {m.dom} is not alive"


def _no_vcpu(m: Moment) -> str | None:
    return missing_vcpu(m, m.vcpu)


def missing_vcpu(m: Moment, vcpu: int) -> str | None:
    """Say that the caller has no such vcpu, if so."""
    count = m.domain(m.dom, "nr_vcpus")
    return None if vcpu < count else f"dom {m.dom} has no vcpu {vcpu}: it has {count}"


def _exists(m: Moment) -> str | None:
    return f"dom {m.dom} is alive already" if m.alive(m.dom) else None


def is_known(profile: abi.Profile, op: int) -> bool:
    """Tell whether a profile has an operation."""
    last = Op.RESET_CONT if profile.fifo else Op.RESET
    return op <= last or abi.FIRST_NON_HYPERCALL <= op <= max(Op)


def _unknown(m: Moment) -> str | None:
    if is_known(m.profile, m.op):
        return None
    name = f" ({Op(m.op).name.lower()})" if m.op in OP_ARGS else ""
    return f"{m.profile.name} has no operation {m.op}{name}"


def _argument_unreadable(m: Moment) -> str | None:
    if m.op >= abi.FIRST_NON_HYPERCALL or not m.flags & Fault.IN:
        return None
    return "its argument cannot be read (flag IN)"


CONFIGURED = Check(Errno.ESRCH, "dom is not configured", _not_configured, FRONT, xen.NOBODY)
VCPU_EXISTS = Check(Errno.ENOENT, "vcpu is not configured in dom", _no_vcpu, FRONT, xen.NOBODY)

IN_FRONT = (
    CONFIGURED,
    Check(Errno.ESRCH, "dom is not alive", _not_alive, FRONT, xen.NOBODY),
    VCPU_EXISTS,
    Check(Errno.ENOSYS, "the operation is unknown", _unknown, FRONT, xen.DISPATCH),
    Check(Errno.EFAULT, "the argument cannot be read", _argument_unreadable, FRONT, xen.DISPATCH),
)

IN_FRONT_OF_CREATE = (
    CONFIGURED,
    VCPU_EXISTS,
    Check(Errno.EEXIST, "the domain is alive", _exists, FRONT, xen.NOBODY),
)


def result_unwritable(m: Moment) -> str | None:
    """Say that what it gives back cannot be copied out, if so."""
    if m.op not in GIVE_RESULT or not m.flags & Fault.OUT:
        return None
    return "all is done and stays so, but its result cannot be written (flag OUT)"


RESULT = Check(
    Errno.EFAULT, "the result cannot be written", result_unwritable, FAULTS, xen.DISPATCH
)
"""After everything else has passed, and been done."""


# Domains and ports -------------------------------------------------------------------------------


def _target_not_alive(m: Moment) -> str | None:
    if m.names_itself or m.alive(m.target):
        return None
    return f"dom {named(m.arg0)}, which it names, is not alive"


def _may_not_name(m: Moment) -> str | None:
    if m.names_itself or m.domain(m.dom, "privileged"):
        return None
    own = " (its own number is not DOMID_SELF)" if m.target == m.dom else ""
    return f"dom {m.dom} is not privileged and names dom {named(m.arg0)}{own}"


def _may_not_act(m: Moment) -> str | None:
    if m.target == m.dom or m.domain(m.dom, "privileged"):
        return None
    return f"dom {m.dom} is not privileged and acts on dom {m.target}"


TARGET_ALIVE = Check(
    Errno.ESRCH, "the domain it names is not alive", _target_not_alive, NAMING, xen.TARGET
)
MAY_NAME = Check(
    Errno.EPERM, "it names a domain other than by DOMID_SELF and is not privileged",
    _may_not_name, NAMING, xen.TARGET,
)  # fmt: skip
MAY_ACT = Check(
    Errno.EPERM,
    "it acts on another domain and is not privileged",
    _may_not_act,
    MODERN,
    xen.MAY_ACT,
)


def _full(m: Moment, dom: int) -> str | None:
    if m.has_free_port(dom):
        return None
    limit = m.domain(dom, "max_ports")
    what = "in use or still linked" if m.fifo(dom) else "in use"
    return f"dom {dom} has no free port: all {limit:,} below its limit are {what}"


FREE = Check(
    Errno.ENOSPC, "there is no free port", lambda m: _full(m, m.dom), FREE_PORT, xen.FREE_PORT
)
FREE_IN_TARGET = dataclasses.replace(FREE, words=lambda m: _full(m, m.target))


def invalid(m: Moment, dom: int, port: int) -> str | None:
    """Say that a living domain's port is not valid, if so."""
    if m.valid(dom, port):
        return None
    return f"dom {dom}'s port {port} is not valid: {m.domain(dom, 'nr_ports'):,} are, from 0 on"


def not_in(*states: PortState) -> Callable[[Moment], str | None]:
    """Make what says that the port in arg0 is in none of these states."""

    def words(m: Moment) -> str | None:
        port = m.own
        return None if port.state in states else f"{port} is {port.state.name}"

    return words


def attached(m: Moment) -> str | None:
    """Say that the port in arg0 is attached to Xen, if so."""
    return f"{m.own} is attached to Xen" if m.own.xen else None


def _not_attached(m: Moment) -> str | None:
    return None if m.own.xen else f"{m.own} is {m.own.state.name} and not attached to Xen"


VALID = Check(Errno.EINVAL, "the port is not valid", lambda m: invalid(m, m.dom, m.arg0))
NOT_XENS = Check(Errno.EINVAL, "the port is attached to Xen", attached)
XENS = Check(Errno.EINVAL, "the port is not attached to Xen", _not_attached, section=XEN_CHANNELS)
IN_USE = Check(Errno.EINVAL, "the port is FREE or RESERVED", not_in(*list(PortState)[2:]))
