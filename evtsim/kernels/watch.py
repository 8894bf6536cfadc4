"""The loop over records with an eye on one port: at which of them its state or its bits changed.

What a record does is what `replay` does; here the port is looked at after every record and, with a
guest, after every moment at which its domain had something due. Without statistics: their logs
would have to be given room between such moments.
"""

import numpy as np

from evtsim._jit import entry, hot, hot_if, kernel
from evtsim.kernels import fifo, guest, pool, port_ops
from evtsim.kernels.bits import bit
from evtsim.kernels.replay import replay

UNSEEN = -2
"""The state of a port that has not been looked at yet."""
INVALID = -1
"""The state of a port that is not valid: of no bucket, or of a domain that is not alive."""


@hot
def state_of(tables, dom, port):
    """Return a port's state, or INVALID."""
    if not pool.is_valid(tables, dom, port):  # a domain that is not alive has no valid port
        return np.int64(INVALID)
    return np.int64(tables.ports[pool.pool_index(tables, dom, port)]["state"])


@hot
def bits_of(tables, dom, port):
    """Return pending and mask of the ABI in use as 0 or 1.

    A port without a bit there reads 0 and 1, as in State.ports; without a domain, 0 and 0.
    """
    if not tables.domains[dom]["alive"]:
        return np.int64(0), np.int64(0)
    if not port_ops.in_reach(tables, dom, port):
        return np.int64(0), np.int64(1)
    if port_ops.is_fifo(tables, dom):
        return fifo_bits(tables, dom, port)
    word = tables.shared[port >> 6, dom]
    flag = bit(port & 63)
    pending = np.int64(1) if word["pending"] & flag else np.int64(0)
    return pending, np.int64(1) if word["mask"] & flag else np.int64(0)


@hot_if("modern", otherwise=(0, 0))
def fifo_bits(tables, dom, port):
    """Return the bits of a port that has an event word."""
    word = fifo.get(tables, fifo.word_of(tables, dom, port))
    pending = np.int64(1) if word & fifo.PENDING else np.int64(0)
    return pending, np.int64(1) if word & fifo.MASKED else np.int64(0)


@kernel
def note(tables, watch, changes, record, ts, vcpu):
    """Write a row if the port does not look as it did the last time."""
    w = watch[0]
    dom, port = np.int64(w["dom"]), np.int64(w["port"])
    state = state_of(tables, dom, port)
    pending, mask = bits_of(tables, dom, port)
    if state == w["state"] and pending == w["pending"] and mask == w["mask"]:
        return
    if w["state"] != UNSEEN:
        c = changes[np.int64(w["used"])]
        c["record"] = record
        c["ts"] = ts
        c["vcpu"] = vcpu
        c["from_state"] = w["state"]
        c["from_pending"] = w["pending"]
        c["from_mask"] = w["mask"]
        c["state"] = state
        c["pending"] = pending
        c["mask"] = mask
        w["used"] += 1
    w["state"] = state
    w["pending"] = pending
    w["mask"] = mask


@hot_if("modern", otherwise=-1)
def queue_of(tables, dom, port):
    """Return the vcpu on whose queue a port of a domain under FIFO was last, else -1."""
    if not tables.domains[dom]["fifo"]:
        return np.int64(-1)
    return np.int64(tables.port_fifo[pool.pool_index(tables, dom, port)]["last_vcpu"])


@kernel
def handler_of(tables, watch):
    """Return the vcpu whose handler or EOI has just changed the port."""
    w = watch[0]
    dom, port = np.int64(w["dom"]), np.int64(w["port"])
    pending, _ = bits_of(tables, dom, port)
    queued = queue_of(tables, dom, port)
    if pending < w["pending"] and queued >= 0:
        return queued
    return np.int64(tables.ports[pool.pool_index(tables, dom, port)]["notify_vcpu"])


@hot_if("guest", otherwise=True)
def let_guest_run(tables, watch, changes, ts):
    """Let the port's domain catch up to ts, a moment at a time; False if there is no room."""
    dom = np.int64(watch[0]["dom"])
    while tables.guest_domains[dom]["due"] < ts:
        if np.int64(watch[0]["used"]) == len(changes):
            return False
        moment = tables.guest_domains[dom]["due"]
        guest.catch_up(tables, dom, moment + np.uint64(1))
        note(tables, watch, changes, -1, moment, handler_of(tables, watch))
    return True


@entry
def replay_watching(tables, trace, outcome, start, stop, routes, watch, changes):
    """Apply records start to stop of a stretch; the number of the first one not applied.

    Parameters
    ----------
    tables, trace, outcome, start, stop, routes
        As for `replay`.
    watch : WATCH, (1,)
        The port; modified in place, and goes on from stretch to stretch.
    changes : CHANGE, (any,)
        Filled from row `used` of the watch on; the kernel returns when it is full.
    """
    if watch[0]["state"] == UNSEEN:
        note(tables, watch, changes, -1, np.uint64(0), 0)
    for record in range(start, stop):
        i = np.uint64(record)
        if not let_guest_run(tables, watch, changes, trace.ts[i]):
            return record
        if np.int64(watch[0]["used"]) == len(changes):
            return record
        if replay(tables, trace, outcome, record, record + 1, routes, False) == record:
            return record
        note(tables, watch, changes, record, trace.ts[i], -1)
    return stop
