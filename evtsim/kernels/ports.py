"""The life cycle of ports: what Xen keeps in event_channel.c, apart from the ABIs.

Every operation takes the tables, the caller and the record's arguments as int64, looks up,
validates in Xen's order, changes, and returns 0 or a negative errno. What it gives back besides
goes into tables.result, which is all zero when it starts.
"""

import numpy as np

from evtsim._jit import hot, kernel, kernel_if
from evtsim.dtypes import VIRQ_GLOBAL, VIRQ_VCPU, XEN_HERE, XEN_PEER
from evtsim.kernels import fifo, guest, pool, port_ops, routes, stats, two_level
from evtsim.kernels.constants import (
    DOMID_SELF,
    EBUSY,
    EEXIST,
    EFFECT_DROPPED,
    EFFECT_XEN,
    EINVAL,
    ENOENT,
    ENOSPC,
    EPERM,
    ESRCH,
    FREE,
    INTERDOMAIN,
    IPI,
    NR_VIRQS,
    PIRQ,
    RESERVED,
    STATUS_CLOSED,
    STATUS_INTERDOMAIN,
    STATUS_IPI,
    STATUS_PIRQ,
    STATUS_UNBOUND,
    STATUS_VIRQ,
    UNBOUND,
    VIRQ,
)

pool_index = pool.pool_index
is_valid = pool.is_valid
set_pending = port_ops.set_pending
clear_pending = port_ops.clear_pending

DOMID_MASK = 0xFFFF


# Looking up --------------------------------------------------------------------------------------


@kernel
def is_xen(tables, dom, port):
    """Tell whether the port is valid and attached to Xen."""
    if not is_valid(tables, dom, port):
        return False
    return tables.ports[pool_index(tables, dom, port)]["xen"] & XEN_HERE != 0


@kernel
def is_alive(tables, dom):
    """Tell whether the domain is configured and exists."""
    return dom < len(tables.domains) and tables.domains[dom]["alive"] != 0


@kernel
def find_target(tables, dom, named):
    """Return the domain that a caller names, or -ESRCH; in xen-4.0 -EPERM if it may not.

    There, only DOMID_SELF is oneself: by its own number an unprivileged caller is refused.
    """
    if named == DOMID_SELF:
        return dom
    if not is_alive(tables, named):
        return -ESRCH
    if tables.modern is None and not tables.domains[dom]["privileged"]:
        return -EPERM
    return named


@kernel
def may_not_act(tables, dom, target):
    """Tell whether xen-4.23, which asks later, keeps the caller from acting on a domain."""
    if tables.modern is None:
        return False
    return target != dom and not tables.domains[dom]["privileged"]


@kernel
def add_bucket(tables, dom):
    """Make a domain's next bucket of ports valid, all FREE; the first of them."""
    domain = tables.domains[dom]
    host = tables.host[0]
    first = np.int64(domain["nr_ports"])
    if tables.buckets[first >> 7, dom] == 0:
        tables.buckets[first >> 7, dom] = host["buckets_used"]
        host["buckets_used"] += 1
    start = pool_index(tables, dom, first)
    for n in range(host["bucket_ports"]):
        clear_port(tables, dom, first + n, start + n)
        fifo.forget(tables, start + n)
    domain["nr_ports"] = first + host["bucket_ports"]
    host["most_ports"] = max(host["most_ports"], np.int64(domain["nr_ports"]))
    stats.on_valid(tables, dom)
    return first


@kernel
def get_free_port(tables, dom):
    """Return the lowest FREE port, from a new bucket if need be, or -ENOSPC (get_free_port)."""
    domain = tables.domains[dom]
    limit = np.int64(domain["max_ports"])
    first_free = np.int64(-1)
    for port in range(np.int64(domain["free_hint"]), min(np.int64(domain["nr_ports"]), limit)):
        if tables.ports[pool_index(tables, dom, port)]["state"] == FREE:
            if first_free < 0:
                first_free = np.int64(port)
                domain["free_hint"] = port
            if not port_ops.is_busy(tables, dom, port):
                return port
    if first_free < 0:
        domain["free_hint"] = min(np.int64(domain["nr_ports"]), limit)
    if domain["nr_ports"] >= limit:
        return -ENOSPC
    return add_bucket(tables, dom)


