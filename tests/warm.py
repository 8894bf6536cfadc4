"""Compiles the kinds of kernels that most tests need, each once: ``python -m tests.warm``.

The workers of a parallel test run would all compile the same ones at the same time, and what only
some tests need, threads and generators, takes less time beside what it has in common with these.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os

import evtsim
from evtsim.crew import Crew
from evtsim.watching import watch

PROFILES = ("xen-4.23", "xen-4.0")
SHARED = {("xen-4.23", True, "port"), ("xen-4.23", False, "port"), ("xen-4.0", False, None)}
"""Kinds, as profile, whether there is a guest, statistics, that tests let threads share."""


def short_trace(host: evtsim.Host) -> evtsim.Trace:
    """Return a channel, and sends for threads to share."""
    build = evtsim.TraceBuilder(host)
    build.alloc_unbound(dom=1, remote_dom=0)
    build.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    for _ in range(8):
        build.send(dom=0, port=1)
    return build.trace()


def warm(profile: str, guest: evtsim.Guest | None, stats: str | None) -> None:
    """Compile what a replay, a port that is watched and threads need of one kind."""
    host = evtsim.Host.uniform(2, profile=profile)
    trace = short_trace(host)
    sim = evtsim.Simulator(host, guest, stats)
    sim.apply(trace)
    if guest is not None:
        sim.drain()
    if stats is None:
        list(watch(evtsim.Simulator(host, guest), trace, 0, 1))
    if (profile, guest is not None, stats) in SHARED:
        sim = evtsim.Simulator(host, guest, stats)
        sim._crew = Crew(2, len(host), block=4, least=2)
        sim.apply(trace)


def generate() -> None:
    """Compile the event-driven workloads."""
    evtsim.workloads.generate("mixed", records=1)


def main() -> None:
    # What takes longest first, so that no core is idle for long at the end.
    kinds = list(itertools.product(PROFILES, (evtsim.Guest(), None), ("port", None)))
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        jobs = [pool.apply_async(warm, kind) for kind in kinds]
        jobs.append(pool.apply_async(generate))
        for job in jobs:
            job.get()


if __name__ == "__main__":
    main()
