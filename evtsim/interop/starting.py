"""From a dump to a simulation: the host that it was taken of, and that host's state.

A dump says less than a simulator knows, and may contradict itself, since Xen prints it while
guests go on. Each gap is filled by a rule of docs/dumps.md, and each contradiction is told.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import abi
from evtsim.abi import EventWord, PortState
from evtsim.dtypes import (
    BUCKET_PORTS,
    BUCKET_SHIFT,
    PORT_LEVEL,
    VIRQ_VCPU,
    XEN_HERE,
    XEN_PEER,
    Array,
)
from evtsim.errors import HostError, shown
from evtsim.host import DEFAULTS, Domain, Host
from evtsim.interop._queues import lay_out
from evtsim.interop.snapshots import Snapshot, rows_of
from evtsim.state import State
from evtsim.tables import POOL, derived, doubled, with_more_pages, word_places

if TYPE_CHECKING:
    from evtsim.guest import Guest

FREE, UNBOUND = int(PortState.FREE), int(PortState.UNBOUND)
INTERDOMAIN = int(PortState.INTERDOMAIN)
PIRQ, VIRQ, IPI = int(PortState.PIRQ), int(PortState.VIRQ), int(PortState.IPI)

MOST_PIRQS = 65_535

Columns = dict[str, Array]


# The host ----------------------------------------------------------------------------------------


def host_of(
    snapshot: Snapshot,
    *,
    profile: str | None = None,
    vcpus: int | Mapping[int, int] | None = None,
    word_bits: int | Mapping[int, int] | None = None,
    privileged: Collection[int] = (0,),
) -> Host:
    """Return the host of a dump; see :meth:`evtsim.Host.from_dump`."""
    if not isinstance(snapshot, Snapshot):
        raise HostError(f"snapshot is {shown(snapshot)} (expected one of dumps.read)")
    fifo = bool((snapshot.domains["abi"] == "fifo").any())
    if profile is None:
        profile = "xen-4.0" if snapshot.form == "e-2010" and not fifo else "xen-4.23"
    if fifo and profile in abi.PROFILES and not abi.PROFILES[profile].fifo:
        raise HostError(f"profile {profile} lacks the FIFO ABI of the dump (expected xen-4.23)")
    dom = snapshot.domains["dom"].to_numpy(np.int64)
    fields = {name: np.full(dom.max() + 1, default) for name, default in DEFAULTS.items()}
    fields["alive"][:] = False
    fields["alive"][dom] = True
    fields["privileged"][[n for n in privileged if 0 <= n < len(fields["alive"])]] = True
    least = np.ones(len(fields["alive"]), np.int64)
    ports = snapshot.ports
    of = ports["dom"].to_numpy(np.int64)
    np.maximum.at(least, of, ports["notify_vcpu"].to_numpy(np.int64) + 1)
    for row in rows_of(snapshot.domains):
        least[row.dom] = max([int(least[row.dom]), *(vcpu + 1 for vcpu in row.polling)])
    fields["vcpus"] = _given(vcpus, least, "vcpus")
    short = np.flatnonzero((fields["vcpus"] < least) & fields["alive"])
    if len(short):
        first = int(short[0])
        raise HostError(
            f"domain {first}: vcpus is {fields['vcpus'][first]} "
            f"(expected at least {least[first]}: the dump has ports on its vcpu {least[first] - 1})"
        )
    fields["word_bits"] = _given(word_bits, fields["word_bits"], "word_bits")
    pirqs = (ports["state"] == PIRQ) & (ports["irq"] < MOST_PIRQS)
    np.maximum.at(fields["nr_pirqs"], of[pirqs], ports["irq"][pirqs].to_numpy(np.int64) + 1)
    fields["pirq_permitted"][of[pirqs]] = True
    columns = [fields[name].tolist() for name in DEFAULTS]
    return Host(profile, [Domain(*values) for values in zip(*columns, strict=True)])


def _given(given: int | Mapping[int, int] | None, inferred: Array, name: str) -> Array:
    """Return a field of all domains: what is given, for all or for some, else what is inferred."""
    result = inferred.copy()
    if isinstance(given, Mapping):
        for dom, value in given.items():
            if not isinstance(dom, (int, np.integer)) or not 0 <= dom < len(result):
                raise HostError(f"{name} of domain {shown(dom)} (expected 0 to {len(result) - 1})")
            result[dom] = value
    elif given is not None:
        result[:] = given
    return result


# The state ---------------------------------------------------------------------------------------


def state_of(
    snapshot: Snapshot,
    host: Host,
    level: int = 0,
    guest: Guest | None = None,
    deliveries: int = 0,
    ts: int = 0,
) -> tuple[State, list[str]]:
    """Return the state that a dump tells, and what of the dump was not taken as it is.

    Parameters
    ----------
    snapshot : Snapshot
    host : Host
        As :func:`host_of` makes it, or another that has the dump's domains and vcpus. Alive are
        those of the dump.
    level, guest, deliveries
        As for :class:`evtsim.state.State`. Handlers are not scheduled yet.
    ts : int
        ns; when the dump was taken. What is pending has been so since then.

    Returns
    -------
    State
    list of str
        Contradictions, and how each was settled.

    Raises
    ------
    HostError
        The host has not what the dump has.
    """
    _check_host(snapshot, host)
    state = State(host, level, guest, deliveries)
    notes: list[str] = []
    state.tables.domains["alive"] = np.isin(np.arange(len(host)), snapshot.domains["dom"])
    ports = _settled(snapshot, state, notes)
    fifo = np.zeros(len(host), bool)
    fifo[snapshot.domains["dom"][snapshot.domains["abi"] == "fifo"]] = True
    under_fifo = fifo[ports["dom"]]
    queues = lay_out({name: column[under_fifo] for name, column in ports.items()}, notes)
    _make_valid(state, np.append(ports["dom"], queues.dom), np.append(ports["port"], queues.port))
    _fill_ports(state, ports)
    _fill_bitmaps(state, {name: column[~under_fifo] for name, column in ports.items()})
    if state.tables.modern is not None:
        _fill_fifo(state, fifo, ports, queues)
    _fill_polls(state, snapshot)
    state.tables.host["last_ts"] = state.tables.host["now"] = ts
    state.begin(ts)
    if level:
        _fill_statistics(state, ports)
    return state, notes


def _check_host(snapshot: Snapshot, host: Host) -> None:
    """Raise a HostError unless the host has the dump's domains, vcpus and ABI."""
    needed = host_of(snapshot)
    for dom in snapshot.domains["dom"].tolist():
        if dom >= len(host):
            raise HostError(f"domain {dom}: in the dump, and not on the host")
        least = int(needed.domains["vcpus"][dom])
        if host.domains["vcpus"][dom] < least:
            raise HostError(
                f"domain {dom}: vcpus is {host.domains['vcpus'][dom]} (expected at least {least})"
            )
    if (snapshot.domains["abi"] == "fifo").any() and not abi.PROFILES[host.profile].fifo:
        raise HostError(f"profile {host.profile} lacks the FIFO ABI of the dump")


