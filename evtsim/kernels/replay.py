"""The loop over records: checks in front of every operation, dispatch, outcome.

Runs until the stretch ends or an operation might need room that there is not, in the pool, for
event words or in a log; the caller then makes room and goes on at that record.
"""

import numpy as np

from evtsim._jit import entry, hot, hot_if, kernel
from evtsim.dtypes import TALLY_OPS
from evtsim.kernels import actions, around, fifo, guest, ports, stats, timeline
from evtsim.kernels.bits import prefetch
from evtsim.kernels.constants import (
    ALLOC_UNBOUND,
    ALLOC_XEN,
    BIND_INTERDOMAIN,
    BIND_IPI,
    BIND_PIRQ,
    BIND_VCPU,
    BIND_VIRQ,
    CLEAR_PENDING,
    CLOSE,
    CREATE_DOMAIN,
    DESTROY_DOMAIN,
    EEXIST,
    EFAULT,
    ENOENT,
    ENOSYS,
    ESRCH,
    EXPAND_ARRAY,
    FAULT_IN,
    FAULT_OUT,
    FIRST_NON_HYPERCALL,
    FREE_XEN,
    GIVE_RESULT,
    INIT_CONTROL,
    INTERDOMAIN,
    NOTIFY_XEN,
    POLL,
    RESET,
    RESET_CONT,
    SET_PRIORITY,
    SET_UPCALL_MASK,
    STATUS,
)

PORT_AHEAD = 24
"""Records ahead at which a port's entry is asked for: far enough to arrive from memory."""


@hot
def look_ahead(tables, trace, record, stop):
    """Ask for the entry of the port that a record to come names. Changes nothing.

    What that port is connected to lies denser, and asking for it too costs more than it saves;
    its statistics do not.
    """
    i = np.uint64(min(record + PORT_AHEAD, stop - 1))
    dom = np.int64(trace.dom[i])
    port = np.int64(trace.arg0[i])
    if dom < len(tables.domains) and port >> 7 < len(tables.buckets):
        # What is not valid lies in bucket 0, or in one that was valid once.
        prefetch(tables.routes, ports.pool_index(tables, dom, port))


@hot
def last_hypercall(tables):
    """Return the highest number of a hypercall that the profile knows."""
    return RESET if tables.modern is None else RESET_CONT


@hot
def may_start(tables, dom, vcpu, op, flags):
    """Return what is checked in front of every operation: 0 or a negative errno."""
    if dom >= len(tables.domains):
        return -ESRCH
    domain = tables.domains[dom]
    if op == CREATE_DOMAIN:
        if vcpu >= domain["nr_vcpus"]:
            return -ENOENT
        return -EEXIST if domain["alive"] else 0
    if not domain["alive"]:
        return -ESRCH
    if vcpu >= domain["nr_vcpus"]:
        return -ENOENT
    if op > CREATE_DOMAIN or last_hypercall(tables) < op < FIRST_NON_HYPERCALL:
        return -ENOSYS
    if op < FIRST_NON_HYPERCALL and flags & FAULT_IN:
        return -EFAULT
    return 0


@kernel
def operate(tables, dom, vcpu, op, arg0, arg1):
    """Run an operation that has no path of its own; 0 or a negative errno.

    What else it gives back is in tables.result.
    """
    if op == BIND_INTERDOMAIN:
        return ports.bind_interdomain(tables, dom, arg0, arg1)
    if op == BIND_VIRQ:
        return ports.bind_virq(tables, dom, arg0, arg1)
    if op == BIND_PIRQ:
        return ports.bind_pirq(tables, dom, arg0)
    if op == CLOSE:
        return ports.close(tables, dom, arg0)
    if op == STATUS:
        return ports.status(tables, dom, arg0, arg1)
    if op == ALLOC_UNBOUND:
        return ports.alloc_unbound(tables, dom, arg0, arg1)
    if op == BIND_IPI:
        return ports.bind_ipi(tables, dom, arg0)
    if op == BIND_VCPU:
        return ports.bind_vcpu(tables, dom, arg0, arg1)
    if op == RESET:
        return ports.reset(tables, dom, arg0)
    if op == INIT_CONTROL:
        return ports.init_control(tables, dom, arg0, arg1)
    if op == EXPAND_ARRAY:
        return fifo.expand_array(tables, dom)
    if op == SET_PRIORITY:
        return fifo.set_priority(tables, dom, arg0, arg1)
    if op == RESET_CONT:
        return ports.reset_cont(tables, dom, arg0)
    if op == CLEAR_PENDING:
        return around.clear_pending(tables, dom, arg0)
    if op == POLL:
        return around.poll(tables, dom, vcpu, arg0)
    if op == SET_UPCALL_MASK:
        return around.set_upcall_mask(tables, dom, vcpu, arg0)
    if op == ALLOC_XEN:
        return around.alloc_xen(tables, dom, vcpu, arg0)
    if op == FREE_XEN:
        return around.free_xen(tables, dom, arg0)
    if op == NOTIFY_XEN:
        return around.notify_xen(tables, dom, arg0)
    if op == DESTROY_DOMAIN:
        return around.destroy_domain(tables, dom)
    return around.create_domain(tables, dom)


