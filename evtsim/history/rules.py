"""Why an rc is what it is: Xen's checks per operation and profile, in order, as data.

The first check that fails gives the rc; none fails where rc is 0. The kernels decide all the
same: a property compares the two on every record, and a test compares the order with
docs/operations.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from evtsim import abi
from evtsim.abi import Errno, Op, PortState
from evtsim.history import xen
from evtsim.history.checks import (
    FIFO,
    FREE,
    FREE_IN_TARGET,
    IN_FRONT,
    IN_FRONT_OF_CREATE,
    IN_USE,
    MAY_ACT,
    MAY_NAME,
    MODERN,
    NAMING,
    NOT_XENS,
    POLL,
    RESULT,
    TARGET_ALIVE,
    VALID,
    XENS,
    Check,
    attached,
    invalid,
    missing_vcpu,
    not_in,
)
from evtsim.history.moment import Moment, Port, named

# Single operations -------------------------------------------------------------------------------


def _remote_not_alive(m: Moment) -> str | None:
    return None if m.alive(m.target) else f"dom {named(m.arg0)} is not alive"


def _peer(m: Moment) -> Port:
    return m.port(m.target, m.arg1)


def _peer_not_unbound(m: Moment) -> str | None:
    peer = _peer(m)
    if peer.state == PortState.UNBOUND:
        return None
    return f"{peer} is {peer.state.name}, not UNBOUND"


def _peer_not_open(m: Moment) -> str | None:
    peer = _peer(m)
    if peer.remote_dom == m.dom:
        return None
    return f"{peer} is open to dom {named(peer.remote_dom)}, not to dom {m.dom}"


BIND_INTERDOMAIN = (
    Check(Errno.ESRCH, "the remote domain is not alive", _remote_not_alive, NAMING, xen.REMOTE),
    FREE,
    Check(Errno.EINVAL, "the remote port is not valid", lambda m: invalid(m, m.target, m.arg1)),
    Check(Errno.EINVAL, "the remote port is not UNBOUND", _peer_not_unbound),
    Check(Errno.EINVAL, "the remote port is open to another domain", _peer_not_open),
)


def _no_virq(m: Moment) -> str | None:
    return (
        None
        if m.arg0 < abi.NR_VIRQS
        else f"there is no VIRQ {m.arg0}: the last is {abi.NR_VIRQS - 1}"
    )


def virq_name(virq: int) -> str:
    """Name a VIRQ as Xen does where it has a name."""
    try:
        return f"VIRQ {virq} ({abi.Virq(virq).name})"
    except ValueError:
        return f"VIRQ {virq}"


def _global_elsewhere(m: Moment) -> str | None:
    if m.arg0 in m.profile.vcpu_virqs or m.arg1 == 0:
        return None
    return f"{virq_name(m.arg0)} is no per-vcpu one and is asked for on vcpu {m.arg1}, not 0"


def _not_dom0s(m: Moment) -> str | None:
    anybodys = m.profile.vcpu_virqs | m.profile.domain_virqs
    if m.dom == 0 or m.arg0 in anybodys:
        return None
    return f"{virq_name(m.arg0)} is dom 0's, and dom {m.dom} asks for it"


def _virq_bound(m: Moment) -> str | None:
    port = m.virq_port(m.dom, m.arg0, m.arg1)
    where = f" on vcpu {m.arg1}" if m.arg0 in m.profile.vcpu_virqs else ""
    return f"{virq_name(m.arg0)} is bound to port {port}{where} already" if port else None


NR_VIRQS = Check(Errno.EINVAL, "there is no such VIRQ", _no_virq)
VCPU_IN_ARG0 = Check(Errno.ENOENT, "there is no such vcpu", lambda m: missing_vcpu(m, m.arg0))
VCPU_IN_ARG1 = Check(Errno.ENOENT, "there is no such vcpu", lambda m: missing_vcpu(m, m.arg1))
DOM0S = Check(Errno.EBUSY, "a global VIRQ is dom 0's", _not_dom0s, MODERN)
BIND_VIRQ = (
    NR_VIRQS,
    Check(Errno.EINVAL, "a VIRQ that is not per-vcpu goes to vcpu 0", _global_elsewhere),
    VCPU_IN_ARG1,
    DOM0S,
    Check(Errno.EEXIST, "the VIRQ is bound", _virq_bound),
    FREE,
)


def _no_pirq(m: Moment) -> str | None:
    known = m.domain(m.dom, "nr_pirqs")
    return None if m.arg0 < known else f"dom {m.dom} has no PIRQ {m.arg0}: it knows {known}"


def _no_pirqs_for_it(m: Moment) -> str | None:
    permitted = m.domain(m.dom, "pirq_permitted")
    return None if permitted else f"dom {m.dom} may not bind PIRQs (pirq_permitted)"


def _pirq_bound(m: Moment) -> str | None:
    port = m.pirq_port(m.dom, m.arg0)
    return f"PIRQ {m.arg0} is bound to port {port} already" if port else None


NR_PIRQS = Check(Errno.EINVAL, "there is no such PIRQ", _no_pirq)
BIND_PIRQ = (
    NR_PIRQS,
    Check(Errno.EPERM, "it may not bind PIRQs", _no_pirqs_for_it),
    Check(Errno.EEXIST, "the PIRQ is bound", _pirq_bound),
    FREE,
)

STATUS_VALID = Check(Errno.EINVAL, "the port is not valid", lambda m: invalid(m, m.target, m.arg1))


def _per_vcpu(m: Moment) -> str | None:
    port = m.own
    if port.state != PortState.VIRQ or port.remote_port not in m.profile.vcpu_virqs:
        return None
    return f"{port} has {virq_name(port.remote_port)}, a per-vcpu one, which does not move"


MOVABLE = (PortState.UNBOUND, PortState.INTERDOMAIN, PortState.PIRQ, PortState.VIRQ)
SENDABLE = (PortState.UNBOUND, PortState.INTERDOMAIN, PortState.IPI)


def _out_of_reach(m: Moment) -> str | None:
    if m.in_reach(m.dom, m.arg0):
        return None
    if m.fifo(m.dom):
        words = m.domain(m.dom, "event_pages") * abi.FIFO_PAGE_WORDS
        return f"dom {m.dom}'s port {m.arg0} has no event word: its array has {words:,}"
    return f"dom {m.dom}'s port {m.arg0} is beyond its bitmaps: they end at {m.abi_limit(m.dom):,}"


IN_REACH = Check(Errno.EINVAL, "the guest's memory has no bit for the port", _out_of_reach)


def _blocked(m: Moment) -> str | None:
    blocked = m.vcpu_field("blocked")
    return f"dom {m.dom}'s vcpu {m.vcpu} is blocked in a poll already" if blocked else None


def upcall_waits(m: Moment) -> bool:
    """Tell whether a poll returns at once because of an upcall, before it looks at the port."""
    return bool(m.vcpu_field("upcall_pending") and not m.vcpu_field("upcall_mask"))


def _polled_out_of_reach(m: Moment) -> str | None:
    return None if upcall_waits(m) else _out_of_reach(m)


def _polled_invalid(m: Moment) -> str | None:
    return None if upcall_waits(m) else invalid(m, m.dom, m.arg0)


def _polled_unusable(m: Moment) -> str | None:
    return None if upcall_waits(m) else unusable(m)


UNBLOCKED = Check(Errno.EINVAL, "the vcpu is blocked", _blocked, POLL)


def _bad_offset(m: Moment) -> str | None:
    if m.arg1 <= abi.FIFO_CONTROL_LAST and m.arg1 % 8 == 0:
        return None
    return f"offset {m.arg1} is no multiple of 8 up to {abi.FIFO_CONTROL_LAST}"


def _has_control(m: Moment) -> str | None:
    has = m.has_control(m.dom, m.arg0)
    return f"dom {m.dom}'s vcpu {m.arg0} has a control block already" if has else None


def _is_2l(m: Moment) -> str | None:
    return None if m.fifo(m.dom) else f"dom {m.dom} is under the 2-level ABI"


def _array_is_whole(m: Moment) -> str | None:
    whole = m.domain(m.dom, "event_pages") == abi.FIFO_PAGES
    return f"dom {m.dom}'s event array has all its {abi.FIFO_PAGES} pages" if whole else None


def _bad_priority(m: Moment) -> str | None:
    last = abi.FIFO_PRIORITIES - 1
    return None if m.arg1 <= last else f"{m.arg1} is no priority: 0 to {last} are"


def unusable(m: Moment) -> str | None:
    """Say that the port in arg0 is not usable, if so."""
    return None if m.own.usable else attached(m) or f"{m.own} is {m.own.state.name}"


def _at(section: str, function: xen.Function, *checks: Check) -> tuple[Check, ...]:
    return tuple(dataclasses.replace(c, section=section, function=function) for c in checks)


CHECKS: dict[Op, tuple[Check, ...]] = {
    Op.BIND_INTERDOMAIN: BIND_INTERDOMAIN,
    Op.BIND_VIRQ: BIND_VIRQ,
    Op.BIND_PIRQ: BIND_PIRQ,
    Op.CLOSE: (VALID, NOT_XENS, IN_USE),
    Op.SEND: (
        VALID,
        NOT_XENS,
        Check(Errno.EINVAL, "the port is FREE, RESERVED, PIRQ or VIRQ", not_in(*SENDABLE)),
    ),
    Op.STATUS: (TARGET_ALIVE, MAY_NAME, STATUS_VALID, MAY_ACT),
    Op.ALLOC_UNBOUND: (TARGET_ALIVE, MAY_NAME, FREE_IN_TARGET, MAY_ACT),
    Op.BIND_IPI: (VCPU_IN_ARG0, FREE),
    Op.BIND_VCPU: (
        VCPU_IN_ARG1,
        VALID,
        NOT_XENS,
        Check(Errno.EINVAL, "the port is FREE, RESERVED or IPI", not_in(*MOVABLE)),
        Check(Errno.EINVAL, "a per-vcpu VIRQ does not move", _per_vcpu),
    ),
    Op.UNMASK: (VALID,),
    Op.RESET: (TARGET_ALIVE, MAY_NAME, MAY_ACT),
    Op.INIT_CONTROL: _at(
        FIFO, xen.FIFO_INIT,
        VCPU_IN_ARG0,
        Check(Errno.EINVAL, "the offset is none of a control block", _bad_offset),
        Check(Errno.EINVAL, "the vcpu has a control block", _has_control),
    ),
    Op.EXPAND_ARRAY: (
        *_at(FIFO, xen.FIFO_EXPAND,
             Check(Errno.EOPNOTSUPP, "the domain is under the 2-level ABI", _is_2l)),
        *_at(FIFO, xen.FIFO_ADD_PAGE,
             Check(Errno.ENOSPC, "the event array is whole", _array_is_whole)),
    ),
    Op.SET_PRIORITY: (
        *_at(FIFO, xen.SET_PRIORITY, VALID),
        *_at(FIFO, xen.PORT_SET_PRIORITY,
             Check(Errno.ENOSYS, "the domain is under the 2-level ABI", _is_2l),
             Check(Errno.EACCES, "the port is not usable", unusable)),
        *_at(FIFO, xen.FIFO_SET_PRIORITY,
             Check(Errno.EINVAL, "there is no such priority", _bad_priority)),
    ),
    Op.RESET_CONT: (
        TARGET_ALIVE, MAY_ACT,
        Check(Errno.EBUSY, "only Xen itself goes on with a reset", lambda m: (
            f"Xen has no reset of dom {m.target} under way to go on with"), MODERN),
    ),
    Op.RAISE_VIRQ: (NR_VIRQS, VCPU_IN_ARG1),
    Op.RAISE_PIRQ: (NR_PIRQS,),
    Op.MASK: (IN_REACH,),
    Op.CLEAR_PENDING: (IN_REACH,),
    Op.UPCALL: (),
    Op.POLL: (
        UNBLOCKED,
        *_at(POLL, xen.POLL,
             Check(Errno.EINVAL, "the port is beyond the ABI's limit", _polled_out_of_reach)),
        *_at(MODERN, xen.POLL,
             Check(Errno.EINVAL, "the port is not valid", _polled_invalid),
             Check(Errno.EINVAL, "the port is not usable", _polled_unusable)),
    ),
    Op.SET_UPCALL_MASK: (),
    Op.ALLOC_XEN: (FREE,),
    Op.FREE_XEN: (VALID, XENS),
    Op.NOTIFY_XEN: (VALID, XENS),
    Op.DESTROY_DOMAIN: (),
    Op.CREATE_DOMAIN: (),
}  # fmt: skip
"""Every operation's own checks, of both profiles."""

ONLY_IN = {
    "xen-4.0": {MAY_NAME, CHECKS[Op.POLL][1]},
    "xen-4.23": {MAY_ACT, DOM0S, *CHECKS[Op.POLL][2:]},
}
"""Checks that one profile knows."""


def checks_of(profile: str, op: int) -> tuple[Check, ...]:
    """Return an operation's own checks under a profile, in order."""
    if op not in CHECKS:
        return ()
    others = {check for name, known in ONLY_IN.items() if name != profile for check in known}
    return tuple(check for check in CHECKS[Op(op)] if check not in others)


def all_checks(moment: Moment) -> Iterator[Check]:
    """Yield what is asked of a record until its rc is known, in order."""
    if moment.op == Op.CREATE_DOMAIN:
        yield from IN_FRONT_OF_CREATE
    else:
        yield from IN_FRONT
        yield from checks_of(moment.profile.name, moment.op)
    yield RESULT


def first_failure(moment: Moment) -> tuple[Check, str] | None:
    """Return the first check that fails and how, or None where rc is 0.

    A check may trust that those before it have passed.
    """
    for check in all_checks(moment):
        words = check.words(moment)
        if words is not None:
            return check, words
    return None