@kernel
def virq_row(tables, dom, virq, vcpu):
    """Return the row of the VIRQ map that holds this VIRQ: the vcpu's own, or vcpu 0's."""
    first = np.int64(tables.domains[dom]["first_vcpu"])
    return first + vcpu if tables.virq_kinds[virq] == VIRQ_VCPU else first


# Changing one port -------------------------------------------------------------------------------


@kernel
def clear_port(tables, dom, port, index):
    """Make a port of the pool as new: FREE, for nobody, on vcpu 0."""
    two_level.notify_on(tables, dom, port, index, 0)
    p = tables.ports[index]
    p["peer"] = 0
    p["remote_port"] = 0
    p["remote_dom"] = 0
    p["peer_vcpu"] = 0
    p["state"] = FREE
    p["xen"] = 0
    tables.routes[index] = 0


@kernel
def give(tables, dom, port):
    """Hand a FREE port back as the result, for the caller to occupy; the pool's index."""
    tables.result[0]["port"] = port
    stats.on_occupied(tables, dom)
    return pool_index(tables, dom, port)


@kernel
def give_to_guest(tables, dom, port):
    """Hand a FREE port to a guest: under the FIFO ABI its priority is the default."""
    index = give(tables, dom, port)
    fifo.give_priority(tables, dom, index)
    return index


@kernel
def connect(tables, index, peer, remote_dom, remote_port):
    """Make one end of an interdomain channel point at the other."""
    p = tables.ports[index]
    other = tables.ports[peer]
    p["state"] = INTERDOMAIN
    p["peer"] = peer
    p["remote_dom"] = remote_dom
    p["remote_port"] = remote_port
    p["peer_vcpu"] = other["notify_vcpu"]
    if other["xen"] & XEN_HERE:
        p["xen"] |= XEN_PEER
    routes.update(tables, 0, 0, index)


@kernel
def forget_virq(tables, dom, port):
    """Take a VIRQ port out of the map of the vcpu that owns it."""
    p = tables.ports[pool_index(tables, dom, port)]
    virq = np.int64(p["remote_port"])
    # A per-vcpu VIRQ's port cannot be moved, so its notify vcpu is still its owner.
    tables.virqs[virq, virq_row(tables, dom, virq, np.int64(p["notify_vcpu"]))] = 0


@kernel
def close_port(tables, dom, port):
    """Close a port that is neither FREE nor RESERVED, whoever it is attached to.

    The mask bit, selectors and upcall_pending stay, and so does everything of the peer but its
    state.
    """
    index = pool_index(tables, dom, port)
    guest.before_close(tables, dom, index)
    p = tables.ports[index]
    usable = not p["xen"] & XEN_HERE
    if p["state"] == VIRQ:
        forget_virq(tables, dom, port)
    elif p["state"] == PIRQ:
        tables.pirqs[np.int64(tables.domains[dom]["first_pirq"]) + p["remote_port"]] = 0
    elif p["state"] == IPI:
        stats.settle(tables, dom, index, dom, index)
    elif p["state"] == INTERDOMAIN:
        peer = tables.ports[p["peer"]]
        stats.settle(tables, dom, index, np.int64(p["remote_dom"]), np.int64(p["peer"]))
        stats.settle(tables, np.int64(p["remote_dom"]), np.int64(p["peer"]), dom, index)
        peer["state"] = UNBOUND
        peer["peer"] = 0
        peer["remote_dom"] = dom
        peer["remote_port"] = 0
        peer["peer_vcpu"] = 0
        peer["xen"] &= XEN_HERE
        tables.routes[p["peer"]] = 0
    if tables.modern is None or usable:
        clear_pending(tables, dom, port)
    clear_port(tables, dom, port, index)
    stats.on_freed(tables, dom)
    domain = tables.domains[dom]
    domain["free_hint"] = min(np.int64(domain["free_hint"]), port)


@kernel
def notify(tables, dom, port):
    """Notify a valid port on its own vcpu and hand it back as the result."""
    index = pool_index(tables, dom, port)
    p = tables.ports[index]
    vcpu = np.int64(p["notify_vcpu"])
    result = tables.result[0]
    result["port"] = port
    result["effects"] = set_pending(tables, dom, vcpu, port, index, np.int64(p["state"]), 0)


