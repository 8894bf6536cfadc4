"""Blocks of records that are sorted by domains give what one record after the other gives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evtsim
from evtsim.dtypes import Scratch
from tests.compare import host_of, outcome_rows, trace_of
from tests.conformance.test_recordings import RECORDINGS
from tests.properties.test_guest import assert_identical, guests
from tests.strategies import runs


def sorting(sim, block):
    """Let a small host's blocks be sorted, as a large host's are."""
    sim._scratch = Scratch(
        np.zeros(block, np.int64),
        np.zeros((1, block), np.int64),
        np.zeros((1, block), np.int64),
        np.zeros((1, len(sim.host) + 2), np.int64),
    )
    return sim


def record_by_record(sim):
    sim._scratch = sim._scratch._replace(routes=np.zeros(1, np.int64))
    return sim


@given(runs(size=80, profile=evtsim.abi.PROFILES), st.none() | guests, st.integers(2, 20))
def test_sorted_blocks_change_nothing(run, guest, block):
    configs, records, _, reference = run
    host = host_of(configs, reference.profile.name)
    trace = trace_of(records, host)
    plain = record_by_record(evtsim.Simulator(host, guest, "port", deliveries=1000))
    sims = [sorting(evtsim.Simulator(host, guest, "port", deliveries=1000), block)]
    sims += [evtsim.Simulator(host, guest, "port", deliveries=1000)]
    rows = outcome_rows(plain.apply(trace))
    for sim in sims:
        assert outcome_rows(sim.apply(trace)) == rows
        assert_identical(plain, sim)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recordings(path):
    recording = np.load(path)
    host = evtsim.Host(profile=path.parent.name, domains=recording["domains"])
    trace = evtsim.Trace.from_records(recording["trace"], host)
    plain = record_by_record(evtsim.Simulator(host, stats="port"))
    sim = sorting(evtsim.Simulator(host, stats="port"), 64)
    assert plain.apply(trace).frame().equals(sim.apply(trace).frame())
    assert_identical(plain, sim)


def test_a_trace_of_a_large_host_is_sorted_in_long_blocks():
    trace = evtsim.workloads.generate("channels", records=300_000, domains=300, vcpus=2, ports=12)
    sim = evtsim.Simulator(trace.host, stats="port")
    assert sim._scratch.ends.shape[1] > 100
    plain = evtsim.Simulator(trace.host, stats="port")
    plain._scratch = evtsim.Simulator(evtsim.Host.uniform(2), stats="port")._scratch
    assert plain.apply(trace).frame().equals(sim.apply(trace).frame())
    assert_identical(plain, sim)
