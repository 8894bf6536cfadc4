"""What a generator is made of, and the numbers that its kernels and their caller share."""

from typing import NamedTuple

import numpy as np

from evtsim.dtypes import Array

NEVER = 1 << 62
"""The time of a source that waits for another."""

# Kinds of sources.
VCPU, LIFE, TOOLSTACK, REQUEST, ANSWER, TIMER, IPI, PIRQ, EOI, FLOOD, EXHAUST = range(11)

# Whose record an instruction makes.
DOM0, SERVICE, GUEST = range(3)

# Instructions besides abi.Op's operations.
HALT, RUN, WAIT, UNLINKED, END = range(1000, 1005)

# How long a domain waits after an instruction.
NONE, STEP, PHASE, DOWN, GRACE = range(5)

# A domain's channels: two, then as many for each vcpu, then its devices.
XENSTORE, CONSOLE = range(2)
VIRQ_CONSOLE, VIRQ_DOM_EXC = range(2)  # dom0's in the same places
PER_DOMAIN = 2
TIMER_VIRQ, SPIN_UNLOCK, RESCHEDULE, CALL_FUNCTION, DEBUG_VIRQ, CALL_FUNCTION_SINGLE, IRQ_WORK = (
    range(7)
)
PER_VCPU = 7

# Stages of setting up: dom0, driver domains, guests, and then the load.
LOAD = 3

WRITE_NS = 20
"""Between two writes to shared memory."""
IPI_STEP_NS = 300
"""Between two sends of one broadcast."""
GRACE_NS = 10_000_000
"""Between a port's last upcall and its close: until then a guest model has had its own, too."""

STATE = np.dtype(
    [
        ("records", "i8"),  # made since the buffer was empty
        ("waiting", "i8"),  # domains of this stage that are not up yet
        ("stage", "i8"),
        ("start_gap", "i8"),  # ns between two domains' starts
        ("step", "i8"),  # draws.exponential_scale: between two hypercalls of a script
        ("phase", "i8"),  # the same: between two phases of a boot
        ("down", "i8"),  # the same: how long a domain is gone
        ("handler", "i8"),  # the same: from an interrupt's mask to its unmask
        ("wake", "u8"),  # ns, median: from a kick to the upcall
        ("service", "u8"),  # ns, median: from a backend's upcall to its answer
        ("spread", "u8"),  # draws.lognormal_spread of both
        ("burst", "u8"),  # least requests of a Pareto burst, or mean of an exponential one: 2**-16
        ("tail", "u8"),  # 1 / shape of the Pareto distribution in 2**-32; 0: exponential
        ("batching", "u8"),  # share of 2**32: requests to a busy end that are not notified
        ("broadcast", "u8"),  # share of 2**32: call functions among the IPIs that go to all
        ("races", "u8"),  # share of 2**32: guests that die without being asked
        ("first_guest", "i8"),
        ("guests", "i8"),  # that come and go
        ("first_life", "i8"),  # source of dom0's life
    ],
    align=True,
)

# What acts on its own: 64 bytes, a cache line.
SOURCE = np.dtype(
    [
        ("key", "u8"),  # of its draws
        ("count", "i8"),  # of its draws
        ("gap", "i8"),  # draws.exponential_scale: mean time to its next action; TIMER: jitter
        ("rest", "i8"),  # the same, between two bursts; TIMER: period in ns
        ("base", "i8"),  # TIMER: next tick without jitter; IPI: sending vcpu
        ("left", "i4"),  # of a burst or broadcast; LIFE: next instruction; ANSWER: requests taken
        ("waiting", "i4"),  # ANSWER: requests that the backend has not seen
        ("unit", "i4"),  # vcpu, PIRQ or script; IPI: target vcpu
        ("end", "i4"),  # the end it acts on; VCPU: first of the notified ends, -1 none
        ("dom", "u2"),
        ("kind", "u1"),
        ("slot", "u1"),  # IPI: which of a vcpu's channels
    ],
    align=True,
)

# One end of a channel: 24 bytes. Ends lie in pairs, a guest's (even) and its backend's (odd);
# VIRQs, PIRQs and IPIs use the even one.
CHANNEL_END = np.dtype(
    [
        ("port", "u4"),
        ("vcpu", "i4"),  # source of the notify vcpu
        ("handler", "i4"),  # source that acts when the end is delivered, -1 none
        ("next", "i4"),  # next of the notified ends of that vcpu, -1 none
        ("dom", "u2"),
        ("pending", "u1"),
        ("masked", "u1"),  # every port is masked before it is bound: so does Linux
        ("queued", "u1"),  # stands in a vcpu's list; FIFO: is LINKED
    ],
    align=True,
)

DOMAIN = np.dtype(
    [
        ("first_end", "i4"),
        ("first_vcpu", "i4"),  # source
        ("first_source", "i4"),  # of its load
        ("sources", "i4"),
        ("first_served", "i4"),  # in Engine.served: answers of its backends
        ("served", "i4"),
        ("boot", "i4"),  # instructions that scripts begin with
        ("restart", "i4"),
        ("crash", "i4"),
        ("migrate", "i4"),
        ("channels", "i4"),
        ("ports", "i4"),  # that will be in use at a time, hence the highest
        ("first_used", "i4"),  # in Engine.used
        ("event_words", "i4"),  # FIFO: that its array has
        ("masked", "i4"),  # FIFO: ports below were masked
        ("free", "u2"),  # no word of its `used` below has a free port
        ("vcpus", "u2"),
        ("service", "u2"),  # the domain that its backends are in
        ("stage", "u1"),
        ("up", "u1"),
        ("fifo", "u1"),  # has set the FIFO ABI up
    ],
    align=True,
)

INSTRUCTION = np.dtype(
    [
        ("op", "u2"),
        ("who", "u1"),
        ("pause", "u1"),
        ("channel", "i4"),  # of the domain, -1 for none
        ("arg", "u4"),
    ],
    align=True,
)


class Engine(NamedTuple):
    """All that a generator is made of."""

    state: Array  # STATE, (1,)
    due: Array  # int64, (2 * leaves,): a tournament of the sources' times
    sources: Array  # SOURCE
    ends: Array  # CHANNEL_END
    domains: Array  # DOMAIN
    used: Array  # uint64: a bit for each port in use, domain by domain
    scripts: Array  # INSTRUCTION: all scripts, each up to END
    served: Array  # int32: sources of kind ANSWER, by backend's domain
