"""Snapshots, lives of ports in single cases, and what is refused."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

import evtsim
import evtsim.history.history
from evtsim import EvtsimError, History, TraceError, workloads
from evtsim.history.lives import COLUMNS
from evtsim.watching import watch

PAGE = Path(__file__).parents[2] / "docs" / "history.md"


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("channels", records=100_000, domains=20, vcpus=2, ports=20)


def ports_of(trace, records):
    sim = evtsim.Simulator(trace.host)
    sim.apply(trace[:records])
    return sim.state.ports()


def test_examples_in_docstrings_and_on_the_page():
    assert doctest.testmod(evtsim.history.history).attempted
    assert not doctest.testmod(evtsim.history.history).failed
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted
    assert not result.failed


def test_the_page_has_the_columns_of_a_life(trace):
    listed = re.findall(r"^\| `(\w+)`", PAGE.read_text(), re.MULTILINE)
    assert tuple(listed) == COLUMNS == tuple(History(trace).port(0, 1))


@pytest.mark.parametrize("records", [0, 1, 24_999, 25_000, 99_999, 100_000])
def test_states_before_and_after_snapshots(trace, records):
    history = History(trace, every=25_000)
    assert len(history) == 100_000
    for _ in range(2):
        assert history.at(records).ports().equals(ports_of(trace, records))


def test_nothing_is_replayed_before_it_is_asked_for_nor_twice(trace, monkeypatch):
    history = History(trace, every=10_000)
    assert history.nbytes == 0
    applied = []
    apply = evtsim.Simulator.apply

    def counting(self, part, *args, **kwargs):
        applied.append(len(part))
        return apply(self, part, *args, **kwargs)

    monkeypatch.setattr(evtsim.Simulator, "apply", counting)
    history.at(55_000)
    assert sum(applied) == 55_000
    applied.clear()
    history.at(52_000)
    history.at(9_999)
    assert sum(applied) == 2_000 + 9_999
    applied.clear()
    history.at(65_000)
    assert sum(applied) == 15_000


def test_a_state_is_the_callers_own(trace):
    history = History(trace, every=10_000)
    state = history.at(20_000)
    state.tables.shared["pending"][...] = 0
    assert history.at(20_000).ports().equals(ports_of(trace, 20_000))


def test_snapshots_stay_within_their_memory(trace):
    one = evtsim.Simulator(trace.host).state.nbytes
    history = History(trace, every=2_000, memory=10 * one)
    history.at(100_000)
    assert history.every == 16_000
    assert 3 * one <= history.nbytes <= 10 * one
    assert history.at(77_777).ports().equals(ports_of(trace, 77_777))


def test_without_room_for_a_snapshot_every_question_replays(trace):
    history = History(trace, every=10_000, memory=0)
    assert history.at(99_000).ports().equals(ports_of(trace, 99_000))
    assert history.nbytes == 0
    assert history.last_change(0, 1, "pending", 99_000) is not None


def test_one_may_go_on_from_any_record(trace):
    sim = History(trace, every=30_000).simulator(70_000)
    assert sim.records == 70_000
    sim.apply(trace[70_000:])
    assert sim.state.ports().equals(ports_of(trace, 100_000))
    assert sim.call("send", dom=0, port=9999).rc == -22


def test_a_life_is_told_over_many_stretches():
    """Three changes a round, 60,000 rounds: more than one chunk of records and of changes."""
    rounds = 60_000
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1))
    b.bind_ipi(dom=0, ts=0)
    setup = np.array([(0, 0, 0, int(evtsim.abi.Op.BIND_IPI), 0, 0, 0)], evtsim.RECORD_DTYPE)
    records = np.zeros(3 * rounds, evtsim.RECORD_DTYPE)
    records["ts"] = np.arange(3 * rounds)
    records["op"] = np.tile([evtsim.abi.Op.SEND, evtsim.abi.Op.SEND, evtsim.abi.Op.UPCALL], rounds)
    records["arg0"] = 1
    trace = evtsim.Trace.from_records(np.concatenate([setup, records]), b.host)
    life = History(trace).port(0, 1)
    assert len(life) == 1 + 2 * rounds
    assert (life["record"].iloc[1::2] == 1 + 3 * np.arange(rounds)).all()
    assert (life["record"].iloc[2::2] == 3 + 3 * np.arange(rounds)).all()
    assert life["pending"].iloc[1:].tolist() == [1, 0] * rounds
    assert set(life["op_name"].iloc[2::2]) == {"upcall"}


def test_a_life_through_others_hands_and_the_fifo_abi():
    host = evtsim.Host("xen-4.23", [evtsim.Domain(privileged=True), evtsim.Domain(word_bits=32)])
    b = evtsim.TraceBuilder(host)
    b.alloc_unbound(dom=0, target_dom=1, remote_dom=0)  # 0
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    b.send(dom=0, port=1)  # 2
    b.init_control(dom=1)
    b.expand_array(dom=1)  # 4: notified anew
    b.mask(dom=1, port=1)
    b.reset(dom=0, target_dom=1)  # 6: the 2-level bit is cleared as FIFO's, the old one comes back
    b.destroy_domain(dom=1)
    b.create_domain(dom=1)  # 8
    life = History(b.trace()).port(1, 1)
    rows = life[["record", "dom", "from_state_name", "to_state_name", "pending", "mask"]]
    assert rows.to_numpy().tolist() == [
        [0, 0, "FREE", "UNBOUND", 0, 0],
        [1, 0, "UNBOUND", "INTERDOMAIN", 0, 0],
        [2, 0, "INTERDOMAIN", "INTERDOMAIN", 1, 0],
        [3, 1, "INTERDOMAIN", "INTERDOMAIN", 0, 1],
        [4, 1, "INTERDOMAIN", "INTERDOMAIN", 1, 0],
        [5, 1, "INTERDOMAIN", "INTERDOMAIN", 1, 1],
        [6, 0, "INTERDOMAIN", "FREE", 1, 0],
        [7, 1, "FREE", "INVALID", 0, 0],
        [8, 1, "INVALID", "FREE", 0, 0],
    ]


def test_the_pool_grows_while_a_port_is_watched():
    """Four domains fill their ports in turn, so that the pool doubles on the way."""
    records = np.zeros(4 * 4095 + 1, evtsim.RECORD_DTYPE)
    records["op"] = evtsim.abi.Op.BIND_IPI
    records["dom"][:-1] = np.arange(4 * 4095) % 4
    trace = evtsim.Trace.from_records(records, evtsim.Host.uniform(4))
    life = History(trace).port(3, 4000)
    assert life[["record", "from_state_name", "to_state_name"]].to_numpy().tolist() == [
        [4 * 3967 + 3, "INVALID", "FREE"],
        [4 * 3999 + 3, "FREE", "IPI"],
    ]


def test_watching_leaves_no_room_for_statistics(trace):
    with pytest.raises(EvtsimError, match="without statistics"):
        watch(evtsim.Simulator(trace.host, stats="port"), trace, 0, 1)
    with pytest.raises(EvtsimError, match=r"expected an evtsim\.Trace"):
        watch(evtsim.Simulator(trace.host), "trace.arrow", 0, 1)


def test_a_life_with_a_guest_tells_handlers_and_eois():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1))
    b.bind_ipi(dom=0, ts=0)
    b.send(dom=0, port=1, ts=100)
    b.send(dom=0, port=1, ts=10_000)
    guest = evtsim.Guest(wake_ns=20, handler_ns=7, eoi="late", eoi_ns=3)
    life = History(b.trace(), guest=guest).port(0, 1)
    rows = life[["record", "ts", "op", "op_name", "vcpu", "pending", "mask"]]
    assert rows.to_numpy().tolist() == [
        [0, 0, 7, "bind_ipi", 0, 0, 0],
        [1, 100, 4, "send", 0, 1, 0],
        [-1, 120, -1, "handler", 0, 0, 1],
        [-1, 130, -1, "eoi", 0, 0, 0],
        [2, 10_000, 4, "send", 0, 1, 0],
    ]


def test_an_empty_trace_has_a_state_and_empty_lives(trace):
    history = History(trace[:0])
    assert len(history.at(0).ports())
    life = history.port(0, 1)
    assert len(life) == 0
    assert life.dtypes.equals(History(trace).port(0, 1).dtypes)
    with pytest.raises(EvtsimError, match="expected none, the trace is empty"):
        history.explain(0)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (lambda h: h.at(100_001), "record 100001 is not in the trace (expected 0 to 100000)"),
        (lambda h: h.at(-1), "record -1 is not in the trace"),
        (lambda h: h.at(1.5), "record 1.5 is not"),
        (lambda h: h.explain(100_000), "(expected 0 to 99999)"),
        (lambda h: h.port(20, 1), "no domain 20 (expected 0 to 19)"),
        (lambda h: h.port(-1, 1), "no domain -1"),
        (lambda h: h.port(0, 4096), "no port 4096 (expected 0 to 4095)"),
        (lambda h: h.port(0, "1"), "no port '1'"),
    ],
)
def test_what_is_not_there_is_refused(trace, question, words):
    with pytest.raises(EvtsimError, match=re.escape(words)):
        question(History(trace))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"every": 0}, "every is 0 (expected at least 1)"),
        ({"every": 2.5}, "every is 2.5"),
        ({"memory": -1}, "memory is -1"),
        ({"guest": "linux"}, "guest is 'linux'"),
        ({"host": "a.json"}, "host is 'a.json'"),
    ],
)
def test_parameters_that_make_no_sense_are_refused(trace, arguments, words):
    with pytest.raises(EvtsimError, match=re.escape(words)):
        History(trace, **arguments)


def test_a_slice_has_no_history(trace):
    with pytest.raises(EvtsimError, match="a slice from record 5 on has no history"):
        History(trace[5:])
    with pytest.raises(EvtsimError, match=r"expected an evtsim\.Trace"):
        History("trace.arrow")


def test_a_damaged_trace_is_noticed(tmp_path, trace):
    path = tmp_path / "t.arrow"
    trace.save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(TraceError):
        History(evtsim.Trace.load(path)).at(100_000)
