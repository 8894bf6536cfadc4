"""The kernels and the reference model agree on everything, after every record."""

import numpy as np
import pytest
from hypothesis import given

import evtsim
from evtsim.abi import PortState
from tests.compare import assert_same_state, host_of, outcome_rows, trace_of
from tests.reference import Record, ReferenceHost
from tests.strategies import runs


@given(runs(size=12, profile=evtsim.abi.PROFILES))
def test_after_every_record(run):
    configs, records, outcomes, drawn = run
    profile = drawn.profile.name
    sim = evtsim.Simulator(host_of(configs, profile))
    reference = ReferenceHost(configs, profile)
    for record, outcome in zip(records, outcomes, strict=True):
        assert outcome_rows(sim.apply(trace_of([record], sim.host))) == [tuple(outcome)]
        reference.apply(record)
        assert_same_state(sim, reference)


@given(runs(size=80, profile=evtsim.abi.PROFILES))
def test_at_the_end_of_longer_runs(run):
    configs, records, outcomes, reference = run
    sim = evtsim.Simulator(host_of(configs, reference.profile.name))
    got = outcome_rows(sim.apply(trace_of(records, sim.host)))
    assert got == [tuple(outcome) for outcome in outcomes]
    assert_same_state(sim, reference)


@given(runs(size=60, profile=evtsim.abi.PROFILES))
def test_what_holds_in_every_state(run):
    configs, records, _, reference = run
    sim = evtsim.Simulator(host_of(configs, reference.profile.name))
    sim.apply(trace_of(records, sim.host))
    ports = sim.state.ports().set_index(["dom", "port"])
    for (dom, port), row in ports[ports["state"] == PortState.INTERDOMAIN].iterrows():
        peer = ports.loc[(row["remote_dom"], row["remote_port"])]
        assert (peer["state"], peer["remote_dom"], peer["remote_port"]) == (
            PortState.INTERDOMAIN,
            dom,
            port,
        )
    for table, state in ((sim.state.virqs(), PortState.VIRQ), (sim.state.pirqs(), PortState.PIRQ)):
        for row in table.itertuples():
            port = ports.loc[(row.dom, row.port)]
            assert (port["state"], port["irq"]) == (state, row.irq)
        assert len(table) == (ports["state"] == state).sum()
    free = ports[ports["state"] == PortState.FREE]
    if not reference.profile.has_fifo:  # else expand_array or free_xen may have left it so
        assert not free["pending"].any()
    assert not free["notify_vcpu"].any()


@given(runs(size=60, profile=evtsim.abi.PROFILES))
def test_a_trace_may_be_cut_anywhere(run):
    configs, records, outcomes, reference = run
    host = host_of(configs, reference.profile.name)
    trace = trace_of(records, host)
    whole = evtsim.Simulator(host)
    pieces = evtsim.Simulator(host)
    whole.apply(trace)
    rows = []
    for cut in range(0, len(records), 7):
        rows += outcome_rows(pieces.apply(trace[cut : cut + 7]))
    assert rows == [tuple(outcome) for outcome in outcomes]
    for name, table in whole.state.snapshot().items():
        if name != "result":  # of the last operation that was not on the quick path
            assert np.array_equal(table, pieces.state.snapshot()[name]), name


@pytest.mark.parametrize("word_bits", [32, 64])
def test_the_pool_grows_in_mid_trace(word_bits):
    """Fill five domains to their limits: the pool doubles on the way."""
    from tests.reference import DomainConfig

    configs = [DomainConfig(word_bits=word_bits) for _ in range(5)]
    limit = 1024 if word_bits == 32 else 4096
    records = [Record(i, i % 5, 0, 6, 0, 0x7FF0, i % 7) for i in range(5 * (limit + 1))]
    sim = evtsim.Simulator(host_of(configs))
    before = len(sim.state.tables.ports)
    out = sim.apply(trace_of(records, sim.host))
    assert len(sim.state.tables.ports) > before
    ports = out.port.reshape(-1, 5)
    assert (ports[: limit - 1] == np.arange(1, limit)[:, None]).all()
    assert (out.rc.reshape(-1, 5)[limit - 1 :] == -28).all()
