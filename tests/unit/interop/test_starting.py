"""From a dump to a simulation: the state is the one that was dumped, as far as a dump tells."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

import evtsim
from evtsim.abi import PortState
from evtsim.interop import dumps
from evtsim.interop.snapshots import Snapshot
from tests.compare import host_of, trace_of
from tests.strategies import runs
from tests.unit.interop.test_dumps import POSTED, assert_same, noisy_logs

TOLD = ["dom", "port", "state", "notify_vcpu", "xen", "remote_dom", "remote_port", "irq"]


def snapshot_of(*lines: str, dom: int = 1, head: str = "") -> Snapshot:
    """Read a dump of dom0 and of another domain with these ports."""
    body = "".join(f"{line}\n" for line in lines)
    text = f"Event channel information for domain 0:\n{head}"
    return dumps.read(f"{text}Event channel information for domain {dom}:\n{body}")[0]


def simulate(run, profile):
    configs, records, _, _ = run
    sim = evtsim.Simulator(host_of(configs, profile))
    sim.apply(trace_of(records, sim.host))
    return sim


def checked(sim: evtsim.Simulator, folder: Path) -> None:
    """Let the checks of checkpoints look at every index of a state."""
    sim.save(folder / "state")
    evtsim.Simulator.load(folder / "state")


def assert_sound(state) -> None:
    """Check what tests/reference/invariants.py says of states, on the tables."""
    tables, ports = state.tables, state.ports()
    index = state.pool_index(ports["dom"].to_numpy(), ports["port"].to_numpy())
    entries = tables.ports[index]
    place = dict(zip(zip(ports["dom"], ports["port"], strict=True), index, strict=True))
    for (dom, port), at in place.items():
        entry = tables.ports[at]
        assert (entry["state"] == PortState.RESERVED) == (port == 0)
        if entry["state"] == PortState.INTERDOMAIN:
            peer = tables.ports[entry["peer"]]
            assert place[entry["remote_dom"], entry["remote_port"]] == entry["peer"] != at
            assert (peer["remote_dom"], peer["remote_port"], peer["peer"]) == (dom, port, at)
            assert entry["peer_vcpu"] == peer["notify_vcpu"]
            assert (entry["xen"] & 2 != 0) == (peer["xen"] & 1 != 0)
            assert entry["xen"] != 3
        if entry["state"] <= PortState.RESERVED:
            assert not any(entry[name] for name in entry.dtype.names if name != "state")
    for frame, kind in ((state.virqs(), PortState.VIRQ), (state.pirqs(), PortState.PIRQ)):
        bound = ports[ports["state"] == kind]
        assert sorted(zip(frame["dom"], frame["port"], frame["irq"], strict=True)) == sorted(
            zip(bound["dom"], bound["port"], bound["irq"], strict=True)
        )
    assert (entries["notify_vcpu"] < tables.domains["nr_vcpus"][ports["dom"]]).all()
    vcpus = state.vcpus()
    assert (vcpus["blocked"] == (vcpus["poll_port"] != 0)).all()
    assert (vcpus["upcall_pending"] == 1)[vcpus["pending_sel"] != 0].all()
    if state.tables.modern is None:
        return
    words = {(w.dom, w.port): int(w.word) for w in state.event_words().itertuples()}
    linked = {key for key, word in words.items() if word & 1 << 29}
    for queue in state.fifo_queues().itertuples():
        assert queue.ready
        port = queue.head
        while port:
            linked.remove((queue.dom, port))
            fifo = tables.port_fifo[place[queue.dom, port]]
            assert (fifo["last_vcpu"], fifo["last_priority"]) == (queue.vcpu, queue.priority)
            last, port = port, words[queue.dom, port] & ((1 << 17) - 1)
        assert last == queue.tail
    assert not linked


@given(log=noisy_logs())
def test_dumps_that_contradict_themselves_give_sound_states(log, tmp_path_factory):
    try:
        snapshots = dumps.read(log)
    except evtsim.EvtsimError:
        return
    folder = tmp_path_factory.mktemp("checkpoint")
    for snapshot in snapshots:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sim = evtsim.Simulator.from_dump(snapshot)
        assert_sound(sim.state)
        checked(sim, folder)


def in_use(state):
    ports = state.ports()
    return ports[ports["state"] > PortState.RESERVED][TOLD].reset_index(drop=True)


@given(run=runs(60, ("xen-4.0", "xen-4.23")))
def test_a_state_comes_back_from_its_dump(run, tmp_path_factory):
    reference = run[3]
    sim = simulate(run, reference.profile.name)
    said = Snapshot.of(sim.state)
    if not len(said.domains):
        return
    (snapshot,) = dumps.read(dumps.write(sim.state))
    host = evtsim.Host.from_dump(snapshot)
    for dom in said.domains["dom"]:
        assert host.domains["vcpus"][dom] <= sim.host.domains["vcpus"][dom]
    again = evtsim.Simulator.from_dump(snapshot, sim.host)
    assert_same(Snapshot.of(again.state), said)
    pd.testing.assert_frame_equal(in_use(again.state), in_use(sim.state))
    for frame in ("virqs", "pirqs"):
        pd.testing.assert_frame_equal(
            getattr(again.state, frame)(), getattr(sim.state, frame)(), check_dtype=False
        )
    checked(again, tmp_path_factory.mktemp("checkpoint"))
    assert_sound(again.state)


@given(run=runs(60, ("xen-4.0", "xen-4.23")))
def test_what_is_inferred_can_be_simulated(run, tmp_path_factory):
    sim = simulate(run, run[3].profile.name)
    said = Snapshot.of(sim.state)
    if not len(said.domains):
        return
    again = evtsim.Simulator.from_dump(said, stats="port")
    checked(again, tmp_path_factory.mktemp("checkpoint"))
    assert_sound(again.state)
    before = again.run()
    assert before.ports["outstanding"].sum() == (said.ports["pending"] == 1).sum()
    for dom, vcpu in again.state.vcpus()[["dom", "vcpu"]].itertuples(index=False):
        again.call("upcall", dom=int(dom), vcpu=int(vcpu))
    ports = again.run().ports
    assert (ports["set"] == ports["delivered"] + ports["cleared"] + ports["outstanding"]).all()
    assert not ports["sends"].any()


def booted(**options):
    trace = evtsim.workloads.generate("io", domains=4, vcpus=2, records=20_000, **options)
    sim = evtsim.Simulator(trace.host)
    sim.apply(trace[:12_000])
    return sim, trace[12_000:]


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_a_simulation_from_a_dump_goes_on_as_the_one_that_was_dumped(abi):
    sim, rest = booted(profile="xen-4.23", abi=abi, seed=3)
    (snapshot,) = dumps.read(dumps.write(sim.state))
    again = evtsim.Simulator.from_dump(snapshot, sim.host, stats="port")
    wanted, got = sim.apply(rest), again.apply(rest)
    # Priorities are no part of a dump; these ports all had the default, but for the timers'.
    assert (wanted.rc == got.rc).all()
    assert (wanted.effects == got.effects).mean() > (0.999 if abi == "fifo" else 0.9999)
    if abi == "2l":
        assert (wanted.effects == got.effects).all()
        assert dumps.write(again.state) == dumps.write(sim.state)
    ports = again.run().ports
    assert (ports["set"] == ports["delivered"] + ports["cleared"] + ports["outstanding"]).all()


def test_the_tables_are_those_that_operations_make():
    dom0 = evtsim.Domain(vcpus=2, privileged=True, nr_pirqs=5, pirq_permitted=True)
    host = evtsim.Host("xen-4.0", [dom0, evtsim.Domain(vcpus=2)])
    sim = evtsim.Simulator(host)
    sim.call("alloc_unbound", dom=1, remote_dom=0)
    sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=1)
    sim.call("bind_vcpu", dom=1, port=1, target_vcpu=1)
    sim.call("bind_virq", dom=1, virq=0, vcpu=1)
    sim.call("bind_pirq", dom=0, pirq=4)
    sim.call("alloc_xen", dom=1, remote_domid=0, vcpu=1)
    sim.call("bind_interdomain", dom=0, remote_dom=1, remote_port=3)
    sim.call("mask", dom=1, port=2)
    sim.call("send", dom=0, port=1)
    sim.call("raise_virq", dom=1, virq=0, vcpu=1)
    again = evtsim.Simulator.from_dump(Snapshot.of(sim.state), host)
    wanted, got = sim.state.tables, again.state.tables
    for name in ("domains", "vcpus", "buckets", "ports", "shared", "virqs", "pirqs", "max_port"):
        a, b = getattr(wanted, name), getattr(got, name)
        if name == "domains":  # where the search for a free port begins is no one's to see
            a, b = a.copy(), b.copy()
            a["free_hint"] = b["free_hint"] = 0
        assert (a == b).all(), name


def test_a_guest_runs_the_handlers_of_vcpus_that_were_told():
    sim, _ = booted(deliver="model", seed=1)
    assert sim.state.domains()["pending"].sum() > 0
    guest = evtsim.Guest(wake_ns=1_000, handler_ns=100)
    again = evtsim.Simulator.from_dump(Snapshot.of(sim.state), sim.host, guest, "port", ts=5_000)
    again.drain()
    run = again.run()
    waiting = run.state.ports().query("pending == 1 and mask == 0")
    assert waiting.empty
    assert (run.ports["latency_max"] < 1_000_000).all()
    assert run.ports["delivered"].sum() > 0
    assert again.last_ts >= 6_000


def test_statistics_begin_with_one_notification_of_each_pending_port():
    sim, rest = booted(seed=2)
    again = evtsim.Simulator.from_dump(
        Snapshot.of(sim.state), sim.host, stats="port", ts=sim.last_ts
    )
    again.apply(rest)
    run = again.run()
    timeline = run.timeline[run.timeline["group"] < 0]  # of the whole host
    assert timeline["set"].sum() == run.ports["set"].sum()
    assert timeline["opened"].sum() == run.domains["in_use"].sum()
    sends = run.operations.query("op == 4 and rc == 0")["records"].sum()
    assert run.edges["raised"].sum() <= sends


@pytest.mark.parametrize(
    ("ports", "told", "states"),
    [
        (["1 [0/0/0]: s=3 n=0 x=0 d=0 p=9"], "does not point back", {1: 2}),
        (["1 [0/0/0]: s=3 n=0 x=0 d=7 p=9"], "does not point back", {1: 2}),
        (["1 [0/0/0]: s=3 n=0 x=0 d=1 p=1"], "does not point back", {1: 2}),
        (
            ["1 [0/0/0]: s=3 n=0 x=1 d=1 p=2", "2 [0/0/0]: s=3 n=0 x=1 d=1 p=1"],
            "does not point back",
            {1: 2, 2: 2},
        ),
        (["1 [0/0/0]: s=5 n=0 x=0 v=0", "2 [1/0/1]: s=5 n=0 x=0 v=0"], "bound", {1: 5}),
        (["1 [0/0/0]: s=5 n=0 x=0 v=0", "2 [0/0/0]: s=5 n=1 x=0 v=0"], "", {1: 5, 2: 5}),
        (["1 [0/0/0]: s=5 n=0 x=0 v=2", "2 [0/0/0]: s=5 n=1 x=0 v=2"], "bound", {1: 5}),
        (["1 [0/0/0]: s=4 n=0 x=0 p=3 i=3", "2 [0/0/0]: s=4 n=1 x=0 p=3 i=3"], "bound", {1: 4}),
        (["1 [0/0/0]: s=6 n=0 x=3"], "attached to Xen", {1: 6}),
        (["5000 [0/0/0]: s=6 n=0 x=0"], "beyond the ABI's limit", {}),
        (["1 [1/0/  9   ]: s=6 n=0 x=0", "9 [0/0/  -   ]: s=6 n=0 x=0"], "cut", {1: 6, 9: 6}),
        (["1 [1/0/  2   ]: s=6 n=0 x=0", "2 [1/0/  1   ]: s=6 n=0 x=0"], "circle", {1: 6, 2: 6}),
        (
            [f"{n} [1/0/  3   ]: s=6 n=0 x=0" for n in (1, 2)] + ["3 [1/0/  0   ]: s=6 n=0 x=0"],
            "another's",
            {1: 6, 2: 6, 3: 6},
        ),
    ],
)
def test_contradictions_are_settled_and_told(ports, told, states, tmp_path):
    snapshot = snapshot_of(*ports)
    assert snapshot.problems == ()
    notes = snapshot.contradictions()
    assert any(told in note for note in notes) if told else not notes
    if told:
        with pytest.warns(UserWarning, match="domain 1, port"):
            sim = evtsim.Simulator.from_dump(snapshot)
    else:
        sim = evtsim.Simulator.from_dump(snapshot)
    checked(sim, tmp_path)
    assert_sound(sim.state)
    left = sim.state.ports().query("dom == 1 and state > 1")
    assert dict(zip(left["port"], left["state"], strict=True)) == states


def test_a_chain_of_links_is_a_queue_that_an_upcall_delivers():
    words = {1: "  5   ", 2: "  0   ", 5: "  70  "}
    snapshot = snapshot_of(*(f"{n} [1/0/{word}]: s=6 n=0 x=0" for n, word in words.items()))
    sim = evtsim.Simulator.from_dump(snapshot)
    assert sim.state.fifo_queues()["priority"].tolist() == [7, 8]
    assert sim.state.domains()["nr_ports"].tolist() == [64, 128]  # port 70 is FREE and linked
    assert sim.call("upcall", dom=1).port == 3
    assert sim.state.event_words().empty


def test_2010s_ports_that_wait_have_told_their_vcpus():
    text = "Domain 1 polling vCPUs: 00000001\nEvent channel information for domain 1:\n"
    (snapshot,) = dumps.read(text + "   1 [1/0]: s=6 n=1 x=0\n   2 [1/1]: s=6 n=0 x=0\n")
    sim = evtsim.Simulator.from_dump(snapshot)
    assert sim.host.profile == "xen-4.0"
    vcpus = sim.state.vcpus()
    assert vcpus["upcall_pending"].tolist() == [0, 1]
    assert vcpus["polling"].tolist() == [1, 0]
    assert sim.call("upcall", dom=1, vcpu=1).port == 1


def test_a_poller_waits_for_its_own_masked_ipi():
    snapshot = snapshot_of(
        "Polling vCPUs: {1}",
        "1 [0/0/0]: s=6 n=1 x=0",
        "2 [0/1/0]: s=6 n=0 x=0",
        "3 [0/1/0]: s=6 n=1 x=0",
    )
    sim = evtsim.Simulator.from_dump(snapshot)
    assert sim.state.vcpus()["poll_port"].tolist() == [0, 0, 3]
    assert sim.call("send", dom=1, port=3).effects.name == "SET|MASKED|POLL_WAKE"


def test_the_host_of_a_dump_is_inferred_and_can_be_given():
    (snapshot,) = dumps.read(POSTED)
    host = evtsim.Host.from_dump(snapshot)
    assert (host.profile, len(host)) == ("xen-4.23", 28)
    assert np.flatnonzero(host.domains["alive"]).tolist() == [27]
    row = host.domains[27]
    assert (row["vcpus"], row["word_bits"], row["nr_pirqs"], row["privileged"]) == (4, 64, 18, 0)
    given = evtsim.Host.from_dump(
        snapshot, profile="xen-4.0", vcpus={27: 8}, word_bits=32, privileged=[27]
    )
    row = given.domains[27]
    assert (row["vcpus"], row["word_bits"], row["privileged"]) == (8, 32, 1)
    assert given.profile == "xen-4.0"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"vcpus": 3}, "domain 27: vcpus is 3 .expected at least 4"),
        ({"vcpus": {99: 3}}, "vcpus of domain 99"),
        ({"word_bits": 16}, "word_bits is 16"),
        ({"profile": "xen-5"}, "profile 'xen-5'"),
    ],
)
def test_a_host_that_does_not_fit_the_dump_is_an_error(options, words):
    (snapshot,) = dumps.read(POSTED)
    with pytest.raises(evtsim.HostError, match=words):
        evtsim.Host.from_dump(snapshot, **options)


def test_a_simulator_of_another_host_is_an_error():
    (snapshot,) = dumps.read(POSTED)
    for host, words in (
        (evtsim.Host.uniform(2), "domain 27: in the dump"),
        (evtsim.Host.uniform(28), "domain 27: vcpus is 1"),
    ):
        with pytest.raises(evtsim.HostError, match=words):
            evtsim.Simulator.from_dump(snapshot, host)
    with pytest.raises(evtsim.HostError, match="expected one of dumps"):
        evtsim.Host.from_dump("log")
    with pytest.raises(evtsim.EvtsimError, match="ts is -1"):
        evtsim.Simulator.from_dump(snapshot, ts=-1)
    fifo = snapshot_of("1 [0/0/  -   ]: s=6 n=0 x=0")
    with pytest.raises(evtsim.HostError, match="lacks the FIFO ABI"):
        evtsim.Host.from_dump(fifo, profile="xen-4.0")
    with pytest.raises(evtsim.HostError, match="lacks the FIFO ABI"):
        evtsim.Simulator.from_dump(fifo, evtsim.Host.uniform(2))


def test_a_dump_with_many_ports_grows_the_pool(tmp_path):
    lines = [f"{n:4} [1/0/1]: s=6 n=0 x=0" for n in range(1, 4096)]
    snapshot = snapshot_of(*lines)
    sim = evtsim.Simulator.from_dump(snapshot, stats="port")
    checked(sim, tmp_path)
    assert sim.call("upcall", dom=1).port == 4095
    assert sim.call("bind_ipi", dom=1, vcpu=0).rc == -28
