"""What guests do all day: rings, IPIs, timers, and the interrupts of devices."""

from __future__ import annotations

from typing import Any

from evtsim.host import Host
from evtsim.workloads.hosts import DRIVERS, HOST, READY, machine, replaced
from evtsim.workloads.machine import Machine
from evtsim.workloads.parameters import Parameter, choice, rate, share, time, vcpus
from evtsim.workloads.stream import Workload

REQUESTS = Parameter("rate", 500.0, 1, 1e7, "/s", "requests of a guest, the mean over all guests")
RINGS = (
    REQUESTS,
    Parameter("zipf", 0.8, 0, 3, "", "exponent of the guests' popularity; 0: all alike"),
    choice("bursts", ("pareto", "exponential"), "how the requests of a burst are distributed"),
    Parameter("burst", 32.0, 1, 100_000, "", "mean requests of a burst"),
    Parameter("shape", 1.5, 1.05, 10, "", "of the Pareto distribution; the lower, the heavier"),
    time("gap_ns", 20_000, "mean time between a burst's requests; shorter on the busiest rings"),
    time("service_ns", 100_000, "median time until a backend answers, lognormal with sigma 0.5"),
    share("batching", 0.9, "of the notifications that the ring's event indexes make needless"),
)
BATCHING = RINGS[-1]
JITTER = time("jitter_ns", 20_000, "mean lateness of a tick, exponential")
BROADCAST = share("broadcast", 0.05, "of the IPIs, those that go to all other vcpus")


def add_rings(made: Machine, values: dict[str, Any]) -> None:
    """Let the guests' devices carry requests."""
    made.add_rings(**{parameter.name: values[parameter.name] for parameter in RINGS})


def _io(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    add_rings(made, values)
    return made


def _ipi(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    made.add_ipis(rate=values["rate"], broadcast=values["broadcast"])
    return made


def _timer(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    made.add_timers(rate=values["rate"], jitter_ns=values["jitter_ns"])
    return made


def _pirq(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host, pirqs=values["pirqs"])
    made.add_pirqs(rate=values["rate"], handler_ns=values["handler_ns"])
    made.add_backends(batching=values["batching"])
    return made


IO = Workload(
    "io",
    "Block and network rings between guests and their backends, in bursts, by popularity.",
    (*HOST, *READY, *RINGS),
    _io,
)
IPI = Workload(
    "ipi",
    "SMP guests whose vcpus interrupt each other: reschedule, call function.",
    (
        *replaced(HOST, vcpus(4, low=2)),
        *READY,
        rate("rate", 1000.0, "IPIs of a guest; one to all others counts once"),
        BROADCAST,
    ),
    _ipi,
)
TIMER = Workload(
    "timer",
    "The periodic VIRQ_TIMER of every vcpu, with jitter.",
    (
        *HOST,
        *READY,
        Parameter("rate", 250.0, 1, 1e5, "/s", "ticks of a vcpu: Linux's HZ"),
        JITTER,
    ),
    _timer,
)
PIRQ = Workload(
    "pirq",
    "Devices of dom0 and a driver domain interrupt, and guests hear of it.",
    (
        *replaced(HOST, Parameter("drivers", 1, 0, 1024, "", DRIVERS.what)),
        *READY,
        Parameter("pirqs", 4, 1, 256, "", "devices of dom0 and of a driver domain"),
        rate("rate", 2000.0, "interrupts of a device"),
        time("handler_ns", 5_000, "mean time from the port's mask to its unmask"),
        BATCHING,
    ),
    _pirq,
)
