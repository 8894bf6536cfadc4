"""Where ports lie, and what may be done with them whatever the ABI."""

import numpy as np

from evtsim._jit import hot
from evtsim.dtypes import XEN_HERE
from evtsim.kernels.constants import RESERVED


@hot
def pool_index(tables, dom, port):
    """Return where in the pool a port below the domain's limit lies."""
    return (np.int64(tables.buckets[port >> 7, dom]) << 7) + (port & 127)


@hot
def is_valid(tables, dom, port):
    """Tell whether the port's bucket exists (port_is_valid)."""
    return port < tables.domains[dom]["nr_ports"]


@hot
def is_usable(tables, index):
    """Tell whether a valid port is in use, and not by Xen (evtchn_usable)."""
    p = tables.ports[index]
    return p["state"] > RESERVED and not p["xen"] & XEN_HERE
