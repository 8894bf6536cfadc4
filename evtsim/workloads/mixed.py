"""A host on an ordinary day: something of everything."""

from __future__ import annotations

from typing import Any

from evtsim.abi import Op
from evtsim.host import Host
from evtsim.workloads.hosts import HOST, READY, machine
from evtsim.workloads.lifecycle import DOWN
from evtsim.workloads.machine import Machine
from evtsim.workloads.parameters import Parameter, rate
from evtsim.workloads.stream import Workload
from evtsim.workloads.traffic import BROADCAST, JITTER, RINGS, add_rings


def _mixed(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    add_rings(made, values)
    made.add_timers(rate=values["timer_rate"], jitter_ns=values["jitter_ns"])
    made.add_ipis(rate=values["ipi_rate"], broadcast=values["broadcast"])
    made.add_toolstack(Op.DESTROY_DOMAIN, rate=values["churn_rate"], down_ns=values["down_ns"])
    return made


MIXED = Workload(
    "mixed",
    "Guests boot, then do io, tick and send IPIs; now and then one is restarted.",
    (
        *HOST,
        *READY,
        *RINGS,
        Parameter("timer_rate", 100.0, 1, 1e5, "/s", "ticks of a vcpu: Linux's HZ"),
        JITTER,
        rate("ipi_rate", 200.0, "IPIs of a guest; one to all others counts once"),
        BROADCAST,
        rate("churn_rate", 2.0, "guests that go"),
        DOWN,
    ),
    _mixed,
)
