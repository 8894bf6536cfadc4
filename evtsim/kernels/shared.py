"""The steps of a block of records that several cores share, each a call of its own.

What a thread counts that belongs to no domain goes into tables of its own; everything else that an
action touches is its domain's, and a domain is one thread's while a block is carried out.
"""

import numpy as np

from evtsim._jit import entry
from evtsim.kernels import actions, replay, routes, timeline


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
    """Resolve a part of a block without counting it: see replay.resolve."""
    return replay.resolve(tables, trace, start, first, last, stop, block, False, prefetching)


@entry
def sort(tables, trace, start, part, first, last, block, ordered):
    """Count routes `first` to `last` of a block, and sort them: a part of it."""
    shift = tables.host[0]["group_shift"]
    starts = ordered.starts[part]
    starts[:] = 0
    for k in range(first, last):
        route = block[np.uint64(k)]
        actions.count(tables, trace, np.uint64(start + k), route)
        starts[np.uint64((routes.domain(route) >> shift) + 2)] += 1
    for group in range(2, len(starts)):
        starts[group] += starts[group - 1]
    for k in range(first, last):
        route = block[np.uint64(k)]
        mine = np.uint64((routes.domain(route) >> shift) + 1)
        place = np.uint64(starts[mine])
        starts[mine] += 1  # at last it is where the next one's begin
        ordered.routes[part, place] = route
        ordered.records[part, place] = k
        if tables.level is not None or tables.guest is not None:
            ordered.times[part, place] = trace.ts[np.uint64(start + k)]


@entry
def act(tables, outcome, start, ordered, first_group, last_group, prefetching):
    """Carry out the actions of some groups of domains, each group's in order."""
    often = 0
    for group in range(first_group, last_group):
        for part in range(len(ordered.starts)):
            first = ordered.starts[part, group]
            last = ordered.starts[part, group + 1]
            if first < last:
                times, records = ordered.times[part], ordered.records[part]
                timeline.be(tables, times[first])
                often = actions.act_in_order(
                    tables, outcome, start, first, last, ordered.routes[part], times, records,
                    often, prefetching,
                )  # fmt: skip
