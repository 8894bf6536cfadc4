"""Random nonsense: every operation, and arguments that are wrong in every way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import draws
from evtsim.abi import DOMID_SELF, OP_ARGS, PROFILES, Op
from evtsim.dtypes import DOMAIN_DTYPE, Columns
from evtsim.host import DEFAULTS, Host
from evtsim.workloads.parameters import EXTENT, choice, domains, rate, share, vcpus
from evtsim.workloads.stream import Workload

if TYPE_CHECKING:
    from evtsim.dtypes import Array

UNKNOWN_OPS = (15, 63, 76, 122, 65_535)
WEIGHTS: dict[int, int] = {
    **dict.fromkeys(map(int, Op), 8),
    **dict.fromkeys((Op.RESET, Op.DESTROY_DOMAIN), 1),  # or little would ever be connected
    **dict.fromkeys((Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.SEND, Op.UPCALL), 40),
    **dict.fromkeys(UNKNOWN_OPS, 1),
}
OPS = np.repeat(np.array(list(WEIGHTS), np.uint16), list(WEIGHTS.values()))

PORT, DOM, VCPU, VIRQ, OTHER = range(5)
KINDS = {
    **dict.fromkeys(("port", "remote_port"), PORT),
    **dict.fromkeys(("dom", "remote_dom", "remote_domid"), DOM),
    "vcpu": VCPU,
    "virq": VIRQ,
    "pirq": VIRQ,
}
SMALL_PORTS = 24
MAX_VIRQS = 30
ODD_DOMIDS = (DOMID_SELF, DOMID_SELF + 1, 0x7FFF, 0x10000 | DOMID_SELF)

# Streams of draws.
OP, CALLER, CALLING_VCPU, FLAGS, FIRST, SECOND = range(6)


def _kinds(position: int) -> Array:
    """Return by operation's number what its argument in that position is."""
    kinds = np.full(65_536, OTHER, np.uint8)
    for op, names in OP_ARGS.items():
        if len(names) > position:
            kinds[op] = KINDS.get(names[position], OTHER)
    return kinds


def _host(domains: int, vcpus: int, profile: str) -> Host:
    """Make a host of all sorts of domains."""
    table = np.full(domains, np.array(tuple(DEFAULTS.values()), DOMAIN_DTYPE))
    number = np.arange(domains)
    table["vcpus"] = 1 + number % vcpus
    table["privileged"] = number % 4 == 0
    table["word_bits"] = np.where(number % 3 == 2, 32, 64)
    table["nr_pirqs"] = np.where(number % 2 == 0, 16, 0)
    table["pirq_permitted"] = number % 4 < 2
    table["alive"] = number % 5 != 4
    return Host(profile, table)


class _Nonsense:
    """Draws records of a host, any stretch of them by itself."""

    def __init__(self, host: Host, seed: int, rate: float, nonsense: float, faults: float) -> None:
        self.host = host
        self.seed = seed
        self.step = max(1, round(1e9 / rate))
        self.nonsense = round(nonsense * 2**16)
        self.faults = round(faults * 2**16)
        self.kinds = (_kinds(0), _kinds(1))

    def pieces(self, size: int) -> Iterator[Columns]:
        """Make the records in pieces, without an end."""
        start = 0
        while True:
            yield self._piece(start, start + size)
            start += size

    def _piece(self, start: int, stop: int) -> Columns:
        def words(stream: int) -> Array:
            return draws.words(self.seed, stream, start, stop)

        op = OPS[draws.below(len(OPS), words(OP))]
        word = words(CALLER)
        dom = draws.below(len(self.host), word)
        vcpu = draws.below(self.host.domains["vcpus"][dom], words(CALLING_VCPU))
        wild = (word & np.uint64(0xFFFF)) < self.nonsense
        dom = np.where(wild, (word >> np.uint64(16)) & np.uint64(0xFFFF), dom)
        vcpu = np.where(wild, (word >> np.uint64(8)) & np.uint64(0xFFFF), vcpu)
        word = words(FLAGS)
        faulty = (word & np.uint64(0xFFFF)) < self.faults
        return Columns(
            np.arange(start, stop, dtype=np.uint64) * np.uint64(self.step),
            dom.astype(np.uint16),
            vcpu.astype(np.uint16),
            op,
            np.where(faulty, 1 + (word >> np.uint64(32)) % 3, 0).astype(np.uint16),
            self._argument(self.kinds[0][op], words(FIRST)),
            self._argument(self.kinds[1][op], words(SECOND)),
        )

    def _argument(self, kinds: Array, word: Array) -> Array:
        """Draw arguments that often make sense."""
        domids = np.array([*range(len(self.host)), *ODD_DOMIDS])
        limits = np.array(
            [SMALL_PORTS, len(domids), self.host.domains["vcpus"].max() + 1, MAX_VIRQS, 4]
        )
        value = draws.below(limits[kinds], word)
        value = np.where(kinds == DOM, domids[np.where(kinds == DOM, value, 0)], value)
        wild = (word & np.uint64(0xFFFF)) < self.nonsense
        # Half of the nonsense lies near the limits of the ABIs, half anywhere.
        far = np.where(word & np.uint64(1 << 16), 1 << 32, 4200)
        return np.where(wild, draws.below(far, draws.mix(word)), value).astype(np.uint32)


def _build(values: dict[str, Any], host: Host | None) -> _Nonsense:
    if host is None:
        host = _host(values["domains"], values["vcpus"], values["profile"])
    names = ("seed", "rate", "nonsense", "faults")
    return _Nonsense(host, **{name: values[name] for name in names})


HOSTILE = Workload(
    "hostile",
    "Random nonsense: all operations, bad ports, ids and vcpus, faults.",
    (
        *EXTENT,
        choice("profile", tuple(PROFILES), "of the host's Xen"),
        domains(8, low=1),
        vcpus(4, what="of the largest domains; others have fewer"),
        rate("rate", 1e6, "records, evenly"),
        share("nonsense", 0.1, "of the callers and of the arguments, those drawn from anywhere"),
        share("faults", 0.03, "of the records, those that ask for faults"),
    ),
    _build,
)
