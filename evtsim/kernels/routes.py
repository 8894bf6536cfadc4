"""What a send on a port comes to, in one word that stands beside the port.

A send needs no more of its port than this: whom it notifies. Whatever changes a port, its peer
or the peer's notify vcpu brings the word up to date, which is rarer by far.
"""

import numpy as np

from evtsim._jit import hot, kernel
from evtsim.dtypes import ROUTE_DOM, ROUTE_KIND, ROUTE_VCPU
from evtsim.kernels.constants import INTERDOMAIN, IPI


@hot
def packed(what, dom, to_vcpu, to_port):
    """Put together what happens to a port: see ROUTE_VCPU in dtypes.py."""
    return what << ROUTE_KIND | dom << ROUTE_DOM | to_vcpu << ROUTE_VCPU | to_port


@hot
def notify(state):
    """Return the kind of a route that notifies a port in a state."""
    return state - INTERDOMAIN


@hot
def state(what):
    """Return the state of the port that a route of such a kind notifies."""
    return what + INTERDOMAIN


@kernel
def update(tables, dom, own, index):
    """Bring the word of port `own` of a domain up to date: 0 where a send notifies no port."""
    p = tables.ports[index]
    route = 0
    if p["state"] == INTERDOMAIN and not p["xen"]:
        route = packed(
            notify(INTERDOMAIN),
            np.int64(p["remote_dom"]),
            np.int64(p["peer_vcpu"]),
            np.int64(p["remote_port"]),
        )
    elif p["state"] == IPI:
        route = packed(notify(IPI), dom, np.int64(p["notify_vcpu"]), own)
    tables.routes[index] = route


@hot
def kind(route):
    """Return what a route does."""
    return route >> ROUTE_KIND


@hot
def domain(route):
    """Return a route's domain."""
    return (route >> ROUTE_DOM) & 0x7FFF


@hot
def vcpu(route):
    """Return a route's vcpu, or what stands for it."""
    return (route >> ROUTE_VCPU) & 0x1FFF


@hot
def port(route):
    """Return a route's port, or what stands for it."""
    return route & 0x1FFFF


@hot
def unpacked(route):
    """Take a route apart: kind, domain, vcpu, port."""
    return kind(route), domain(route), vcpu(route), port(route)