# Hypercalls --------------------------------------------------------------------------------------


@kernel
def alloc_unbound(tables, dom, named, remote_dom):
    """evtchn_alloc_unbound: DOMID_SELF as the remote is the caller, wherever the port is."""
    target = find_target(tables, dom, named & DOMID_MASK)
    if target < 0:
        return target
    port = get_free_port(tables, target)
    if port < 0:
        return port
    if may_not_act(tables, dom, target):
        return -EPERM
    p = tables.ports[give_to_guest(tables, target, port)]
    remote = remote_dom & DOMID_MASK
    p["state"] = UNBOUND
    p["remote_dom"] = dom if remote == DOMID_SELF else remote
    return 0


@kernel
def bind_interdomain(tables, dom, named, remote_port):
    """evtchn_bind_interdomain: the new local port is notified at once, the remote end is not."""
    remote_dom = named & DOMID_MASK
    if remote_dom == DOMID_SELF:
        remote_dom = dom
    if not is_alive(tables, remote_dom):
        return -ESRCH
    port = get_free_port(tables, dom)
    if port < 0:
        return port
    if not is_valid(tables, remote_dom, remote_port):
        return -EINVAL
    peer = pool_index(tables, remote_dom, remote_port)
    if tables.ports[peer]["state"] != UNBOUND or tables.ports[peer]["remote_dom"] != dom:
        return -EINVAL
    index = give_to_guest(tables, dom, port)
    connect(tables, index, peer, remote_dom, remote_port)
    connect(tables, peer, index, dom, port)
    notify(tables, dom, port)
    stats.begin_channel(tables, index)
    stats.begin_channel(tables, peer)
    return 0


@kernel
def bind_virq(tables, dom, virq, vcpu):
    """evtchn_bind_virq: the range of a global VIRQ's vcpu is looked at before it exists."""
    if virq >= NR_VIRQS:
        return -EINVAL
    kind = tables.virq_kinds[virq]
    if vcpu != 0 and kind != VIRQ_VCPU:
        return -EINVAL
    if vcpu >= tables.domains[dom]["nr_vcpus"]:
        return -ENOENT
    if kind == VIRQ_GLOBAL and dom != 0:
        return -EBUSY
    row = virq_row(tables, dom, virq, vcpu)
    if tables.virqs[virq, row]:
        return -EEXIST
    port = get_free_port(tables, dom)
    if port < 0:
        return port
    index = give_to_guest(tables, dom, port)
    two_level.notify_on(tables, dom, port, index, vcpu)
    p = tables.ports[index]
    p["state"] = VIRQ
    p["remote_port"] = virq
    tables.virqs[virq, row] = port
    return 0


@kernel
def bind_pirq(tables, dom, pirq):
    """evtchn_bind_pirq."""
    domain = tables.domains[dom]
    if pirq >= domain["nr_pirqs"]:
        return -EINVAL
    if not domain["pirq_permitted"]:
        return -EPERM
    row = np.int64(domain["first_pirq"]) + pirq
    if tables.pirqs[row]:
        return -EEXIST
    port = get_free_port(tables, dom)
    if port < 0:
        return port
    p = tables.ports[give_to_guest(tables, dom, port)]
    p["state"] = PIRQ
    p["remote_port"] = pirq
    tables.pirqs[row] = port
    return 0


@kernel
def bind_ipi(tables, dom, vcpu):
    """evtchn_bind_ipi."""
    if vcpu >= tables.domains[dom]["nr_vcpus"]:
        return -ENOENT
    port = get_free_port(tables, dom)
    if port < 0:
        return port
    index = give_to_guest(tables, dom, port)
    stats.begin_channel(tables, index)
    p = tables.ports[index]
    p["state"] = IPI
    two_level.notify_on(tables, dom, port, index, vcpu)
    routes.update(tables, dom, port, index)
    return 0


@kernel
def close(tables, dom, port):
    """evtchn_close, by the guest: not what is attached to Xen."""
    if not is_valid(tables, dom, port):
        return -EINVAL
    p = tables.ports[pool_index(tables, dom, port)]
    if p["xen"] & XEN_HERE or p["state"] == FREE or p["state"] == RESERVED:
        return -EINVAL
    close_port(tables, dom, port)
    return 0


