"""The guest: handlers that start when they are due, take event after event, and end them.

Follows Linux's __xen_evtchn_do_upcall and evtchn_2l_handle_events step by step, cut at every
event's end, since notifications may come while it is handled. A domain catches up when a record
touches it: handlers touch nothing of other domains.
"""

import numpy as np

from evtsim._jit import hot, hot_if, kernel_if
from evtsim.dtypes import NEVER
from evtsim.kernels import due, fifo, pool, port_ops, stats, timeline, two_level
from evtsim.kernels.bits import ONE, ZERO, bit, trailing_zeros
from evtsim.kernels.constants import TIMER

NOWHERE = 255
"""A start_word that no word is."""

ALL = np.uint64(2**64 - 1)
_NEVER = np.uint64(NEVER)

IDLE = due.IDLE
SCHEDULED = due.SCHEDULED
ROUND = due.ROUND
SELECT = due.SELECT
SCAN = due.SCAN


@hot_if("guest")
def catch_up(tables, dom, ts):
    """Let all of a domain's happen that is due before ts."""
    if tables.guest_domains[dom]["due"] < ts:
        now = tables.host[0]["now"]
        run_until(tables, dom, ts)
        timeline.be(tables, now)


@hot_if("guest")
def run_until(tables, dom, ts):
    """Do what is due before ts, one thing after the other; the time of the last one.

    At one moment vcpus go by number, and a vcpu's EOIs come before its handler.
    """
    domain = tables.domains[dom]
    first = np.int64(domain["first_vcpu"])
    last = ZERO
    while True:
        row = first
        soonest = due_on(tables, first)
        for other in range(first + 1, first + domain["nr_vcpus"]):
            candidate = due_on(tables, other)
            if candidate < soonest:
                soonest = candidate
                row = np.int64(other)
        if soonest >= ts:
            tables.guest_domains[dom]["due"] = soonest
            return last
        last = soonest
        timeline.be(tables, soonest)
        index = np.int64(tables.guest_vcpus[row]["eoi_first"])
        if index and tables.eois[index]["due"] == soonest:
            end_of_interrupt(tables, dom, index)
        else:
            handle(tables, dom, row)


@hot_if("guest")
def due_on(tables, row):
    """Return when the next thing of a vcpu's is due."""
    g = tables.guest_vcpus[row]
    index = np.int64(g["eoi_first"])
    return min(g["due"], tables.eois[index]["due"]) if index else g["due"]


@hot_if("guest")
def end_of_interrupt(tables, dom, index):
    """Unmask a port that waited for it, as the hypercall does (xen_irq_lateeoi)."""
    due.remove_eoi(tables, index)
    port_ops.unmask(tables, dom, np.int64(tables.eois[index]["port"]), index)


@kernel_if("guest")
def before_close(tables, dom, index):
    """End a port's interrupt before the port goes."""
    if due.has_eoi(tables, index):
        end_of_interrupt(tables, dom, index)


@hot_if("guest")
def handle(tables, dom, row):
    """Start a vcpu's handler, or go on with it: up to the end of the next event's handling."""
    g = tables.guest_vcpus[row]
    if g["stage"] == SCHEDULED:
        if tables.vcpus[row]["upcall_mask"]:
            g["stage"] = IDLE
            g["due"] = _NEVER
            return
        g["stage"] = ROUND
        g["batch"] = 0
        stats.begin_upcall(tables, row)
    port = next_event(tables, dom, row)
    while port < 0:
        if not tables.vcpus[row]["upcall_pending"]:
            g["stage"] = IDLE
            g["due"] = _NEVER
            stats.end_upcall(tables, row, np.int64(g["batch"]))
            return
        g["stage"] = ROUND
        port = next_event(tables, dom, row)
    deliver(tables, dom, row, port)


@hot_if("guest")
def deliver(tables, dom, row, port):
    """Let the handling of an event start."""
    g = tables.guest_vcpus[row]
    g["batch"] += 1
    g["due"] = due.later(tables.host[0]["now"], due.handling_time(tables, dom, row))
    index = pool.pool_index(tables, dom, port)
    port_ops.take(tables, dom, row, port, index)
    stats.on_batch(tables, row, 1, np.int64(g["batch"]))
    config = due.config_of(tables, dom)
    if config["late"]:
        port_ops.set_mask(tables, dom, port)
        due.add_eoi(tables, dom, row, index, port, due.later(g["due"], config["eoi_ns"]))


@hot_if("guest", otherwise=-1)
def next_event(tables, dom, row):
    """Return the port whose handling starts now, or -1 where the round ends."""
    g = tables.guest_vcpus[row]
    v = tables.vcpus[row]
    if port_ops.is_fifo(tables, dom):
        return next_queued(tables, dom, row)
    if g["stage"] == ROUND:
        v["upcall_pending"] = 0
        g["stage"] = SELECT
        # Linux handles a vcpu's timer before it looks at its selector.
        timer = np.int64(tables.virqs[TIMER, row])
        if timer and due.config_of(tables, dom)["linux"] and is_ready(tables, dom, row, timer):
            return timer
    if g["stage"] == SELECT:
        begin_scan(tables, dom, row)
    return scan(tables, dom, row)


