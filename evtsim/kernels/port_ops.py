"""What differs by ABI, chosen by domain, as Xen's evtchn_port_ops are.

Under a profile without the FIFO ABI, kernels are compiled with the 2-level one alone.
"""

import numpy as np

from evtsim._jit import hot, hot_if, kernel
from evtsim.kernels import fifo, pool, stats, two_level

pool_index = pool.pool_index


@hot_if("modern", otherwise=False)
def is_fifo(tables, dom):
    """Tell whether a domain is under the FIFO ABI."""
    return tables.domains[dom]["fifo"] != 0


@hot
def set_pending(tables, dom, vcpu, port, index, state, often):
    """Notify a usable port of a living domain on a vcpu; the effects.

    `index` is the port's in the pool and `state` its own: a sender knows both without a look.
    """
    if is_fifo(tables, dom):
        return fifo.set_pending(tables, dom, vcpu, port, index, state)
    return two_level.set_pending(tables, dom, vcpu, port, index, state, often)


@kernel
def is_pending(tables, dom, port):
    """Tell whether a port is pending."""
    if is_fifo(tables, dom):
        return fifo.is_pending(tables, dom, port)
    return two_level.is_pending(tables, dom, port)


@kernel
def is_busy(tables, dom, port):
    """Tell whether a FREE port may not be given yet."""
    if is_fifo(tables, dom):
        return fifo.is_busy(tables, dom, port)
    return False


@kernel
def clear_pending(tables, dom, port):
    """Clear a port's pending bit and nothing else."""
    if is_fifo(tables, dom):
        fifo.clear_pending(tables, dom, port)
        return
    two_level.clear_pending(tables, dom, port)


@hot
def set_mask(tables, dom, port):
    """Set a port's mask bit and nothing else."""
    if is_fifo(tables, dom):
        fifo.set_mask(tables, dom, port)
        return
    two_level.set_mask(tables, dom, port)


@hot
def unmask(tables, dom, port, index):
    """Clear a valid port's mask bit; tell its notify vcpu what waited behind it; the effects."""
    if tables.modern is not None and not pool.is_usable(tables, index):
        return 0
    if is_fifo(tables, dom):
        return fifo.unmask(tables, dom, port, index)
    return two_level.unmask(tables, dom, port, index)


@hot
def in_reach(tables, dom, port):
    """Tell whether the guest's memory has a pending and a mask bit for the port, valid or not."""
    if is_fifo(tables, dom):
        return fifo.in_reach(tables, dom, port)
    return two_level.in_reach(tables, dom, port)


@kernel
def can_be_polled(tables, dom, port):
    """Tell whether SCHEDOP_poll takes the port."""
    if tables.modern is not None:
        if not pool.is_valid(tables, dom, port):
            return False
        return pool.is_usable(tables, pool.pool_index(tables, dom, port))
    return two_level.in_reach(tables, dom, port)


@hot
def take(tables, dom, row, port, index):
    """Deliver one event: its handling begins."""
    if is_fifo(tables, dom):
        fifo.take(tables, dom, port)
    else:
        two_level.take(tables, dom, port)
    tables.host[0]["delivered"] += 1
    stats.on_taken(tables, dom, 1)
    stats.on_delivered(tables, dom, row, port, index)


@hot
def upcall(tables, dom, vcpu):
    """Run the guest's handler on a vcpu; the number of events delivered.

    Does nothing with upcalls masked or none pending, or where a guest handles its events itself.
    """
    row = np.int64(tables.domains[dom]["first_vcpu"]) + vcpu
    v = tables.vcpus[row]
    if tables.guest is not None or v["upcall_mask"] or not v["upcall_pending"]:
        stats.on_ignored_upcall(tables, row)
        return 0
    v["upcall_pending"] = 0
    stats.begin_upcall(tables, row)
    if is_fifo(tables, dom):
        delivered = fifo.upcall(tables, dom, row)
    else:
        delivered = two_level.upcall(tables, dom, row, vcpu)
    tables.host[0]["delivered"] += delivered
    stats.on_batch(tables, row, delivered, delivered)
    stats.end_upcall(tables, row, delivered)
    return delivered
