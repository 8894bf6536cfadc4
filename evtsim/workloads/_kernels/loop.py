"""The loop over the sources, merged by time; and what prepares them."""

import numpy as np

from evtsim import draws
from evtsim._bundles import by_reference
from evtsim._jit import entry
from evtsim.workloads._kernels.books import next_source, upcall
from evtsim.workloads._kernels.lives import change, live
from evtsim.workloads._kernels.loads import (
    answer,
    attack,
    end_of_interrupt,
    interrupt,
    ipi,
    request,
    tick,
)
from evtsim.workloads._kernels.tables import (
    ANSWER,
    EOI,
    IPI,
    LIFE,
    NEVER,
    PIRQ,
    REQUEST,
    TIMER,
    TOOLSTACK,
    VCPU,
    Engine,
)

by_reference(Engine)


@entry
def fill(engine, out):
    """Make records until the buffer is full or nothing is due any more; how many.

    Parameters
    ----------
    engine : Engine
        Modified in place; the next call goes on where this one stopped.
    out : Columns
        Writable; overwritten.
    """
    state = engine.state[0]
    state["records"] = 0
    while state["records"] < len(out.ts):
        ts = engine.due[1]
        if ts == NEVER:
            break
        source = next_source(engine.due)
        kind = engine.sources[source]["kind"]
        if kind == VCPU:
            upcall(engine, out, source, ts)
        elif kind == REQUEST:
            request(engine, out, source, ts)
        elif kind == ANSWER:
            answer(engine, out, source, ts)
        elif kind == TIMER:
            tick(engine, out, source, ts)
        elif kind == IPI:
            ipi(engine, out, source, ts)
        elif kind == LIFE:
            live(engine, out, source, ts)
        elif kind == PIRQ:
            interrupt(engine, out, source, ts)
        elif kind == EOI:
            end_of_interrupt(engine, out, source, ts)
        elif kind == TOOLSTACK:
            change(engine, source, ts)
        else:
            attack(engine, out, source, ts)
    return state["records"]


@entry
def give_keys(sources, seed, stream):
    """Give every source the key of its draws: by its domain, kind and unit, wherever it stands."""
    for i in range(len(sources)):
        row = sources[i]
        who = (np.int64(row["dom"]) << 32) | (np.int64(row["unit"]) << 1)
        row["key"] = draws.key(seed, stream + np.int64(row["kind"]), who)


@entry
def zipf_weights(exponent, weights):
    """Fill in 1 / rank ** exponent, in units of 2**-47.

    Parameters
    ----------
    exponent : int64
        In units of 2**-32.
    weights : ndarray of uint64
        Overwritten; rank 1 comes first.
    """
    for i in range(len(weights)):
        word = np.uint64(i + 1) << np.uint64(32)  # the rank is below 2**32
        log2 = (np.uint64(32) << np.uint64(32)) - draws.minus_log2(word)
        power = np.int64(draws.product(log2, np.uint64(exponent), np.uint64(32)))
        weights[i] = max(np.uint64(1), draws.exp2(np.int64(15 << 32) - power))


@entry
def power_of_two(exponent):
    """Return 2 ** exponent, both in units of 2**-32, int64 and uint64."""
    return draws.exp2(exponent)
