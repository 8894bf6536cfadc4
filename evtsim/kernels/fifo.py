"""The FIFO ABI: event words, queues of 16 priorities per vcpu, control blocks, upcalls.

Mirrors Xen's event_fifo.c and the guest's evtchn_fifo_handle_events. Offers the names that
two_level.py does, and the hypercalls that only this ABI has.
"""

import numpy as np

from evtsim import abi
from evtsim._jit import hot_if, kernel_if
from evtsim.dtypes import BUCKET_PORTS, BUCKET_SHIFT
from evtsim.kernels import pool, stats
from evtsim.kernels import vcpu as _vcpu
from evtsim.kernels.bits import bit, trailing_zeros
from evtsim.kernels.constants import (
    EACCES,
    EFFECT_COALESCED,
    EFFECT_MASKED,
    EFFECT_NO_CONTROL_BLOCK,
    EFFECT_SAVED,
    EFFECT_SELECTED,
    EFFECT_SET,
    EINVAL,
    ENOENT,
    ENOSPC,
    ENOSYS,
    EOPNOTSUPP,
)

mark_pending = _vcpu.mark_pending
wake_pollers = _vcpu.wake_pollers

PENDING = int(abi.EventWord.PENDING)
MASKED = int(abi.EventWord.MASKED)
LINKED = int(abi.EventWord.LINKED)
LINK = abi.FIFO_LINK_MASK
PRIORITIES = abi.FIFO_PRIORITIES
DEFAULT_PRIORITY = abi.FIFO_DEFAULT_PRIORITY
MAX_PORTS = abi.MAX_PORT_FIFO
PAGES = abi.FIFO_PAGES
PAGE_SHIFT = abi.FIFO_PAGE_WORDS.bit_length() - 1
PART_SHIFT = BUCKET_SHIFT  # a page's parts are as long as buckets
CONTROL_LAST = abi.FIFO_CONTROL_LAST


# Event words -------------------------------------------------------------------------------------


@hot_if("modern")
def word_of(tables, dom, port):
    """Return where the port's event word lies, or 0 if the array is not as long."""
    if port >> PAGE_SHIFT >= tables.domains[dom]["event_pages"]:
        return 0
    return place(tables, np.int64(tables.event_pages[port >> PAGE_SHIFT, dom]), port)


@hot_if("modern")
def place(tables, page, port):
    """Return where the word of a port lies that is on a page of the pool: see Tables."""
    part = (port & (abi.FIFO_PAGE_WORDS - 1)) >> PART_SHIFT
    length = len(tables.event_words) >> (PAGE_SHIFT - PART_SHIFT)
    return part * length + (page << PART_SHIFT) + (port & (BUCKET_PORTS - 1))


@hot_if("modern")
def get(tables, at):
    """Return an event word as int64."""
    return np.int64(tables.event_words[np.uint64(at)])


@hot_if("modern")
def put(tables, at, word):
    """Write an event word."""
    tables.event_words[np.uint64(at)] = word


@hot_if("modern", otherwise=False)
def in_reach(tables, dom, port):
    """Tell whether the port has an event word."""
    return word_of(tables, dom, port) != 0


@hot_if("modern", otherwise=False)
def is_pending(tables, dom, port):
    """Tell whether the port's event is pending; without a word it is not."""
    at = word_of(tables, dom, port)
    return at != 0 and get(tables, at) & PENDING != 0


@hot_if("modern", otherwise=False)
def is_busy(tables, dom, port):
    """Tell whether the port is still linked, so that it may not be given again."""
    at = word_of(tables, dom, port)
    return at != 0 and get(tables, at) & LINKED != 0


@kernel_if("modern", otherwise=True)
def has_page(tables):
    """Tell whether there is a page left for an event array to grow."""
    return tables.host[0]["pages_used"] << PAGE_SHIFT < len(tables.event_words)


@kernel_if("modern")
def forget(tables, index):
    """Forget what was kept of a port of an earlier domain."""
    p = tables.port_fifo[index]
    p["last_vcpu"] = 0
    p["last_priority"] = 0
    p["priority"] = 0
    p["saved_pending"] = 0


@kernel_if("modern")
def give_priority(tables, dom, index):
    """Give a port that a guest gets the default priority, under this ABI."""
    if tables.domains[dom]["fifo"]:
        tables.port_fifo[index]["priority"] = DEFAULT_PRIORITY


# Notifying ---------------------------------------------------------------------------------------


