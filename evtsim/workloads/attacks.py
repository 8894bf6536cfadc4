"""Guests that use more than their share: of a backend's time, of ports."""

from __future__ import annotations

from typing import Any

from evtsim.host import Host
from evtsim.workloads.hosts import HOST, READY, machine
from evtsim.workloads.machine import Machine
from evtsim.workloads.parameters import choice, rate
from evtsim.workloads.stream import Workload
from evtsim.workloads.traffic import RINGS, add_rings


def _storm(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host)
    add_rings(made, values)
    made.add_flood(rate=values["storm_rate"])
    return made


def _exhaust(values: dict[str, Any], host: Host | None) -> Machine:
    made = machine(values, host, attackers=1, word_bits=int(values["word_bits"]))
    add_rings(made, values)
    made.add_exhaustion(rate=values["open_rate"])
    return made


STORM = Workload(
    "storm",
    "One guest floods its backend's port while others do io: the attack of XSA-332.",
    (
        *HOST,
        *READY,
        rate("storm_rate", 200_000.0, "notifications of the last guest's first device"),
        *RINGS,
    ),
    _storm,
)
EXHAUST = Workload(
    "exhaust",
    "A guest opens ports until ENOSPC and goes on trying, while others do io.",
    (
        *HOST,
        *READY,
        choice(
            "word_bits",
            ("64", "32"),
            "word of the last domain, which opens the ports; 2l: 4,096 or 1,024 of them",
            "bits",
        ),
        rate("open_rate", 50_000.0, "ports that it opens or tries to"),
        *RINGS,
    ),
    _exhaust,
)
