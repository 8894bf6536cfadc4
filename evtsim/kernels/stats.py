"""Statistics, counted where it happens; nothing here changes what is simulated.

Without a level, kernels are compiled without any of this. Level 1 keeps what belongs to vcpus,
domains and the host, and when each pending bit was set. Level 2 adds counts per port. A port's
sends are not counted one by one: each is a notification of its peer, and what the peer got since
they were connected is settled when they part, or when somebody looks.
"""

import numpy as np

from evtsim._jit import hot, hot_if, kernel, kernel_if
from evtsim.dtypes import PORT_LEVEL, XEN_HERE
from evtsim.kernels import pool, timeline
from evtsim.kernels.bits import bit, leading_zeros
from evtsim.kernels.constants import CREATE_DOMAIN, FIRST_NON_HYPERCALL, IPI, PIRQ, RESET_CONT, VIRQ

# Records -----------------------------------------------------------------------------------------


@hot_if("level")
def count(tables, slot, errno, dom, ts):
    """Count a record in the operations' table."""
    row = tables.operations[np.uint64(slot), np.uint64(errno), np.uint64(dom)]
    if row["records"] == 0:
        row["first_ts"] = ts
    row["records"] += 1


@hot_if("level")
def record_done(tables, dom, op, ts):
    """Count a record of a known operation by a configured domain, with rc 0."""
    above = op >= FIRST_NON_HYPERCALL
    count(tables, op - FIRST_NON_HYPERCALL + RESET_CONT + 1 if above else op, 0, dom, ts)


@kernel_if("level")
def record(tables, dom, op, rc, ts):
    """Count any record by caller, operation and answer."""
    slot = op
    if op >= FIRST_NON_HYPERCALL:
        slot = op - FIRST_NON_HYPERCALL + RESET_CONT + 1
    if op > CREATE_DOMAIN or RESET_CONT < op < FIRST_NON_HYPERCALL:
        slot = tables.operations.shape[0] - 1
    configured = dom < len(tables.domains)
    caller = dom if configured else len(tables.domains)
    count(tables, slot, tables.errno_slots[-rc], caller, ts)


@hot_if("level")
def on_error(tables, dom):
    """Count a record with an errno, of a configured domain, at its time."""
    timeline.bin_now(tables, dom)["errors"] += 1


# Pending bits ------------------------------------------------------------------------------------


@hot
def channel_type(state):
    """Return the row of a port's type in the histogram; UNBOUND counts as interdomain."""
    if state == IPI:
        return 3
    if state == VIRQ:
        return 2
    return 1 if state == PIRQ else 0


@hot_if("level")
def on_notified(tables, dom, index, state, was, masked, priority):
    """Count a notification of a port in a state; priority is -1 if it has none.

    `was` is 1 if it found the bit set, else 0: nothing could predict that, so there is no branch on
    it. `masked` is 1 if it set the bit of a masked port.
    """
    host = tables.host[0]
    kind = channel_type(state)
    row = kind + 4 * (priority + 1)
    fresh = was ^ 1
    port = tables.port_stats[np.uint64(index)]
    port["since"] = host["now"] if fresh else port["since"]
    port["set"] += fresh
    port["coalesced"] += was
    kept = np.int64(port["type"])
    port["type"] = kept + (row - kept) * fresh
    total = tables.types[kind]
    total["set"] += fresh
    total["coalesced"] += was
    now = timeline.bin_now(tables, dom)
    now["set"] += fresh
    now["coalesced"] += was
    pending = tables.domain_pending[dom]
    bits = np.int64(pending["now"]) + fresh
    pending["now"] = bits
    pending["peak"] = max(np.int64(pending["peak"]), bits)
    if masked:
        total["masked"] += 1
        now["masked"] += 1
        if host["level"] == PORT_LEVEL:
            tables.port_rare[np.uint64(index)]["masked"] += 1
    if len(tables.deliveries) > 1 and fresh:
        tables.port_rare[np.uint64(index)]["coalesced_at_set"] = port["coalesced"]


