"""Sends, interrupts, upcalls, masks and unmasks: nearly all records of a trace, in two steps.

None of them changes what a port is. So a block of them is resolved first: what each does, to
which port of which domain. That needs what ports are and nothing else, each record by itself, in
any order. Then the actions are carried out, each on one domain, in each domain's order.
"""

import numpy as np

from evtsim._jit import hot, hot_if
from evtsim.dtypes import VIRQ_VCPU
from evtsim.kernels import due, guest, pool, port_ops, ports, routes, stats, timeline, two_level
from evtsim.kernels.bits import prefetch
from evtsim.kernels.constants import (
    EINVAL,
    ENOENT,
    FAULT_IN,
    FIRST_NON_HYPERCALL,
    INTERDOMAIN,
    IPI,
    MASK,
    NR_VIRQS,
    PIRQ,
    RAISE_PIRQ,
    RAISE_VIRQ,
    SEND,
    UNMASK,
    UPCALL,
    VIRQ,
)

# What a record does: kinds of routes, see dtypes.py. Those up to 3 notify a port: they tell its
# state.
TO_PEER = 0
NOTIFY_LAST = 3
DO_UPCALL = 4
TO_MASK = 5  # vcpu: 1 to mask, 0 to unmask
TO_NOWHERE = 6  # sent on a port of dom's that notifies no other
NOTHING = 7
FAIL = 8  # port: the errno

LEFT = -1
"""In place of a route: not one of these operations, or something keeps it from starting."""

AHEAD = 16
"""Actions ahead at which what only an action touches is asked for."""

WINDOW = 256
MOSTLY = 170
"""Of a window's actions: where more coalesce, a branch on that pays."""


@hot
def resolve(tables, trace, i):
    """Return what a record does and to whom, or LEFT for the way that all operations can go.

    Changes nothing, and depends on nothing that any of these records changes.
    """
    dom = np.int64(trace.dom[i])
    if dom >= len(tables.domains):
        return LEFT
    port = np.int64(trace.arg0[i])
    domain = tables.domains[dom]
    # A dead domain has no ports.
    if trace.op[i] == SEND and port < domain["nr_ports"]:
        route = tables.routes[np.uint64(pool.pool_index(tables, dom, port))]
        if route and trace.vcpu[i] < domain["nr_vcpus"] and trace.flags[i] == 0:
            return route
    return resolve_any(tables, trace, i)


@hot
def resolve_any(tables, trace, i):
    """Return the same as `resolve`, for all records of a domain that is configured."""
    dom = np.int64(trace.dom[i])
    vcpu = np.int64(trace.vcpu[i])
    op = np.int64(trace.op[i])
    domain = tables.domains[dom]
    if not domain["alive"] or vcpu >= domain["nr_vcpus"]:
        return LEFT
    if trace.flags[i] & FAULT_IN and op < FIRST_NON_HYPERCALL:
        return LEFT
    port = np.int64(trace.arg0[i])
    if op == UPCALL:
        return routes.packed(DO_UPCALL, dom, vcpu, 0)
    if op == RAISE_VIRQ:
        return virq_route(tables, dom, port, np.int64(trace.arg1[i]))
    if op == RAISE_PIRQ:
        return pirq_route(tables, dom, port)
    if op == MASK:
        if port_ops.in_reach(tables, dom, port):
            return routes.packed(TO_MASK, dom, 1, port)
    elif op == UNMASK:
        if port < domain["nr_ports"]:
            return routes.packed(TO_MASK, dom, 0, port)
    elif op == SEND:
        if port < domain["nr_ports"]:
            index = pool.pool_index(tables, dom, port)
            if tables.routes[index]:
                return tables.routes[index]
            if ports.may_send(tables, index):
                return routes.packed(TO_NOWHERE, dom, 0, port)
    else:
        return LEFT
    return routes.packed(FAIL, dom, 0, EINVAL)


@hot
def virq_route(tables, dom, virq, vcpu):
    """Return what send_guest_vcpu_virq, or send_guest_global_virq by the VIRQ's kind, comes to."""
    if virq >= NR_VIRQS:
        return routes.packed(FAIL, dom, 0, EINVAL)
    if vcpu >= tables.domains[dom]["nr_vcpus"]:
        return routes.packed(FAIL, dom, 0, ENOENT)
    port = np.int64(tables.virqs[virq, ports.virq_row(tables, dom, virq, vcpu)])
    if port and tables.virq_kinds[virq] == VIRQ_VCPU:  # whose port always notifies its owner
        return routes.packed(routes.notify(VIRQ), dom, vcpu, port)
    return own_route(tables, dom, port, VIRQ)


