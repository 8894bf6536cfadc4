"""When sources act, and the books that the records need.

The books say which ports are in use, so that every port in a record is the one Xen gives back,
and which ends are pending or masked, so that a guest takes an upcall when it was kicked.
"""

import numpy as np

from evtsim import draws
from evtsim._jit import hot, kernel
from evtsim.abi import FIFO_PAGE_WORDS, Op
from evtsim.workloads._kernels.tables import EOI, NEVER

# Times -------------------------------------------------------------------------------------------


@hot
def schedule(engine, source, ts):
    """Let a source act at ts; the tournament above its leaf is played again (Knuth 5.4.1)."""
    due = engine.due
    node = (len(due) >> 1) + source
    due[node] = ts
    while node > 1:
        node >>= 1
        first = min(due[2 * node], due[2 * node + 1])
        if due[node] == first:
            break
        due[node] = first


@hot
def next_source(due):
    """Return the source that acts next; of equal times, the lowest."""
    node, leaves, first = 1, len(due) >> 1, due[1]
    while node < leaves:
        node = 2 * node + (due[2 * node] != first)
    return node - leaves


@hot
def draw(engine, source):
    """Draw a source's next word."""
    row = engine.sources[source]
    number = row["count"]
    row["count"] = number + 1
    return draws.word(row["key"], number)


@hot
def chance(engine, source, share):
    """Draw whether something happens that does so with a share of 2**32."""
    return (draw(engine, source) >> np.uint64(32)) < share


@hot
def later(engine, source, ts, scale):
    """Draw a time after ts, at least 1 ns."""
    return ts + max(np.int64(1), draws.exponential(draw(engine, source), scale))


@hot
def idle(engine, source):
    """Tell whether a source waits for another."""
    return engine.due[(len(engine.due) >> 1) + source] == NEVER


# Records and notifications -----------------------------------------------------------------------


@hot
def emit(engine, out, ts, dom, vcpu, op, arg0, arg1):
    """Write a record."""
    number = engine.state[0]["records"]
    out.ts[number] = ts
    out.dom[number] = dom
    out.vcpu[number] = vcpu
    out.op[number] = op
    out.flags[number] = 0
    out.arg0[number] = arg0
    out.arg1[number] = arg1
    engine.state[0]["records"] = number + 1


@kernel
def wake(engine, end, ts):
    """Put a pending, unmasked end on its vcpu's list; an idle vcpu takes an upcall soon."""
    row = engine.ends[end]
    if row["queued"]:
        return
    vcpu = np.int64(row["vcpu"])
    row["queued"] = 1
    row["next"] = engine.sources[vcpu]["end"]
    engine.sources[vcpu]["end"] = end
    if idle(engine, vcpu):
        state = engine.state[0]
        delay = draws.lognormal(draw(engine, vcpu), state["wake"], state["spread"])
        schedule(engine, vcpu, ts + delay)


@hot
def notify(engine, end, ts):
    """Set an end's pending bit."""
    row = engine.ends[end]
    if not row["pending"]:
        row["pending"] = 1
        if not row["masked"]:
            wake(engine, end, ts)


@hot
def unmask(engine, end, ts):
    """Clear an end's mask bit."""
    row = engine.ends[end]
    row["masked"] = 0
    if row["pending"]:
        wake(engine, end, ts)


@hot
def send(engine, out, end, ts):
    """Notify the other end of a channel between domains."""
    row = engine.ends[end]
    vcpu = engine.sources[row["vcpu"]]["unit"]
    emit(engine, out, ts, row["dom"], vcpu, Op.SEND, row["port"], 0)
    notify(engine, end ^ 1, ts)


@hot
def upcall(engine, out, vcpu, ts):
    """Take an upcall: every end on the vcpu's list is delivered."""
    source = engine.sources[vcpu]
    emit(engine, out, ts, source["dom"], source["unit"], Op.UPCALL, 0, 0)
    schedule(engine, vcpu, NEVER)
    end = np.int64(source["end"])
    source["end"] = -1
    while end >= 0:
        row = engine.ends[end]
        following = np.int64(row["next"])
        row["queued"] = 0
        if row["pending"] and not row["masked"]:
            row["pending"] = 0
            if row["handler"] >= 0:
                handle(engine, np.int64(row["handler"]), ts)
        end = following


