"""A running host: its tables grow, are kept and put back, and show as frames."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from evtsim import abi
from evtsim.dtypes import (
    BUCKET_PORTS,
    BUCKET_SHIFT,
    DELIVERY,
    EDGE,
    NEVER,
    PORT_LEVEL,
    XEN_HERE,
    Array,
)
from evtsim.host import Host
from evtsim.tables import (
    POOL,
    aligned_zeros,
    allocate,
    doubled,
    sum_edges,
    with_more_pages,
    word_places,
)

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.guest import Guest


LOG_SPARE = 1 << 12
"""Records at least for which the log of deliveries has room when it has just been cut."""


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
        self.tables = allocate(host, level, guest, deliveries)

    def begin(self, ts: int) -> None:
        """Let time begin at ts (ns), unless it has begun."""
        row = self.tables.host[0]
        if not row["started"] and not row["records"]:
            row["started"] = 1
            row["first_ts"] = ts

    # Growing, keeping ----------------------------------------------------------------------------

    def grow(self) -> None:
        """Make room for the operation that asked for it: in the pool, for words, in the logs."""
        tables = self.tables
        host = tables.host[0]
        if int(host["buckets_used"]) * BUCKET_PORTS == len(tables.ports):
            kept = {name: table for name, table in self._arrays() if name in POOL}
            longer: dict[str, Any] = {
                n: doubled(a) for n, a in kept.items() if len(a) == len(tables.ports)
            }
            self.tables = tables._replace(**longer)
        if tables.modern and int(host["pages_used"]) * abi.FIFO_PAGE_WORDS == len(
            tables.event_words
        ):
            self.tables = self.tables._replace(event_words=with_more_pages(tables.event_words))
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
        logged, spare = int(host["logged"]), int(self.tables.domain_pending["now"].sum())
        if len(table) - logged > spare:
            return
        most = 2 * self.deliveries_kept + LOG_SPARE + spare
        if len(table) < most:
            longer = np.zeros(min(2 * len(table) + spare, most), DELIVERY)
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

    def take_deliveries(self) -> Array:
        """Return what :meth:`deliveries` does, and begin the log anew.

        Who takes it between two traces that are applied sees all of it without keeping it.
        """
        taken = self.deliveries()
        self.tables.host["logged"] = 0
        self.tables.host["log_until"] = NEVER
        return taken

    def drop_deliveries(self) -> None:
        """Keep no log of deliveries any more."""
        self.deliveries_kept = 0
        self.tables.host["logged"] = 0
        if self.level:
            self.tables = self.tables._replace(deliveries=np.zeros(1, DELIVERY))

    def arrays(self) -> dict[str, Array]:
        """Return all tables by name: the state's own."""
        return dict(self._arrays())

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

    def digest(self) -> str:
        """Return a sha256, in hexadecimal, of what the host and its ports are at this moment.

        What is counted, who handles the events, and how the tables have grown are not in it.
        """
        digest = hashlib.sha256(self.host.to_json_text().encode())
        frames = (self.domains(), self.ports(), self.vcpus(), self.virqs(), self.pirqs())
        for frame in (*frames, self.event_words(), self.fifo_queues()):
            for name in frame:
                digest.update(f"{name} {len(frame)}\n".encode())
                digest.update(frame[name].to_numpy(np.uint64).tobytes())
        return digest.hexdigest()

    @property
    def nbytes(self) -> int:
        """Bytes that the tables take."""
        return sum(table.nbytes for _, table in self._arrays())

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield name and table of all that there are."""
        tables = self.tables._asdict().items()
        return ((name, table) for name, table in tables if isinstance(table, np.ndarray))

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
        words = self.tables.event_words[word_places(self.tables, dom, np.where(has, port, 0))]
        return np.where(has, words.astype(np.int64), abi.EventWord.MASKED)

    def event_words(self) -> pd.DataFrame:
        """Return the event words that are not 0, of domains under the FIFO ABI: dom, port, word."""
        import pandas as pd

        if not self.tables.modern:
            return pd.DataFrame({name: np.zeros(0, np.int64) for name in ("dom", "port", "word")})
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