def _settled(snapshot: Snapshot, state: State, notes: list[str]) -> Columns:
    """Return the ports with contradictions settled; what becomes FREE is left out."""
    frame = snapshot.ports
    numeric = frame.columns.difference(["state_name", "label"])
    ports = {name: frame[name].to_numpy(np.int64) for name in numeric}
    where = f"{snapshot.source}: " if snapshot.source else ""

    def say(places: Array, what: str) -> None:
        notes.extend(
            f"{where}domain {ports['dom'][i]}, port {ports['port'][i]}: {what}"
            for i in np.flatnonzero(places).tolist()
        )

    dom, port, given = ports["dom"], ports["port"], ports["state"]
    fifo = ports["word"] >= 0
    wide = state.tables.domains["word_shift"][dom].astype(np.int64)
    limit = np.where(fifo, abi.MAX_PORT_FIFO, 1 << 2 * wide)
    ports["xen"] = (ports["xen"] > 0).astype(np.int64)
    whose = (given == UNBOUND) | (given == INTERDOMAIN)
    odd = (ports["xen"] == 1) & ~whose
    say(odd, "attached to Xen, which no VIRQ, PIRQ or IPI is: taken for the guest's own")
    ports["xen"][odd] = 0

    beyond = (port >= limit) & (ports["xen"] == 0)
    most = len(state.tables.buckets) * BUCKET_PORTS
    beyond |= port >= most
    say(beyond, "beyond the ABI's limit: FREE")
    ports["peer"] = _peers(ports, ~beyond)
    lonely = (given == INTERDOMAIN) & (ports["peer"] < 0) & ~beyond
    say(lonely, "INTERDOMAIN, and the other end does not point back: UNBOUND, open to that domain")
    twice = ~beyond & _bound_twice(ports, state)
    say(twice, "its VIRQ or PIRQ is bound to a port before it, or does not exist: FREE")
    ports["state"] = np.where(lonely, UNBOUND, given)
    ports["remote_port"] = np.where(ports["state"] == INTERDOMAIN, ports["remote_port"], 0)
    for name in ("pending", "mask"):  # where a dump does not say, there is none
        ports[name] = np.maximum(ports[name], 0)
    kept = ~beyond & ~twice
    places = np.cumsum(kept) - 1
    peer = np.where(ports["peer"] >= 0, places[ports["peer"]], -1)
    return {name: column[kept] for name, column in (ports | {"peer": peer}).items()}


