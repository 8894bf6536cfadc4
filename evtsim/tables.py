"""The tables that a running host is made of: how they are laid out, and how they grow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.dtypes import (
    BUCKET_PORTS,
    BUCKET_SHIFT,
    DELIVERY,
    DOMAIN_PENDING,
    DOMAIN_STATS,
    DOMAIN_TABLE,
    EDGE,
    EOI,
    GUEST_DOMAIN,
    GUEST_VCPU,
    HOST_TABLE,
    LATENCY_BINS,
    LATENCY_KINDS,
    LATENCY_TYPES,
    NEVER,
    OPERATION_STATS,
    PORT_FIFO,
    PORT_LEVEL,
    PORT_RARE,
    PORT_STATS,
    PORT_TABLE,
    QUEUE,
    RESULT,
    ROUTE_DOM,
    ROUTE_KIND,
    ROUTE_VCPU,
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
    Array,
    Tables,
)
from evtsim.host import Host

if TYPE_CHECKING:
    from evtsim.guest import Guest

POOL = (
    "ports", "routes", "port_fifo", "port_stats", "port_rare", "eois",
)  # fmt: skip
"""Tables of the pool's length, which grow together."""

FIRST_BIN_SHIFT = 10
"""The timeline begins with bins of about a microsecond."""

OPERATION_SLOTS = [*abi.Op, 76]
"""Operations in the order of the statistics; 76 stands for all numbers without a name."""

WORDS = abi.MAX_PORT_2L[64] // 64

WORD_PARTS = abi.FIFO_PAGE_WORDS // BUCKET_PORTS
"""Into how many parts a page of event words is cut: see Tables.event_words."""