@hot
def pirq_route(tables, dom, pirq):
    """Return what send_guest_pirq comes to."""
    domain = tables.domains[dom]
    if pirq >= domain["nr_pirqs"]:
        return routes.packed(FAIL, dom, 0, EINVAL)
    port = np.int64(tables.pirqs[np.int64(domain["first_pirq"]) + pirq])
    return own_route(tables, dom, port, PIRQ)


@hot
def own_route(tables, dom, port, state):
    """Return what notifying a domain's own port on its notify vcpu is; port is 0 for none."""
    if port == 0:
        return routes.packed(NOTHING, dom, 0, 0)
    vcpu = np.int64(tables.ports[pool.pool_index(tables, dom, port)]["notify_vcpu"])
    return routes.packed(routes.notify(state), dom, vcpu, port)


@hot
def count(tables, trace, i, route):
    """Count a resolved record by operation and answer."""
    op = np.int64(trace.op[i])
    dom = np.int64(trace.dom[i])
    if routes.kind(route) == FAIL:
        errno = routes.port(route)
        tables.failed[op, errno] += 1
        stats.record(tables, dom, op, -errno, trace.ts[i])
    else:
        tables.done[np.uint64(op)] += 1
        stats.record_done(tables, dom, op, trace.ts[i])


@hot
def act(tables, outcome, i, ts, route, often):
    """Carry out what record i does; `often` is set_pending's. The effects."""
    kind, dom, vcpu, port = routes.unpacked(route)
    timeline.tick(tables, ts)
    catch_up(tables, dom, ts)
    effects = 0
    if kind == TO_PEER:  # apart, and first: nearly all records
        effects = notify(tables, dom, vcpu, port, INTERDOMAIN, often)
    elif kind == DO_UPCALL:
        outcome.port[i] = port_ops.upcall(tables, dom, vcpu)
    elif kind == TO_MASK:
        index = pool.pool_index(tables, dom, port)
        due.cancel_eoi(tables, index)
        if vcpu:
            port_ops.set_mask(tables, dom, port)
        else:
            effects = port_ops.unmask(tables, dom, port, index)
    elif kind <= NOTIFY_LAST:
        state = routes.state(kind)
        effects = notify(tables, dom, vcpu, port, state, often)
        if state != IPI:
            outcome.port[i] = port
    elif kind == TO_NOWHERE:
        effects = ports.send_nowhere(tables, pool.pool_index(tables, dom, port))
    elif kind == FAIL:
        outcome.rc[i] = -port
        stats.on_error(tables, dom)
    outcome.effects[i] = effects
    tables.effects[np.uint64(effects)] += 1
    return effects


@hot
def notify(tables, dom, vcpu, port, state, often):
    """Notify a port in a state; the effects."""
    index = pool.pool_index(tables, dom, port)
    return port_ops.set_pending(tables, dom, vcpu, port, index, state, often)


@hot_if("guest")
def catch_up(tables, dom, ts):
    """Let a domain's guest do what is due before ts."""
    guest.catch_up(tables, dom, ts)


@hot_if("level")
def look_ahead(tables, route):
    """Ask for the statistics that an action to come will touch. Changes nothing."""
    kind, dom, vcpu, port = routes.unpacked(route)
    if kind == DO_UPCALL:
        two_level.look_ahead(tables, dom, vcpu)
    else:
        prefetch(tables.port_stats, pool.pool_index(tables, dom, port))


@hot_if("guest")
def look_ahead_of_guest(tables, route):
    """Ask for the place of the EOI that a port may soon wait for. Changes nothing."""
    if len(tables.eois) > 1:
        index = pool.pool_index(tables, routes.domain(route), routes.port(route))
        prefetch(tables.eois, index)


@hot
def act_in_order(tables, outcome, start, first, last, todo, times, records, often, prefetching):
    """Carry out routes `first` to `last` of a block that begins with record `start`.

    `times` are their records' ts, and `records` their numbers in the block; if that is empty, they
    are in order. Returns whether notifications nearly always coalesce, as `often` says of those
    before.
    """
    while first < last:
        end = min(last, (first | (WINDOW - 1)) + 1)
        coalesced = 0
        for k in range(first, end):
            at = np.uint64(k)
            if prefetching:
                ahead = np.uint64(min(k + AHEAD, last - 1))
                look_ahead(tables, todo[ahead])
                look_ahead_of_guest(tables, todo[ahead])
                if len(records):  # which lie far apart
                    prefetch(outcome.effects, start + records[ahead])
            i = np.uint64(start + (records[at] if len(records) else k))
            coalesced += (act(tables, outcome, i, times[at], todo[at], often) >> 1) & 1
        if end & (WINDOW - 1) == 0:
            often = 1 if coalesced > MOSTLY else 0
        first = end
    return often