@hot
def latency_bin(ns):
    """Return the histogram's bin of a uint64: 32 to an octave, exact below 64."""
    if ns < np.uint64(32):
        return np.int64(ns)
    octave = 58 - leading_zeros(ns)  # 0 for 32 to 63
    return (octave + 1) * 32 + np.int64((ns >> np.uint64(octave)) & np.uint64(31))


@hot_if("level")
def on_taken(tables, dom, events):
    """Count events whose pending bits an upcall took."""
    timeline.bin_now(tables, dom)["delivered"] += events
    tables.domain_pending[dom]["now"] -= events


@hot_if("level")
def on_delivered(tables, dom, row, port_number, index):
    """Count the latency of an event that reached its handler, on the vcpu of a row."""
    host = tables.host[0]
    port = tables.port_stats[np.uint64(index)]
    latency = host["now"] - port["since"]
    place = np.uint64(latency_bin(latency))
    tables.latency[np.uint64(port["type"]), place] += 1
    if host["level"] != PORT_LEVEL:
        return
    tables.latency_groups[np.uint64(dom >> host["group_shift"]), place] += 1
    now = host["now"] + np.uint64(1)
    if port["last"]:
        port["longest_gap"] = max(port["longest_gap"], now - port["last"])
    port["last"] = now
    port["latency_sum"] += latency
    port["latency_max"] = max(port["latency_max"], latency)
    if len(tables.deliveries) > 1:
        log(tables, dom, row, port_number, index)


@kernel_if("level")
def log(tables, dom, row, port_number, index):
    """Write a delivery down."""
    host = tables.host[0]
    if host["now"] > host["log_until"] or host["logged"] == len(tables.deliveries):
        return
    entry = tables.deliveries[host["logged"]]
    host["logged"] += 1
    entry["ts"] = host["now"]
    entry["raised_ts"] = tables.port_stats[index]["since"]
    coalesced = tables.port_stats[index]["coalesced"]
    entry["coalesced"] = coalesced - tables.port_rare[index]["coalesced_at_set"]
    entry["batch"] = tables.vcpu_stats[row]["upcalls"]
    entry["port"] = port_number
    entry["dom"] = dom
    entry["vcpu"] = row - np.int64(tables.domains[dom]["first_vcpu"])
    entry["type"] = tables.port_stats[index]["type"]


PLENTY = 1 << 62


@hot_if("level", otherwise=PLENTY)
def log_room(tables):
    """Return for how many records there is room in the log, whatever they deliver.

    Each delivers what was pending before, or notifies one more port.
    """
    if len(tables.deliveries) == 1:
        return PLENTY
    pending = np.int64(0)
    for dom in range(len(tables.domain_pending)):
        pending += tables.domain_pending[dom]["now"]
    return len(tables.deliveries) - tables.host[0]["logged"] - pending


@hot_if("level", otherwise=True)
def has_log_room(tables, dom):
    """Tell whether the log has room for what is pending in a domain."""
    if len(tables.deliveries) == 1:
        return True
    pending = np.int64(tables.domain_pending[dom]["now"])
    return len(tables.deliveries) - tables.host[0]["logged"] >= pending


@kernel_if("level")
def on_cleared(tables, dom, index, masked):
    """Count a pending bit that went without a delivery."""
    host = tables.host[0]
    timeline.bin_now(tables, dom)["cleared"] += 1
    tables.domain_pending[dom]["now"] -= 1
    if host["level"] == PORT_LEVEL:
        rare = tables.port_rare[index]
        rare["cleared"] += 1
        rare["cleared_ns"] += host["now"] - tables.port_stats[index]["since"]
        if masked:
            rare["masked_ns"] += host["now"] - masked_since(tables, index)


@hot_if("level")
def on_masked(tables, index):
    """Note when a pending port was masked."""
    if tables.host[0]["level"] == PORT_LEVEL:
        tables.port_rare[np.uint64(index)]["masked_at"] = tables.host[0]["now"]


