"""After an interrupt a simulator is exactly where its records say, or refuses to go on."""

import copy
import signal
import threading

import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, Guest, Simulator, workloads
from evtsim.crew import Crew
from evtsim.interrupts import interrupts_wait
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.watching import watch

AT_WORK = {
    "one thread": "evtsim.simulator.replay",
    "threads": "evtsim.crew.Crew._carry_out",
    "guest": "evtsim.simulator.advance",
}
"""What is called in the middle of a stretch, by the kind of simulator."""


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("channels", records=300_000, domains=20, vcpus=2, ports=20)


@pytest.fixture(params=AT_WORK)
def kind(request):
    return request.param


def simulator(host, kind):
    if kind == "guest":
        return Simulator(host, Guest(wake_ns=2000), "port", deliveries=10**6)
    sim = Simulator(host)
    if kind == "threads":
        sim._crew = Crew(2, len(host), 1 << 14, 64)
    return sim


def at_work(monkeypatch, kind, act):
    """Do something once, the next time that a simulator of this kind is in the middle of work."""
    where, _, name = AT_WORK[kind].rpartition(".")
    owner = Crew if kind == "threads" else evtsim.simulator
    original = getattr(owner, name)

    def acting(*arguments):
        monkeypatch.undo()
        act()
        return original(*arguments)

    monkeypatch.setattr(f"{where}.{name}", acting)


def press():
    signal.raise_signal(signal.SIGINT)


def raising(error):
    def act(*_):
        raise error

    return act


def assert_identical(one, other):
    other = other.state.snapshot()
    for name, table in one.state.snapshot().items():
        assert np.array_equal(table, other[name]), name


def assert_refuses(sim, trace, path):
    """All that would go on with the state, show it or keep it."""
    for go_on in (
        lambda: sim.apply(trace),
        lambda: sim.apply(trace[:0]),
        lambda: sim.call("send", dom=0, port=1),
        lambda: watch(sim, trace, 0, 1),
        lambda: sim.save(path),
        lambda: sim.run(),
        lambda: sim.state.ports(),
        lambda: copy.deepcopy(sim).state,
        *((lambda: sim.advance(sim.last_ts), sim.drain) if sim.guest else ()),
    ):
        with pytest.raises(EvtsimError, match=f"interrupted at work after {sim.records:,} records"):
            go_on()
    assert not path.exists()


@pytest.mark.parametrize("interrupt", [press, raising(KeyboardInterrupt)])
def test_an_interrupted_progress_leaves_the_state_after_so_many_records(trace, kind, interrupt):
    sim, same = simulator(trace.host, kind), simulator(trace.host, kind)
    with pytest.raises(KeyboardInterrupt):
        sim.apply(trace, progress=lambda *_: interrupt())
    assert sim.records == (len(trace) if kind == "threads" else CHUNK_RECORDS)
    same.apply(trace[: sim.records])
    assert_identical(sim, same)
    sim.apply(trace[sim.records :])
    same.apply(trace[same.records :])
    assert_identical(sim, same)


def test_ctrl_c_waits_for_the_end_of_the_stretch(trace, kind, monkeypatch):
    """It nearly always comes while a kernel runs."""
    sim, same = simulator(trace.host, kind), simulator(trace.host, kind)
    at_work(monkeypatch, kind, press)
    with pytest.raises(KeyboardInterrupt):
        sim.apply(trace[:200_000])
    assert sim.records == (200_000 if kind == "threads" else CHUNK_RECORDS)
    same.apply(trace[: sim.records])
    assert_identical(sim, same)
    sim.apply(trace[sim.records :])
    same.apply(trace[same.records :])
    assert_identical(sim, same)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize(
    ("interrupt", "error"),
    [
        (lambda: (press(), press()), KeyboardInterrupt),
        (raising(KeyboardInterrupt), KeyboardInterrupt),
        (raising(MemoryError), MemoryError),
    ],
    ids=["Ctrl-C twice", "elsewhere", "no memory"],
)
def test_what_was_interrupted_at_work_refuses_to_go_on(
    trace, kind, interrupt, error, monkeypatch, tmp_path
):
    sim = simulator(trace.host, kind)
    sim.apply(trace[:100])
    at_work(monkeypatch, kind, interrupt)
    with pytest.raises(error):
        sim.apply(trace[100:])
    assert_refuses(sim, trace[100:], tmp_path / "state")
    assert "Simulator" in repr(sim)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("go_on", [lambda sim: sim.advance(sim.last_ts + 5), Simulator.drain])
def test_guests_are_interrupted_likewise(trace, go_on, monkeypatch, tmp_path):
    sims = [simulator(trace.host, "guest") for _ in range(3)]
    for sim in sims:
        sim.apply(trace[:1000])
    waited, broken, plain = sims
    at_work(monkeypatch, "guest", press)
    with pytest.raises(KeyboardInterrupt):
        go_on(waited)
    go_on(plain)
    assert_identical(waited, plain)
    at_work(monkeypatch, "guest", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        go_on(broken)
    assert_refuses(broken, trace[1000:], tmp_path / "state")


def test_a_call_is_interrupted_likewise(trace, monkeypatch, tmp_path):
    sim = simulator(trace.host, "one thread")
    at_work(monkeypatch, "one thread", press)
    with pytest.raises(KeyboardInterrupt):
        sim.call("alloc_unbound", dom=1, remote_dom=0)
    assert sim.records == 1
    assert sim.state.ports().query("dom == 1 and state > 1")["port"].tolist() == [1]
    at_work(monkeypatch, "one thread", raising(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        sim.call("alloc_unbound", dom=1, remote_dom=0)
    assert_refuses(sim, trace, tmp_path / "state")


def test_nothing_that_was_refused_before_it_began_breaks_a_simulator(trace):
    sim = simulator(trace.host, "one thread")
    sim.apply(trace[:1000])
    with pytest.raises(EvtsimError, match="begins before the last record"):
        sim.apply(trace[:1])
    with pytest.raises(EvtsimError, match="no guest"):
        sim.drain()
    sim.apply(trace[1000:2000])
    assert sim.records == 2000


def test_an_interrupted_save_leaves_the_checkpoint_before(trace, monkeypatch, tmp_path):
    sim = simulator(trace.host, "one thread")
    sim.apply(trace[:1000])
    sim.save(tmp_path / "state")
    sim.apply(trace[1000:2000])
    with monkeypatch.context() as patched:
        patched.setattr("evtsim.checkpoint._digest", raising(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            sim.save(tmp_path / "state")
    assert Simulator.load(tmp_path / "state").records == 1000
    sim.save(tmp_path / "state")
    assert_identical(Simulator.load(tmp_path / "state"), sim)


def test_other_threads_work_as_ever(trace):
    sim, same = Simulator(trace.host), Simulator(trace.host)
    worker = threading.Thread(target=sim.apply, args=(trace[:1000],))
    worker.start()
    worker.join()
    same.apply(trace[:1000])
    assert_identical(sim, same)


def test_what_is_not_to_wait_does_not():
    with pytest.raises(KeyboardInterrupt), interrupts_wait(unless=lambda: True):
        press()
        pytest.fail("it waited")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_where_ctrl_c_is_ignored_it_stays_so():
    done = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with interrupts_wait(unless=lambda: False):
            press()
            done.append("all")
    finally:
        signal.signal(signal.SIGINT, before)
    assert done == ["all"]
