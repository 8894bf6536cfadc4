"""The hosts that the event-driven workloads run on, and what all of them have as parameters."""

from __future__ import annotations

from typing import Any

import numpy as np

from evtsim import abi, draws
from evtsim.dtypes import DOMAIN_DTYPE
from evtsim.host import DEFAULTS, Host
from evtsim.workloads._kernels import tables as t
from evtsim.workloads.machine import Machine
from evtsim.workloads.parameters import (
    ABI,
    EXTENT,
    PROFILE,
    Parameter,
    choice,
    domains,
    profile,
    rate,
    time,
    vcpus,
    wants_fifo,
)
from evtsim.workloads.scripts import Abi

DRIVERS = Parameter(
    "drivers",
    0,
    0,
    1024,
    "",
    "driver domains, which serve the guests in dom0's place; more if dom0 lacks the ports",
)
DEVICES = Parameter("devices", 2, 1, 64, "", "rings of a guest (blkfront, netfront)")
WAKE = time("wake_ns", 5_000, "median time from a kick to the upcall, lognormal with sigma 0.5")
PHASE = time("phase_ns", 2_000_000, "mean time between two phases of a boot, exponential")
START_RATE = rate("start_rate", 1000.0, "guests that the toolstack starts, one after the other")

PRIORITIES = choice(
    "priorities",
    ("linux", "devices", "equal"),
    "FIFO: VIRQ_TIMER at 0 as in Linux, device n of every guest at n as well, or all at 7",
)

HOST = (
    *EXTENT,
    PROFILE,
    ABI,
    PRIORITIES,
    domains(),
    vcpus(),
    Parameter("dom0_vcpus", 4, 1, 512, "", "of dom0 and of driver domains"),
    DRIVERS,
    DEVICES,
    WAKE,
)
"""Of every event-driven workload."""

READY = (START_RATE, PHASE)
"""Of those whose load begins when all guests are up."""


def replaced(parameters: tuple[Parameter, ...], *others: Parameter) -> tuple[Parameter, ...]:
    """Return parameters with others in the places of those of their names."""
    by_name = {parameter.name: parameter for parameter in others}
    return tuple(by_name.get(parameter.name, parameter) for parameter in parameters)


def _drivers(values: dict[str, Any], pirqs: int) -> int:
    """Return how many driver domains there will be: those asked for, or as many as it takes."""
    own = t.PER_DOMAIN + t.PER_VCPU * values["dom0_vcpus"] + pirqs
    limit = abi.MAX_PORT_FIFO if values["abi"] == "fifo" else abi.MAX_PORT_2L[64]
    spare = limit - 1 - own
    others = values["domains"] - 1
    per_guest = t.PER_DOMAIN + values["devices"]
    if values["drivers"] or others * per_guest <= spare:
        return int(values["drivers"])
    guests_of_one = max(1, spare // per_guest)
    return int(-(-others // (guests_of_one + 1)))


def machine(
    values: dict[str, Any],
    host: Host | None,
    *,
    pirqs: int = 0,
    attackers: int = 0,
    word_bits: int = 64,
) -> Machine:
    """Make the machine of a workload's parameters, on the user's host if there is one.

    Only dom0 is alive at the beginning; the toolstack creates the others.
    """
    drivers = values["drivers"]
    if host is None:
        drivers = _drivers(values, pirqs)
        table = np.full(values["domains"], np.array(tuple(DEFAULTS.values()), DOMAIN_DTYPE))
        table["vcpus"] = values["vcpus"]
        table["alive"][1:] = 0
        table["privileged"][0] = 1
        table["vcpus"][: 1 + drivers] = values["dom0_vcpus"]
        if pirqs:
            table["nr_pirqs"][: 1 + drivers] = pirqs
            table["pirq_permitted"][: 1 + drivers] = 1
        table["word_bits"][len(table) - attackers :] = word_bits
        host = Host(profile(values), table)
    fifo = wants_fifo(values, host)
    timers_first = values["priorities"] != "equal"
    made = Machine(
        host,
        seed=values["seed"],
        drivers=drivers,
        devices=values["devices"],
        pirqs=pirqs,
        attackers=attackers,
        abi=Abi(fifo, fifo and timers_first, fifo and values["priorities"] == "devices"),
    )
    made.settings["wake"] = values["wake_ns"]
    made.settings["phase"] = draws.exponential_scale(values["phase_ns"])
    made.settings["start_gap"] = round(1e9 / values["start_rate"])
    return made