def aligned_zeros(shape: int | tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros that begin with a cache line, so that no row of 64 bytes lies in two."""
    size = int(np.prod(shape)) * dtype.itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    return room[start : start + size].view(dtype).reshape(shape)


def doubled(table: Array) -> Array:
    """Return a table of twice the length, the second half zero."""
    longer = aligned_zeros(2 * len(table), table.dtype)
    longer[: len(table)] = table
    return longer


def with_more_pages(words: Array) -> Array:
    """Return a table of event words with room for twice as many pages."""
    longer = aligned_zeros(2 * len(words), words.dtype)
    parts = words.reshape(WORD_PARTS, -1)
    longer.reshape(WORD_PARTS, -1)[:, : parts.shape[1]] = parts
    return longer


def word_places(tables: Tables, dom: Array | int, port: Array | int) -> Array:
    """Return where in the pool the event words of ports lie, of domains that have them."""
    page = tables.event_pages[port // abi.FIFO_PAGE_WORDS, dom].astype(np.int64)
    part = port % abi.FIFO_PAGE_WORDS >> BUCKET_SHIFT
    length = len(tables.event_words) // WORD_PARTS
    at: Array = part * length + (page << BUCKET_SHIFT) + port % BUCKET_PORTS
    return at


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


def places(buckets: Array) -> tuple[Array, Array, Array]:
    """Return domain, port and pool index of all ports of all buckets, by domain and port."""
    dom, row = np.nonzero(buckets.T)
    number = buckets[row, dom].astype(np.int64)
    within = np.arange(BUCKET_PORTS)
    index = ((number << BUCKET_SHIFT)[:, None] + within).reshape(-1)
    port = ((row << BUCKET_SHIFT)[:, None] + within).reshape(-1)
    return np.repeat(dom, BUCKET_PORTS), port, index


def routes(tables: Mapping[str, Array]) -> Array:
    """Derive what a send on each port of the pool comes to, as kernels/routes.py keeps it."""
    dom, port, index = places(tables["buckets"])
    ports = tables["ports"][index]
    ipi = ports["state"] == abi.PortState.IPI
    notifies = ipi | ((ports["state"] == abi.PortState.INTERDOMAIN) & (ports["xen"] == 0))
    route = (
        np.where(ipi, abi.PortState.IPI - abi.PortState.INTERDOMAIN, 0) << ROUTE_KIND
        | np.where(ipi, dom, ports["remote_dom"]) << ROUTE_DOM
        | np.where(ipi, ports["notify_vcpu"], ports["peer_vcpu"]).astype(np.int64) << ROUTE_VCPU
        | np.where(ipi, port, ports["remote_port"])
    )
    found: Array = np.zeros(len(tables["ports"]), np.int64)
    found[index] = np.where(notifies, route, 0)
    return found


def vcpu_ports(tables: Mapping[str, Array]) -> Array:
    """Derive which ports notify which vcpu, as kernels/two_level.py keeps it."""
    dom, port, index = places(tables["buckets"])
    vcpu = tables["ports"]["notify_vcpu"][index].astype(np.int64)
    moved = (vcpu > 0) & (port < abi.MAX_PORT_2L[64])
    dom, port, vcpu = dom[moved], port[moved], vcpu[moved]
    first = tables["domains"]["first_vcpu"][dom].astype(np.int64)
    bits = np.uint64(1) << (port & 63).astype(np.uint64)
    found: Array = np.zeros((WORDS, len(tables["vcpus"])), np.uint64)
    np.bitwise_or.at(found, (port >> 6, first + vcpu), bits)
    np.bitwise_or.at(found, (port >> 6, first), bits)
    return found


DERIVED = {"routes": routes, "vcpu_ports": vcpu_ports}
"""Tables that follow from others, which checkpoints do not carry, and what derives them."""


def derived(tables: Mapping[str, Array]) -> dict[str, Array]:
    """Make the tables that follow from others."""
    return {name: derive(tables) for name, derive in DERIVED.items()}


def _statistics_tables(host: Host, level: int, pool: int, log: bool) -> dict[str, Array]:
    """Make the tables of the statistics, of length 1 where the level does not keep them."""
    bucket = abi.PROFILES[host.profile].bucket_ports
    ports = pool if level == PORT_LEVEL else 1
    groups = min(len(host), TIMELINE_GROUPS)
    domains = np.zeros(len(host), DOMAIN_STATS)
    domains["valid_peak"] = np.where(host.domains["alive"], bucket, 0)
    slots = np.zeros(TALLY_ERRNOS, np.uint8)
    slots[[int(errno) for errno in abi.Errno]] = np.arange(1, len(abi.Errno) + 1)
    operations = (len(OPERATION_SLOTS), len(abi.Errno) + 1, len(host) + 1)
    return {
        "port_stats": aligned_zeros(pool, PORT_STATS),
        "port_rare": np.zeros(ports, PORT_RARE),
        "types": np.zeros(len(LATENCY_TYPES), TYPE_STATS),
        "vcpu_stats": np.zeros(int(host.domains["vcpus"].sum()), VCPU_STATS),
        "domain_stats": domains,
        "domain_pending": np.zeros(len(host), DOMAIN_PENDING),
        "operations": np.zeros(operations, OPERATION_STATS),
        "errno_slots": slots,
        "timeline": np.zeros((TIMELINE_BINS, groups), TIMELINE),
        "latency": np.zeros((LATENCY_KINDS, LATENCY_BINS), np.int64),
        "latency_groups": np.zeros((groups if level == PORT_LEVEL else 1, LATENCY_BINS), np.int64),
        "edges": np.zeros(16 * BUCKET_PORTS if level == PORT_LEVEL else 1, EDGE),
        "deliveries": np.zeros(16 * BUCKET_PORTS if log else 1, DELIVERY),
    }


def _guest_tables(host: Host, guest: Guest, pool: int) -> dict[str, Array]:
    """Make the tables of the guest model."""
    configs, which = guest.table(len(host))
    domains = np.zeros(len(host), GUEST_DOMAIN)
    domains["config"] = which
    domains["due"] = NEVER
    vcpus = aligned_zeros(int(host.domains["vcpus"].sum()), GUEST_VCPU)
    vcpus["due"] = NEVER
    return {
        "guest_configs": configs,
        "guest_domains": domains,
        "guest_vcpus": vcpus,
        "eois": np.zeros(pool if configs["late"].any() else 1, EOI),
    }


def _fifo_tables(host: Host, pool: int) -> dict[str, Array]:
    """Make the FIFO ABI's tables; pages that no domain uses are never touched."""
    vcpus = int(host.domains["vcpus"].sum())
    return {
        "event_pages": np.zeros((abi.FIFO_PAGES, len(host)), np.uint32),
        "event_words": np.zeros(2 * abi.FIFO_PAGE_WORDS, np.uint32),
        "port_fifo": np.zeros(pool, PORT_FIFO),
        "vcpu_fifo": np.zeros(vcpus, VCPU_FIFO),
        "queues": np.zeros((vcpus, abi.FIFO_PRIORITIES), QUEUE),
    }


def _virq_kinds(profile: abi.Profile) -> Array:
    """Return who may bind each VIRQ."""
    kinds = np.full(abi.NR_VIRQS, VIRQ_GLOBAL, np.uint8)
    kinds[list(profile.domain_virqs)] = VIRQ_DOMAIN
    kinds[list(profile.vcpu_virqs)] = VIRQ_VCPU
    return kinds


def allocate(host: Host, level: int, guest: Guest | None, deliveries: int) -> Tables:
    """Make the tables of a host whose living domains have just been created."""
    count = len(host)
    config = host.domains
    alive = config["alive"] != 0
    profile = abi.PROFILES[host.profile]
    limits = host.port_limits()
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
    parts: dict[str, Any] = dict.fromkeys(Tables._fields)
    if profile.fifo:
        parts |= _fifo_tables(host, len(ports))
    if level:
        parts |= _statistics_tables(host, level, len(ports), deliveries > 0)
    if guest:
        parts |= _guest_tables(host, guest, len(ports))
    made = Tables(**parts)
    return made._replace(
        level=np.int64(level) if level else None,
        guest=np.int64(1) if guest else None,
        modern=np.int64(1) if profile.fifo else None,
        host=row,
        domains=domains,
        vcpus=np.zeros(int(vcpus.sum()), VCPU_TABLE),
        buckets=buckets,
        ports=ports,
        routes=aligned_zeros(len(ports), np.dtype(np.int64)),
        shared=np.zeros((WORDS, count), SHARED_WORD),
        vcpu_ports=np.zeros((WORDS, int(vcpus.sum())), np.uint64),
        virqs=np.zeros((abi.NR_VIRQS, int(vcpus.sum())), np.uint32),
        pirqs=np.zeros(int(pirqs.sum()), np.uint32),
        virq_kinds=_virq_kinds(profile),
        max_port=config["max_port"].astype(np.uint32),
        result=np.zeros(1, RESULT),
        done=np.zeros(TALLY_OPS, np.int64),
        failed=np.zeros((TALLY_OPS, TALLY_ERRNOS), np.int64),
        effects=np.zeros(TALLY_EFFECTS, np.int64),
    )