@hot
def may_send(tables, index):
    """Tell whether evtchn_send takes a valid port."""
    p = tables.ports[index]
    if p["xen"] & XEN_HERE:
        return False
    return p["state"] == INTERDOMAIN or p["state"] == IPI or p["state"] == UNBOUND


@hot
def send_nowhere(tables, index):
    """evtchn_send on a port that it takes, but that notifies no other; the effects."""
    if tables.ports[index]["xen"]:
        stats.on_to_xen(tables, index)
        return EFFECT_XEN
    stats.on_dropped(tables, index)
    return EFFECT_DROPPED


@kernel
def status(tables, dom, named, port):
    """evtchn_status: the code in result.port; a PIRQ's or VIRQ's number in result.remote_port."""
    target = find_target(tables, dom, named & DOMID_MASK)
    if target < 0:
        return target
    if not is_valid(tables, target, port):
        return -EINVAL
    if may_not_act(tables, dom, target):
        return -EPERM
    p = tables.ports[pool_index(tables, target, port)]
    code = STATUS_CLOSED
    if p["state"] == UNBOUND:
        code = STATUS_UNBOUND
    elif p["state"] == INTERDOMAIN:
        code = STATUS_INTERDOMAIN
    elif p["state"] == PIRQ:
        code = STATUS_PIRQ
    elif p["state"] == VIRQ:
        code = STATUS_VIRQ
    elif p["state"] == IPI:
        code = STATUS_IPI
    result = tables.result[0]
    result["port"] = code
    result["vcpu"] = p["notify_vcpu"]
    result["remote_dom"] = p["remote_dom"]
    result["remote_port"] = p["remote_port"]
    return 0


@kernel
def bind_vcpu(tables, dom, port, vcpu):
    """evtchn_bind_vcpu: an event that is pending already stays where it was told."""
    if vcpu >= tables.domains[dom]["nr_vcpus"]:
        return -ENOENT
    if not is_valid(tables, dom, port):
        return -EINVAL
    index = pool_index(tables, dom, port)
    p = tables.ports[index]
    if p["xen"] & XEN_HERE:
        return -EINVAL
    if p["state"] == VIRQ:
        if tables.virq_kinds[p["remote_port"]] == VIRQ_VCPU:
            return -EINVAL
    elif p["state"] != UNBOUND and p["state"] != INTERDOMAIN and p["state"] != PIRQ:
        return -EINVAL
    two_level.notify_on(tables, dom, port, index, vcpu)
    if p["state"] == INTERDOMAIN:
        tables.ports[p["peer"]]["peer_vcpu"] = vcpu
        routes.update(tables, 0, 0, np.int64(p["peer"]))
    return 0


@kernel
def reset(tables, dom, named):
    """evtchn_reset: closes all that close would."""
    target = find_target(tables, dom, named & DOMID_MASK)
    if target < 0:
        return target
    if may_not_act(tables, dom, target):
        return -EPERM
    for port in range(np.int64(tables.domains[target]["nr_ports"])):
        close(tables, target, port)
    if port_ops.is_fifo(tables, target):
        fifo.leave(tables, target)
        guest.on_abi_switch(tables, target)
    return 0


@kernel_if("modern", otherwise=0)
def reset_cont(tables, dom, named):
    """evtchn_reset going on: nobody but Xen may ask for that."""
    target = find_target(tables, dom, named & DOMID_MASK)
    if target < 0:
        return target
    return -EPERM if may_not_act(tables, dom, target) else -EBUSY


@kernel_if("modern", otherwise=0)
def init_control(tables, dom, vcpu, offset):
    """evtchn_fifo_init_control, and what running handlers make of it."""
    switches = not tables.domains[dom]["fifo"]
    rc = fifo.init_control(tables, dom, vcpu, offset)
    if rc == 0 and switches:
        guest.on_abi_switch(tables, dom)
    return rc


@kernel_if("modern")
def clear_all_pending(tables, dom):
    """Count as cleared what is still pending in a domain that ends: ports that Xen had freed."""
    for port in range(np.int64(tables.domains[dom]["nr_ports"])):
        if two_level.in_reach(tables, dom, port):
            two_level.clear_pending(tables, dom, port)