@hot_if("modern", otherwise=0)
def set_pending(tables, dom, vcpu, port, index, state):
    """Notify a port on a vcpu; the effects (evtchn_fifo_set_pending)."""
    at = word_of(tables, dom, port)
    if at == 0:
        tables.port_fifo[index]["saved_pending"] = 1
        stats.on_saved(tables, index)
        return EFFECT_SAVED
    row = np.int64(tables.domains[dom]["first_vcpu"]) + vcpu
    if not tables.vcpu_fifo[row]["control"]:
        stats.on_no_control_block(tables, index)
        return EFFECT_NO_CONTROL_BLOCK
    word = get(tables, at)
    if word & PENDING:
        effects = EFFECT_COALESCED
        stats.on_notified(tables, dom, index, state, 1, 0, -1)
    else:
        put(tables, at, word | PENDING)
        effects = EFFECT_SET
        priority = np.int64(tables.port_fifo[index]["priority"])
        masked = 1 if word & MASKED else 0
        stats.on_notified(tables, dom, index, state, 0, masked, priority)
        if word & MASKED:
            effects |= EFFECT_MASKED
    if not word & (MASKED | LINKED):
        effects |= link(tables, dom, row, port, index, at)
    if effects & EFFECT_SET and tables.domains[dom]["pollers"]:
        effects |= wake_pollers(tables, dom, port)
    return effects


@hot_if("modern")
def link(tables, dom, row, port, index, at):
    """Put a port at the end of its queue; kick the vcpu if that got its first event."""
    put(tables, at, get(tables, at) | LINKED)
    p = tables.port_fifo[index]
    first = np.int64(tables.domains[dom]["first_vcpu"])
    old = tables.queues[first + p["last_vcpu"], np.int64(p["last_priority"])]
    if old["tail"] == port:
        old["tail"] = 0
    priority = np.int64(p["priority"])
    p["last_vcpu"] = row - first
    p["last_priority"] = priority
    queue = tables.queues[row, priority]
    tail = word_of(tables, dom, np.int64(queue["tail"])) if queue["tail"] else 0
    effects = EFFECT_SELECTED
    if tail and get(tables, tail) & LINKED:
        put(tables, tail, (get(tables, tail) & ~LINK) | port)
    else:
        queue["head"] = port
        v = tables.vcpu_fifo[row]
        if not np.int64(v["ready"]) >> priority & 1:
            v["ready"] = np.int64(v["ready"]) | (1 << priority)
            effects |= mark_pending(tables, dom, row, 1)
    queue["tail"] = port
    return effects


@kernel_if("modern")
def clear_pending(tables, dom, port):
    """Clear PENDING and nothing else: a linked port stays so until the guest comes by."""
    at = word_of(tables, dom, port)
    if at and get(tables, at) & PENDING:
        word = get(tables, at)
        put(tables, at, word & ~PENDING)
        index = pool.pool_index(tables, dom, port)
        stats.on_cleared(tables, dom, index, word & MASKED != 0)


@hot_if("modern")
def set_mask(tables, dom, port):
    """Set MASKED and nothing else."""
    at = word_of(tables, dom, port)
    word = get(tables, at)
    if word & PENDING and not word & MASKED:
        stats.on_masked(tables, pool.pool_index(tables, dom, port))
    put(tables, at, word | MASKED)


@hot_if("modern", otherwise=0)
def unmask(tables, dom, port, index):
    """Clear MASKED, and if the event is pending, notify again; the effects (evtchn_fifo_unmask)."""
    at = word_of(tables, dom, port)
    if at == 0:
        return 0
    word = get(tables, at)
    put(tables, at, word & ~MASKED)
    if not word & PENDING:
        return 0
    if word & MASKED:
        stats.on_unmasked(tables, index)
    first = np.int64(tables.domains[dom]["first_vcpu"])
    row = first + np.int64(tables.ports[index]["notify_vcpu"])
    if not tables.vcpu_fifo[row]["control"]:
        return EFFECT_NO_CONTROL_BLOCK
    if word & LINKED:
        return EFFECT_COALESCED
    return EFFECT_COALESCED | link(tables, dom, row, port, index, at)


# Upcalls -----------------------------------------------------------------------------------------


@hot_if("modern")
def take_ready(tables, row):
    """Return the priorities that have a new head, as a uint64, and leave none."""
    v = tables.vcpu_fifo[row]
    ready = np.uint64(v["ready"])
    v["ready"] = 0
    return ready


@hot_if("modern")
def next_event(tables, dom, row, ready):
    """Take a port off the highest ready queue: its number, and what is left of ready.

    The number is -1 where nothing is to be delivered: the port was masked or not pending.
    """
    q = trailing_zeros(ready)
    queue = tables.queues[row, q]
    head = np.int64(queue["local_head"])
    if head == 0:
        head = np.int64(queue["head"])
    at = word_of(tables, dom, head)
    word = get(tables, at)
    put(tables, at, word & ~(LINKED | LINK))
    queue["local_head"] = word & LINK
    if not word & LINK:
        ready &= ~bit(q)
    if word & PENDING and not word & MASKED:
        return head, ready
    return -1, ready


@hot_if("modern")
def take(tables, dom, port):
    """Clear the pending bit of an event whose handling begins."""
    at = word_of(tables, dom, port)
    put(tables, at, get(tables, at) & ~PENDING)


