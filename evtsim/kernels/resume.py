"""What a host needs that begins in the middle: its guests hear of upcalls they were told of."""

import numpy as np

from evtsim._jit import entry
from evtsim.kernels import due


@entry
def resume(tables, ts):
    """Schedule the handlers of all vcpus that have upcall_pending set, as a kick at ts would.

    Parameters
    ----------
    tables : Tables
        With a guest whose handlers are all idle; modified in place.
    ts : uint64
        ns.
    """
    tables.host[0]["now"] = ts
    for dom in range(len(tables.domains)):
        domain = tables.domains[dom]
        if domain["alive"]:
            first = np.int64(domain["first_vcpu"])
            for row in range(first, first + domain["nr_vcpus"]):
                due.on_upcalls_unmasked(tables, dom, row)
