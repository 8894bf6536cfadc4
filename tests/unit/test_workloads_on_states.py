"""Workloads that begin with a state: load on the channels that it has."""

from __future__ import annotations

import numpy as np
import pytest

import evtsim
from evtsim import workloads
from evtsim.interop import dumps
from evtsim.watching import watch
from evtsim.workloads.existing import USED
from evtsim.workloads.stream import Stream


def booted(abi="2l", **options):
    trace = workloads.generate("boot", domains=4, vcpus=2, abi=abi, **options)
    sim = evtsim.Simulator(trace.host)
    sim.apply(trace)
    return sim


@pytest.fixture(scope="module", params=["2l", "fifo"])
def sim(request):
    """A simulator of a dump of booted domains."""
    (snapshot,) = dumps.read(dumps.write(booted(request.param).state))
    return evtsim.Simulator.from_dump(snapshot, ts=1_000_000)


def rows_of(stream: Stream, size: int) -> np.ndarray:
    chunks = [np.array(list(zip(*columns, strict=True))) for columns in stream.chunks(size)]
    return np.concatenate(chunks)


@pytest.mark.parametrize("name", USED)
def test_load_on_a_state_never_fails_and_reaches_the_guests(sim, name):
    before = sim.state.ports().drop(columns=["pending", "mask"])
    trace = workloads.generate(name, start=sim.state, records=20_000)
    assert len(trace) == 20_000
    assert trace.host == sim.host
    assert trace.ts[0] >= 1_000_000
    assert trace.meta["on"] == "channels of a state"
    assert trace.meta["start"] == {"digest": sim.state.digest(), "ts": 1_000_000}
    again = evtsim.Simulator(sim.host)
    again.state = sim.state.copy()
    out = again.apply(trace)
    assert not out.rc.any()
    sent = np.isin(trace.op, [4, 64])
    assert (out.effects[sent] != 0).all()  # no send is dropped, no VIRQ is unbound
    delivered = int(out.port[trace.op == 68].sum())
    assert delivered > (100 if name == "storm" else 0.04 * sent.sum())
    after = again.state.ports().drop(columns=["pending", "mask"])
    assert after.equals(before)


@pytest.mark.parametrize("name", USED)
def test_the_records_depend_on_the_seed_and_not_on_how_they_are_cut(sim, name):
    def made(size, seed=0):
        return rows_of(workloads.stream(name, start=sim.state, records=5_000, seed=seed), size)

    whole = made(5_000)
    assert (made(777) == whole).all()
    assert not (made(5_000, seed=1) == whole).all()
    assert (np.diff(whole[:, 0].astype(np.int64)) >= 0).all()


def test_vcpus_that_were_told_have_their_upcalls(sim):
    state = sim.state.copy()
    told = evtsim.Simulator(sim.host)
    told.state = state
    told.call("raise_virq", dom=1, virq=0, vcpu=1)
    trace = workloads.generate("ipi", start=state, records=2_000, rate=100)
    out = told.apply(trace)
    first = np.flatnonzero((trace.op == 68) & (trace.dom == 1) & (trace.vcpu == 1))[0]
    assert out.port[first] >= 1
    assert not told.state.ports()["pending"].loc[lambda bits: bits > 1].any()


def test_a_guest_model_takes_the_place_of_upcalls(sim):
    trace = workloads.generate("io", start=sim.state, records=2_000, deliver="model")
    assert not (trace.op == 68).any()
    limited = workloads.generate("timer", start=sim.state, duration_ns=10_000_000)
    assert limited.ts[0] >= 1_000_000
    assert limited.ts[-1] < 11_000_000


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("mixed", {}, "mixed begins with no state .expected channels, io"),
        ("io", {"domains": 3}, "no parameter 'domains'"),
        ("io", {"start_ns": 5}, "start_ns is 5 .expected at least 1000000"),
        ("io", {"host": evtsim.Host.uniform(2)}, "exclude each other"),
        ("channels", {"upcalls": 0.9, "masks": 0.2}, "sum up to"),
    ],
)
def test_what_does_not_fit_is_an_error(sim, name, options, words):
    with pytest.raises(evtsim.EvtsimError, match=words):
        workloads.generate(name, start=sim.state, **options)


def test_a_state_without_channels_is_an_error():
    for name in USED:
        with pytest.raises(evtsim.EvtsimError, match=f"no ports for {name}"):
            workloads.generate(name, start=evtsim.Simulator(evtsim.Host.uniform(2)).state)
    with pytest.raises(evtsim.EvtsimError, match="start is 3"):
        workloads.generate("io", start=3)


@pytest.mark.parametrize(
    "meta",
    [{"start": "2026"}, {"start": {"ts": 1}}, {"of": "abc"}, {"of": ["x"]}, {"of": {"a": 1}}],
)
def test_what_users_note_of_a_trace_is_no_state(meta):
    trace = evtsim.Trace.from_records(np.zeros(1, evtsim.RECORD_DTYPE), meta=meta)
    assert len(evtsim.Simulator(evtsim.Host.uniform(1)).apply(trace)) == 1


def test_a_trace_for_a_state_is_refused_where_its_channels_are_not(sim, tmp_path):
    trace = workloads.generate("io", start=sim.state, records=500)
    trace.save(tmp_path / "t.arrow")
    loaded = evtsim.Trace.load(tmp_path / "t.arrow")
    twice = evtsim.Trace.concat([loaded, workloads.generate("io", host=sim.host, records=0)])
    joined = evtsim.Trace.concat([twice, workloads.generate("io", host=sim.host, records=0)])
    for refused in (
        lambda: evtsim.replay(loaded),
        lambda: evtsim.replay(joined),
        lambda: evtsim.replay_file(tmp_path / "t.arrow", checkpoint=tmp_path / "c"),
        lambda: evtsim.History(loaded).at(5),
        lambda: list(watch(evtsim.Simulator(sim.host), loaded, 0, 1)),
    ):
        with pytest.raises(evtsim.HostError, match="was made for the channels of a state"):
            refused()
    assert not (tmp_path / "c").exists()
    going_on = evtsim.Simulator._of(sim.state.copy())
    assert not going_on.apply(loaded).rc.any()