@hot_if("guest", "modern", otherwise=-1)
def next_queued(tables, dom, row):
    """Return the same under the FIFO ABI: priorities are looked at anew after every event."""
    g = tables.guest_vcpus[row]
    if g["stage"] == ROUND:
        tables.vcpus[row]["upcall_pending"] = 0
        if not tables.vcpu_fifo[row]["control"]:
            return -1
    # The selector holds the ready priorities.
    ready = g["selector"] if g["stage"] == SCAN else ZERO
    g["stage"] = SCAN
    while True:
        ready |= fifo.take_ready(tables, row)
        if not ready:
            return -1
        port, ready = fifo.next_event(tables, dom, row, ready)
        if port >= 0:
            g["selector"] = ready
            return port


@kernel_if("guest")
def on_abi_switch(tables, dom):
    """Let running handlers end their round: what they took is of the other ABI."""
    domain = tables.domains[dom]
    first = np.int64(domain["first_vcpu"])
    for row in range(first, first + domain["nr_vcpus"]):
        g = tables.guest_vcpus[row]
        if g["stage"] == SCAN or g["stage"] == SELECT:
            g["stage"] = SCAN
            g["selector"] = ZERO
            g["waiting"] = ZERO
            g["in_word"] = 0


@hot_if("guest")
def begin_scan(tables, dom, row):
    """Take the selector, and go on where Linux's last scan was, or from the lowest word."""
    g = tables.guest_vcpus[row]
    v = tables.vcpus[row]
    linux = due.config_of(tables, dom)["linux"] != 0
    g["stage"] = SCAN
    g["selector"] = v["pending_sel"]
    v["pending_sel"] = ZERO
    g["waiting"] = ZERO
    g["in_word"] = 0
    g["first_turn"] = 1
    g["word"] = g["next_word"] if linux else 0
    g["start_word"] = g["next_word"] if linux else NOWHERE
    g["start_bit"] = g["next_bit"]


@hot_if("guest")
def scan(tables, dom, row):
    """Return the next port that waits in the selector's words, or -1.

    Linux visits the word where it began twice: first the part from start_bit on, and at the end
    the whole word.
    """
    g = tables.guest_vcpus[row]
    domain = tables.domains[dom]
    shift = np.int64(domain["word_shift"])
    last = (np.int64(1) << shift) - 1
    # In registers: a loop over fields in memory would wait for each of them.
    selector, waiting = g["selector"], g["waiting"]
    word, in_word = np.int64(g["word"]), g["in_word"] != 0
    start, first_turn = np.int64(g["start_word"]), g["first_turn"] != 0
    found = -1
    while True:
        while waiting:
            n = trailing_zeros(waiting)
            waiting &= waiting - ONE
            if start != NOWHERE:
                g["next_bit"] = (n + 1) & last
                g["next_word"] = word if n < last else (word + 1) & last
            if is_ready(tables, dom, row, (word << shift) + n):
                found = (word << shift) + n
                break
        if found >= 0:
            break
        if in_word:
            in_word = False
            if word != start or not first_turn:
                selector &= ~bit(word)
            word = (word + 1) & last
            first_turn = False
        if not selector:
            break
        ahead = selector & (ALL << np.uint64(word))
        if not ahead:
            word = np.int64(0)
            first_turn = False
            continue
        word = trailing_zeros(ahead)
        in_word = True
        waiting = two_level.waiting_in(tables, dom, row - np.int64(domain["first_vcpu"]), word)
        if first_turn and word == start:
            waiting &= ALL << np.uint64(g["start_bit"])
    g["selector"], g["waiting"] = selector, waiting
    g["word"], g["in_word"], g["first_turn"] = word, in_word, first_turn
    return found


@hot
def is_ready(tables, dom, row, port):
    """Tell whether a port is pending, unmasked and notified on this vcpu."""
    if not two_level.is_ready(tables, dom, port):
        return False
    domain = tables.domains[dom]
    if domain["nr_vcpus"] == 1:
        return True
    vcpu = row - np.int64(domain["first_vcpu"])
    return (two_level.ports_on(tables, dom, vcpu, port >> 6) & bit(port & 63)) != ZERO


@kernel_if("guest", otherwise=True)
def run_all(tables, ts):
    """Let every domain catch up and then be ts, or at NEVER the time of the last thing done.

    False where the log of deliveries is full.
    """
    host = tables.host[0]
    last = host["last_ts"]
    for dom in range(len(tables.domains)):
        if tables.guest_domains[dom]["due"] < ts:
            if not stats.has_log_room(tables, dom):
                return False
            last = max(last, run_until(tables, dom, ts))
            host["last_ts"] = last
    host["last_ts"] = last if ts == _NEVER else ts
    timeline.be(tables, host["last_ts"])
    return True