def _peers(ports: Columns, kept: Array) -> Array:
    """Return for each port the place of its peer, if both name each other; else -1."""
    key = ports["dom"] << 17 | ports["port"]
    other = ports["remote_dom"] << 17 | ports["remote_port"]
    connected = kept & (ports["state"] == INTERDOMAIN)
    order = np.argsort(key)
    place = order[np.minimum(np.searchsorted(key[order], other), max(len(key) - 1, 0))]
    mutual = connected & connected[place] & (key[place] == other) & (other[place] == key)
    mutual &= (key != other) & ((ports["xen"] == 0) | (ports["xen"][place] == 0))
    result: Array = np.where(mutual, place, -1)
    return result


def _bound_twice(ports: Columns, state: State) -> Array:
    """Return where a VIRQ or PIRQ is another port's already, or not the host's."""
    tables = state.tables
    bound = (ports["state"] == VIRQ) | (ports["state"] == PIRQ)
    irq = ports["irq"]
    known = np.where(ports["state"] == PIRQ, tables.domains["nr_pirqs"][ports["dom"]], abi.NR_VIRQS)
    own = tables.virq_kinds[np.minimum(irq, abi.NR_VIRQS - 1)] == VIRQ_VCPU
    vcpu = np.where(own & (ports["state"] == VIRQ), ports["notify_vcpu"], 0)
    kind = ports["state"] == PIRQ
    keys = np.stack([ports["dom"], kind, vcpu, irq])[:, bound]
    first = np.zeros(len(irq), bool)
    places = np.flatnonzero(bound)
    first[places[np.unique(keys, axis=1, return_index=True)[1]]] = True
    result: Array = bound & (~first | (irq >= known))
    return result


