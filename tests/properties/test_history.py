"""Going back finds what was there, a port's life is exact, and the rules agree with the kernels."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evtsim
from evtsim.abi import Effect, Op, errno_name
from evtsim.watching import watch
from tests.compare import host_of, trace_of
from tests.properties.test_guest import guests
from tests.strategies import runs

LOOKS = ("to_state", "pending", "mask")
INVALID = -1
some_guests = st.one_of(st.none(), guests)


def look(state, dom, port):
    """Return (state, pending, mask) of a port that need not be valid."""
    frame = state.ports()
    row = frame[(frame["dom"] == dom) & (frame["port"] == port)]
    if len(row):
        return tuple(row[["state", "pending", "mask"]].astype(int).to_numpy()[0].tolist())
    if not state.tables.domains["alive"][dom]:
        return INVALID, 0, 0
    pending, mask = state.bits(np.array([dom]), np.array([port]))
    return INVALID, int(pending[0]), int(mask[0])


def life_record_by_record(host, guest, records, dom, port):
    """Apply one record after the other, and guests' work ns by ns; the changes as rows."""
    sim = evtsim.Simulator(host, guest)
    before = look(sim.state, dom, port)
    rows = []

    def note(record, ts):
        nonlocal before
        now = look(sim.state, dom, port)
        if now != before:
            rows.append((record, ts, before[0], *now))
        before = now

    for number, record in enumerate(records):
        if guest is not None:
            for ts in range(sim.last_ts, record.ts):
                sim.advance(ts + 1)  # what is due at ts has happened then
                note(-1, ts)
        sim.apply(trace_of([record], host))
        note(number, record.ts)
    return rows


def ports_touched(host, guest, records):
    """Return the ports that looked different at some record, the busiest first."""
    sim = evtsim.Simulator(host, guest)
    columns = ["dom", "port", "state", "pending", "mask"]
    before = set(map(tuple, sim.state.ports()[columns].to_numpy().tolist()))
    changes = {}
    for record in records:
        sim.apply(trace_of([record], host))
        now = set(map(tuple, sim.state.ports()[columns].to_numpy().tolist()))
        for dom, port, *_ in now ^ before:
            changes[dom, port] = changes.get((dom, port), 0) + 1
        before = now
    return sorted(changes, key=changes.get, reverse=True)[:12]


@pytest.mark.parametrize("profile", evtsim.abi.PROFILES)
@given(data=st.data(), guest=some_guests)
def test_a_ports_life_is_what_single_records_show(profile, data, guest):
    configs, records, _, _ = data.draw(runs(size=20, profile=profile))
    host = host_of(configs, profile)
    touched = ports_touched(host, guest, records) or [(0, 1)]
    dom, port = data.draw(st.sampled_from(touched))
    trace = trace_of(records, host)
    life = evtsim.History(trace, guest=guest).port(dom, port)
    rows = life[["record", "ts", "from_state", *LOOKS]].itertuples(index=False, name=None)
    assert list(rows) == life_record_by_record(host, guest, records, dom, port)
    outcomes = evtsim.replay(trace, guest=guest, stats=None).outcomes
    for row in life[life["record"] >= 0].itertuples():
        record = records[row.record]
        assert (row.op, row.dom, row.vcpu) == (record.op, record.dom, record.vcpu)
        assert (row.rc, row.effects) == (outcomes.rc[row.record], outcomes.effects[row.record])


@given(run=runs(size=40, profile=evtsim.abi.PROFILES), guest=some_guests, data=st.data())
def test_watching_changes_nothing(run, guest, data):
    configs, records, _, drawn = run
    trace = trace_of(records, host_of(configs, drawn.profile.name))
    plain = evtsim.Simulator(trace.host, guest)
    watching = evtsim.Simulator(trace.host, guest)
    wanted = plain.apply(trace)
    dom = data.draw(st.integers(0, len(configs) - 1))
    (_, _, got, _), *_ = watch(watching, trace, dom, data.draw(st.integers(0, 70)))
    for (name, one), (_, other) in zip(got.fields(), wanted.fields(), strict=True):
        assert np.array_equal(one, other), name
    assert_same_tables(watching.state, plain.state)


def assert_same_tables(one, other):
    for name, table in one.snapshot().items():
        if name != "result":  # of the last operation that was not on the quick path
            assert np.array_equal(table, other.snapshot()[name]), name


@given(
    run=runs(size=40, profile=evtsim.abi.PROFILES),
    guest=some_guests,
    every=st.integers(1, 30),
    data=st.data(),
)
def test_going_back_finds_what_was_there(run, guest, every, data):
    configs, records, _, drawn = run
    trace = trace_of(records, host_of(configs, drawn.profile.name))
    history = evtsim.History(trace, guest=guest, every=every)
    for _ in range(4):
        i = data.draw(st.integers(0, len(records)))
        sim = evtsim.Simulator(trace.host, guest)
        sim.apply(trace[:i])
        if guest is not None and i < len(records):
            sim.advance(records[i].ts)
        assert_same_tables(history.at(i), sim.state)


NAMES = {effect.name for effect in Effect}


@pytest.mark.parametrize("profile", evtsim.abi.PROFILES)
@given(data=st.data(), guest=st.one_of(st.none(), st.none(), guests))
def test_explanations_agree_with_the_kernels(profile, data, guest):
    configs, records, outcomes, _ = data.draw(runs(size=20, profile=profile))
    trace = trace_of(records, host_of(configs, profile))
    history = evtsim.History(trace, guest=guest, every=16)
    replayed = evtsim.replay(trace, guest=guest, stats=None).outcomes
    for i in range(len(records))[:60]:
        explanation = history.explain(i)  # which checks rules and replay against each other
        assert explanation.rc == replayed.rc[i]
        if guest is None:
            assert explanation.rc == outcomes[i].rc
        assert explanation.errno_name == errno_name(explanation.rc)
        assert explanation.sentences
        # It tells every effect, and none that was not.
        told = set(re.findall(r"\b[A-Z_]{3,}\b", "; ".join(explanation.sentences))) & NAMES
        if records[i].op != Op.EXPAND_ARRAY:  # which tells of many ports at once
            assert told == set(explanation.effects), explanation
