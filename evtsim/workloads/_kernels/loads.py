"""What domains do while they are up, one function a kind of source."""

import numpy as np

from evtsim import draws
from evtsim._jit import hot, kernel
from evtsim.abi import DOMID_SELF, Op, Virq
from evtsim.workloads._kernels.books import (
    chance,
    draw,
    emit,
    idle,
    later,
    notify,
    schedule,
    send,
    unmask,
)
from evtsim.workloads._kernels.tables import (
    ANSWER,
    CALL_FUNCTION,
    CALL_FUNCTION_SINGLE,
    EOI,
    FLOOD,
    IPI_STEP_NS,
    NEVER,
    PER_DOMAIN,
    PER_VCPU,
    REQUEST,
    RESCHEDULE,
    TIMER,
)


@kernel
def begin(engine, dom, ts):
    """Start the sources of a domain's load."""
    domain = engine.domains[dom]
    for source in range(domain["first_source"], domain["first_source"] + domain["sources"]):
        row = engine.sources[source]
        kind = row["kind"]
        row["left"] = row["waiting"] = 0
        if kind in (ANSWER, EOI):
            continue
        if kind == REQUEST:
            row["left"] = burst(engine, source)
            schedule(engine, source, later(engine, source, ts, row["rest"]))
        elif kind == TIMER:
            row["base"] = ts + draws.below_one(row["rest"], draw(engine, source))
            schedule(engine, source, later(engine, source, row["base"], row["gap"]))
        else:
            schedule(engine, source, later(engine, source, ts, row["gap"]))


@hot
def burst(engine, source):
    """Draw the number of a burst's requests: Pareto, cut at 1,024 times the least, or geometric."""
    state = engine.state[0]
    word = draw(engine, source)
    if state["tail"] == 0:
        return 1 + (draws.exponential(word, np.int64(state["burst"])) >> 16)
    power = draws.product(draws.minus_log2(word), state["tail"], np.uint64(32))
    factor = draws.exp2(np.int64(min(power, np.uint64(10 << 32))))
    requests = draws.product(state["burst"], factor, np.uint64(32))
    return max(np.int64(1), np.int64((requests + np.uint64(1 << 15)) >> np.uint64(16)))


@hot
def request(engine, out, source, ts):
    """Let a frontend put a request on its ring, and notify unless the backend is to look anyway."""
    row = engine.sources[source]
    front = np.int64(row["end"])
    back = engine.ends[front ^ 1]
    engine.sources[back["handler"]]["waiting"] += 1
    if not back["pending"] or not chance(engine, source, engine.state[0]["batching"]):
        send(engine, out, front, ts)
    row["left"] -= 1
    pause = row["gap"]
    if row["left"] <= 0:
        row["left"] = burst(engine, source)
        pause = row["rest"]
    schedule(engine, source, later(engine, source, ts, pause))


@hot
def answer(engine, out, source, ts):
    """Let a backend put its responses on the ring, and notify likewise."""
    row = engine.sources[source]
    back = np.int64(row["end"])
    row["left"] = 0
    front = engine.ends[back ^ 1]
    if not front["pending"] or not chance(engine, source, engine.state[0]["batching"]):
        send(engine, out, back, ts)
    schedule(engine, source, NEVER)


@hot
def tick(engine, out, source, ts):
    """Let Xen raise a vcpu's timer; the next tick is due one period after this one was."""
    row = engine.sources[source]
    emit(engine, out, ts, row["dom"], row["unit"], Op.RAISE_VIRQ, Virq.TIMER, row["unit"])
    notify(engine, np.int64(row["end"]), ts)
    row["base"] += row["rest"]
    schedule(engine, source, max(ts, later(engine, source, row["base"], row["gap"])))


@hot
def ipi(engine, out, source, ts):
    """Let a vcpu interrupt another, or one after the other all others."""
    row = engine.sources[source]
    domain = engine.domains[row["dom"]]
    vcpus = np.int64(domain["vcpus"])
    if row["left"] == 0:
        word = draw(engine, source)
        sender = draws.below_one(vcpus, word)
        other = sender + 1 + draws.below_one(vcpus - 1, draws.mixed(word))
        row["base"], row["unit"], row["left"] = sender, other % vcpus, 1
        row["slot"] = RESCHEDULE if word & np.uint64(1) else CALL_FUNCTION_SINGLE
        if chance(engine, source, engine.state[0]["broadcast"]):
            row["slot"], row["left"] = CALL_FUNCTION, vcpus - 1
    channel = PER_DOMAIN + PER_VCPU * np.int64(row["unit"]) + row["slot"]
    end = np.int64(domain["first_end"]) + 2 * channel
    emit(engine, out, ts, row["dom"], row["base"], Op.SEND, engine.ends[end]["port"], 0)
    notify(engine, end, ts)
    row["left"] -= 1
    if row["left"] == 0:
        schedule(engine, source, later(engine, source, ts, row["gap"]))
        return
    row["unit"] = (row["unit"] + 1) % vcpus
    if row["unit"] == row["base"]:
        row["unit"] = (row["unit"] + 1) % vcpus
    schedule(engine, source, ts + IPI_STEP_NS)


@hot
def interrupt(engine, out, source, ts):
    """Let a device of a domain's raise its PIRQ."""
    row = engine.sources[source]
    emit(engine, out, ts, row["dom"], 0, Op.RAISE_PIRQ, row["unit"], 0)
    notify(engine, np.int64(row["end"]), ts)
    schedule(engine, source, later(engine, source, ts, row["gap"]))


@hot
def end_of_interrupt(engine, out, source, ts):
    """Mask a PIRQ's port when its handling begins; unmask it, and tell a guest, when it ends."""
    row = engine.sources[source]
    end = np.int64(row["end"])
    port = engine.ends[end]["port"]
    if row["left"] == 0:
        emit(engine, out, ts, row["dom"], 0, Op.MASK, port, 0)
        engine.ends[end]["masked"] = 1
        row["left"] = 1
        schedule(engine, source, later(engine, source, ts, engine.state[0]["handler"]))
        return
    emit(engine, out, ts, row["dom"], 0, Op.UNMASK, port, 0)
    unmask(engine, end, ts)
    schedule(engine, source, NEVER)
    domain = engine.domains[row["dom"]]
    if domain["served"]:
        which = draws.below_one(np.int64(domain["served"]), draw(engine, source))
        ring = np.int64(engine.served[domain["first_served"] + which])
        front = engine.ends[engine.sources[ring]["end"] ^ 1]
        if idle(engine, ring) and engine.domains[front["dom"]]["up"]:
            schedule(engine, ring, ts)


@hot
def attack(engine, out, source, ts):
    """Let a guest flood its backend, or open one port more."""
    row = engine.sources[source]
    if row["kind"] == FLOOD:
        send(engine, out, np.int64(row["end"]), ts)
    else:
        service = engine.domains[row["dom"]]["service"]
        emit(engine, out, ts, row["dom"], 0, Op.ALLOC_UNBOUND, DOMID_SELF, service)
    schedule(engine, source, later(engine, source, ts, row["gap"]))
