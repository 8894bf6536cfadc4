"""Compiles the kinds of kernels that most tests need, each once: ``python -m tests.warm``.

The workers of a parallel test run would all compile the same ones at the same time.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os

import evtsim

PROFILES = ("xen-4.23", "xen-4.0")


def warm(profile: str, guest: evtsim.Guest | None, stats: str | None) -> None:
    """Compile what a replay, and a port that is watched, need of one kind."""
    host = evtsim.Host.uniform(2, profile=profile)
    build = evtsim.TraceBuilder(host)
    build.alloc_unbound(dom=1, remote_dom=0)
    trace = build.trace()
    sim = evtsim.Simulator(host, guest, stats)
    sim.apply(trace)
    if guest is not None:
        sim.drain()
    if stats is None:
        list(evtsim.Simulator(host, guest).watch(trace, 0, 1))


def main() -> None:
    # What takes longest first, so that no core is idle for long at the end.
    kinds = list(itertools.product(PROFILES, (evtsim.Guest(), None), ("port", None)))
    context = multiprocessing.get_context("spawn")
    with context.Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        pool.starmap(warm, kinds, chunksize=1)


if __name__ == "__main__":
    main()
