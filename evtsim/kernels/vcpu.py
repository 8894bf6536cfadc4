"""What every ABI does to a vcpu: marking it for an upcall, polling, waking.

Mirrors vcpu_mark_events_pending, do_poll and vcpu_unblock of Xen's scheduler.
"""

import numpy as np

from evtsim._jit import hot, kernel
from evtsim.kernels import due, stats
from evtsim.kernels.constants import EFFECT_KICK, EFFECT_POLL_WAKE


@kernel
def leave_poll(tables, dom, row):
    """Take a vcpu out of its domain's poll_mask."""
    v = tables.vcpus[row]
    if v["polling"]:
        v["polling"] = 0
        tables.domains[dom]["pollers"] -= 1
    v["poll_port"] = 0


@kernel
def unblock(tables, dom, row):
    """End a vcpu's poll; EFFECT_POLL_WAKE if it was blocked (vcpu_unblock).

    One that polls port 0 stays in poll_mask: Xen takes a poll_evtchn of 0 for none.
    """
    v = tables.vcpus[row]
    if v["poll_port"] != 0:
        leave_poll(tables, dom, row)
    if not v["blocked"]:
        return 0
    v["blocked"] = 0
    stats.on_poll_wake(tables, row)
    return EFFECT_POLL_WAKE


@hot
def mark_pending(tables, dom, row, told):
    """Set upcall_pending if `told` is 1; if that is new, kick (vcpu_mark_events_pending)."""
    v = tables.vcpus[row]
    pending = np.int64(v["upcall_pending"])
    kicked = told & (pending ^ 1)
    v["upcall_pending"] = pending | told
    effects = kicked * EFFECT_KICK
    if tables.level is not None or tables.guest is not None:
        if kicked:
            stats.on_kick(tables, dom, row)
            due.on_kick(tables, dom, row)
    waits = (np.int64(v["blocked"]) | np.int64(v["poll_port"])) != 0
    if kicked & np.int64(waits):  # rarely: spare the call
        effects |= unblock(tables, dom, row)
    return effects


@kernel
def wake_pollers(tables, dom, port):
    """Wake the vcpus that poll this port, or any; the effects (evtchn_check_pollers)."""
    domain = tables.domains[dom]
    first = np.int64(domain["first_vcpu"])
    effects = 0
    for row in range(first, first + domain["nr_vcpus"]):
        v = tables.vcpus[row]
        if v["polling"] and (v["poll_port"] == 0 or v["poll_port"] == port):
            leave_poll(tables, dom, row)
            effects |= unblock(tables, dom, row)
    return effects


@kernel
def block(tables, dom, row, port):
    """Let a vcpu wait for the port."""
    v = tables.vcpus[row]
    v["blocked"] = 1
    v["poll_port"] = port
    if not v["polling"]:
        v["polling"] = 1
        tables.domains[dom]["pollers"] += 1
