"""The guest's kernels and the reference guest agree, and do not care how a trace is cut."""

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evtsim
from evtsim import draws
from evtsim.kernels.due import HANDLER, WAKE
from tests.compare import assert_same_state, host_of, outcome_rows, trace_of
from tests.conformance.test_recordings import RECORDINGS
from tests.properties.test_statistics import assert_books_balance, assert_same_counts
from tests.reference import DomainConfig, Op, Record
from tests.reference_guest import GuestConfig, GuestHost
from tests.strategies import runs

durations = st.one_of(
    st.sampled_from([0, 1, 2, 3, 7]).map(evtsim.Constant),
    st.sampled_from([1, 4]).map(evtsim.Exponential),
    st.just(evtsim.Lognormal(3, 0.8)),
)
plain_guests = st.builds(
    evtsim.Guest,
    wake_ns=durations,
    handler_ns=durations,
    scan=st.sampled_from(["linux", "lowest"]),
    eoi=st.sampled_from(["edge", "late"]),
    eoi_ns=st.sampled_from([0, 1, 5]),
    seed=st.sampled_from([0, 2**64 - 1]),
)
guests = st.builds(
    lambda guest, other, dom: evtsim.Guest(
        wake_ns=guest.wake_ns,
        handler_ns=guest.handler_ns,
        scan=guest.scan,
        eoi=guest.eoi,
        eoi_ns=guest.eoi_ns,
        seed=guest.seed,
        overrides={} if dom is None else {dom: other},
    ),
    plain_guests,
    plain_guests,
    st.sampled_from([None, 0]),
)


@numba.njit
def _drawn(exponential, a, b, seed, stream, who, number):
    word = draws.word(draws.key(seed, stream, who), number)
    return draws.exponential(word, a) if exponential else draws.lognormal(word, a, b)


def _drawing(duration, stream, seed):
    """Return what the reference guest calls to learn how long something takes."""
    if isinstance(duration, evtsim.Constant):
        return lambda dom, vcpu, number: duration.ns
    if isinstance(duration, evtsim.Exponential):
        a, b = draws.exponential_scale(duration.mean_ns), 0
    else:
        a, b = round(duration.median_ns), draws.lognormal_spread(duration.sigma)
    exponential = isinstance(duration, evtsim.Exponential)
    return lambda dom, vcpu, number: int(
        _drawn(exponential, a, b, np.uint64(seed), stream, (dom << 16) + vcpu, number)
    )


def reference_of(configs, guest, profile="xen-4.0"):
    def config(dom):
        own = guest.overrides.get(dom, guest)
        return GuestConfig(
            wake=_drawing(own.wake_ns, WAKE, own.seed),
            handler=_drawing(own.handler_ns, HANDLER, own.seed),
            scan=own.scan,
            eoi=own.eoi,
            eoi_ns=own.eoi_ns,
        )

    return GuestHost(configs, config, profile)


def delivery_rows(run):
    frame = run.deliveries
    frame["type"] = frame["type"].astype(str)
    return list(frame.itertuples(index=False, name=None))


def assert_same(sim, reference):
    assert_same_state(sim, reference)
    run = sim.run()
    wanted = sorted(reference.deliveries, key=lambda d: (d.ts, d.dom, d.vcpu))
    assert delivery_rows(run) == [tuple(delivery) for delivery in wanted]
    assert_same_counts(run, reference)
    assert run.state.tables.host["now"][0] == sim.last_ts


@given(runs(size=60, profile=evtsim.abi.PROFILES), guests, st.integers(0, 30))
def test_kernels_and_reference_agree(run, guest, rest):
    configs, records, _, drawn = run
    profile = drawn.profile.name
    reference = reference_of(configs, guest, profile)
    outcomes = [tuple(reference.apply(record)) for record in records]
    sim = evtsim.Simulator(host_of(configs, profile), guest, "port", deliveries=1000)
    assert outcome_rows(sim.apply(trace_of(records, sim.host))) == outcomes
    assert_same(sim, reference)
    sim.advance(sim.last_ts + rest)
    reference.advance(reference.now + rest)
    assert_same(sim, reference)
    sim.drain()
    reference.drain()
    assert_same(sim, reference)


@given(runs(size=60, profile=evtsim.abi.PROFILES), guests, st.integers(1, 7))
def test_a_trace_may_be_cut_anywhere(run, guest, size):
    configs, records, _, reference = run
    host = host_of(configs, reference.profile.name)
    trace = trace_of(records, host)
    whole = evtsim.Simulator(host, guest, "port", deliveries=1000)
    pieces = evtsim.Simulator(host, guest, "port", deliveries=1000)
    rows = outcome_rows(whole.apply(trace))
    cut = []
    for start in range(0, len(records), size):
        cut += outcome_rows(pieces.apply(trace[start : start + size]))
    assert cut == rows
    assert_identical(whole, pieces)


