"""A slow, readable model of Xen's event channels, to compare the fast simulator with.

Everything is a plain Python object and every operation is one method, in the order in which
docs/semantics.md lists its checks and its effect. What does not belong here: anything that makes
it faster, anything imported from evtsim (sharing a definition would mean sharing its mistakes),
and anything about time, since ``ts`` has no say in what an operation does.

``interface`` holds what goes in and comes out; ``profiles`` in which ways Xens differ; ``domain``
the bookkeeping that involves no other domain; ``two_level`` and ``fifo`` what the guest sees of
its events, behind the same names as Xen's evtchn_port_ops; ``host`` the operations; ``tables``
what can be looked at; ``invariants`` what holds in every state.
"""

from tests.reference.domain import Channel, Domain, Vcpu
from tests.reference.fifo import ControlBlock, EventWord, Fifo
from tests.reference.host import ReferenceHost
from tests.reference.interface import (
    DOMID_SELF,
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
from tests.reference.invariants import check_invariants
from tests.reference.profiles import PROFILES, Profile
from tests.reference.two_level import TwoLevel

__all__ = [
    "DOMID_SELF",
    "PROFILES",
    "Channel",
    "ControlBlock",
    "Domain",
    "DomainConfig",
    "Effect",
    "Errno",
    "EventWord",
    "Fifo",
    "Flag",
    "Op",
    "Outcome",
    "Profile",
    "Record",
    "ReferenceHost",
    "State",
    "TwoLevel",
    "Vcpu",
    "XenError",
    "check",
    "check_invariants",
]
