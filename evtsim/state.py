"""The tables of a running host: allocate, grow, snapshot, restore, and show as frames."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evtsim import abi
from evtsim.dtypes import (
    BUCKET_PORTS,
    BUCKET_SHIFT,
    DOMAIN_TABLE,
    HOST_TABLE,
    PORT_TABLE,
    RESULT,
    SHARED_WORD,
    TALLY_EFFECTS,
    TALLY_ERRNOS,
    TALLY_OPS,
    VCPU_TABLE,
    XEN_HERE,
    Array,
    Tables,
)
from evtsim.host import Host

if TYPE_CHECKING:
    import pandas as pd

WORDS = abi.MAX_PORT_2L[64] // 64


class SharedInfo(NamedTuple):
    """A domain's 2-level bitmaps: bit p is bit p % 64 of word p // 64 (uint64, 64 words)."""

    pending: Array
    mask: Array


class State:
    """Everything that the simulated host knows at one moment.

    Frames show living domains only and hold integers.

    Parameters
    ----------
    host : Host
        What to start: every living domain has its first bucket and port 0 reserved.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.tables = _allocate(host)

    # Growing, keeping ----------------------------------------------------------------------------

    def grow(self) -> None:
        """Double the pool of buckets."""
        ports = np.zeros(2 * len(self.tables.ports), PORT_TABLE)
        ports[: len(self.tables.ports)] = self.tables.ports
        self.tables = self.tables._replace(ports=ports)

    def snapshot(self) -> dict[str, Array]:
        """Copy all tables, by name."""
        return {name: table.copy() for name, table in self.tables._asdict().items()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Put back what :meth:`snapshot` copied, of this host."""
        self.tables = Tables(**{name: snapshot[name].copy() for name in Tables._fields})

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take."""
        return sum(table.nbytes for table in self.tables)

    # Frames --------------------------------------------------------------------------------------

    def domains(self) -> pd.DataFrame:
        """Return living domains.

        Columns: dom, vcpus, nr_ports (valid ports), max_ports (the ABI's limit), in_use (ports
        neither FREE nor RESERVED), pending (bits set), pollers (vcpus in poll_mask).
        """
        import pandas as pd

        alive = self._alive()
        domains = self.tables.domains[alive]
        ports = self.ports()
        used = np.bincount(
            ports["dom"], ports["state"] > abi.PortState.RESERVED, len(self.host)
        ).astype(np.int64)
        pending = np.bitwise_count(self.tables.shared["pending"][:, alive]).sum(axis=0)
        return pd.DataFrame(
            {
                "dom": alive,
                "vcpus": domains["nr_vcpus"],
                "nr_ports": domains["nr_ports"],
                "max_ports": domains["max_ports"],
                "in_use": used[alive],
                "pending": pending.astype(np.int64),
                "pollers": domains["pollers"],
            }
        )

    def ports(self) -> pd.DataFrame:
        """Return every valid port of living domains, in order.

        Columns: dom, port, state (abi.PortState), notify_vcpu, xen, remote_dom, remote_port,
        irq (of VIRQ and PIRQ), pending, mask. 0 where a column does not apply.
        """
        import pandas as pd

        dom, port = self._valid_ports()
        bucket = self.tables.buckets[port >> BUCKET_SHIFT, dom].astype(np.int64)
        rows = self.tables.ports[(bucket << BUCKET_SHIFT) + (port & (BUCKET_PORTS - 1))]
        state = rows["state"]
        bound = (state == abi.PortState.VIRQ) | (state == abi.PortState.PIRQ)
        words = self.tables.shared[port >> 6, dom]
        shift = (port & 63).astype(np.uint64)
        return pd.DataFrame(
            {
                "dom": dom,
                "port": port,
                "state": state,
                "notify_vcpu": rows["notify_vcpu"],
                "xen": rows["xen"] & XEN_HERE,
                "remote_dom": rows["remote_dom"],
                "remote_port": np.where(bound, 0, rows["remote_port"]),
                "irq": np.where(bound, rows["remote_port"], 0),
                "pending": ((words["pending"] >> shift) & 1).astype(np.uint8),
                "mask": ((words["mask"] >> shift) & 1).astype(np.uint8),
            }
        )

    def vcpus(self) -> pd.DataFrame:
        """Return every vcpu of living domains.

        Columns: dom, vcpu, upcall_pending, upcall_mask, polling (in poll_mask), blocked,
        pending_sel (uint64: bits of words of the guest's size), poll_port.
        """
        import pandas as pd

        dom, vcpu = self._owners()
        keep = self.tables.domains["alive"][dom] != 0
        rows = self.tables.vcpus[keep]
        return pd.DataFrame(
            {
                "dom": dom[keep],
                "vcpu": vcpu[keep],
                "upcall_pending": rows["upcall_pending"],
                "upcall_mask": rows["upcall_mask"],
                "polling": rows["polling"],
                "blocked": rows["blocked"],
                "pending_sel": rows["pending_sel"],
                "poll_port": rows["poll_port"],
            }
        )

    def virqs(self) -> pd.DataFrame:
        """Return bound VIRQs: dom, vcpu (whose table holds it; 0 for global ones), irq, port."""
        import pandas as pd

        dom, vcpu = self._owners()
        bound = (self.tables.virqs != 0) & (self.tables.domains["alive"][dom] != 0)[:, None]
        row, virq = np.nonzero(bound)
        return pd.DataFrame(
            {"dom": dom[row], "vcpu": vcpu[row], "irq": virq, "port": self.tables.virqs[row, virq]}
        )

    def pirqs(self) -> pd.DataFrame:
        """Return bound PIRQs: dom, vcpu (always 0), irq, port."""
        import pandas as pd

        domains = self.tables.domains
        dom = np.repeat(np.arange(len(domains)), domains["nr_pirqs"])
        row = np.flatnonzero((self.tables.pirqs != 0) & (domains["alive"][dom] != 0))
        irq = row - domains["first_pirq"][dom[row]]
        port = self.tables.pirqs[row]
        return pd.DataFrame({"dom": dom[row], "vcpu": 0 * irq, "irq": irq, "port": port})

    def shared_info(self, dom: int) -> SharedInfo:
        """Return copies of a configured domain's pending and mask bitmaps."""
        if not 0 <= dom < len(self.host):
            raise IndexError(f"domain {dom} (expected 0 to {len(self.host) - 1})")
        words = self.tables.shared[:, dom]
        return SharedInfo(words["pending"].copy(), words["mask"].copy())

    def __repr__(self) -> str:
        records = int(self.tables.host["records"][0])
        return f"<State after {records:,} records: {len(self._alive()):,} living domains>"

    def _alive(self) -> Array:
        return np.flatnonzero(self.tables.domains["alive"])

    def _owners(self) -> tuple[Array, Array]:
        """Return domain and number of every row of the vcpu table."""
        domains = self.tables.domains
        dom = np.repeat(np.arange(len(domains)), domains["nr_vcpus"])
        return dom, np.arange(len(dom)) - domains["first_vcpu"][dom]

    def _valid_ports(self) -> tuple[Array, Array]:
        """Return domain and number of every valid port, in order; dead domains have none."""
        counts = self.tables.domains["nr_ports"].astype(np.int64)
        dom = np.repeat(np.arange(len(counts)), counts)
        return dom, np.arange(len(dom)) - (np.cumsum(counts) - counts)[dom]


def _allocate(host: Host) -> Tables:
    """Make the tables of a host whose living domains have just been created."""
    count = len(host)
    config = host.domains
    alive = config["alive"] != 0
    limits = np.where(config["word_bits"] == 64, abi.MAX_PORT_2L[64], abi.MAX_PORT_2L[32])
    vcpus = config["vcpus"].astype(np.int64)
    pirqs = config["nr_pirqs"].astype(np.int64)

    domains = np.zeros(count, DOMAIN_TABLE)
    domains["nr_ports"] = np.where(alive, BUCKET_PORTS, 0)
    domains["first_vcpu"] = np.cumsum(vcpus) - vcpus
    domains["nr_vcpus"] = vcpus
    domains["max_ports"] = limits
    domains["first_pirq"] = np.cumsum(pirqs) - pirqs
    domains["nr_pirqs"] = pirqs
    domains["word_shift"] = np.where(config["word_bits"] == 64, 6, 5)
    for name in ("alive", "privileged", "pirq_permitted"):
        domains[name] = config[name]

    buckets = np.zeros((int(limits.max()) // BUCKET_PORTS, count), np.uint32)
    buckets[0, alive] = np.arange(1, alive.sum() + 1)
    ports = np.zeros((int(alive.sum()) + 1 + max(16, count // 8)) * BUCKET_PORTS, PORT_TABLE)
    ports["state"][buckets[0, alive].astype(np.int64) * BUCKET_PORTS] = abi.PortState.RESERVED

    row = np.zeros(1, HOST_TABLE)
    row["buckets_used"] = alive.sum() + 1
    profile = abi.PROFILES[host.profile]
    return Tables(
        host=row,
        domains=domains,
        vcpus=np.zeros(int(vcpus.sum()), VCPU_TABLE),
        buckets=buckets,
        ports=ports,
        shared=np.zeros((WORDS, count), SHARED_WORD),
        virqs=np.zeros((int(vcpus.sum()), abi.NR_VIRQS), np.uint32),
        pirqs=np.zeros(int(pirqs.sum()), np.uint32),
        vcpu_virqs=np.isin(np.arange(abi.NR_VIRQS), list(profile.vcpu_virqs)).astype(np.uint8),
        result=np.zeros(1, RESULT),
        done=np.zeros(TALLY_OPS, np.int64),
        failed=np.zeros((TALLY_OPS, TALLY_ERRNOS), np.int64),
        effects=np.zeros(TALLY_EFFECTS, np.int64),
    )
