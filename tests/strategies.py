"""Hypothesis strategies: hosts, and records that mostly hit something alive."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from hypothesis import strategies as st

from tests.reference import (
    DOMID_SELF,
    PROFILES,
    Domain,
    DomainConfig,
    Op,
    Outcome,
    Record,
    ReferenceHost,
)
from tests.stories import SHORT_STORIES, Story, many_ports, tell


def _hosts(max_ports: list[int]) -> st.SearchStrategy[list[DomainConfig]]:
    return st.lists(
        st.builds(
            DomainConfig,
            vcpus=st.sampled_from([1, 2, 3, 40]),
            privileged=st.booleans(),
            word_bits=st.sampled_from([32, 64]),
            nr_pirqs=st.sampled_from([0, 2, 5]),
            pirq_permitted=st.booleans(),
            alive=st.sampled_from([True, True, True, False]),
            max_port=st.sampled_from(max_ports),
        ),
        min_size=1,
        max_size=4,
    )


configs = _hosts([131071])
configs_with_limits = _hosts([131071, 131071, 131071, 131071, 1500, 66, 3])

ODD_PORTS = (0, 1, 31, 32, 63, 64, 127, 128, 1023, 1024, 4095, 4096, 2**31, 2**32 - 1)
ODD_NUMBERS = (0, 1, 2, 7, 23, 24, 65535, 65536, 0x17FF0, 2**32 - 1)
OFFSETS = (0, 0, 8, 4024, 4, 4025, 4032, 2**32 - 8)
PRIORITIES = (0, 1, 7, 7, 14, 15, 16, 2**32 - 1)
MAKERS = (Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_IPI, Op.BIND_PIRQ)
USERS = (Op.SEND, Op.SEND, Op.MASK, Op.UNMASK, Op.UPCALL, Op.POLL, Op.RAISE_VIRQ, Op.RAISE_PIRQ)
# What is interesting once a domain is under the FIFO ABI, and the ways there and back.
FIFO = (
    Op.INIT_CONTROL,
    Op.EXPAND_ARRAY,
    Op.SET_PRIORITY,
    Op.SET_PRIORITY,
    Op.SEND,
    Op.SEND,
    Op.SEND,
    Op.UPCALL,
    Op.UPCALL,
    Op.MASK,
    Op.UNMASK,
    Op.CLOSE,
    Op.BIND_IPI,
    Op.BIND_VCPU,
    Op.ALLOC_XEN,
    Op.FREE_XEN,
    Op.RESET,
)
PORT_FIRST = (
    Op.CLOSE,
    Op.SEND,
    Op.UNMASK,
    Op.BIND_VCPU,
    Op.MASK,
    Op.CLEAR_PENDING,
    Op.POLL,
    Op.FREE_XEN,
    Op.NOTIFY_XEN,
)


def _interesting(domain: Domain) -> Iterator[int]:
    """List the ports that are in use, or about which something has been left behind."""
    for port, channel in enumerate(domain.channels):
        left_behind = domain.abi.is_pending(port) or domain.abi.is_busy(port)
        if channel.state > 1 or (domain.profile.has_fifo and left_behind):
            yield port


def _port(draw: st.DrawFn, reference: ReferenceHost, dom: int) -> int:
    exists = dom < len(reference.domains) and reference.domains[dom].alive
    live = list(_interesting(reference.domains[dom])) if exists else []
    return (
        draw(st.sampled_from(live))
        if live and draw(st.booleans())
        else draw(st.sampled_from(ODD_PORTS))
    )


def _arguments(
    draw: st.DrawFn, reference: ReferenceHost, op: int, dom: int, configs: list[DomainConfig]
) -> tuple[int, int]:
    """Draw arguments that make sense for the operation, most of the time."""
    anybody = st.sampled_from([*range(len(configs) + 1), DOMID_SELF, 0x10000 | DOMID_SELF])
    vcpu = st.integers(0, configs[min(dom, len(configs) - 1)].vcpus)
    if op in PORT_FIRST:
        return _port(draw, reference, dom), draw(vcpu)
    if op == Op.BIND_INTERDOMAIN:
        waiting = [r for r in reference.ports() if r["state"] == 2 and r["remote_dom"] == dom]
        if waiting:
            row = draw(st.sampled_from(waiting))
            return row["dom"], row["port"]
        remote = draw(anybody)
        return remote, _port(draw, reference, remote)
    if op in (Op.STATUS,):
        named = draw(anybody)
        return named, _port(draw, reference, dom if named == DOMID_SELF else named)
    if op in (Op.BIND_VIRQ, Op.RAISE_VIRQ):
        virqs = [0, 1, 2, 3, 7, 13, 23, 24]
        return draw(st.sampled_from(virqs + [11] * reference.profile.has_fifo)), draw(vcpu)
    if op in (Op.ALLOC_UNBOUND, Op.RESET, Op.RESET_CONT):
        return draw(anybody), draw(anybody)
    if op == Op.BIND_IPI:
        return draw(vcpu), 0
    if op == Op.INIT_CONTROL:
        return draw(st.one_of(st.integers(0, 1), vcpu)), draw(st.sampled_from(OFFSETS))
    if op == Op.SET_PRIORITY:
        return _port(draw, reference, dom), draw(st.sampled_from(PRIORITIES))
    return draw(st.sampled_from(ODD_NUMBERS)), draw(st.sampled_from(ODD_NUMBERS))


def _caller(draw: st.DrawFn, reference: ReferenceHost, op: int, dom: int) -> int:
    """Draw a vcpu; for an upcall under a profile with FIFO often one that has something to do."""
    domain = reference.domains[dom]
    if op == Op.UPCALL and domain.profile.has_fifo:
        pending = [vcpu for vcpu, v in enumerate(domain.vcpus) if v.upcall_pending]
        if pending and draw(st.booleans()):
            return draw(st.sampled_from(pending))
    return draw(st.integers(0, len(domain.vcpus) - 1))


def _record(
    draw: st.DrawFn, reference: ReferenceHost, hosts: list[DomainConfig], ts: int
) -> Record:
    """Draw a single record."""
    some_op = [MAKERS, USERS, sorted(reference.profile.operations)]
    if reference.profile.has_fifo:
        some_op += [FIFO, FIFO]
    op = int(draw(st.one_of([st.sampled_from(ops) for ops in some_op])))
    dom = draw(st.integers(0, len(hosts) - 1))
    arg0, arg1 = _arguments(draw, reference, op, dom, hosts)
    vcpu = _caller(draw, reference, op, dom)
    flags = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 3]))
    if draw(st.integers(0, 19)) == 0:  # nonsense
        dom = draw(st.sampled_from([dom, len(hosts), 0x7FF0, 65535]))
        vcpu = draw(st.sampled_from([vcpu, 40, 65535]))
        op = draw(st.sampled_from([op, 10, 11, 15, 63, 76, 122, 65535]))
    return Record(ts, dom, vcpu, op, flags, arg0, arg1)


def _story(draw: st.DrawFn, size: int) -> Story:
    """Draw a story. Long ones are for runs that are not looked at record by record."""
    choice = draw(st.integers(0, 59))
    if size >= 60 and draw(st.integers(0, 39)) == 0:
        return many_ports(choice)
    return draw(st.sampled_from(SHORT_STORIES))(choice)


@st.composite
def runs(
    draw: st.DrawFn, size: int = 25, profile: str | Iterable[str] = "xen-4.0"
) -> tuple[list[DomainConfig], list[Record], list[Outcome], ReferenceHost]:
    """Draw a host, records for it, and what the reference model makes of them.

    ``profile`` is one or several to draw from; the reference model knows which one it was.
    ``size`` is the most records, and for a profile with the FIFO ABI it takes one story for one.
    """
    names = [profile] if isinstance(profile, str) else sorted(profile)
    name = names[0] if len(names) == 1 else draw(st.sampled_from(names))
    has_fifo = PROFILES[name].has_fifo
    hosts = draw(configs_with_limits if has_fifo else configs)
    reference = ReferenceHost(hosts, name)
    records: list[Record] = []
    outcomes: list[Outcome] = []

    def now(most: int) -> int:
        """Draw a time for the next record. In long stories time just goes on."""
        last = records[-1].ts if records else 0
        return last + (draw(st.integers(0, most)) if len(records) < 3 * size else 1)

    def do(record: Record) -> Outcome:
        records.append(record)
        outcomes.append(reference.apply(record))
        return outcomes[-1]

    for _ in range(draw(st.integers(1, size))):
        if has_fifo and draw(st.integers(0, 9)) == 0:
            dom = draw(st.integers(0, len(hosts) - 1))
            tell(
                _story(draw, size),
                lambda op, arg0, arg1, dom=dom: do(Record(now(2), dom, 0, int(op), 0, arg0, arg1)),
            )
        else:
            do(_record(draw, reference, hosts, now(5)))
    return hosts, records, outcomes, reference