@kernel
def has_room(tables):
    """Tell whether any operation may start: with a bucket and a page to spare, and edges."""
    host = tables.host[0]
    if host["buckets_used"] << 7 == len(tables.ports):
        return False
    return fifo.has_page(tables) and stats.has_edge_room(tables)


@kernel
def apply(tables, trace, outcome, i):
    """Apply a record that `resolve` leaves; False if it needs room that there is not."""
    dom = np.int64(trace.dom[i])
    vcpu = np.int64(trace.vcpu[i])
    op = np.int64(trace.op[i])
    flags = np.int64(trace.flags[i])
    result = tables.result[0]
    result["port"] = 0
    result["vcpu"] = 0
    result["remote_dom"] = 0
    result["remote_port"] = 0
    result["effects"] = 0
    rc = may_start(tables, dom, vcpu, op, flags)
    if rc == 0:
        if not has_room(tables):
            return False
        rc = operate(tables, dom, vcpu, op, np.int64(trace.arg0[i]), np.int64(trace.arg1[i]))
        if rc == 0 and flags & FAULT_OUT and op in GIVE_RESULT:
            rc = -EFAULT
    row = min(op, TALLY_OPS - 1)
    if rc == 0:
        outcome.port[i] = result["port"]
        outcome.vcpu[i] = result["vcpu"]
        outcome.remote_dom[i] = result["remote_dom"]
        outcome.remote_port[i] = result["remote_port"]
        tables.done[row] += 1
    else:
        outcome.rc[i] = rc
        tables.failed[row, -rc] += 1
    stats.record(tables, dom, op, rc, trace.ts[i])
    if rc and dom < len(tables.domains):
        stats.on_error(tables, dom)
    outcome.effects[i] = result["effects"]
    tables.effects[result["effects"]] += 1
    return True


@hot_if("guest")
def guests_catch_up(tables, trace, i):
    """Let happen what is due before a record, in the domains that it may touch."""
    dom = np.int64(trace.dom[i])
    if dom >= len(tables.domains):
        return
    other = other_domain(tables, dom, np.int64(trace.op[i]), np.int64(trace.arg0[i]))
    while True:
        guest.catch_up(tables, dom, trace.ts[i])
        if other < 0:
            return
        dom = other
        other = -1


@hot
def other_domain(tables, dom, op, arg0):
    """Return the other domain whose bits or vcpus an operation may touch, or -1."""
    if op == NOTIFY_XEN:
        if ports.is_valid(tables, dom, arg0):
            p = tables.ports[np.uint64(ports.pool_index(tables, dom, arg0))]
            if p["state"] == INTERDOMAIN:
                return np.int64(p["remote_dom"])
    elif op == RESET or op == ALLOC_UNBOUND:  # which looks for a port that is not busy
        if arg0 & ports.DOMID_MASK < len(tables.domains):
            return arg0 & ports.DOMID_MASK
    return -1


@hot
def resolve(tables, trace, start, first, last, stop, block, counting, prefetching):
    """Resolve records `first` to `last` of the block that begins with record `start`.

    Returns the number in the block of the first one that is left to `apply`, else `last`. Without
    counting, changes nothing but the block's routes.
    """
    for k in range(first, last):
        if prefetching:
            look_ahead(tables, trace, start + k, stop)
        i = np.uint64(start + k)  # such an index needs no test for counting from the end
        route = actions.resolve(tables, trace, i)
        if route == actions.LEFT:
            return k
        if counting:
            actions.count(tables, trace, i, route)
        block[np.uint64(k)] = route
    return last


@entry
def replay(tables, trace, outcome, start, stop, routes, prefetching):
    """Apply records start to stop of a stretch; the number of the first one not applied.

    Parameters
    ----------
    tables : Tables
        Modified in place.
    trace : Columns
        Read-only, contiguous, 1-D.
    outcome : OutcomeColumns
        As long as the trace, all zero from `start` on; only what is not zero is stored, so that
        pages of rarely used columns are never touched.
    start, stop : int64
    routes : int64 array
        Scratch, for as many records as are resolved at a time.
    prefetching : bool
        Worth it where the tables do not fit the caches.
    """
    room = 0  # in the log, for that many records at least
    while start < stop:
        if room <= 0:
            room = stats.log_room(tables)
            if room <= 0:
                return start
        end = min(stop, start + min(len(routes), room))
        timeline.begin(tables, trace.ts[np.uint64(start)], trace.ts[np.uint64(end - 1)])
        count = resolve(tables, trace, start, 0, end - start, end, routes, True, prefetching)
        if count:
            times = trace.ts[start : start + count]
            actions.act_in_order(
                tables, outcome, start, 0, count, routes, times, routes[:0], 0, prefetching
            )
        else:
            i = np.uint64(start)
            guests_catch_up(tables, trace, i)
            if not apply(tables, trace, outcome, i):
                return start
            count = 1
            room = 0  # it may have notified any number of ports
        start += count
        room -= count
        timeline.be(tables, trace.ts[np.uint64(start - 1)])
    return stop


@entry
def advance(tables, ts):
    """Let all happen that is due before ts, and let it be ts; False if the log is full.

    Parameters
    ----------
    tables : Tables
        With a guest; modified in place.
    ts : uint64
        ns; NEVER: until nothing is due, and the time is that of the last thing done.
    """
    return guest.run_all(tables, ts)
