"""The hosts and op mixes of the cost table.

Every domain has one vcpu and as many ports as the case says, port 0 included, all of them
interdomain with peers paired at random. Records are uniform over domains and ports.
"""

from __future__ import annotations

import dataclasses

import numpy as np

import evtsim
from evtsim.abi import Op

MIXES = {
    "send": {Op.SEND: 1.0},
    "no upcalls": {Op.SEND: 0.95, Op.MASK: 0.025, Op.UNMASK: 0.025},
    "mix": {Op.SEND: 0.85, Op.UPCALL: 0.10, Op.MASK: 0.025, Op.UNMASK: 0.025},
}


@dataclasses.dataclass(frozen=True)
class Case:
    """One row of the cost table.

    Attributes
    ----------
    domains, ports : int
        Ports are per domain.
    mix : str
        A name in MIXES.
    goal : float
        Cost wanted, as a multiple of the bare loop's.
    """

    domains: int
    ports: int
    mix: str
    goal: float

    @property
    def name(self) -> str:
        return f"{self.domains:,} x {self.ports} {self.mix}"


CASES = [
    Case(64, 64, "send", 2.0),
    Case(64, 64, "mix", 1.2),
    Case(4000, 64, "send", 1.8),
    Case(4000, 64, "mix", 1.2),
    Case(4000, 512, "mix", 0.5),
]


def channels(case: Case, profile: str = "xen-4.0", *, fifo: bool = False) -> evtsim.Trace:
    """Return the trace that connects everything: an alloc_unbound and a bind a channel.

    With `fifo`, every domain first goes over to the FIFO ABI, with an event array of one page.
    """
    random = np.random.default_rng(1)
    ends = random.permutation(np.repeat(np.arange(case.domains), case.ports - 1))
    ends = ends[: len(ends) // 2 * 2].reshape(-1, 2)
    used = np.ones(case.domains, np.int64)
    records = np.zeros(len(ends) * 2, evtsim.RECORD_DTYPE)
    for i, (near, far) in enumerate(ends.tolist()):
        records[2 * i] = (0, near, 0, Op.ALLOC_UNBOUND, 0, 0x7FF0, far)
        records[2 * i + 1] = (0, far, 0, Op.BIND_INTERDOMAIN, 0, near, used[near])
        used[near] += 1
        used[far] += 1
    if fifo:
        switch = np.zeros((case.domains, 2), evtsim.RECORD_DTYPE)
        switch["dom"] = np.arange(case.domains)[:, None]
        switch["op"] = Op.INIT_CONTROL, Op.EXPAND_ARRAY
        records = np.concatenate([switch.reshape(-1), records])
    return evtsim.Trace.from_records(records, evtsim.Host.uniform(case.domains, profile=profile))


GUEST_CASE = Case(4000, 64, "no upcalls", 2.5)


def load(case: Case, records: int, start: int = 0) -> evtsim.Trace:
    """Return the trace to measure, 100 ns a record, from `start` on."""
    random = np.random.default_rng(2)
    mix = MIXES[case.mix]
    table = np.zeros(records, evtsim.RECORD_DTYPE)
    table["ts"] = start + 100 * np.arange(records, dtype=np.uint64)
    table["dom"] = random.integers(0, case.domains, records)
    table["op"] = random.choice([int(op) for op in mix], records, p=list(mix.values()))
    table["arg0"] = np.where(table["op"] == Op.UPCALL, 0, random.integers(1, case.ports, records))
    return evtsim.Trace.from_records(table, evtsim.Host.uniform(case.domains))
