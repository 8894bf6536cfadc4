"""Recorded against simulated: the same findings however the trace comes."""

import itertools

import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, Outcomes, Trace, workloads
from evtsim.trace import TraceReader
from evtsim.trace.chunk import CHUNK_RECORDS
from evtsim.verification import NEIGHBOURS, Comparison


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("channels", records=300_000, domains=5)


@pytest.fixture(scope="module")
def simulated(trace):
    return evtsim.replay(trace, stats=None).outcomes


def with_outcomes(trace, outcomes, wrong=()):
    """Record outcomes, some of which are made wrong."""
    rc = outcomes.rc.copy()
    rc[list(wrong)] = -99
    table = np.zeros(len(trace), evtsim.RECORD_DTYPE)
    for name, column in trace.columns._asdict().items():
        table[name] = column
    return Trace.from_records(table, trace.host, Outcomes(rc=rc, port=outcomes.port))


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".csv"])
@pytest.mark.parametrize("wrong", [[], [CHUNK_RECORDS], [1, CHUNK_RECORDS - 2, 299_999], [299_999]])
def test_a_file_that_goes_by_gives_what_a_trace_in_memory_does(
    trace, simulated, suffix, wrong, tmp_path
):
    recorded = with_outcomes(trace, simulated, wrong)
    recorded.save(tmp_path / f"t{suffix}")
    seen = []
    found = evtsim.verify(
        TraceReader(tmp_path / f"t{suffix}"), progress=lambda *done: seen.append(done)
    )
    assert found == evtsim.verify(recorded)
    assert found == evtsim.verify(Trace.load(tmp_path / f"t{suffix}"), threads=2)
    assert (found.total, found.agreed) == (300_000, 300_000 - len(wrong))
    assert found.by_field == {"rc": len(wrong), "port": 0}
    assert sum(differ for differ, _ in found.by_op.values()) == len(wrong)
    numbers = [row["record"] for row in found.context]
    first = min(wrong, default=None)
    assert found.first == first
    assert numbers == (
        [] if first is None else [n for n in range(first - 3, first + 4) if 0 <= n < 300_000]
    )
    for row in found.context:
        assert row["simulated_rc"] == simulated.rc[row["record"]]
        assert row["recorded_rc"] == (-99 if row["record"] in wrong else row["simulated_rc"])
        assert row["ts"] == trace.ts[row["record"]]
    total = None if suffix == ".csv" else 300_000
    assert seen == [(131_072, total), (262_144, total), (300_000, total)]


def test_no_cut_changes_what_is_found(trace, simulated):
    rng = np.random.default_rng(5)
    for _ in range(200):
        count = int(rng.integers(1, 30))
        wrong = np.flatnonzero(rng.random(count) < rng.choice([0.02, 0.3]))
        columns = trace[:count].columns
        right = simulated[:count]
        recorded = with_outcomes(trace[:count], right, wrong).recorded
        whole = Comparison(["rc", "port"])
        whole.add(columns, recorded, right)
        pieces = Comparison(["rc", "port"])
        cuts = [0, *np.sort(rng.integers(0, count + 1, rng.integers(0, 8))).tolist(), count]
        for begin, end in itertools.pairwise(cuts):
            part = slice(begin, end)
            pieces.add(trace[part].columns, recorded[part], right[part])
        result = whole.result()
        assert pieces.result() == result
        assert result.agreed == count - len(wrong)
        assert bool(result) == (len(wrong) == 0)
        if len(wrong):
            around = range(max(0, wrong[0] - NEIGHBOURS), min(count, wrong[0] + NEIGHBOURS + 1))
            assert [row["record"] for row in result.context] == list(around)
        for op in np.unique(columns.op):
            which = columns.op == op
            expected = (int(np.isin(np.flatnonzero(which), wrong).sum()), int(which.sum()))
            assert result.by_op[evtsim.abi.op_name(int(op))] == expected


def test_a_slice_is_verified_with_the_state_that_it_found(trace, simulated):
    sim = evtsim.Simulator(trace.host)
    sim.apply(trace[:20_000])
    slice_ = with_outcomes(trace, simulated, [20_007])[20_000:30_000]
    found = evtsim.verify(slice_, start=sim.state)
    assert (found.agreed, found.total, found.first) == (9_999, 10_000, 20_007)
    assert [row["record"] for row in found.context] == list(range(20_004, 20_011))


def test_what_cannot_be_verified(trace, simulated, tmp_path):
    trace[:100].save(tmp_path / "t.csv")
    with pytest.raises(EvtsimError, match=r"t\.csv: has no recorded outcomes"):
        evtsim.verify(TraceReader(tmp_path / "t.csv"))
    recorded = with_outcomes(trace, simulated)
    recorded[5:100].save(tmp_path / "slice.arrow")
    with pytest.raises(EvtsimError, match="from record 5 on"):
        evtsim.verify(TraceReader(tmp_path / "slice.arrow"))
    begun = TraceReader.of(recorded)
    begun.take(7)
    with pytest.raises(EvtsimError, match="from record 7 on"):
        evtsim.verify(begun)
    nothing = evtsim.verify(with_outcomes(trace[:0], simulated[:0]))
    assert (bool(nothing), nothing.total, nothing.by_op) == (True, 0, {})


def test_a_bar_needs_no_total(trace, simulated, tmp_path, capsys):
    with_outcomes(trace[:2000], simulated[:2000]).save(tmp_path / "t.csv")
    assert evtsim.verify(TraceReader(tmp_path / "t.csv"), progress=True)
    assert "verifying: 2.00k records" in capsys.readouterr().err
