"""The steps of a block of records that several cores share, each a call of its own.

What a thread counts that belongs to no domain goes into tables of its own; everything else that an
action touches is its domain's, and a domain is one thread's while a block is carried out.
"""

import numpy as np

from evtsim._jit import entry, hot
from evtsim.kernels import actions, routes, timeline
from evtsim.kernels.replay import look_ahead


@entry
def begin(tables, first, last):
    """Begin a block of records from ts `first` to `last` (uint64, ns)."""
    timeline.begin(tables, first, last)


@entry
def end(tables, ts):
    """End a block at ts (uint64, ns)."""
    timeline.be(tables, ts)


@entry
def resolve(tables, trace, start, first, last, stop, block, prefetching):
    """Resolve records `first` to `last` of the block that begins with record `start`.

    Returns the number in the block of the first one that is left to `replay`, else `last`.
    Changes nothing but `block`, the routes.
    """
    for k in range(first, last):
        if prefetching:
            look_ahead(tables, trace, start + k, stop)
        route = actions.resolve(tables, trace, np.uint64(start + k))
        if route == actions.LEFT:
            return k
        block[np.uint64(k)] = route
    return last


@entry
def sort(tables, trace, start, part, first, last, block, ordered):
    """Count routes `first` to `last` of a block, and sort them: a part of it."""
    count(tables, trace, start, first, last, block)
    shift = tables.host[0]["group_shift"]
    starts = ordered.starts[part]
    starts[:] = 0
    for k in range(first, last):
        starts[np.uint64((routes.domain(block[np.uint64(k)]) >> shift) + 2)] += 1
    for group in range(2, len(starts)):
        starts[group] += starts[group - 1]
    for k in range(first, last):
        route = block[np.uint64(k)]
        mine = np.uint64((routes.domain(route) >> shift) + 1)
        place = np.uint64(starts[mine])
        starts[mine] += 1  # at last it is where the next one's begin
        ordered.routes[part, place] = route
        ordered.records[part, place] = k


@hot
def count(tables, trace, start, first, last, block):
    """Count resolved records by operation and answer."""
    for k in range(first, last):
        actions.count(tables, trace, np.uint64(start + k), block[np.uint64(k)])


@entry
def act(tables, trace, outcome, start, ordered, first_group, last_group, prefetching):
    """Carry out the actions of some groups of domains, each group's in order."""
    often = 0
    coalesced = 0
    for group in range(first_group, last_group):
        for part in range(len(ordered.starts)):
            first = ordered.starts[part, group]
            last = ordered.starts[part, group + 1]
            todo = ordered.routes[part]
            records = ordered.records[part]
            if first < last:
                actions.go_back(tables, trace, start + records[first])
            for k in range(first, last):
                if prefetching:
                    actions.look_ahead(tables, todo[np.uint64(min(k + actions.AHEAD, last - 1))])
                i = np.uint64(start + records[np.uint64(k)])
                effects = actions.act(tables, outcome, i, trace.ts[i], todo[np.uint64(k)], often)
                coalesced += (effects >> 1) & 1
                if k & 255 == 255:
                    often = 1 if coalesced > actions.MOSTLY else 0
                    coalesced = 0
