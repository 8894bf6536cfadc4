"""The tables of a running host: allocate, grow, snapshot, restore, and show as frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evtsim import abi
from evtsim.dtypes import (
    BUCKET_PORTS,
    BUCKET_SHIFT,
    DELIVERY,
    DOMAIN_STATS,
    DOMAIN_TABLE,
    EDGE,
    EOI,
    GUEST_CONFIG,
    GUEST_DOMAIN,
    GUEST_VCPU,
    HOST_TABLE,
    LATENCY_BINS,
    LATENCY_KINDS,
    LATENCY_TYPES,
    NEVER,
    OPERATION_STATS,
    PORT_DELIVERED,
    PORT_FIFO,
    PORT_NOTIFIED,
    PORT_RARE,
    PORT_TABLE,
    QUEUE,
    RESULT,
    SHARED_WORD,
    TALLY_EFFECTS,
    TALLY_ERRNOS,
    TALLY_OPS,
    TIMELINE,
    TIMELINE_BINS,
    TIMELINE_GROUPS,
    TYPE_STATS,
    VCPU_FIFO,
    VCPU_STATS,
    VCPU_TABLE,
    VIRQ_DOMAIN,
    VIRQ_GLOBAL,
    VIRQ_VCPU,
    XEN_HERE,
    Array,
    Tables,
)
from evtsim.host import Host

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.guest import Guest

PORT_LEVEL = 2
POOL = (
    "ports", "port_fifo", "since", "set_type", "port_notified", "port_delivered", "port_rare",
    "eois",
)  # fmt: skip
"""Tables of the pool's length, which grow together."""

FIRST_BIN_SHIFT = 10
"""The timeline begins with bins of about a microsecond."""