def assert_identical(one, other):
    """Compare all but the order in which the log was written."""
    assert np.array_equal(one.state.deliveries(), other.state.deliveries())
    for name, table in one.state.snapshot().items():
        if name in ("result", "deliveries"):
            continue
        also = other.state.snapshot()[name]
        if name == "host":
            table["logged"] = also["logged"] = table["log_until"] = also["log_until"] = 0
        assert np.array_equal(table, also), name


@given(runs(size=60, profile=evtsim.abi.PROFILES), guests)
def test_statistics_change_nothing(run, guest):
    configs, records, _, reference = run
    trace = trace_of(records, host_of(configs, reference.profile.name))
    plain = evtsim.Simulator(trace.host, guest)
    rows = outcome_rows(plain.apply(trace))
    plain.drain()
    for level in ("domain", "port"):
        counted = evtsim.Simulator(trace.host, guest, level)
        assert outcome_rows(counted.apply(trace)) == rows
        counted.drain()
        for name in ("domains", "vcpus", "ports", "shared", "guest_vcpus", "guest_domains", "eois"):
            before, after = getattr(plain.state.tables, name), getattr(counted.state.tables, name)
            assert np.array_equal(before, after), (level, name)


@pytest.mark.parametrize("eoi", ["edge", "late"])
@pytest.mark.parametrize("path", RECORDINGS[::9], ids=lambda path: path.stem)
def test_recordings(path, eoi):
    """Traces of all kinds, with a guest: the books balance, and the reference agrees."""
    recording = np.load(path)
    names = recording["domains"].dtype.names
    configs = [
        DomainConfig(**dict(zip(names, row, strict=True))) for row in recording["domains"].tolist()
    ]
    guest = evtsim.Guest(wake_ns=4, handler_ns=2, eoi=eoi, eoi_ns=3)
    records = [Record(*row) for row in recording["trace"][:500].tolist()]
    profile = path.parent.name
    reference = reference_of(configs, guest, profile)
    for record in records:
        reference.apply(record)
    sim = evtsim.Simulator(host_of(configs, profile), guest, "port", deliveries=10_000)
    sim.apply(trace_of(records, sim.host))
    assert_same(sim, reference)


def test_books_balance_on_all_recordings_with_a_guest():
    for path in RECORDINGS:
        recording = np.load(path)
        host = evtsim.Host(profile=path.parent.name, domains=recording["domains"])
        trace = evtsim.Trace.from_records(recording["trace"], host)
        guest = evtsim.Guest(wake_ns=30, handler_ns=5, eoi="late", eoi_ns=9)
        assert_books_balance(evtsim.replay(trace, guest=guest, drain=True), guest=True)


def test_a_million_records_balance_and_may_be_cut_anywhere():
    trace = evtsim.workloads.generate("channels", records=1_000_000, domains=300, vcpus=2, ports=12)
    guest = evtsim.Guest(wake_ns=evtsim.Exponential(20_000), eoi="late", eoi_ns=5_000)
    whole = evtsim.Simulator(trace.host, guest, "port", deliveries=50_000)
    whole.apply(trace)
    assert_books_balance(whole.run(), guest=True)
    pieces = evtsim.Simulator(trace.host, guest, "port", deliveries=50_000)
    cuts = np.sort(np.random.default_rng(5).integers(0, len(trace), 200)).tolist()
    for start, stop in zip([0, *cuts], [*cuts, len(trace)], strict=True):
        pieces.apply(trace[start:stop])
    assert len(whole.state.deliveries()) == 50_000
    assert_identical(whole, pieces)


def test_calls_of_a_poll_see_what_the_guest_did():
    """A record at the very time at which something is due comes first."""
    sim = evtsim.Simulator(evtsim.Host.uniform(1), evtsim.Guest(wake_ns=10, handler_ns=0))
    sim.apply(trace_of([Record(0, 0, 0, Op.BIND_IPI, 0, 0, 0)], sim.host))
    sim.call("send", dom=0, port=1, ts=100)
    assert sim.call("send", dom=0, port=1, ts=110).effects == evtsim.abi.Effect.COALESCED
    assert evtsim.abi.Effect.SET in sim.call("send", dom=0, port=1, ts=111).effects
