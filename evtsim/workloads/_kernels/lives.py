"""Domains come and go: each plays scripts, whose instructions make its records one by one."""

import numpy as np

from evtsim import draws
from evtsim._jit import hot, kernel
from evtsim.abi import DOMID_SELF, Op
from evtsim.workloads._kernels.books import (
    allocate,
    chance,
    draw,
    emit,
    forget,
    grow,
    idle,
    later,
    notify,
    rebind,
    release,
    schedule,
    unmask,
)
from evtsim.workloads._kernels.loads import begin
from evtsim.workloads._kernels.tables import (
    END,
    GRACE,
    GRACE_NS,
    GUEST,
    HALT,
    LOAD,
    NEVER,
    NONE,
    PHASE,
    RUN,
    SERVICE,
    STEP,
    UNLINKED,
    WAIT,
    WRITE_NS,
)


@kernel
def live(engine, out, source, ts):
    """Play the next instruction of a domain's script."""
    guest = np.int64(engine.sources[source]["dom"])
    script = engine.scripts[engine.sources[source]["left"]]
    delay = hold_up(engine, out, guest, script, ts)
    if delay:
        schedule(engine, source, ts + delay)
        return
    engine.sources[source]["left"] += 1
    op = script["op"]
    if op == END:
        schedule(engine, source, NEVER)
        return
    state = engine.state[0]
    if script["pause"] == NONE:
        schedule(engine, source, ts + WRITE_NS)
    elif script["pause"] == STEP:
        schedule(engine, source, later(engine, source, ts, state["step"]))
    elif script["pause"] == PHASE:
        schedule(engine, source, later(engine, source, ts, state["phase"]))
    elif script["pause"] == GRACE:
        schedule(engine, source, ts + GRACE_NS)
    else:
        schedule(engine, source, later(engine, source, ts, state["down"]))
    if op == HALT:
        halt(engine, guest, script["arg"])
    elif op == RUN:
        run(engine, guest, ts)
    elif op != WAIT and op != UNLINKED:
        perform(engine, out, guest, script, ts)


@hot
def end_of(engine, guest, script):
    """Return the end that an instruction is about."""
    end = np.int64(engine.domains[guest]["first_end"]) + 2 * script["channel"]
    return end + 1 if script["who"] == SERVICE else end


@kernel
def hold_up(engine, out, guest, script, ts):
    """Return for how long an instruction has to wait under the FIFO ABI, in ns; 0: not at all.

    For its port to be taken off its queue, or for the record that lets an event array grow.
    """
    op = script["op"]
    if op == UNLINKED:
        return GRACE_NS if engine.ends[end_of(engine, guest, script)]["queued"] else 0
    if op in (Op.BIND_VIRQ, Op.BIND_PIRQ, Op.BIND_IPI, Op.BIND_INTERDOMAIN, Op.ALLOC_UNBOUND):
        dom = np.int64(engine.domains[guest]["service"]) if script["who"] == SERVICE else guest
        if engine.domains[dom]["fifo"] and grow(engine, out, dom, ts):
            return WRITE_NS
    return 0


@kernel
def perform(engine, out, guest, script, ts):
    """Make an instruction's record and keep the books of it."""
    op, who, arg = script["op"], script["who"], np.int64(script["arg"])
    service = np.int64(engine.domains[guest]["service"])
    dom = service if who == SERVICE else guest if who == GUEST else 0
    end = end_of(engine, guest, script)
    first, second = arg, np.int64(0)
    if op == Op.ALLOC_UNBOUND:
        allocate(engine, guest, end, 0)
        first, second = np.int64(DOMID_SELF) if who == GUEST else guest, service
    elif op == Op.BIND_INTERDOMAIN:
        allocate(engine, service, end, 0)
        first, second = guest, np.int64(engine.ends[end ^ 1]["port"])
        notify(engine, end, ts)
    elif op == Op.BIND_VIRQ:  # arg: VIRQ and vcpu
        allocate(engine, guest, end, arg >> 8)
        first, second = arg & 255, arg >> 8
    elif op == Op.BIND_IPI:
        allocate(engine, guest, end, arg)
    elif op == Op.BIND_PIRQ:
        allocate(engine, guest, end, 0)
    elif op == Op.INIT_CONTROL:
        engine.domains[guest]["fifo"] = 1
    elif op == Op.RAISE_VIRQ:
        notify(engine, engine.domains[0]["first_end"] + 2 * script["channel"], ts)
    elif op == Op.RESET:
        first = guest
        forget(engine, guest)
    elif op == Op.DESTROY_DOMAIN:
        forget(engine, guest)
    elif script["channel"] >= 0:
        row = engine.ends[end]
        first = np.int64(row["port"])
        if op == Op.MASK:
            row["masked"] = 1
        elif op == Op.UNMASK:
            unmask(engine, end, ts)
        elif op == Op.BIND_VCPU:
            second = (guest + arg) % engine.domains[dom]["vcpus"] if who == SERVICE else arg
            rebind(engine, end, engine.domains[dom]["first_vcpu"] + second)
        elif op == Op.SET_PRIORITY:
            second = arg
        elif op == Op.CLOSE:
            release(engine, dom, end)
        elif op == Op.SEND:
            notify(engine, end ^ 1, ts)
    emit(engine, out, ts, dom, 0, op, first, second)


@kernel
def halt(engine, dom, kinds):
    """Stop the sources of a domain's load whose kind's bit is set."""
    row = engine.domains[dom]
    row["up"] = 0
    for source in range(row["first_source"], row["first_source"] + row["sources"]):
        load = engine.sources[source]
        if (kinds >> load["kind"]) & 1:
            load["left"] = load["waiting"] = 0  # what a backend has not answered, it never will
            schedule(engine, source, NEVER)


@kernel
def run(engine, dom, ts):
    """Let a domain that is up begin its load; at first, all together."""
    engine.domains[dom]["up"] = 1
    state = engine.state[0]
    if state["stage"] == LOAD:
        begin(engine, dom, ts)
        return
    state["waiting"] -= 1
    while state["waiting"] == 0 and state["stage"] < LOAD:
        state["stage"] += 1
        for other in range(len(engine.domains)):
            if state["stage"] == LOAD:
                begin(engine, other, ts)
            elif engine.domains[other]["stage"] == state["stage"]:
                start = ts + state["waiting"] * state["start_gap"]
                schedule(engine, state["first_life"] + other, start)
                state["waiting"] += 1


@hot
def change(engine, source, ts):
    """Let the toolstack choose a guest, and restart or migrate it if it is up."""
    state = engine.state[0]
    guest = state["first_guest"] + draws.below_one(state["guests"], draw(engine, source))
    domain = engine.domains[guest]
    life = state["first_life"] + guest
    if domain["up"] and idle(engine, life):
        script = domain["migrate"]
        if engine.sources[source]["unit"] == Op.DESTROY_DOMAIN:
            crash = chance(engine, source, state["races"])
            script = domain["crash"] if crash else domain["restart"]
        engine.sources[life]["left"] = script
        schedule(engine, life, ts)
    schedule(engine, source, later(engine, source, ts, engine.sources[source]["gap"]))
