"""What a state says of itself: its digest, and frames that every profile has."""

import pytest

import evtsim
from evtsim import workloads


def simulated(stats=None, guest=None, records=3000, **options):
    trace = workloads.generate("mixed", records=records, domains=4, rate=4000, **options)
    sim = evtsim.Simulator(trace.host, guest, stats)
    sim.apply(trace, outcomes=False)
    return sim


def test_the_digest_is_of_the_host_and_not_of_who_looks_on(tmp_path):
    states = [simulated(stats).state for stats in (None, "domain", "port")]
    assert len({state.digest() for state in states}) == 1
    evtsim.Simulator._of(states[2]).save(tmp_path / "s")
    assert evtsim.Simulator.load(tmp_path / "s").state.digest() == states[0].digest()
    assert states[1].copy().digest() == states[0].digest()


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_the_digest_tells_states_apart(abi):
    sim = simulated(abi=abi)
    quiet = sim.state.ports().query("dom == 1 and state == 3 and pending == 0 and mask == 0")
    port = int(quiet["port"].iloc[0])
    first = sim.state.digest()
    sim.call("mask", dom=1, port=port)
    assert sim.state.digest() != first
    sim.call("unmask", dom=1, port=port)
    assert sim.state.digest() == first
    sim.call("bind_ipi", dom=1, target_vcpu=0)
    assert sim.state.digest() != first


@pytest.mark.parametrize("profile", ["xen-4.0", "xen-4.23"])
def test_frames_of_the_fifo_abi_are_empty_where_nobody_uses_it(profile):
    state = evtsim.Simulator(evtsim.Host.uniform(2, profile=profile)).state
    words, queues = state.event_words(), state.fifo_queues()
    assert (len(words), list(words)) == (0, ["dom", "port", "word"])
    assert (len(queues), list(queues)[:4]) == (0, ["dom", "vcpu", "priority", "ready"])
