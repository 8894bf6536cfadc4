"""Checkpoints: everything a simulator knows, in one file.

A line that says what it is, a sha256, and what that is of: numpy's zip of one member a table and
a JSON header. Tables go from memory to the file and back without being gathered in between.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from evtsim import __version__, abi
from evtsim._files import naming, written_whole
from evtsim.abi import NR_VIRQS, PortState
from evtsim.dtypes import BUCKET_PORTS, BUCKET_SHIFT, XEN_PEER, Array, Tables
from evtsim.errors import EvtsimError
from evtsim.guest import Guest
from evtsim.host import Host
from evtsim.state import State
from evtsim.tables import DERIVED, POOL, derived

LOGS = ("edges", "deliveries", "event_words")
"""Tables besides the pool's that may have grown."""

KIND = b"evtsim checkpoint "
MAGIC = KIND + b"4\n"


def save(
    path: str | os.PathLike[str],
    state: State,
    *,
    overwrite: bool = True,
    progress: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Parameters
    ----------
    path : path-like
    state : State
    overwrite : bool
        Whether a file that is there already may be replaced.
    progress : mapping, optional
        How far a replay has come that goes on from here; JSON-like. It is then also made sure
        that the disk has the file.
    """
    header = {
        "version": __version__,
        "host": state.host.to_dict(),
        "guest": state.guest.to_dict() if state.guest else None,
        "deliveries_kept": state.deliveries_kept,
        "progress": None if progress is None else dict(progress),
    }
    text = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    tables = {name: table for name, table in state.arrays().items() if name not in DERIVED}
    durable = progress is not None
    with (
        written_whole(path, overwrite=overwrite, durable=durable) as temporary,
        temporary.open("w+b") as file,
    ):
        file.write(MAGIC + bytes(hashlib.sha256().digest_size))
        np.savez(file, header=text, **tables)  # type: ignore[arg-type]
        digest = _digest(file)
        file.seek(len(MAGIC))
        file.write(digest)


def _digest(file: Any) -> bytes:
    """Return the sha256 of what follows the place for it."""
    file.seek(len(MAGIC) + hashlib.sha256().digest_size)
    return hashlib.file_digest(file, "sha256").digest()


def is_one(path: str | os.PathLike[str]) -> bool:
    """Tell by its first bytes whether a file is a checkpoint; an EvtsimError if it is not there."""
    with naming(path), Path(path).open("rb") as file:
        return file.read(len(KIND)) == KIND


def load(path: str | os.PathLike[str]) -> State:
    """Read the state in a checkpoint; see :func:`read`."""
    return read(path)[0]


def read(path: str | os.PathLike[str]) -> tuple[State, dict[str, Any] | None]:
    """Read a checkpoint: the state, and how far a replay has come that goes on from here.

    Raises
    ------
    EvtsimError
        The file is no checkpoint, damaged, or of another version of the format.
    """
    name = os.fspath(path)
    with naming(name), Path(path).open("rb") as file:
        header, tables = _members(name, file)
    try:
        progress = header.get("progress")
        host = Host.from_dict(header["host"], source=name)
        guest = Guest.from_dict(header["guest"]) if header["guest"] else None
        state = State(host, int(tables["host"]["level"][0]), guest, int(header["deliveries_kept"]))
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EvtsimError(f"{name}: not a whole checkpoint ({error!r})") from None
    _check_shapes(name, state, tables)
    state.restore({**tables, **derived(tables)})
    return state, progress


def _members(name: str, file: Any) -> tuple[dict[str, Any], dict[str, Array]]:
    """Read header and tables, once the checksum is known to be right."""
    start = file.read(len(MAGIC))
    if not start.startswith(KIND):
        raise EvtsimError(f"{name}: not a checkpoint of evtsim")
    if start != MAGIC:
        raise EvtsimError(f"{name}: a checkpoint of another version's format")
    wanted = file.read(hashlib.sha256().digest_size)
    if _digest(file) != wanted:
        raise EvtsimError(f"{name}: damaged: it does not match its checksum")
    file.seek(len(MAGIC) + len(wanted))
    try:
        with np.load(file, allow_pickle=False) as members:
            header = dict(json.loads(bytes(members["header"])))
            tables = {field: members[field] for field in Tables._fields if field in members}
    except (KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise EvtsimError(f"{name}: not a whole checkpoint ({error!r})") from None
    return header, tables


def _check_shapes(name: str, fresh: State, tables: Mapping[str, Array]) -> None:
    """Raise an EvtsimError unless the tables are of the shapes that a fresh state's have.

    Kernels trust them. Only the pool, by doubling, and the logs may have grown.
    """
    for field, wanted in fresh.arrays().items():
        if field in DERIVED:
            continue
        table = tables.get(field)
        fits = table is not None and table.dtype == wanted.dtype
        if fits and field in POOL and len(wanted) == len(fresh.tables.ports):
            growth, rest = divmod(len(table), len(wanted))  # type: ignore[arg-type]
            fits = rest == 0 and growth.bit_count() == 1 and len(table) == len(tables["ports"])  # type: ignore[arg-type]
        elif fits and field in LOGS:
            fits = table.ndim == 1 and len(table) >= len(wanted)  # type: ignore[union-attr, arg-type]
        elif fits:
            fits = table.shape == wanted.shape  # type: ignore[union-attr]
        if not fits:
            raise EvtsimError(f"{name}: not a whole checkpoint (its table {field})")
    for field, right in _values(tables, fresh.tables):
        if not np.all(right):
            raise EvtsimError(f"{name}: makes no sense (its table {field})")


def _values(tables: Mapping[str, Array], fresh: Tables) -> Iterator[tuple[str, Any]]:
    """Yield a table's name and whether what kernels use as an index lies within bounds."""
    domains, ports, vcpus = tables["domains"], tables["ports"], tables["vcpus"]
    for field in ("first_vcpu", "nr_vcpus", "word_shift", "first_pirq", "nr_pirqs"):
        yield "domains", domains[field] == fresh.domains[field]
    yield "domains", domains["nr_ports"] <= len(fresh.buckets) * BUCKET_PORTS
    yield "domains", domains["nr_ports"] % fresh.host["bucket_ports"][0] == 0
    yield "domains", domains["max_ports"] <= len(fresh.buckets) * BUCKET_PORTS
    yield "domains", domains["fifo"] <= (fresh.modern is not None)
    yield "domains", domains["event_pages"] <= abi.FIFO_PAGES
    yield "domains", (domains["free_hint"] <= domains["nr_ports"]) | (domains["alive"] == 0)
    row = tables["host"][0]
    pool = len(ports) // BUCKET_PORTS
    used = tables["buckets"][tables["buckets"] != 0]
    yield "host", 0 < row["buckets_used"] <= pool
    yield "host", row["level"] == (fresh.level or 0)
    yield "host", row["bucket_ports"] == fresh.host["bucket_ports"][0]
    yield "host", row["most_ports"] >= domains["nr_ports"].max()
    yield "host", row["group_shift"] == fresh.host["group_shift"][0]
    yield "buckets", (used < row["buckets_used"]).all() and len(np.unique(used)) == len(used)
    made = (tables["buckets"] != 0).sum(axis=0)
    yield "buckets", made * BUCKET_PORTS >= domains["nr_ports"]
    yield "ports", ports["state"] <= max(PortState)
    channel = ports[ports["state"] == PortState.INTERDOMAIN]
    yield "ports", channel["peer"] < len(ports)
    yield "ports", channel["remote_dom"] < len(domains)
    remote = domains[np.minimum(channel["remote_dom"], len(domains) - 1)]
    yield "ports", channel["remote_port"] < remote["nr_ports"]
    yield "ports", channel["peer_vcpu"] < remote["nr_vcpus"]
    yield "ports", ports["remote_port"][ports["state"] == PortState.VIRQ] < NR_VIRQS
    owner = np.zeros(pool, np.int64)
    bucket, dom = np.nonzero(tables["buckets"])
    owner[np.minimum(tables["buckets"][bucket, dom], pool - 1)] = dom
    owners = domains[np.repeat(owner, BUCKET_PORTS)]
    free = ports["state"] == PortState.FREE
    yield (
        "ports",
        np.where(free, ports["notify_vcpu"] == 0, ports["notify_vcpu"] < owners["nr_vcpus"]),
    )
    pirq = ports["state"] == PortState.PIRQ
    yield "ports", ports["remote_port"][pirq] < owners["nr_pirqs"][pirq]
    # What is notified has bits: below the 2-level limit, but for domains under FIFO.
    limits = np.where(
        domains["fifo"], abi.MAX_PORT_FIFO, 1 << (2 * domains["word_shift"].astype(np.int64))
    )
    limits = np.minimum(limits, domains["nr_ports"])
    told = channel[(channel["xen"] & XEN_PEER) == 0]
    peers = np.minimum(told["remote_dom"], len(domains) - 1)
    yield "ports", told["remote_port"] < limits[peers]
    rows = np.repeat(np.arange(len(domains)), domains["nr_vcpus"])
    yield "virqs", (tables["virqs"] == 0) | (tables["virqs"] < limits[rows])
    rows = np.repeat(np.arange(len(domains)), domains["nr_pirqs"])
    yield "pirqs", (tables["pirqs"] == 0) | (tables["pirqs"] < limits[rows])
    if fresh.level:
        yield from _statistics_values(tables, fresh)
    if fresh.modern:
        yield from _fifo_values(tables, owners)
    if fresh.guest:
        yield from _guest_values(tables, fresh)
    waiting = (vcpus["polling"] != 0) & (vcpus["poll_port"] != 0)
    yield "vcpus", vcpus["poll_port"][waiting] < abi.MAX_PORT_FIFO


def _statistics_values(tables: Mapping[str, Array], fresh: Tables) -> Iterator[tuple[str, Any]]:
    """Yield the same of the statistics' tables."""
    row = tables["host"][0]
    yield "edges", 0 <= row["edges_used"] <= len(tables["edges"])
    yield "deliveries", 0 <= row["logged"] <= len(tables["deliveries"])
    yield "deliveries", (len(tables["deliveries"]) > 1) == (len(fresh.deliveries) > 1)
    yield "errno_slots", tables["errno_slots"] == fresh.errno_slots
    yield "host", not row["started"] or row["first_ts"] <= max(row["last_ts"], row["now"])
    yield "domain_pending", tables["domain_pending"]["now"] >= 0
    if row["started"] and row["bin_shift"] < 64:
        first, last = (int(row[name]) >> int(row["bin_shift"]) for name in ("first_ts", "bin_end"))
        yield "timeline", 0 <= last - first < len(tables["timeline"])
    yield "timeline", 0 <= row["bin"] < len(tables["timeline"]) and row["bin_shift"] < 64
    yield "port_stats", tables["port_stats"]["type"] < len(tables["latency"])


def _fifo_values(tables: Mapping[str, Array], owners: Array) -> Iterator[tuple[str, Any]]:
    """Yield the same of the FIFO ABI's tables; `owners` are the domains of the pool's ports."""
    domains, pages = tables["domains"], tables["event_pages"]
    used = pages[pages != 0]
    made = (pages != 0).sum(axis=0)
    pool = len(tables["event_words"]) // abi.FIFO_PAGE_WORDS
    yield "event_words", len(tables["event_words"]) % abi.FIFO_PAGE_WORDS == 0
    yield "event_pages", 1 <= tables["host"]["pages_used"][0] <= pool
    yield "port_fifo", tables["port_fifo"]["last_vcpu"] < np.maximum(owners["nr_vcpus"], 1)
    yield "event_pages", (used < tables["host"]["pages_used"][0]).all()
    yield "event_pages", len(np.unique(used)) == len(used)
    yield "event_pages", made >= domains["event_pages"]
    yield "port_fifo", tables["port_fifo"]["last_priority"] < abi.FIFO_PRIORITIES
    yield "port_fifo", tables["port_fifo"]["priority"] < abi.FIFO_PRIORITIES
    for name in ("head", "tail", "local_head"):
        yield "queues", tables["queues"][name] < abi.MAX_PORT_FIFO


def _guest_values(tables: Mapping[str, Array], fresh: Tables) -> Iterator[tuple[str, Any]]:
    """Yield the same of the guest's tables."""
    handlers, eois = tables["guest_vcpus"], tables["eois"]
    yield "guest_configs", tables["guest_configs"] == fresh.guest_configs
    yield "guest_domains", tables["guest_domains"]["config"] == fresh.guest_domains["config"]
    domains = tables["domains"]
    width = np.repeat(1 << domains["word_shift"].astype(np.int64), domains["nr_vcpus"])
    for field in ("word", "start_bit", "next_word", "next_bit"):
        yield "guest_vcpus", handlers[field] < width
    yield "guest_vcpus", handlers["waiting"] >> (width - 1).astype(np.uint64) <= 1
    yield "eois", _lists_are_whole(handlers, eois)
    waits = np.flatnonzero(eois["vcpu"])
    dom = np.repeat(np.arange(len(domains)), domains["nr_vcpus"])
    if len(waits):
        owner, port = dom[eois["vcpu"][waits].astype(np.int64) - 1], eois["port"][waits]
        row = port >> BUCKET_SHIFT
        yield "eois", row < len(tables["buckets"])
        bucket = tables["buckets"][np.minimum(row, len(tables["buckets"]) - 1), owner]
        index = (bucket.astype(np.int64) << BUCKET_SHIFT) + (port & (BUCKET_PORTS - 1))
        yield "eois", (index == waits) & (port < domains["nr_ports"][owner])
        small = port >> (2 * domains["word_shift"][owner].astype(np.int64)) == 0
        yield "eois", small | (domains["fifo"][owner] != 0)


def _lists_are_whole(handlers: Array, eois: Array) -> bool:
    """Tell whether the vcpus' lists of EOIs hold each port that waits, once, from end to end."""
    left = {int(index) for index in np.flatnonzero(eois["vcpu"])}
    for row in np.flatnonzero(handlers["eoi_first"] | handlers["eoi_last"]).tolist():
        before, index = 0, int(handlers["eoi_first"][row])
        while index:
            if index not in left or int(eois["vcpu"][index]) != row + 1:
                return False
            left.remove(index)
            if int(eois["previous"][index]) != before:
                return False
            before, index = index, int(eois["next"][index])
        if before != int(handlers["eoi_last"][row]):
            return False
    return not left
