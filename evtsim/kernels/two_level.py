"""The 2-level ABI: pending and mask bitmaps, selector words, upcalls.

Mirrors what Xen keeps in event_2l.c (evtchn_set_pending and evtchn_unmask of event_channel.c
in 2010) and the guest's evtchn_do_upcall.
"""

import numpy as np

from evtsim._jit import hot, hot_if, kernel
from evtsim.kernels import pool, stats
from evtsim.kernels import vcpu as _vcpu
from evtsim.kernels.bits import HALF, ONE, ZERO, bit, count_ones, prefetch, trailing_zeros
from evtsim.kernels.constants import EFFECT_COALESCED, EFFECT_MASKED, EFFECT_SELECTED, EFFECT_SET

pool_index = pool.pool_index
mark_pending = _vcpu.mark_pending
wake_pollers = _vcpu.wake_pollers


@hot
def select(tables, dom, row, selector):
    """Set a selector bit of a vcpu's and mark the vcpu; the effects."""
    tables.vcpus[row]["pending_sel"] |= selector
    return EFFECT_SELECTED | mark_pending(tables, dom, row, 1)


@hot
def set_pending(tables, dom, vcpu, port, index, state, often):
    """Notify a valid port of a living domain on a vcpu; the effects (evtchn_set_pending).

    `index` is the port's in the pool and `state` its own: a sender knows both without a look.
    There are no branches on what nothing can predict: whether the bit is set already, whether
    the port is masked, and whether its vcpu was told. But where notifications coalesce nearly
    always, as `often` (1 or 0) says, one on the first saves the rest.
    """
    word = tables.shared[port >> 6, dom]
    domain = tables.domains[dom]
    at = np.uint64(port & 63)
    was = np.int64(word["pending"] >> at & ONE)
    if was & often:
        stats.on_notified(tables, dom, index, state, 1, 0, -1)
        return EFFECT_COALESCED
    masked = np.int64(word["mask"] >> at & ONE) & (was ^ 1)
    word["pending"] |= ONE << at
    stats.on_notified(tables, dom, index, state, was, masked, -1)
    row = np.int64(domain["first_vcpu"]) + vcpu
    v = tables.vcpus[row]
    n = np.uint64(port >> domain["word_shift"])
    tell = (was | masked) ^ 1
    selected = np.int64(v["pending_sel"] >> n & ONE ^ ONE) & tell
    v["pending_sel"] |= np.uint64(tell) << n
    effects = (
        EFFECT_COALESCED * was
        + (EFFECT_SET + EFFECT_MASKED * masked) * (was ^ 1)
        + EFFECT_SELECTED * selected
    )
    effects |= mark_pending(tables, dom, row, selected)
    if np.int64(domain["pollers"]) & -(was ^ 1):  # rarely, and one branch
        effects |= wake_pollers(tables, dom, port)
    return effects


@kernel
def is_pending(tables, dom, port):
    """Tell whether the port's pending bit is set."""
    return (tables.shared[port >> 6, dom]["pending"] & bit(port & 63)) != ZERO


@kernel
def clear_pending(tables, dom, port):
    """Clear the port's pending bit and nothing else."""
    word = tables.shared[port >> 6, dom]
    flag = bit(port & 63)
    if word["pending"] & flag:
        word["pending"] &= ~flag
        stats.on_cleared(tables, dom, pool_index(tables, dom, port), (word["mask"] & flag) != ZERO)


@hot
def set_mask(tables, dom, port):
    """Set the port's mask bit and nothing else."""
    word = tables.shared[port >> 6, dom]
    flag = bit(port & 63)
    if word["pending"] & ~word["mask"] & flag:
        stats.on_masked(tables, pool_index(tables, dom, port))
    word["mask"] |= flag


@hot
def unmask(tables, dom, port, index):
    """Clear the mask bit; tell the vcpu if the port waited behind it; the effects."""
    word = tables.shared[port >> 6, dom]
    flag = bit(port & 63)
    if not word["mask"] & flag:
        return 0
    word["mask"] &= ~flag
    if not word["pending"] & flag:
        return 0
    stats.on_unmasked(tables, index)
    domain = tables.domains[dom]
    row = np.int64(domain["first_vcpu"]) + np.int64(tables.ports[index]["notify_vcpu"])
    selector = bit(port >> domain["word_shift"])
    if tables.vcpus[row]["pending_sel"] & selector:
        return 0
    return select(tables, dom, row, selector)


@hot
def in_reach(tables, dom, port):
    """Tell whether the guest's bitmaps have a bit for the port, valid or not."""
    return port >> (2 * np.int64(tables.domains[dom]["word_shift"])) == 0