def _make_valid(state: State, dom: Array, port: Array) -> None:
    """Give living domains the buckets that their highest ports ask for, port 0 reserved."""
    tables = state.tables
    row, size = tables.host[0], int(tables.host["bucket_ports"][0])
    wanted = np.where(tables.domains["alive"] != 0, size, 0)
    np.maximum.at(wanted, dom, (port // size + 1) * size)
    tables.domains["nr_ports"] = wanted
    row["most_ports"] = max(int(row["most_ports"]), int(wanted.max()))
    for owner in np.flatnonzero(wanted).tolist():
        made = int(np.count_nonzero(tables.buckets[:, owner]))
        needed = max(made, int(-(-wanted[owner] // BUCKET_PORTS)))
        first = int(row["buckets_used"])
        tables.buckets[made:needed, owner] = np.arange(first, first + needed - made)
        row["buckets_used"] += needed - made
    while int(row["buckets_used"]) * BUCKET_PORTS > len(state.tables.ports):
        old = len(state.tables.ports)
        now = state.tables._asdict()
        pool = {name: now[name] for name in POOL if now[name] is not None}
        longer: dict[str, Any] = {n: doubled(a) for n, a in pool.items() if len(a) == old}
        state.tables = state.tables._replace(**longer)
    reserved = tables.buckets[0, wanted > 0].astype(np.int64) << BUCKET_SHIFT
    state.tables.ports["state"][reserved] = PortState.RESERVED


def _fill_ports(state: State, ports: Columns) -> None:
    """Fill in the pool's entries and the maps of VIRQs and PIRQs."""
    tables = state.tables
    index = state.pool_index(ports["dom"], ports["port"])
    peer = ports["peer"]
    paired = peer >= 0
    bound = (ports["state"] == VIRQ) | (ports["state"] == PIRQ)
    rows: Array = np.zeros(len(index), tables.ports.dtype)
    rows["state"] = ports["state"]
    rows["notify_vcpu"] = ports["notify_vcpu"]
    rows["remote_dom"] = ports["remote_dom"]
    rows["remote_port"] = np.where(bound, ports["irq"], ports["remote_port"])
    rows["xen"] = np.where(ports["xen"] == 1, XEN_HERE, 0)
    rows["peer"][paired] = index[peer[paired]]
    rows["peer_vcpu"][paired] = ports["notify_vcpu"][peer[paired]]
    rows["xen"][paired] |= np.where(ports["xen"][peer[paired]] == 1, XEN_PEER, 0).astype(np.uint8)
    tables.ports[index] = rows
    for name, table in derived(tables._asdict()).items():
        getattr(tables, name)[:] = table
    if tables.modern is not None:
        tables.port_fifo["priority"][index[ports["word"] >= 0]] = abi.FIFO_DEFAULT_PRIORITY
    virq = ports["state"] == VIRQ
    irq, dom = ports["irq"][virq], ports["dom"][virq]
    own = tables.virq_kinds[irq] == VIRQ_VCPU
    row = tables.domains["first_vcpu"][dom] + np.where(own, ports["notify_vcpu"][virq], 0)
    tables.virqs[irq, row] = ports["port"][virq]
    pirq = ports["state"] == PIRQ
    row = tables.domains["first_pirq"][ports["dom"][pirq]] + ports["irq"][pirq]
    tables.pirqs[row] = ports["port"][pirq]


def _fill_bitmaps(state: State, ports: Columns) -> None:
    """Fill in the 2-level bitmaps and selectors, and tell the vcpus whose selectors are not 0."""
    tables = state.tables
    dom, port = ports["dom"], ports["port"]
    shift = tables.domains["word_shift"][dom].astype(np.int64)
    inside = port >> (2 * shift) == 0
    bit = np.uint64(1) << (port & 63).astype(np.uint64)
    for name in ("pending", "mask"):
        chosen = inside & (ports[name] == 1)
        np.bitwise_or.at(tables.shared[name], (port[chosen] >> 6, dom[chosen]), bit[chosen])
    # 2010's dumps have no selectors: a port that waits for its vcpu has told it.
    waits = (ports["pending"] == 1) & (ports["mask"] == 0)
    told = inside & np.where(ports["selector"] < 0, waits, ports["selector"] == 1)
    row = tables.domains["first_vcpu"][dom].astype(np.int64) + ports["notify_vcpu"]
    selector = np.uint64(1) << np.minimum(port >> shift, 63).astype(np.uint64)
    np.bitwise_or.at(tables.vcpus["pending_sel"], row[told], selector[told])
    tables.vcpus["upcall_pending"] = tables.vcpus["pending_sel"] != 0


def _fill_fifo(state: State, fifo: Array, ports: Columns, queues: Any) -> None:
    """Fill in event words, queues and control blocks."""
    tables, row = state.tables, state.tables.host[0]
    has = ports["word"] == 1
    dom, port = np.append(ports["dom"][has], queues.dom), np.append(ports["port"][has], queues.port)
    pages = np.zeros(len(fifo), np.int64)
    np.maximum.at(pages, dom, port // abi.FIFO_PAGE_WORDS + 1)
    tables.domains["fifo"] = fifo
    tables.domains["event_pages"] = pages
    limits = state.host.port_limits(fifo=True)
    tables.domains["max_ports"][fifo] = limits[fifo]
    for owner in np.flatnonzero(pages).tolist():
        first, count = int(row["pages_used"]), int(pages[owner])
        tables.event_pages[:count, owner] = np.arange(first, first + count)
        row["pages_used"] += count
    while int(row["pages_used"]) * abi.FIFO_PAGE_WORDS > len(state.tables.event_words):
        state.tables = state.tables._replace(event_words=with_more_pages(state.tables.event_words))
    tables = state.tables
    words = np.where(ports["pending"] == 1, int(EventWord.PENDING), 0)
    words |= np.where(ports["mask"] == 1, int(EventWord.MASKED), 0)
    tables.event_words[word_places(tables, ports["dom"][has], ports["port"][has])] = words[has]
    at = word_places(tables, queues.dom, queues.port)
    tables.event_words[at] |= (queues.link | int(EventWord.LINKED)).astype(np.uint32)
    index = state.pool_index(queues.dom, queues.port)
    tables.port_fifo["last_vcpu"][index] = queues.vcpu
    for name in ("last_priority", "priority"):
        tables.port_fifo[name][index] = queues.priority
    owners, _ = state.owners()
    tables.vcpu_fifo["control"] = fifo[owners]
    rows = tables.domains["first_vcpu"][queues.dom].astype(np.int64) + queues.vcpu
    for name, chosen in (("head", queues.first), ("tail", queues.link == 0)):
        where = rows[chosen], queues.priority[chosen]
        tables.queues[name][where] = queues.port[chosen]
    ready = (1 << queues.priority).astype(np.uint16)
    np.bitwise_or.at(tables.vcpu_fifo["ready"], rows, ready)
    tables.vcpus["upcall_pending"] |= tables.vcpu_fifo["ready"] != 0


def _fill_polls(state: State, snapshot: Snapshot) -> None:
    """Block the vcpus that poll, each on the port that it most likely polls.

    Linux's spin locks poll the vcpu's own IPI, which is masked; else the first port that could
    wake it is taken.
    """
    tables = state.tables
    for row in rows_of(snapshot.domains):
        if not row.polling:
            continue
        count = int(tables.domains["nr_ports"][row.dom])
        port = np.arange(count)
        dom = np.full(count, row.dom)
        entry = tables.ports[state.pool_index(dom, port)]
        pending, mask = state.bits(dom, port)
        usable = (entry["state"] > PortState.RESERVED) & (entry["xen"] & XEN_HERE == 0)
        for vcpu in row.polling:
            own = usable & (entry["notify_vcpu"] == vcpu)
            spins = own & mask & (entry["state"] == IPI)
            better = np.where(pending, 0, 1 + usable.astype(np.int64) + own + spins)
            v = tables.vcpus[int(tables.domains["first_vcpu"][row.dom]) + vcpu]
            v["polling"] = v["blocked"] = 1
            v["poll_port"] = 1 + int(np.argmax(better[1:]))
        tables.domains["pollers"][row.dom] = len(row.polling)


def _fill_statistics(state: State, ports: Columns) -> None:
    """Count what is there as if it had come at once, before the first record.

    Every pending bit is one notification, of no sender's.
    """
    tables = state.tables
    ts = tables.host["now"][0]
    pending = ports["pending"] == 1
    masked = pending & (ports["mask"] == 1)
    index = state.pool_index(ports["dom"], ports["port"])
    kind = np.select([ports["state"] == n for n in (PIRQ, VIRQ, IPI)], [1, 2, 3], 0)
    under_fifo = ports["word"] >= 0
    priority = np.full(len(kind), -1)
    if under_fifo.any():
        priority = np.where(under_fifo, tables.port_fifo["priority"][index], -1)
    tables.port_stats["since"][index[pending]] = ts
    tables.port_stats["set"][index] = pending
    tables.port_stats["type"][index[pending]] = (kind + 4 * (priority + 1))[pending]
    size = len(state.host)
    row = tables.host[0]
    row["bin_end"] = ts | ((np.uint64(1) << row["bin_shift"]) - np.uint64(1))
    stats, first = tables.domain_stats, tables.timeline[0]
    group = ports["dom"] >> int(tables.host["group_shift"][0])
    for name, chosen in (("set", pending), ("masked", masked)):
        tables.types[name] += np.bincount(kind[chosen], minlength=len(tables.types))
        first[name] += np.bincount(group[chosen], minlength=len(first))
    first["opened"] += np.bincount(group, minlength=len(first))
    stats["in_use"] = stats["in_use_peak"] = np.bincount(ports["dom"], minlength=size)
    waiting = np.bincount(ports["dom"][pending], minlength=size)
    tables.domain_pending["now"] = tables.domain_pending["peak"] = waiting
    stats["valid_peak"] = tables.domains["nr_ports"]
    if state.level == PORT_LEVEL:
        tables.port_rare["masked"][index] = masked
        tables.port_rare["set_before"][index] = pending
        tables.port_rare["masked_at"][index[pending]] = ts
