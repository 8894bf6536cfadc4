"""Guests that start, come and go, and move."""

from __future__ import annotations

import dataclasses
from typing import Any

from evtsim.abi import Op
from evtsim.host import Host
from evtsim.workloads.hosts import HOST, PHASE, READY, machine
from evtsim.workloads.machine import Machine
from evtsim.workloads.parameters import rate, share, time
from evtsim.workloads.stream import Workload
from evtsim.workloads.traffic import REQUESTS, RINGS, add_rings

DOWN = time("down_ns", 200_000_000, "mean time for which a guest is gone, exponential")
RACES = share("races", 0.25, "of the guests that go, those destroyed while they work")
IO_RATE = dataclasses.replace(REQUESTS, name="io_rate")
RINGS_BESIDES = (IO_RATE, *RINGS[1:])


def _boot(values: dict[str, Any], host: Host | None) -> Machine:
    return machine({**values, "start_rate": values["rate"]}, host)


def _changing(op: Op, values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    add_rings(made, {**values, "rate": values["io_rate"]})
    made.add_toolstack(
        op, rate=values["rate"], down_ns=values["down_ns"], races=values.get("races", 0.0)
    )
    return made


def _churn(values: dict[str, Any], host: Host | None) -> Machine:
    return _changing(Op.DESTROY_DOMAIN, values, host)


def _migrate(values: dict[str, Any], host: Host | None) -> Machine:
    return _changing(Op.RESET, values, host)


BOOT = Workload(
    "boot",
    "The toolstack starts guests, which bind what Linux binds; the trace ends when all are up.",
    (
        *HOST,
        rate("rate", 10.0, "guests that the toolstack starts, one after the other"),
        dataclasses.replace(PHASE, default=20_000_000),
    ),
    _boot,
)
CHURN = Workload(
    "churn",
    "Guests come and go while others do io; some are destroyed while they work.",
    (*HOST, *READY, rate("rate", 20.0, "guests that go"), DOWN, RACES, *RINGS_BESIDES),
    _churn,
)
MIGRATE = Workload(
    "migrate",
    "Guests are suspended, reset, and bind anew as on the other side, while others do io.",
    (
        *HOST,
        *READY,
        rate("rate", 10.0, "guests that are suspended"),
        dataclasses.replace(DOWN, default=60_000_000),
        *RINGS_BESIDES,
    ),
    _migrate,
)