OPERATION_SLOTS = [*abi.Op, 76]
"""Operations in the order of the statistics; 76 stands for all numbers without a name."""

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
    level : int
        Of the statistics: 0 none, 1 domain, 2 port.
    guest : Guest, optional
        Who handles the events.
    deliveries : int
        The most to keep in the log of deliveries; 0 for no log.
    """

    def __init__(
        self, host: Host, level: int = 0, guest: Guest | None = None, deliveries: int = 0
    ) -> None:
        self.host = host
        self.level = level
        self.guest = guest
        self.deliveries_kept = deliveries
        self.tables = _allocate(host, level, guest, deliveries)

    # Growing, keeping ----------------------------------------------------------------------------

    def grow(self) -> None:
        """Make room for the operation that asked for it: in the pool, among the edges."""
        tables = self.tables
        host = tables.host[0]
        if int(host["buckets_used"]) * BUCKET_PORTS == len(tables.ports):
            kept = {name: getattr(tables, name) for name in POOL}
            doubled: dict[str, Any] = {
                n: _doubled(a) for n, a in kept.items() if len(a) == len(tables.ports)
            }
            self.tables = tables._replace(**doubled)
        if int(host["pages_used"]) * abi.FIFO_PAGE_WORDS == len(tables.event_words):
            self.tables = self.tables._replace(event_words=_doubled(tables.event_words))
        spare = 2 * int(host["most_ports"])
        if self.level == PORT_LEVEL and len(tables.edges) - int(host["edges_used"]) < spare:
            summed = sum_edges(tables.edges[: int(host["edges_used"])])
            room = np.zeros(2 * len(summed) + 4 * spare, EDGE)
            room[: len(summed)] = summed
            host["edges_used"] = len(summed)
            self.tables = self.tables._replace(edges=room)
        if self.deliveries_kept:
            self._make_log_room()

    def _make_log_room(self) -> None:
        """Give the log of deliveries room, up to the most that are kept; then drop the latest."""
        host, table = self.tables.host[0], self.tables.deliveries
        logged, spare = int(host["logged"]), 2 * int(host["most_ports"])
        if len(table) - logged >= spare:
            return
        most = 2 * self.deliveries_kept + 2 * spare
        if len(table) < most:
            longer = np.zeros(min(2 * len(table) + 2 * spare, most), DELIVERY)
            longer[:logged] = table[:logged]
            self.tables = self.tables._replace(deliveries=longer)
            return
        kept = self.deliveries()
        table[: len(kept)] = kept
        host["logged"] = len(kept)
        host["log_until"] = kept["ts"][-1]

    def deliveries(self) -> Array:
        """Return the log of deliveries as DELIVERY, in order, no more than are kept.

        Domains are replayed past each other, so the log itself is in order only by domain.
        """
        logged = self.tables.deliveries[: int(self.tables.host["logged"][0])]
        order = np.lexsort((logged["vcpu"], logged["dom"], logged["ts"]))
        return logged[order[: self.deliveries_kept]]

    def snapshot(self) -> dict[str, Array]:
        """Copy all tables, by name."""
        return {name: table.copy() for name, table in self._arrays()}

    def restore(self, snapshot: Mapping[str, Array]) -> None:
        """Put back what :meth:`snapshot` copied, of this host."""
        # Into tables of our own making: a file's have lost their alignment, and with it the type
        # that kernels are compiled for.
        arrays: dict[str, Any] = {}
        for name, table in self._arrays():
            arrays[name] = aligned_zeros(snapshot[name].shape, table.dtype)
            arrays[name][...] = snapshot[name]
        self.tables = self.tables._replace(**arrays)

    def copy(self) -> State:
        """Return a state of the same that does not change when this one does."""
        copied = State(self.host, self.level, self.guest, self.deliveries_kept)
        copied.restore(self.tables._asdict())
        return copied

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take."""
        return sum(table.nbytes for _, table in self._arrays())

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield name and table of all that is one: the marks for the compiler are not."""
        marks = ("level", "guest", "modern")
        return ((name, table) for name, table in self.tables._asdict().items() if name not in marks)

    # Frames --------------------------------------------------------------------------------------

    def domains(self) -> pd.DataFrame:
        """Return living domains.

        Columns: dom, vcpus, nr_ports (valid ports), max_ports (below which ports are given), in_use
        (ports neither FREE nor RESERVED), pending (bits set, of the ABI in use), pollers (vcpus in
        poll_mask), fifo (1: under the FIFO ABI), num_evtchns (event words that its array has).
        """
        import pandas as pd

        alive = self._alive()
        domains = self.tables.domains[alive]
        ports = self.ports()
        used = np.bincount(
            ports["dom"], ports["state"] > abi.PortState.RESERVED, len(self.host)
        ).astype(np.int64)
        pending = np.bincount(ports["dom"], ports["pending"], len(self.host))[alive]
        return pd.DataFrame(
            {
                "dom": alive,
                "vcpus": domains["nr_vcpus"],
                "nr_ports": domains["nr_ports"],
                "max_ports": domains["max_ports"],
                "in_use": used[alive],
                "pending": pending.astype(np.int64),
                "pollers": domains["pollers"],
                "fifo": domains["fifo"],
                "num_evtchns": domains["event_pages"].astype(np.int64) * abi.FIFO_PAGE_WORDS,
            }
        )

    def ports(self) -> pd.DataFrame:
        """Return every valid port of living domains, in order.

        Columns: dom, port, state (abi.PortState), notify_vcpu, xen, remote_dom, remote_port,
        irq (of VIRQ and PIRQ), pending, mask; 0 where a column does not apply. Under a profile
        with the FIFO ABI also priority and saved_pending; pending and mask are then those of the
        domain's present ABI, and a port without a bit there reads pending 0, mask 1.
        """
        import pandas as pd

        dom, port = self._valid_ports()
        index = self.pool_index(dom, port)
        rows = self.tables.ports[index]
        state = rows["state"]
        bound = (state == abi.PortState.VIRQ) | (state == abi.PortState.PIRQ)
        pending, mask = self.bits(dom, port)
        columns: dict[str, Array] = {
            "dom": dom,
            "port": port,
            "state": state,
            "notify_vcpu": rows["notify_vcpu"],
            "xen": rows["xen"] & XEN_HERE,
            "remote_dom": rows["remote_dom"],
            "remote_port": np.where(bound, 0, rows["remote_port"]),
            "irq": np.where(bound, rows["remote_port"], 0),
            "pending": pending.astype(np.uint8),
            "mask": mask.astype(np.uint8),
        }
        if self.tables.modern:
            fifo = self.tables.port_fifo[index]
            columns |= {"priority": fifo["priority"], "saved_pending": fifo["saved_pending"]}
        return pd.DataFrame(columns)

    def pool_index(self, dom: Array, port: Array) -> Array:
        """Return where in the pool ports lie that are valid, or once were."""
        bucket = self.tables.buckets[port >> BUCKET_SHIFT, dom].astype(np.int64)
        index: Array = (bucket << BUCKET_SHIFT) + (port & (BUCKET_PORTS - 1))
        return index

    def bits(self, dom: Array, port: Array) -> tuple[Array, Array]:
        """Return the pending and mask bits of living domains' ports, of the ABI in use (bool)."""
        pending, mask = self.shared_bits(dom, port)
        domains = self.tables.domains[dom]
        fifo = domains["fifo"] != 0
        if fifo.any():
            words = np.zeros(len(dom), np.int64)
            words[fifo] = self._words_of(dom[fifo], port[fifo])
            pending = np.where(fifo, words & abi.EventWord.PENDING != 0, pending)
            mask = np.where(fifo, words & abi.EventWord.MASKED != 0, mask)
        return pending, mask

    def shared_bits(self, dom: Array, port: Array) -> tuple[Array, Array]:
        """Return the bits of the 2-level bitmaps; pending 0, mask 1 for ports beyond them."""
        inside = port >> (2 * self.tables.domains["word_shift"][dom].astype(np.int64)) == 0
        words = self.tables.shared[np.where(inside, port >> 6, 0), dom]
        flag = np.uint64(1) << (port & 63).astype(np.uint64)
        return inside & (words["pending"] & flag != 0), ~inside | (words["mask"] & flag != 0)

    def _words_of(self, dom: Array, port: Array) -> Array:
        """Return event words as int64; a port beyond the array reads as masked."""
        has = port >> 10 < self.tables.domains["event_pages"][dom]
        page = self.tables.event_pages[np.where(has, port >> 10, 0), dom].astype(np.int64)
        words = self.tables.event_words[np.where(has, (page << 10) + (port & 1023), 0)]
        return np.where(has, words.astype(np.int64), abi.EventWord.MASKED)

    def event_words(self) -> pd.DataFrame:
        """Return the event words that are not 0, of domains under the FIFO ABI: dom, port, word."""
        import pandas as pd

        pages = self.tables.domains["event_pages"].astype(np.int64)
        dom = np.repeat(np.arange(len(pages)), pages * abi.FIFO_PAGE_WORDS)
        first = np.cumsum(pages * abi.FIFO_PAGE_WORDS) - pages * abi.FIFO_PAGE_WORDS
        port = np.arange(len(dom)) - first[dom]
        words = self._words_of(dom, port)
        kept = words != 0
        return pd.DataFrame({"dom": dom[kept], "port": port[kept], "word": words[kept]})

    def fifo_queues(self) -> pd.DataFrame:
        """Return the queues that are not all zero, of domains under the FIFO ABI.

        Columns: dom, vcpu, priority, ready (its bit in the control block), head (in the control
        block), tail (Xen's), local_head (the guest's).
        """
        import pandas as pd

        if not self.tables.modern:
            names = ("dom", "vcpu", "priority", "ready", "head", "tail", "local_head")
            return pd.DataFrame({name: np.zeros(0, np.int64) for name in names})
        dom, vcpu = self.owners()
        ready = self.tables.vcpu_fifo["ready"][:, None] >> np.arange(abi.FIFO_PRIORITIES) & 1
        queues = self.tables.queues
        used = (ready | queues["head"] | queues["tail"] | queues["local_head"]) != 0
        row, priority = np.nonzero(used & (self.tables.domains["fifo"][dom] != 0)[:, None])
        columns = {"dom": dom[row], "vcpu": vcpu[row], "priority": priority}
        columns["ready"] = ready[row, priority].astype(np.int64)
        for name in ("head", "tail", "local_head"):
            columns[name] = queues[name][row, priority]
        return pd.DataFrame(columns)

    def vcpus(self) -> pd.DataFrame:
        """Return every vcpu of living domains.

        Columns: dom, vcpu, upcall_pending, upcall_mask, polling (in poll_mask), blocked,
        pending_sel (uint64: bits of words of the guest's size), poll_port.
        """
        import pandas as pd

        dom, vcpu = self.owners()
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

        dom, vcpu = self.owners()
        virqs = self.tables.virqs.T
        row, virq = np.nonzero((virqs != 0) & (self.tables.domains["alive"][dom] != 0)[:, None])
        return pd.DataFrame(
            {"dom": dom[row], "vcpu": vcpu[row], "irq": virq, "port": virqs[row, virq]}
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

    def owners(self) -> tuple[Array, Array]:
        """Return domain and number of every row of the vcpu table."""
        domains = self.tables.domains
        dom = np.repeat(np.arange(len(domains)), domains["nr_vcpus"])
        return dom, np.arange(len(dom)) - domains["first_vcpu"][dom]

    def _valid_ports(self) -> tuple[Array, Array]:
        """Return domain and number of every valid port, in order; dead domains have none."""
        counts = self.tables.domains["nr_ports"].astype(np.int64)
        dom = np.repeat(np.arange(len(counts)), counts)
        return dom, np.arange(len(dom)) - (np.cumsum(counts) - counts)[dom]


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a cache line, so that no row of 64 bytes lies in two."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def _doubled(table: Array) -> Array:
    """Return a table of twice the length, the second half zero."""
    longer = aligned_zeros(2 * len(table), table.dtype)
    longer[: len(table)] = table
    return longer


def sum_edges(edges: Array) -> Array:
    """Sum up edges of the same domains, in order."""
    key = edges["dom"].astype(np.uint64) << np.uint64(32) | edges["target"]
    keys, group = np.unique(key, return_inverse=True)
    summed = np.zeros(len(keys), EDGE)
    summed["dom"] = keys >> np.uint64(32)
    summed["target"] = keys & np.uint64(0xFFFFFFFF)
    for name in ("raised", "coalesced"):
        np.add.at(summed[name], group, edges[name])
    return summed


def _allocate_stats(host: Host, level: int, pool: int) -> dict[str, Array]:
    """Make the tables of the statistics, of length 1 where the level does not keep them."""
    domains = len(host) if level else 1
    bucket = abi.PROFILES[host.profile].bucket_ports
    ports = pool if level == PORT_LEVEL else 1
    groups = min(domains, TIMELINE_GROUPS)
    domain_stats = np.zeros(domains, DOMAIN_STATS)
    domain_stats["valid_peak"] = np.where(host.domains["alive"], bucket, 0) if level else 0
    slots = np.zeros(TALLY_ERRNOS, np.uint8)
    slots[[int(errno) for errno in abi.Errno]] = np.arange(1, len(abi.Errno) + 1)
    shape = (len(OPERATION_SLOTS), len(abi.Errno) + 1, domains + 1) if level else (1, 1, 1)
    return {
        "since": aligned_zeros(pool if level else 1, np.dtype(np.uint64)),
        "set_type": aligned_zeros(pool if level else 1, np.dtype(np.uint8)),
        "port_notified": aligned_zeros(ports, PORT_NOTIFIED),
        "port_delivered": aligned_zeros(ports, PORT_DELIVERED),
        "port_rare": np.zeros(ports, PORT_RARE),
        "types": np.zeros(len(LATENCY_TYPES), TYPE_STATS),
        "vcpu_stats": np.zeros(int(host.domains["vcpus"].sum()) if level else 1, VCPU_STATS),
        "domain_stats": domain_stats,
        "operations": np.zeros(shape, OPERATION_STATS),
        "errno_slots": slots,
        "timeline": np.zeros((TIMELINE_BINS if level else 1, groups), TIMELINE),
        "latency": np.zeros((LATENCY_KINDS, LATENCY_BINS), np.int64),
        "latency_groups": np.zeros((groups if level == PORT_LEVEL else 1, LATENCY_BINS), np.int64),
        "edges": np.zeros(16 * BUCKET_PORTS if level == PORT_LEVEL else 1, EDGE),
    }


def _allocate_guest(host: Host, guest: Guest | None, pool: int) -> dict[str, Array]:
    """Make the tables of the guest model, of length 1 where there is none."""
    configs, which = guest.table(len(host)) if guest else (np.zeros(1, GUEST_CONFIG), np.zeros(1))
    domains = np.zeros(len(which), GUEST_DOMAIN)
    domains["config"] = which
    domains["due"] = NEVER
    vcpus = aligned_zeros(int(host.domains["vcpus"].sum()) if guest else 1, GUEST_VCPU)
    vcpus["due"] = NEVER
    return {
        "guest_configs": configs,
        "guest_domains": domains,
        "guest_vcpus": vcpus,
        "eois": np.zeros(pool if configs["late"].any() else 1, EOI),
    }


def _allocate_fifo(host: Host, pool: int) -> dict[str, Array]:
    """Make the FIFO ABI's tables, of length 1 where the profile has none."""
    fifo = abi.PROFILES[host.profile].fifo
    domains = len(host) if fifo else 1
    vcpus = int(host.domains["vcpus"].sum()) if fifo else 1
    return {
        "event_pages": np.zeros((abi.FIFO_PAGES, domains), np.uint32),
        "event_words": np.zeros((2 if fifo else 1) * abi.FIFO_PAGE_WORDS, np.uint32),
        "port_fifo": np.zeros(pool if fifo else 1, PORT_FIFO),
        "vcpu_fifo": np.zeros(vcpus, VCPU_FIFO),
        "queues": np.zeros((vcpus, abi.FIFO_PRIORITIES), QUEUE),
    }


def _virq_kinds(profile: abi.Profile) -> Array:
    """Return who may bind each VIRQ."""
    kinds = np.full(abi.NR_VIRQS, VIRQ_GLOBAL, np.uint8)
    kinds[list(profile.domain_virqs)] = VIRQ_DOMAIN
    kinds[list(profile.vcpu_virqs)] = VIRQ_VCPU
    return kinds


def _allocate(host: Host, level: int, guest: Guest | None, deliveries: int) -> Tables:
    """Make the tables of a host whose living domains have just been created."""
    count = len(host)
    config = host.domains
    alive = config["alive"] != 0
    profile = abi.PROFILES[host.profile]
    limits = np.where(config["word_bits"] == 64, abi.MAX_PORT_2L[64], abi.MAX_PORT_2L[32])
    if profile.fifo:
        limits = np.minimum(limits, config["max_port"].astype(np.int64) + 1)
    vcpus = config["vcpus"].astype(np.int64)
    pirqs = config["nr_pirqs"].astype(np.int64)

    domains = np.zeros(count, DOMAIN_TABLE)
    domains["nr_ports"] = np.where(alive, profile.bucket_ports, 0)
    domains["first_vcpu"] = np.cumsum(vcpus) - vcpus
    domains["nr_vcpus"] = vcpus
    domains["max_ports"] = limits
    domains["first_pirq"] = np.cumsum(pirqs) - pirqs
    domains["nr_pirqs"] = pirqs
    domains["word_shift"] = np.where(config["word_bits"] == 64, 6, 5)
    for name in ("alive", "privileged", "pirq_permitted"):
        domains[name] = config[name]

    most = abi.MAX_PORT_FIFO if profile.fifo else int(limits.max())
    buckets = np.zeros((most // BUCKET_PORTS, count), np.uint32)
    buckets[0, alive] = np.arange(1, alive.sum() + 1)
    ports = np.zeros((int(alive.sum()) + 1 + max(16, count // 8)) * BUCKET_PORTS, PORT_TABLE)
    ports["state"][buckets[0, alive].astype(np.int64) * BUCKET_PORTS] = abi.PortState.RESERVED

    row = np.zeros(1, HOST_TABLE)
    row["buckets_used"] = alive.sum() + 1
    row["pages_used"] = 1
    row["bucket_ports"] = row["most_ports"] = profile.bucket_ports
    row["level"] = level
    row["log_until"] = NEVER
    row["bin_shift"] = FIRST_BIN_SHIFT
    row["group_shift"] = max(0, (count - 1).bit_length() - TIMELINE_GROUPS.bit_length() + 1)
    return Tables(
        level=np.int64(level) if level else None,
        guest=np.int64(1) if guest else None,
        modern=np.int64(1) if profile.fifo else None,
        host=row,
        domains=domains,
        vcpus=np.zeros(int(vcpus.sum()), VCPU_TABLE),
        buckets=buckets,
        ports=ports,
        shared=np.zeros((WORDS, count), SHARED_WORD),
        virqs=np.zeros((abi.NR_VIRQS, int(vcpus.sum())), np.uint32),
        pirqs=np.zeros(int(pirqs.sum()), np.uint32),
        virq_kinds=_virq_kinds(profile),
        max_port=config["max_port"].astype(np.uint32),
        **_allocate_fifo(host, len(ports)),
        result=np.zeros(1, RESULT),
        done=np.zeros(TALLY_OPS, np.int64),
        failed=np.zeros((TALLY_OPS, TALLY_ERRNOS), np.int64),
        effects=np.zeros(TALLY_EFFECTS, np.int64),
        **_allocate_stats(host, level, len(ports)),
        deliveries=np.zeros(16 * BUCKET_PORTS if deliveries else 1, DELIVERY),
        **_allocate_guest(host, guest, len(ports)),
    )
