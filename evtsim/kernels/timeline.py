"""What time it is, and the timeline: counts in bins of time, of groups of domains."""

import numpy as np

from evtsim._jit import hot, hot_if, kernel, kernel_if
from evtsim.dtypes import TIMELINE_BINS


@hot
def tick(tables, ts):
    """Let it be ts (uint64, ns): what follows happens now."""
    if tables.level is not None or tables.guest is not None:  # else nobody asks
        tables.host[0]["now"] = ts
        on_tick(tables, ts)


@hot
def be(tables, ts):
    """Let it be ts, which may lie before now: a domain catches up, or has done so."""
    if tables.level is not None or tables.guest is not None:
        tables.host[0]["now"] = ts
        on_jump(tables, ts)


@hot
def begin(tables, first, last):
    """Begin a block of records from ts `first` to `last`; it is `first` now.

    The timeline has bins for all of them, so that none is merged while they are under way.
    """
    tick(tables, first)
    on_begin(tables, first, last)


@hot_if("level")
def on_begin(tables, first, last):
    """Make bins up to ts `last`, and go on in that of `first`."""
    if last > tables.host[0]["bin_end"]:
        widen(tables, last)
        on_jump(tables, first)


@hot_if("level")
def on_tick(tables, ts):
    """Go on to the timeline's bin of ts, if it is a later one."""
    host = tables.host[0]
    if ts > host["bin_end"] or not host["started"]:
        find_bin(tables, ts)


@hot_if("level")
def on_jump(tables, ts):
    """Go to the timeline's bin of ts, which may be an earlier one."""
    host = tables.host[0]
    shift = host["bin_shift"]
    place = (ts >> shift) - (host["first_ts"] >> shift)
    if not host["started"] or place >= np.uint64(TIMELINE_BINS):
        find_bin(tables, ts)
        return
    host["bin"] = np.int64(place)
    host["bin_end"] = ((ts >> shift) << shift) + ((np.uint64(1) << shift) - np.uint64(1))


@kernel_if("level")
def find_bin(tables, ts):
    """Find the timeline's row for ts, merging bins if there is none left."""
    host = tables.host[0]
    if not host["started"]:
        host["started"] = 1
        host["first_ts"] = ts
    host["bin"] = widen(tables, ts)
    shift = host["bin_shift"]
    host["bin_end"] = ((ts >> shift) << shift) + ((np.uint64(1) << shift) - np.uint64(1))


@kernel_if("level")
def widen(tables, ts):
    """Merge neighbouring bins until ts has one; its number.

    Bins begin at multiples of their width, so that where they lie does not depend on what
    came when.
    """
    host = tables.host[0]
    while True:
        shift = host["bin_shift"]
        first = host["first_ts"] >> shift
        if (ts >> shift) - first < np.uint64(TIMELINE_BINS):
            return np.int64((ts >> shift) - first)
        odd = np.int64(first & np.uint64(1))
        for place in range(TIMELINE_BINS):
            into = (place + odd) >> 1
            for group in range(tables.timeline.shape[1]):
                add_and_clear(tables.timeline, into, place, group)
        host["bin_shift"] = shift + np.uint64(1)


@kernel
def add_and_clear(timeline, into, place, group):
    """Move the counts of one bin to another."""
    if into == place:
        return
    a = timeline[into, group]
    b = timeline[place, group]
    a["errors"] += b["errors"]
    a["set"] += b["set"]
    a["coalesced"] += b["coalesced"]
    a["masked"] += b["masked"]
    a["delivered"] += b["delivered"]
    a["cleared"] += b["cleared"]
    a["kicks"] += b["kicks"]
    a["opened"] += b["opened"]
    b["errors"] = 0
    b["set"] = 0
    b["coalesced"] = 0
    b["masked"] = 0
    b["delivered"] = 0
    b["cleared"] = 0
    b["kicks"] = 0
    b["opened"] = 0


@hot_if("level")
def bin_now(tables, dom):
    """Return the timeline's row of now and the domain's group, by reference."""
    host = tables.host[0]
    return tables.timeline[np.uint64(host["bin"]), np.uint64(dom >> host["group_shift"])]