@hot
def masked_since(tables, index):
    """Return since when a port that is pending and masked is both."""
    at = tables.port_rare[np.uint64(index)]["masked_at"]
    return max(at, tables.port_stats[np.uint64(index)]["since"])


@hot_if("level")
def on_unmasked(tables, index):
    """Count how long a pending port was masked."""
    if tables.host[0]["level"] == PORT_LEVEL:
        rare = tables.port_rare[np.uint64(index)]
        rare["masked_ns"] += tables.host[0]["now"] - masked_since(tables, index)


# Life cycle --------------------------------------------------------------------------------------


@kernel_if("level")
def on_valid(tables, dom):
    """Note how many ports of a domain are valid."""
    domain = tables.domain_stats[dom]
    domain["valid_peak"] = max(domain["valid_peak"], np.int64(tables.domains[dom]["nr_ports"]))


@kernel_if("level", "modern")
def on_bits_put_away(tables, dom):
    """Stop the clocks of 2-level bits that are pending when a domain leaves that ABI."""
    now = tables.host[0]["now"]
    for port in range(pending_ports(tables, dom)):
        word = tables.shared[port >> 6, dom]
        if not word["pending"] & bit(port & 63):
            continue
        index = pool.pool_index(tables, dom, port)
        if tables.host[0]["level"] == PORT_LEVEL:
            rare = tables.port_rare[index]
            rare["cleared_ns"] += now - tables.port_stats[index]["since"]
            if word["mask"] & bit(port & 63):
                rare["masked_ns"] += now - masked_since(tables, index)


@kernel_if("level", "modern")
def on_bits_back(tables, dom):
    """Start them again: 2-level bits that were left over are pending from now on."""
    now = tables.host[0]["now"]
    for port in range(pending_ports(tables, dom)):
        if tables.shared[port >> 6, dom]["pending"] & bit(port & 63):
            index = pool.pool_index(tables, dom, port)
            tables.port_stats[index]["since"] = now
            tables.port_stats[index]["type"] = channel_type(tables.ports[index]["state"])
            if tables.host[0]["level"] == PORT_LEVEL:
                rare = tables.port_rare[index]
                rare["coalesced_at_set"] = tables.port_stats[index]["coalesced"]


@kernel
def pending_ports(tables, dom):
    """Return below which number ports have bits in the 2-level bitmaps."""
    domain = tables.domains[dom]
    limit = np.int64(1) << (2 * np.int64(domain["word_shift"]))
    return min(np.int64(domain["nr_ports"]), limit)


@kernel_if("level")
def on_occupied(tables, dom):
    """Count a port in use."""
    domain = tables.domain_stats[dom]
    timeline.bin_now(tables, dom)["opened"] += 1
    domain["in_use"] += 1
    domain["in_use_peak"] = max(domain["in_use_peak"], domain["in_use"])


@kernel_if("level")
def on_freed(tables, dom):
    """Count a port no longer in use."""
    timeline.bin_now(tables, dom)["opened"] -= 1
    tables.domain_stats[dom]["in_use"] -= 1


@hot
def lost(rare):
    """Return how many notifications of a port reached no event word."""
    return rare["saved"] + rare["no_control_block"]


@kernel_if("level", otherwise=True)
def has_edge_room(tables):
    """Tell whether the log of edges has room for both directions of every port of a domain."""
    host = tables.host[0]
    if host["level"] != PORT_LEVEL:
        return True
    return len(tables.edges) - host["edges_used"] >= 2 * host["most_ports"]


@kernel_if("level")
def begin_channel(tables, peer):
    """Let sends to a port count from here on."""
    if tables.host[0]["level"] == PORT_LEVEL:
        rare = tables.port_rare[peer]
        rare["set_before"] = tables.port_stats[peer]["set"]
        rare["coalesced_before"] = tables.port_stats[peer]["coalesced"]
        rare["lost_before"] = lost(rare)


