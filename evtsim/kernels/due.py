"""What is due when, of a guest's: handlers that start, events whose handling ends, late EOIs.

Nothing here happens; kernels/guest.py lets it. Without a guest, kernels are compiled without
any of this.
"""

import numpy as np

from evtsim import draws
from evtsim._jit import hot, hot_if, kernel_if
from evtsim.dtypes import NEVER

# Stages of a vcpu's handler.
IDLE = 0
SCHEDULED = 1
ROUND = 2  # running: a round begins
SELECT = 3  # running: takes the selector next
SCAN = 4  # running: goes through the words

_NEVER = np.uint64(NEVER)

WAKE = 0
HANDLER = 1
"""Streams of draws; workloads have the others."""


@hot_if("guest")
def config_of(tables, dom):
    """Return the configuration of a domain's guest, by reference."""
    return tables.guest_configs[np.uint64(tables.guest_domains[dom]["config"])]


@hot
def later(ts, ns):
    """Return ts + ns, both uint64; NEVER if that lies beyond the end of time."""
    return ts + ns if ns < _NEVER - ts else _NEVER


@hot
def draw(kind, a, b, stream, seed, row, number):
    """Draw a time in ns, int64, of a configured distribution.

    `row` is the vcpu's: it stands for domain and vcpu.
    """
    if kind == 0:
        return a
    word = draws.word(draws.key(seed, stream, row), number)
    return draws.exponential(word, a) if kind == 1 else draws.lognormal(word, a, b)


@hot_if("guest")
def wake_time(tables, dom, row):
    """Draw how long an idle vcpu takes until its handler starts."""
    config = config_of(tables, dom)
    g = tables.guest_vcpus[row]
    number = g["wakes"]
    g["wakes"] = number + 1
    ns = draw(
        config["wake_kind"], config["wake_a"], config["wake_b"],
        WAKE, config["seed"], who(tables, dom, row), number,
    )  # fmt: skip
    return np.uint64(ns)


@hot_if("guest")
def handling_time(tables, dom, row):
    """Draw how long the handling of a vcpu's next event takes."""
    config = config_of(tables, dom)
    g = tables.guest_vcpus[row]
    number = g["events"]
    g["events"] = number + 1
    ns = draw(
        config["handler_kind"], config["handler_a"], config["handler_b"],
        HANDLER, config["seed"], who(tables, dom, row), number,
    )  # fmt: skip
    return np.uint64(ns)


@hot
def who(tables, dom, row):
    """Return a number for domain and vcpu that does not depend on other domains."""
    return (np.int64(dom) << 16) + row - np.int64(tables.domains[dom]["first_vcpu"])


@hot_if("guest")
def schedule(tables, dom, row):
    """Let an idle vcpu's handler start after its wake time."""
    g = tables.guest_vcpus[row]
    g["stage"] = SCHEDULED
    g["due"] = later(tables.host[0]["now"], wake_time(tables, dom, row))
    remember(tables, dom, g["due"])


@hot_if("guest")
def remember(tables, dom, due):
    """Note that something of the domain's is due."""
    domain = tables.guest_domains[dom]
    domain["due"] = min(domain["due"], due)


@hot_if("guest")
def on_kick(tables, dom, row):
    """Hear that upcall_pending was set."""
    if tables.guest_vcpus[row]["stage"] == IDLE and not tables.vcpus[row]["upcall_mask"]:
        schedule(tables, dom, row)


@kernel_if("guest")
def on_upcalls_unmasked(tables, dom, row):
    """Hear that the guest wrote 0 to upcall_mask."""
    if tables.guest_vcpus[row]["stage"] == IDLE and tables.vcpus[row]["upcall_pending"]:
        schedule(tables, dom, row)


@kernel_if("guest")
def forget_all(tables, dom):
    """Drop whatever is due of a domain that ends; numbers of draws go on."""
    domain = tables.domains[dom]
    first = np.int64(domain["first_vcpu"])
    for row in range(first, first + domain["nr_vcpus"]):
        g = tables.guest_vcpus[row]
        while g["eoi_first"]:
            remove_eoi(tables, np.int64(g["eoi_first"]))
        g["stage"] = IDLE
        g["due"] = _NEVER
        g["next_word"] = 0
        g["next_bit"] = 0
    tables.guest_domains[dom]["due"] = _NEVER


# Late EOIs ---------------------------------------------------------------------------------------


@hot_if("guest", otherwise=False)
def has_eoi(tables, index):
    """Tell whether a port of the pool waits for its EOI."""
    return index < len(tables.eois) and tables.eois[index]["vcpu"] != 0


@hot_if("guest")
def add_eoi(tables, dom, row, index, port, due):
    """Put a port in the list of the vcpu that handles it: by time, then by port."""
    if has_eoi(tables, index):  # of the other ABI's handling: the later one replaces it
        remove_eoi(tables, index)
    g = tables.guest_vcpus[row]
    before = np.int64(g["eoi_last"])
    while before:
        e = tables.eois[before]
        if e["due"] < due or (e["due"] == due and e["port"] < port):
            break
        before = np.int64(e["previous"])
    after = np.int64(tables.eois[before]["next"]) if before else np.int64(g["eoi_first"])
    e = tables.eois[index]
    e["due"] = due
    e["port"] = port
    e["vcpu"] = row + 1
    join(tables, g, before, index)
    join(tables, g, index, after)
    remember(tables, dom, due)


@hot_if("guest")
def join(tables, g, before, after):
    """Let a vcpu's list go from one port of the pool to another; 0 is its begin or its end."""
    if before:
        tables.eois[before]["next"] = after
    else:
        g["eoi_first"] = after
    if after:
        tables.eois[after]["previous"] = before
    else:
        g["eoi_last"] = before


@hot_if("guest")
def remove_eoi(tables, index):
    """Take a port out of the list it is in."""
    e = tables.eois[index]
    g = tables.guest_vcpus[np.int64(e["vcpu"]) - 1]
    join(tables, g, np.int64(e["previous"]), np.int64(e["next"]))
    e["vcpu"] = 0


@hot_if("guest", otherwise=False)
def cancel_eoi(tables, index):
    """Let a port wait no longer; True if it did."""
    if not has_eoi(tables, index):
        return False
    remove_eoi(tables, index)
    return True
