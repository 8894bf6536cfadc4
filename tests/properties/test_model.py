"""What holds of the reference model by itself, whatever it is compared with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conformance.test_recordings import RECORDINGS
from tests.observed import ObservedHost
from tests.reference import PROFILES, DomainConfig, Record, ReferenceHost, check_invariants
from tests.reference_guest import GuestConfig, GuestHost
from tests.strategies import runs


def configs_of(recording):
    names = recording["domains"].dtype.names
    rows = recording["domains"].tolist()
    return [DomainConfig(**dict(zip(names, row, strict=True))) for row in rows]


def assert_books_balance(host):
    outstanding = host.outstanding()
    for key, counts in host.port.items():
        answers = ("set", "coalesced", "saved", "no_control_block")
        assert counts["raised"] == sum(counts[answer] for answer in answers), key
        assert counts["set"] == counts["delivered"] + counts["cleared"] + outstanding[key], key
        assert counts["masked"] <= counts["set"], key
        assert counts["masked_ns"] <= counts["pending_ns"], key
        assert counts["latency_sum"] <= counts["pending_ns"], key
        # The usable end of a channel leads to a usable end or to Xen.
        assert counts["ignored"] == 0, key
    total = sum((host.port[key] for key in list(host.port)), start=type(outstanding)())
    assert total["sends"] == host.raised_by_sends + total["dropped"] + total["to_xen"]
    assert sum(counts["pending"] for counts in host.domain.values()) == outstanding.total()


@pytest.mark.parametrize("profile", PROFILES)
@given(data=st.data())
def test_what_holds_in_every_state(profile, data):
    configs, records, outcomes, _ = data.draw(runs(size=30, profile=profile))
    host = ReferenceHost(configs, profile)
    check_invariants(host)
    for record, outcome in zip(records, outcomes, strict=True):
        assert host.apply(record) == outcome
        check_invariants(host)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_what_holds_in_every_state_of_a_recording(path):
    recording = np.load(path)
    host = ReferenceHost(configs_of(recording), profile=path.parent.name)
    trace = recording["trace"].tolist()
    for number, row in enumerate(trace):
        host.apply(Record(*row))
        if number % 50 == 0 or len(trace) < 200:
            check_invariants(host)
    check_invariants(host)


@pytest.mark.parametrize("profile", PROFILES)
@given(data=st.data())
def test_the_books_balance(profile, data):
    configs, records, outcomes, _ = data.draw(runs(size=40, profile=profile))
    host = ObservedHost(configs, profile)
    # Observing changes nothing.
    assert [host.apply(record) for record in records] == outcomes
    assert_books_balance(host)


@pytest.mark.parametrize(
    "path", RECORDINGS[::5], ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_the_books_of_a_recording_balance(path):
    recording = np.load(path)
    host = ObservedHost(configs_of(recording), path.parent.name)
    for row in recording["trace"][:500].tolist():
        host.apply(Record(*row))
    assert_books_balance(host)


durations = st.integers(0, 4)


@pytest.mark.parametrize("profile", PROFILES)
@given(
    data=st.data(),
    wake=durations,
    handler=durations,
    eoi_ns=durations,
    scan=st.sampled_from(["linux", "lowest"]),
    eoi=st.sampled_from(["edge", "late"]),
)
def test_a_guests_books_balance(profile, data, wake, handler, eoi_ns, scan, eoi):
    configs, records, _, _ = data.draw(runs(size=40, profile=profile))
    guest = GuestConfig(lambda dom, vcpu, n: wake, lambda dom, vcpu, n: handler, scan, eoi, eoi_ns)
    host = GuestHost(configs, lambda dom: guest, profile)
    for record in records:
        host.apply(record)
        check_invariants(host)
    assert_books_balance(host)
    host.drain()
    check_invariants(host)
    assert_books_balance(host)
    assert sum(c["delivered"] for c in host.port.values()) == len(host.deliveries)
    assert sum(c["delivered"] for c in host.vcpu.values()) == len(host.deliveries)
    # The observer keeps its own times of setting.
    assert host.latencies == [d.latency for d in host.deliveries]
    assert {k: c["upcalls"] for k, c in host.vcpu.items() if c["upcalls"]} == host.runs
    for domain in host.domains:
        assert not domain.eois
        # A vcpu with something to do is idle only behind its upcall mask, and has looked at all.
        assert not any(v.upcall_pending and not v.upcall_mask for v in domain.vcpus)
        if domain.fifo:
            assert not any(block.local_ready for block in domain.fifo.blocks.values())