@kernel_if("level")
def settle(tables, dom, index, target, peer):
    """Book what port `index` of `dom` sent to port `peer` of `target` since they were connected."""
    host = tables.host[0]
    if host["level"] != PORT_LEVEL:
        return
    counts, rare = tables.port_stats[peer], tables.port_rare[peer]
    coalesced = counts["coalesced"] - rare["coalesced_before"]
    raised = counts["set"] - rare["set_before"] + coalesced + lost(rare) - rare["lost_before"]
    if raised == 0:
        return
    if not tables.ports[index]["xen"] & XEN_HERE:
        tables.port_rare[index]["sends"] += raised
    edge = tables.edges[host["edges_used"]]
    host["edges_used"] += 1
    edge["dom"] = dom
    edge["target"] = target
    edge["raised"] = raised
    edge["coalesced"] = coalesced
    begin_channel(tables, peer)


@kernel_if("level")
def begin_repeat(tables, index):
    """Begin to notify a port for what was saved: that is no sender's doing."""
    if tables.host[0]["level"] == PORT_LEVEL:
        rare = tables.port_rare[index]
        rare["set_before"] -= tables.port_stats[index]["set"]
        rare["coalesced_before"] -= tables.port_stats[index]["coalesced"]
        rare["lost_before"] -= lost(rare)


@kernel_if("level")
def end_repeat(tables, index):
    """End that."""
    if tables.host[0]["level"] == PORT_LEVEL:
        rare = tables.port_rare[index]
        rare["set_before"] += tables.port_stats[index]["set"]
        rare["coalesced_before"] += tables.port_stats[index]["coalesced"]
        rare["lost_before"] += lost(rare)


@kernel_if("level")
def on_saved(tables, index):
    """Count a notification that found no event word."""
    if tables.host[0]["level"] == PORT_LEVEL:
        tables.port_rare[index]["saved"] += 1


@kernel_if("level")
def on_no_control_block(tables, index):
    """Count a notification that was lost on a vcpu without control block."""
    if tables.host[0]["level"] == PORT_LEVEL:
        tables.port_rare[index]["no_control_block"] += 1


@hot_if("level")
def on_dropped(tables, index):
    """Count a send on an unbound port."""
    if tables.host[0]["level"] == PORT_LEVEL:
        tables.port_rare[np.uint64(index)]["dropped"] += 1


@hot_if("level")
def on_to_xen(tables, index):
    """Count a send to a port that Xen consumes."""
    if tables.host[0]["level"] == PORT_LEVEL:
        tables.port_rare[np.uint64(index)]["to_xen"] += 1


# Vcpus -------------------------------------------------------------------------------------------


@hot_if("level")
def on_kick(tables, dom, row):
    """Count an upcall_pending that went from 0 to 1."""
    tables.vcpu_stats[row]["kicks"] += 1
    timeline.bin_now(tables, dom)["kicks"] += 1


@kernel_if("level")
def on_poll_wake(tables, row):
    """Count a poller that was unblocked."""
    tables.vcpu_stats[row]["poll_wakes"] += 1


@hot_if("level")
def on_ignored_upcall(tables, row):
    """Count an upcall record that found nothing to do, or a guest that does it."""
    tables.vcpu_stats[row]["ignored_upcalls"] += 1


@hot_if("level")
def begin_upcall(tables, row):
    """Count a handler that starts."""
    tables.vcpu_stats[row]["upcalls"] += 1


@hot_if("level")
def end_upcall(tables, row, delivered):
    """Count what a handler that ends has delivered."""
    if delivered == 0:
        tables.vcpu_stats[row]["spurious"] += 1


@hot_if("level")
def on_batch(tables, row, more, batch):
    """Count events delivered, and the batch they belong to."""
    v = tables.vcpu_stats[row]
    v["delivered"] += more
    v["largest_batch"] = max(v["largest_batch"], batch)
