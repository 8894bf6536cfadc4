"""Records that are resolved in blocks, or shared by threads, give what single ones give."""

import copy

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evtsim
from evtsim import tables
from evtsim.crew import Crew
from evtsim.interop import dumps
from tests.compare import host_of, outcome_rows, trace_of
from tests.conformance.test_recordings import RECORDINGS
from tests.properties.test_guest import guests
from tests.strategies import runs


def one_by_one(sim):
    sim._routes = np.zeros(1, np.int64)
    return sim


def shared(sim, threads, block, least):
    """Let threads share even the shortest blocks."""
    sim._crew = Crew(threads, len(sim.host), block, least)
    return sim


def assert_identical(one, other):
    for name, table in one.state.snapshot().items():
        assert np.array_equal(table, other.state.snapshot()[name]), name


@pytest.mark.parametrize(("profile", "handled"), [("xen-4.0", False), ("xen-4.23", True)])
@given(data=st.data(), threads=st.integers(2, 4), block=st.integers(2, 20))
def test_threads_change_nothing(profile, handled, data, threads, block):
    # Of the kinds of kernels, which take long to compile, the least and the most.
    configs, records, _, reference = data.draw(runs(size=80, profile=profile))
    options = {"guest": data.draw(guests), "stats": "port"} if handled else {}
    host = host_of(configs, reference.profile.name)
    trace = trace_of(records, host)
    plain = one_by_one(evtsim.Simulator(host, **options))
    sims = [shared(evtsim.Simulator(host, **options), threads, block, 2)]
    sims += [evtsim.Simulator(host, **options)]
    rows = outcome_rows(plain.apply(trace))
    for sim in sims:
        assert outcome_rows(sim.apply(trace)) == rows
        assert_identical(plain, sim)


@pytest.mark.parametrize("profile", evtsim.abi.PROFILES)
@given(data=st.data())
def test_what_follows_from_ports_is_kept_as_it_does(profile, data):
    configs, records, _, _ = data.draw(runs(size=80, profile=profile))
    sim = evtsim.Simulator(host_of(configs, profile))
    trace = trace_of(records, sim.host)
    for start in range(0, len(records), 10):
        sim.apply(trace[start : start + 10])
        for name, table in tables.derived(sim.state.arrays()).items():
            assert np.array_equal(getattr(sim.state.tables, name), table), name


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recordings(path):
    recording = np.load(path)
    host = evtsim.Host(profile=path.parent.name, domains=recording["domains"])
    trace = evtsim.Trace.from_records(recording["trace"], host)
    stats = "port" if host.profile == "xen-4.23" else None
    plain = one_by_one(evtsim.Simulator(host, stats=stats))
    rows = plain.apply(trace).frame()
    for threads in (2, 3):
        sim = shared(evtsim.Simulator(host, stats=stats), threads, 64, 4)
        assert rows.equals(sim.apply(trace).frame())
        assert_identical(plain, sim)


def test_a_large_host_is_shared():
    trace = evtsim.workloads.generate("channels", records=300_000, domains=300, vcpus=2, ports=12)
    host = evtsim.Host("xen-4.23", trace.host.domains)
    guest = evtsim.Guest(wake_ns=evtsim.Exponential(2000))
    plain = evtsim.Simulator(host, guest, "port")
    sim = evtsim.Simulator(host, guest, "port", threads=2)
    ends = []
    replay = sim._crew.replay
    sim._crew.replay = lambda *arguments: ends.append(replay(*arguments)) or ends[-1]
    assert plain.apply(trace).frame().equals(sim.apply(trace).frame())
    assert_identical(plain, sim)
    assert max(np.diff([0, *ends])) > 100_000  # most of it at once


def test_what_threads_counted_is_there_after_an_error():
    good = evtsim.workloads.generate("channels", records=100_000, domains=2)
    sim = evtsim.Simulator(evtsim.Host("xen-4.23", good.host.domains), stats="domain", threads=2)
    sim.apply(good)
    with pytest.raises(evtsim.TraceError):
        sim.apply(good[:10])  # before the last record
    assert sim.run().operations["records"].sum() == len(good)


def test_a_simulator_with_threads_is_copied_and_goes_on_in_another_process(monkeypatch):
    trace = evtsim.workloads.generate("channels", records=100_000, domains=20)
    sim = evtsim.Simulator(trace.host, threads=2)
    sim.apply(trace[:50_000])
    other = copy.deepcopy(sim)
    assert_identical(sim, other)
    threads = sim._crew._executor
    monkeypatch.setattr("os.getpid", lambda: -1)  # threads do not survive a fork
    for each in (sim, other):
        each.apply(trace[50_000:])
    assert_identical(sim, other)
    assert sim._crew._executor is not threads


def test_the_most_threads_are_said():
    with pytest.raises(evtsim.EvtsimError, match=r"threads is 1000 \(expected 1 to 256\)"):
        evtsim.Simulator(evtsim.Host.uniform(2), threads=1000)


def test_the_timeline_of_a_dump_begins_with_it_whoever_replays():
    host = evtsim.Host.uniform(2, profile="xen-4.23")
    sim = evtsim.Simulator(host)
    sim.call("alloc_unbound", dom=1, remote_dom=0)
    sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=1)
    snapshot = dumps.read(dumps.write(sim.state))[0]
    build = evtsim.TraceBuilder(host)
    for n in range(20):
        build.send(dom=n % 2, port=1, ts=10_000_000 + n)
    begun = []
    for threads in (1, 2):
        guest = evtsim.Guest(wake_ns=1000)
        sim = evtsim.Simulator.from_dump(snapshot, host, guest, "port", ts=1_000_000)
        if threads > 1:
            shared(sim, threads, 8, 2)
        sim.apply(build.trace())
        begun.append(sim)
    assert_identical(*begun)
    starts = begun[0].run().timeline["start_ns"]
    assert starts.min() <= 1_000_000 < 10_000_000 < starts.max() + 20_000
    assert begun[0].run().totals()["duration_ns"] == 9_000_019
