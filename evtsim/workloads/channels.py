"""Two-party channels under an even load: the plainest workload, for measuring."""

from __future__ import annotations

import numpy as np

from evtsim import abi, draws
from evtsim.abi import DOMID_SELF, Op
from evtsim.dtypes import RECORD_DTYPE, Array
from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.trace import Trace


def generate(
    *,
    records: int = 100_000,
    seed: int = 0,
    domains: int = 16,
    vcpus: int = 1,
    ports: int = 32,
    rate: float = 1e6,
    upcalls: float = 0.10,
    masks: float = 0.025,
    unmasks: float = 0.025,
) -> Trace:
    """Pairs of domains connected at random send to each other, uniformly.

    First every channel is made: an alloc_unbound at one end, a bind_interdomain at the other,
    and a bind_vcpu for ends that belong to another vcpu than 0. Then records follow at a
    constant rate: sends on ports drawn uniformly, upcalls on vcpus drawn uniformly, masks and
    unmasks of ports drawn uniformly. No record fails.

    Parameters
    ----------
    records : int
        In all; the load begins after the set-up and is cut there.
    seed : int
        0 to 2**64 - 1.
    domains : int
        2 to 32,752, dom0 included.
    vcpus : int
        Of every domain; ends are spread over them.
    ports : int
        Per domain, port 0 included: 2 to 4,096. The last domain may have one less.
    rate : float
        Records a second, of the load.
    upcalls, masks, unmasks : float
        Shares of the load; the rest are sends.
    """
    if min(upcalls, masks, unmasks) < 0:
        raise EvtsimError("a share of the load is negative (expected 0 to 1)")
    _check(records, seed, domains, vcpus, ports, rate, upcalls + masks + unmasks)
    setup, used = _setup(seed, domains, vcpus, ports)
    table = np.zeros(max(records, 0), RECORD_DTYPE)
    head = min(records, len(setup))
    table[:head] = setup[:head]
    step = max(1, round(1e9 / rate))
    table["ts"] = np.arange(records, dtype=np.uint64) * np.uint64(step)
    _fill_load(table[head:], seed, used, vcpus, (upcalls, masks, unmasks))
    meta = {
        "made_by": "evtsim.workloads.generate",
        "workload": "channels",
        "generator": 1,
        "parameters": {
            "records": records,
            "seed": seed,
            "domains": domains,
            "vcpus": vcpus,
            "ports": ports,
            "rate": rate,
            "upcalls": upcalls,
            "masks": masks,
            "unmasks": unmasks,
        },
    }
    return Trace.from_records(table, Host.uniform(domains, vcpus=vcpus), meta=meta)


def _check(
    records: int, seed: int, domains: int, vcpus: int, ports: int, rate: float, shares: float
) -> None:
    """Raise an EvtsimError for a parameter out of range."""
    for name, value, low, high in (
        ("records", records, 0, 1 << 40),
        ("seed", seed, 0, draws.MASK64),
        ("domains", domains, 2, abi.MAX_DOMAINS),
        ("vcpus", vcpus, 1, abi.MAX_VCPUS),
        ("ports", ports, 2, abi.MAX_PORT_2L[64]),
    ):
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, np.integer))
            or not low <= value <= high
        ):
            raise EvtsimError(f"{name} is {value} (expected {low:,} to {high:,})")
    if not isinstance(rate, (int, float)) or not 1e-3 <= rate <= 1e9:
        raise EvtsimError(f"rate is {rate} (expected 0.001 to 1e9 records a second)")
    if not 0 <= shares <= 1:
        raise EvtsimError(f"shares other than sends sum up to {shares:g} (expected 0 to 1)")


def _setup(seed: int, domains: int, vcpus: int, ports: int) -> tuple[Array, Array]:
    """Return the records that make the channels, and every domain's number of used ports."""
    ends = np.repeat(np.arange(domains), ports - 1)
    ends = ends[np.argsort(draws.words(seed, 0, 0, len(ends)), kind="stable")]
    near, far = ends[: len(ends) // 2 * 2].reshape(-1, 2).T
    # Ports are given lowest first: an end's port is how many ends of its domain came before.
    order = np.stack([near, far], axis=1).reshape(-1)
    port = _occurrence(order, domains) + 1
    vcpu = (port - 1) % vcpus

    made = np.zeros((len(order), 2), RECORD_DTYPE)  # each end: its own record, and bind_vcpu
    made["dom"] = order[:, None]
    made["op"][::2, 0] = Op.ALLOC_UNBOUND
    made["arg0"][::2, 0] = DOMID_SELF
    made["arg1"][::2, 0] = far
    made["op"][1::2, 0] = Op.BIND_INTERDOMAIN
    made["arg0"][1::2, 0] = near
    made["arg1"][1::2, 0] = port[::2]
    made["op"][:, 1] = Op.BIND_VCPU
    made["arg0"][:, 1] = port
    made["arg1"][:, 1] = vcpu
    wanted = np.stack([np.ones(len(order), bool), vcpu != 0], axis=1)
    return made[wanted], np.bincount(order, minlength=domains)


def _occurrence(values: Array, limit: int) -> Array:
    """Return for each value how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values, minlength=limit)
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return result


def _fill_load(
    table: Array, seed: int, used: Array, vcpus: int, shares: tuple[float, float, float]
) -> None:
    """Fill in the records after the set-up."""
    count = len(table)
    bounds = np.cumsum([round(share * 2**32) for share in shares]).astype(np.uint64)
    kind = draws.words(seed, 1, 0, count) >> np.uint64(32)
    which = np.searchsorted(bounds, kind, side="right")
    table["op"] = np.array([Op.UPCALL, Op.MASK, Op.UNMASK, Op.SEND], np.uint16)[which]
    busy = np.flatnonzero(used)
    dom = busy[draws.below(len(busy), draws.words(seed, 2, 0, count))]
    table["dom"] = dom
    vcpu = draws.below(vcpus, draws.words(seed, 3, 0, count))
    port = 1 + draws.below(used[dom], draws.words(seed, 4, 0, count))
    upcall = table["op"] == Op.UPCALL
    table["vcpu"] = np.where(upcall, vcpu, 0)
    table["arg0"] = np.where(upcall, 0, port)