@hot
def on_vcpu(tables, dom, vcpu, first, bits):
    """Return which of the waiting bits, of ports from `first` on, are valid and the vcpu's."""
    domain = tables.domains[dom]
    if first >= domain["nr_ports"]:
        return ZERO
    if domain["nr_vcpus"] == 1:
        return bits
    return bits & ports_on(tables, dom, vcpu, first >> 6)


@hot
def ports_on(tables, dom, vcpu, word):
    """Return which of a word's ports notify a vcpu, valid or not."""
    row = np.int64(tables.domains[dom]["first_vcpu"]) + vcpu
    bits = tables.vcpu_ports[word, row]
    return bits if vcpu else ~bits


@kernel
def notify_on(tables, dom, port, index, vcpu):
    """Let a port notify a vcpu from now on."""
    p = tables.ports[index]
    before = np.int64(p["notify_vcpu"])
    p["notify_vcpu"] = vcpu
    if port >> 6 >= len(tables.vcpu_ports):
        return  # a number of the FIFO ABI alone
    first = np.int64(tables.domains[dom]["first_vcpu"])
    flag = bit(port & 63)
    if before:
        tables.vcpu_ports[port >> 6, first + before] &= ~flag
        tables.vcpu_ports[port >> 6, first] &= ~flag
    if vcpu:
        tables.vcpu_ports[port >> 6, first + vcpu] |= flag
        tables.vcpu_ports[port >> 6, first] |= flag


@hot
def first_port(tables, dom, n):
    """Return the first of the 64 ports among which a selector's word lies."""
    return (n << np.int64(tables.domains[dom]["word_shift"])) & ~63


@hot
def waiting(tables, dom, vcpu, n):
    """Return which ports of a selector's word an upcall on the vcpu takes, from `first_port` on."""
    domain = tables.domains[dom]
    first = n << np.int64(domain["word_shift"])
    word = tables.shared[first >> 6, dom]
    bits = word["pending"] & ~word["mask"]
    if domain["word_shift"] == 5:
        bits &= HALF << np.uint64(first & 32)
    return on_vcpu(tables, dom, vcpu, first & ~63, bits)


@hot
def waiting_in(tables, dom, vcpu, n):
    """Return the same bits, of a word of the guest's size."""
    bits = waiting(tables, dom, vcpu, n)
    if tables.domains[dom]["word_shift"] == 5:
        return (bits >> np.uint64((n & 1) << 5)) & HALF
    return bits


@hot
def is_ready(tables, dom, port):
    """Tell whether a port is pending and not masked."""
    word = tables.shared[port >> 6, dom]
    return (word["pending"] & ~word["mask"] & bit(port & 63)) != ZERO


@hot
def take(tables, dom, port):
    """Clear the pending bit of an event whose handling begins."""
    tables.shared[port >> 6, dom]["pending"] &= ~bit(port & 63)


@hot_if("level")
def count_delivered(tables, dom, row, first, taken):
    """Count the events taken, of ports from `first` on."""
    base = pool_index(tables, dom, first)
    stats.on_taken(tables, dom, count_ones(taken))
    while taken:
        n = trailing_zeros(taken)
        stats.on_delivered(tables, dom, row, first + n, base + n)
        taken &= taken - ONE


@hot_if("level")
def look_ahead(tables, dom, vcpu):
    """Ask for the statistics of what an upcall on the vcpu would deliver. Changes nothing."""
    domain = tables.domains[dom]
    selector = tables.vcpus[np.int64(domain["first_vcpu"]) + vcpu]["pending_sel"]
    while selector:
        n = trailing_zeros(selector)
        selector &= selector - ONE
        first = first_port(tables, dom, n)
        if first >= domain["nr_ports"]:
            return
        word = tables.shared[first >> 6, dom]
        bits = word["pending"] & ~word["mask"]
        base = pool_index(tables, dom, first)
        while bits:
            index = base + trailing_zeros(bits)
            bits &= bits - ONE
            prefetch(tables.port_stats, index)


@hot
def upcall(tables, dom, row, vcpu):
    """Deliver what a vcpu's selector points to: words low to high; how much."""
    v = tables.vcpus[row]
    selector = v["pending_sel"]
    v["pending_sel"] = ZERO
    delivered = 0
    while selector:
        n = trailing_zeros(selector)
        selector &= selector - ONE
        taken = waiting(tables, dom, vcpu, n)
        first = first_port(tables, dom, n)
        tables.shared[first >> 6, dom]["pending"] &= ~taken
        delivered += count_ones(taken)
        count_delivered(tables, dom, row, first, taken)
    return delivered