@kernel_if("modern", otherwise=0)
def upcall(tables, dom, row):
    """Deliver what a vcpu's queues hold; how much."""
    delivered = 0
    if not tables.vcpu_fifo[row]["control"]:
        return delivered
    ready = take_ready(tables, row)
    while ready:
        port, ready = next_event(tables, dom, row, ready)
        if port >= 0:
            take(tables, dom, port)
            stats.on_taken(tables, dom, 1)
            stats.on_delivered(tables, dom, row, port, pool.pool_index(tables, dom, port))
            delivered += 1
        ready |= take_ready(tables, row)
    return delivered


# Hypercalls --------------------------------------------------------------------------------------


@kernel_if("modern", otherwise=0)
def init_control(tables, dom, vcpu, offset):
    """evtchn_fifo_init_control: a domain's first one switches it to this ABI."""
    domain = tables.domains[dom]
    if vcpu >= domain["nr_vcpus"]:
        return -ENOENT
    if offset > CONTROL_LAST or offset & 7:
        return -EINVAL
    row = np.int64(domain["first_vcpu"]) + vcpu
    if tables.vcpu_fifo[row]["control"]:
        return -EINVAL
    if not domain["fifo"]:
        enter(tables, dom)
    tables.vcpu_fifo[row]["control"] = 1
    for priority in range(PRIORITIES):
        tables.queues[row, priority]["local_head"] = 0
    return 0


@kernel_if("modern")
def enter(tables, dom):
    """Switch a domain to this ABI: what is pending is saved, the bitmaps stay as they are."""
    domain = tables.domains[dom]
    limit = np.int64(1) << (2 * np.int64(domain["word_shift"]))
    for port in range(1, min(np.int64(domain["nr_ports"]), limit)):
        index = pool.pool_index(tables, dom, port)
        word = tables.shared[port >> 6, dom]
        if word["pending"] & bit(port & 63):
            tables.port_fifo[index]["saved_pending"] = 1
        tables.port_fifo[index]["priority"] = DEFAULT_PRIORITY
    stats.on_bits_put_away(tables, dom)
    domain["fifo"] = 1
    domain["event_pages"] = 0
    domain["max_ports"] = min(MAX_PORTS, np.int64(tables.max_port[dom]) + 1)


@kernel_if("modern")
def leave(tables, dom):
    """Switch a domain back to the 2-level ABI: event words, control blocks and queues are gone."""
    domain = tables.domains[dom]
    if not domain["fifo"]:
        return
    words = np.int64(domain["event_pages"]) << PAGE_SHIFT
    for port in range(min(words, np.int64(domain["nr_ports"]))):
        clear_pending(tables, dom, port)
    domain["fifo"] = 0
    domain["event_pages"] = 0
    limit = np.int64(1) << (2 * np.int64(domain["word_shift"]))
    domain["max_ports"] = min(limit, np.int64(tables.max_port[dom]) + 1)
    first = np.int64(domain["first_vcpu"])
    for row in range(first, first + domain["nr_vcpus"]):
        tables.vcpu_fifo[row]["control"] = 0
        tables.vcpu_fifo[row]["ready"] = 0
        for priority in range(PRIORITIES):
            queue = tables.queues[row, priority]
            queue["head"] = 0
            queue["tail"] = 0
            queue["local_head"] = 0
    stats.on_bits_back(tables, dom)


@kernel_if("modern", otherwise=0)
def expand_array(tables, dom):
    """evtchn_fifo_expand_array: one page more; what was saved for its ports is notified."""
    domain = tables.domains[dom]
    if not domain["fifo"]:
        return -EOPNOTSUPP
    pages = np.int64(domain["event_pages"])
    if pages == PAGES:
        return -ENOSPC
    page = np.int64(tables.event_pages[pages, dom])
    if page == 0:
        page = np.int64(tables.host[0]["pages_used"])
        tables.host[0]["pages_used"] += 1
        tables.event_pages[pages, dom] = page
    for part in range(0, abi.FIFO_PAGE_WORDS, BUCKET_PORTS):
        at = place(tables, page, part)
        tables.event_words[at : at + BUCKET_PORTS] = 0
    domain["event_pages"] = pages + 1
    effects = 0
    first, end = pages << PAGE_SHIFT, (pages + 1) << PAGE_SHIFT
    for port in range(first, min(end, np.int64(domain["nr_ports"]))):
        index = pool.pool_index(tables, dom, port)
        if tables.port_fifo[index]["saved_pending"]:
            p = tables.ports[index]
            stats.begin_repeat(tables, index)
            effects |= set_pending(
                tables, dom, np.int64(p["notify_vcpu"]), port, index, np.int64(p["state"])
            )
            stats.end_repeat(tables, index)
    tables.result[0]["effects"] = effects
    return 0


@kernel_if("modern", otherwise=0)
def set_priority(tables, dom, port, priority):
    """evtchn_fifo_set_priority: for the next time that the port is linked."""
    if not pool.is_valid(tables, dom, port):
        return -EINVAL
    if not tables.domains[dom]["fifo"]:
        return -ENOSYS
    index = pool.pool_index(tables, dom, port)
    if not pool.is_usable(tables, index):
        return -EACCES
    if priority >= PRIORITIES:
        return -EINVAL
    tables.port_fifo[index]["priority"] = priority
    return 0
