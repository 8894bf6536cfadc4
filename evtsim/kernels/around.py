"""Records that are no hypercalls: what guest, toolstack and hypervisor do around them.

As in ports.py, every operation returns 0 or a negative errno and puts what else it gives back
into tables.result.
"""

import numpy as np

from evtsim._jit import kernel
from evtsim.dtypes import XEN_HERE
from evtsim.kernels import due, fifo, pool, port_ops, ports, two_level
from evtsim.kernels import vcpu as _vcpu
from evtsim.kernels.constants import EINVAL, INTERDOMAIN, RESERVED, UNBOUND

block = _vcpu.block
leave_poll = _vcpu.leave_poll


@kernel
def clear_pending(tables, dom, port):
    """Clear a pending bit as the guest does: whether the port is valid or not."""
    if not port_ops.in_reach(tables, dom, port):
        return -EINVAL
    port_ops.clear_pending(tables, dom, port)
    return 0


@kernel
def poll(tables, dom, vcpu, port):
    """SCHEDOP_poll on one port; result.port is 1 where it returns at once."""
    row = np.int64(tables.domains[dom]["first_vcpu"]) + vcpu
    v = tables.vcpus[row]
    if v["blocked"]:
        return -EINVAL
    # Every way out that does not block leaves poll_mask, where a poll of port 0 may have left it.
    leave_poll(tables, dom, row)
    if v["upcall_pending"] and not v["upcall_mask"]:
        tables.result[0]["port"] = 1
        return 0
    if not port_ops.can_be_polled(tables, dom, port):
        return -EINVAL
    if port_ops.is_pending(tables, dom, port):
        tables.result[0]["port"] = 1
        return 0
    block(tables, dom, row, port)
    return 0


@kernel
def set_upcall_mask(tables, dom, vcpu, value):
    """Write the vcpu's evtchn_upcall_mask as the guest does: Xen is not told."""
    row = np.int64(tables.domains[dom]["first_vcpu"]) + vcpu
    tables.vcpus[row]["upcall_mask"] = 1 if value else 0
    if not value:
        due.on_upcalls_unmasked(tables, dom, row)
    return 0


@kernel
def alloc_xen(tables, dom, vcpu, remote_dom):
    """alloc_unbound_xen_event_channel: the remote's id is taken as it is."""
    port = ports.get_free_port(tables, dom)
    if port < 0:
        return port
    index = ports.give(tables, dom, port)
    two_level.notify_on(tables, dom, port, index, vcpu)
    p = tables.ports[index]
    p["state"] = UNBOUND
    p["remote_dom"] = remote_dom & ports.DOMID_MASK
    p["xen"] = XEN_HERE
    return 0


@kernel
def free_xen(tables, dom, port):
    """free_xen_event_channel."""
    if not ports.is_xen(tables, dom, port):
        return -EINVAL
    ports.close_port(tables, dom, port)
    return 0


@kernel
def notify_xen(tables, dom, port):
    """notify_via_xen_event_channel: the peer, always a port of a guest's, is notified."""
    if not ports.is_xen(tables, dom, port):
        return -EINVAL
    p = tables.ports[pool.pool_index(tables, dom, port)]
    if p["state"] == INTERDOMAIN:
        tables.result[0]["effects"] = port_ops.set_pending(
            tables,
            np.int64(p["remote_dom"]),
            np.int64(p["peer_vcpu"]),
            np.int64(p["remote_port"]),
            np.int64(p["peer"]),
            INTERDOMAIN,
            0,
        )
    return 0


@kernel
def destroy_domain(tables, dom):
    """evtchn_destroy: everything closes; peers wait for a domain that is gone."""
    due.forget_all(tables, dom)
    domain = tables.domains[dom]
    last = np.int64(domain["nr_ports"]) - 1
    for n in range(last + 1):
        port = last - n  # from the highest down, as later versions of Xen do; none tells
        if tables.ports[pool.pool_index(tables, dom, port)]["state"] > RESERVED:
            ports.close_port(tables, dom, port)
    fifo.leave(tables, dom)
    ports.clear_all_pending(tables, dom)
    domain["nr_ports"] = 0
    domain["alive"] = 0
    return 0


@kernel
def create_domain(tables, dom):
    """evtchn_init, on shared memory, vcpus and maps that are all zero again."""
    domain = tables.domains[dom]
    for word in range(len(tables.shared)):
        tables.shared[word, dom]["pending"] = 0
        tables.shared[word, dom]["mask"] = 0
    first = np.int64(domain["first_vcpu"])
    for row in range(first, first + domain["nr_vcpus"]):
        v = tables.vcpus[row]
        v["upcall_pending"] = 0
        v["upcall_mask"] = 0
        v["pending_sel"] = 0
        v["blocked"] = 0
        leave_poll(tables, dom, row)
        tables.virqs[:, row] = 0
    pirqs = np.int64(domain["first_pirq"])
    tables.pirqs[pirqs : pirqs + domain["nr_pirqs"]] = 0
    domain["alive"] = 1
    domain["free_hint"] = 0
    tables.ports[pool.pool_index(tables, dom, ports.add_bucket(tables, dom))]["state"] = RESERVED
    return 0