@hot
def handle(engine, handler, ts):
    """Let a backend look at its ring, or an interrupt's handler run."""
    row = engine.sources[handler]
    if row["kind"] == EOI:
        row["left"] = 0
        schedule(engine, handler, ts)
        return
    row["left"] += row["waiting"]
    row["waiting"] = 0
    if row["left"] > 0 and idle(engine, handler):
        state = engine.state[0]
        delay = draws.lognormal(draw(engine, handler), state["service"], state["spread"])
        schedule(engine, handler, ts + delay)


@kernel
def rebind(engine, end, vcpu):
    """Let an end notify another vcpu; it leaves the list of the one before, but no FIFO queue."""
    row = engine.ends[end]
    if row["queued"] and not engine.domains[row["dom"]]["fifo"]:
        row["queued"] = 0
        source = engine.sources[row["vcpu"]]
        if source["end"] == end:
            source["end"] = row["next"]
        else:
            before = np.int64(source["end"])
            while engine.ends[before]["next"] != end:
                before = np.int64(engine.ends[before]["next"])
            engine.ends[before]["next"] = row["next"]
    row["vcpu"] = vcpu


# Ports -------------------------------------------------------------------------------------------


@kernel
def lowest_free(engine, dom):
    """Return a domain's lowest free port, as Xen's get_free_port does.

    0 if there is none, which the set-up has ruled out.
    """
    row = engine.domains[dom]
    for word in range(row["free"], (row["ports"] >> 6) + 1):
        taken = engine.used[row["first_used"] + word]
        for bit in range(64):
            if not (taken >> np.uint64(bit)) & np.uint64(1):
                row["free"] = word
                return 64 * word + bit
    return 0


@kernel
def allocate(engine, dom, end, vcpu):
    """Give an end its domain's lowest free port."""
    row = engine.ends[end]
    rebind(engine, end, engine.domains[dom]["first_vcpu"] + vcpu)
    row["pending"] = 0
    port = lowest_free(engine, dom)
    row["port"] = port
    engine.used[engine.domains[dom]["first_used"] + (port >> 6)] |= port_bit(port)


@kernel
def release(engine, dom, end):
    """Free an end's port; it no longer is pending."""
    row = engine.ends[end]
    row["pending"] = 0
    domain = engine.domains[dom]
    port = np.int64(row["port"])
    engine.used[domain["first_used"] + (port >> 6)] &= ~port_bit(port)
    domain["free"] = min(np.int64(domain["free"]), port >> 6)


@hot
def port_bit(port):
    """Return a port's bit in its word of `used`."""
    return np.uint64(1) << np.uint64(port & 63)


@kernel
def grow(engine, out, dom, ts):
    """Make one record of what a FIFO domain's array lacks for its next port; False: nothing.

    A page, then the masks of its words as far as they will be used. In Linux evtchn_fifo_setup
    masks them first and comes right after the bind: either way a port is masked when it is new.
    """
    row = engine.domains[dom]
    words = np.int64(row["event_words"])
    if lowest_free(engine, dom) >= words:
        emit(engine, out, ts, dom, 0, Op.EXPAND_ARRAY, 0, 0)
        row["event_words"] = words + FIFO_PAGE_WORDS
        row["masked"] = max(np.int64(1), words)
        return True
    if row["masked"] < min(words, row["ports"] + 1):
        emit(engine, out, ts, dom, 0, Op.MASK, row["masked"], 0)
        row["masked"] += 1
        return True
    return False


@kernel
def forget(engine, dom):
    """Close all of a domain's ports; whoever was about to take an upcall does not."""
    row = engine.domains[dom]
    row["free"] = 0
    row["fifo"] = 0
    row["event_words"] = 0
    for word in range((row["ports"] >> 6) + 1):
        engine.used[row["first_used"] + word] = np.uint64(word == 0)
    for channel in range(row["channels"]):
        end = engine.ends[row["first_end"] + 2 * channel]
        end["pending"] = 0
        end["masked"] = 1
        end["queued"] = 0
    for vcpu in range(row["first_vcpu"], row["first_vcpu"] + row["vcpus"]):
        engine.sources[vcpu]["end"] = -1
        schedule(engine, vcpu, NEVER)
