"""Hypothesis strategies: hosts, and records that mostly hit something alive."""

from __future__ import annotations

from hypothesis import strategies as st

from tests.reference import DOMID_SELF, DomainConfig, Op, Outcome, Record, ReferenceHost

configs = st.lists(
    st.builds(
        DomainConfig,
        vcpus=st.sampled_from([1, 2, 3, 40]),
        privileged=st.booleans(),
        word_bits=st.sampled_from([32, 64]),
        nr_pirqs=st.sampled_from([0, 2, 5]),
        pirq_permitted=st.booleans(),
        alive=st.sampled_from([True, True, True, False]),
    ),
    min_size=1,
    max_size=4,
)

ODD_PORTS = (0, 1, 31, 32, 63, 64, 127, 128, 1023, 1024, 4095, 4096, 2**31, 2**32 - 1)
ODD_NUMBERS = (0, 1, 2, 7, 23, 24, 65535, 65536, 0x17FF0, 2**32 - 1)
MAKERS = (Op.ALLOC_UNBOUND, Op.BIND_INTERDOMAIN, Op.BIND_VIRQ, Op.BIND_IPI, Op.BIND_PIRQ)
USERS = (Op.SEND, Op.SEND, Op.MASK, Op.UNMASK, Op.UPCALL, Op.POLL, Op.RAISE_VIRQ, Op.RAISE_PIRQ)
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


def _port(draw: st.DrawFn, reference: ReferenceHost, dom: int) -> int:
    live = [row["port"] for row in reference.ports() if row["dom"] == dom and row["state"] > 1]
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
        return draw(st.sampled_from([0, 1, 2, 3, 7, 13, 23, 24])), draw(vcpu)
    if op in (Op.ALLOC_UNBOUND, Op.RESET):
        return draw(anybody), draw(anybody)
    if op == Op.BIND_IPI:
        return draw(vcpu), 0
    return draw(st.sampled_from(ODD_NUMBERS)), draw(st.sampled_from(ODD_NUMBERS))


@st.composite
def runs(
    draw: st.DrawFn, size: int = 25
) -> tuple[list[DomainConfig], list[Record], list[Outcome], ReferenceHost]:
    """Draw a host, records for it, and what the reference model makes of them."""
    hosts = draw(configs)
    reference = ReferenceHost(hosts)
    records: list[Record] = []
    outcomes: list[Outcome] = []
    ts = 0
    for _ in range(draw(st.integers(1, size))):
        op = int(
            draw(
                st.one_of(
                    st.sampled_from(MAKERS), st.sampled_from(USERS), st.sampled_from(list(Op))
                )
            )
        )
        dom = draw(st.integers(0, len(hosts) - 1))
        arg0, arg1 = _arguments(draw, reference, op, dom, hosts)
        vcpu = draw(st.integers(0, hosts[dom].vcpus - 1))
        flags = draw(st.sampled_from([0, 0, 0, 0, 0, 0, 1, 2, 3]))
        if draw(st.integers(0, 19)) == 0:  # nonsense
            dom = draw(st.sampled_from([dom, len(hosts), 0x7FF0, 65535]))
            vcpu = draw(st.sampled_from([vcpu, 40, 65535]))
            op = draw(st.sampled_from([op, 10, 11, 15, 63, 76, 122, 65535]))
        ts += draw(st.integers(0, 5))
        record = Record(ts, dom, vcpu, op, flags, arg0, arg1)
        records.append(record)
        outcomes.append(reference.apply(record))
    return hosts, records, outcomes, reference
