"""Two-party channels under an even load: the plainest workload, for measuring."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi, draws
from evtsim.abi import DOMID_SELF, Op
from evtsim.dtypes import RECORD_DTYPE, Columns
from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.workloads.parameters import (
    ABI,
    EXTENT,
    PROFILE,
    Parameter,
    domains,
    profile,
    share,
    vcpus,
    wants_fifo,
)
from evtsim.workloads.stream import Workload

if TYPE_CHECKING:
    from evtsim.dtypes import Array


class _Channels:
    """Pairs of domains connected at random that send to each other, uniformly.

    First every channel is made: an alloc_unbound at one end, a bind_interdomain at the other,
    and a bind_vcpu for ends that belong to another vcpu than 0. Then records follow at a
    constant rate: sends on ports drawn uniformly, upcalls on vcpus drawn uniformly, masks and
    unmasks of ports drawn uniformly. No record fails.

    Under the FIFO ABI every domain sets that up first, with event words for all of its ports.
    """

    def __init__(
        self,
        host: Host,
        seed: int,
        ports: int,
        rate: float,
        shares: tuple[float, ...],
        *,
        fifo: bool,
    ) -> None:
        self.host = host
        self.seed = seed
        self.step = max(1, round(1e9 / rate))
        self.bounds = np.cumsum([round(part * 2**32) for part in shares]).astype(np.uint64)
        self.vcpus = host.domains["vcpus"].astype(np.int64)
        alive = np.flatnonzero(host.domains["alive"])
        limit = host.port_limits(fifo=fifo)[alive].min(initial=abi.MAX_PORT_FIFO)
        if len(alive) < 2 or ports > limit:
            raise EvtsimError(
                f"{ports:,} ports of {len(alive)} living domains "
                f"(expected at most {limit:,}, and two domains)"
            )
        self.setup, self.used = self._setup(alive, ports)
        if fifo:
            self.setup = np.concatenate([self._fifo(alive), self.setup])
        self.busy = np.flatnonzero(self.used)

    def _setup(self, alive: Array, ports: int) -> tuple[Array, Array]:
        """Return the records that make the channels, and every domain's number of used ports."""
        ends = np.repeat(alive, ports - 1)
        ends = ends[np.argsort(draws.words(self.seed, 0, 0, len(ends)), kind="stable")]
        near, far = ends[: len(ends) // 2 * 2].reshape(-1, 2).T
        # Ports are given lowest first: an end's port is how many ends of its domain came before.
        order = np.stack([near, far], axis=1).reshape(-1)
        port = _occurrence(order, len(self.vcpus)) + 1
        vcpu = (port - 1) % self.vcpus[order]

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
        return made[wanted], np.bincount(order, minlength=len(self.vcpus))

    def _fifo(self, alive: Array) -> Array:
        """Return the records that give vcpus their control blocks and ports their event words."""
        blocks = np.zeros(self.vcpus[alive].sum(), RECORD_DTYPE)
        blocks["dom"] = np.repeat(alive, self.vcpus[alive])
        blocks["op"] = Op.INIT_CONTROL
        blocks["arg0"] = _occurrence(blocks["dom"], len(self.vcpus))
        doms = np.repeat(alive, self.used[alive] // abi.FIFO_PAGE_WORDS + 1)
        pages = np.zeros(len(doms), RECORD_DTYPE)
        pages["dom"] = doms
        pages["op"] = Op.EXPAND_ARRAY
        return np.concatenate([blocks, pages])

    def pieces(self, size: int) -> Iterator[Columns]:
        """Make the records in pieces, without an end."""
        start = 0
        while True:
            head = self.setup[start : start + size]
            table = np.zeros(size, RECORD_DTYPE)
            table[: len(head)] = head
            first = start + len(head) - len(self.setup)
            self._fill_load(table[len(head) :], first)
            number = np.arange(start, start + size, dtype=np.uint64)
            table["ts"] = number * np.uint64(self.step)
            yield Columns(*(np.ascontiguousarray(table[name]) for name in Columns._fields))
            start += size

    def _fill_load(self, table: Array, first: int) -> None:
        """Fill in records after the set-up, from that number of them on."""

        def words(stream: int) -> Array:
            return draws.words(self.seed, stream, first, first + len(table))

        which = np.searchsorted(self.bounds, words(1) >> np.uint64(32), side="right")
        table["op"] = np.array([Op.UPCALL, Op.MASK, Op.UNMASK, Op.SEND], np.uint16)[which]
        dom = self.busy[draws.below(len(self.busy), words(2))]
        table["dom"] = dom
        vcpu = draws.below(self.vcpus[dom], words(3))
        port = 1 + draws.below(self.used[dom], words(4))
        upcall = table["op"] == Op.UPCALL
        table["vcpu"] = np.where(upcall, vcpu, 0)
        table["arg0"] = np.where(upcall, 0, port)


def _occurrence(values: Array, limit: int) -> Array:
    """Return for each value how many equal ones stand before it."""
    order = np.argsort(values, kind="stable")
    counts = np.bincount(values, minlength=limit)
    result = np.empty(len(values), np.int64)
    result[order] = np.arange(len(values)) - np.repeat(np.cumsum(counts) - counts, counts)
    return result


def _build(values: dict[str, Any], host: Host | None) -> _Channels:
    shares = (values["upcalls"], values["masks"], values["unmasks"])
    if sum(shares) > 1:
        raise EvtsimError(f"shares other than sends sum up to {sum(shares):g} (expected 0 to 1)")
    if host is None:
        host = Host.uniform(values["domains"], profile=profile(values), vcpus=values["vcpus"])
    fifo = wants_fifo(values, host)
    return _Channels(host, values["seed"], values["ports"], values["rate"], shares, fifo=fifo)


CHANNELS = Workload(
    "channels",
    "Pairs of domains connected at random send to each other, uniformly.",
    (
        *EXTENT,
        PROFILE,
        ABI,
        domains(),
        vcpus(1, high=abi.MAX_VCPUS, what="of every domain; ends are spread over them"),
        Parameter(
            "ports",
            32,
            2,
            abi.MAX_PORT_FIFO,
            "",
            "of every domain, port 0 included; the last one may have one less; 2l: to 4,096",
        ),
        Parameter("rate", 1e6, 1e-3, 1e9, "/s", "records of the load, evenly"),
        share("upcalls", 0.10, "of the load"),
        share("masks", 0.025, "of the load"),
        share("unmasks", 0.025, "of the load; the rest are sends"),
    ),
    _build,
)
