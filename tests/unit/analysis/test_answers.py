"""What the analyses say of runs whose answers are known."""

import numpy as np
import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, analysis, statistics, workloads
from evtsim.abi import Op
from evtsim.analysis import outliers


@pytest.fixture(scope="module")
def mixed():
    trace = workloads.generate("mixed", records=100_000, domains=300)
    return evtsim.replay(trace, outcomes=False)


@pytest.fixture(scope="module")
def io():
    return workloads.generate("io", records=60_000, domains=20, deliver="model")


def ipis(counts, gap=1_000, vcpus=1):
    """Return a run of one domain: counts[i] times IPI i is sent and, unless refused, delivered."""
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1, vcpus=vcpus))
    for _ in counts:
        b.bind_ipi(dom=0)
    ts = 0
    for round_ in range(max(counts)):
        for port, count in enumerate(counts, 1):
            if round_ < count:
                ts += gap
                b.send(dom=0, port=port, ts=ts)
        b.upcall(dom=0, ts=ts + 100)
    return evtsim.replay(b.trace())


@pytest.mark.parametrize("by", ["port", "domain", "type", "rate"])
def test_coalescing_adds_up(mixed, by):
    frame = analysis.coalescing(mixed, by)
    totals = mixed.totals()
    assert frame["coalesced"].sum() == totals["coalesced"]
    assert frame["raised"].sum() == totals["coalesced"] + totals["set"]
    assert (frame["coalesced_share"] * frame["raised"]).sum() == pytest.approx(totals["coalesced"])
    assert frame["rate"].sum() * totals["duration_ns"] / 1e9 == pytest.approx(frame["raised"].sum())
    if by != "rate":
        assert frame["raised"].is_monotonic_decreasing
    if by == "rate":
        assert (frame["rate_low"] * frame["ports"] <= frame["rate"] * (1 + 1e-9)).all()
        assert (frame["rate"] < 2 * frame["rate_low"] * frame["ports"]).all()


def test_latencies_are_those_of_the_summary(mixed):
    frame = analysis.latency_percentiles(mixed).set_index("type")
    for row in statistics.by_type(mixed.state):
        got = frame.loc[row["type"]]
        assert got["events"] == row["delivered"]
        assert got.tolist()[1:] == list(row["latency_ns"].values())
    quiet = evtsim.replay(workloads.generate("channels", records=5_000), stats="domain")
    (row,) = statistics.by_type(quiet.state)
    assert analysis.latency_percentiles(quiet).iloc[0].tolist()[2:] == [*row["latency_ns"].values()]


def test_latencies_of_groups_lie_within_their_ports(mixed):
    frame = analysis.latency_percentiles(mixed, by="group")
    assert frame["events"].sum() == mixed.totals()["delivered"]
    longest = mixed.ports.groupby(mixed.ports["dom"] // 2)["latency_max"].max()
    assert (frame["last_dom"] - frame["first_dom"] == 1).all()
    assert frame["max_ns"].tolist() == longest.loc[frame["first_dom"] // 2].tolist()
    quantiles = frame[["p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns"]]
    assert (quantiles.diff(axis=1).iloc[:, 1:] >= 0).all(axis=None)
    (host,) = analysis.latency_percentiles(mixed, by="host").to_dict("records")
    assert host["events"] == frame["events"].sum()
    assert frame["p50_ns"].min() <= host["p50_ns"] <= frame["p50_ns"].max()


def test_priorities_are_told_apart_where_there_are_any():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1, profile="xen-4.23"))
    b.record(Op.INIT_CONTROL, dom=0)
    b.record(Op.EXPAND_ARRAY, dom=0)
    for port, priority in ((1, 3), (2, 7), (3, 7)):
        b.bind_ipi(dom=0)
        b.record(Op.SET_PRIORITY, dom=0, arg0=port, arg1=priority)
    for i in range(10):
        for port in (1, 2, 3, 3):
            b.send(dom=0, port=port, ts=1_000 * i)
        b.upcall(dom=0, ts=1_000 * i + 100 * (i + 1))
    run = evtsim.replay(b.trace())
    frame = analysis.coalescing(run, by="priority")
    columns = ["priority", "ports", "raised", "coalesced"]
    assert frame[columns].to_numpy().tolist() == [[7, 2, 30, 10], [3, 1, 10, 0]]
    latencies = analysis.latency_percentiles(run, by="priority")
    assert latencies[["priority", "events"]].to_numpy().tolist() == [[3, 10], [7, 20]]
    assert latencies["max_ns"].tolist() == [1_000, 1_000]
    assert len(analysis.selector_words(run)) == 0


def test_pending_is_what_is_pending(mixed):
    frame = analysis.pending(mixed)
    assert (frame["pending"] >= 0).all()
    end = frame.groupby("group")["pending"].last()
    assert end.loc[-1] == mixed.state.ports()["pending"].sum() == end.loc[0:].sum()
    each = frame[frame["group"] >= 0].groupby("start_ns")["pending"].sum()
    assert each.tolist() == frame.loc[frame["group"] == -1, "pending"].tolist()


def test_selector_words_add_up_and_lie_on_their_vcpu(mixed):
    frame = analysis.selector_words(mixed)
    assert frame["delivered"].sum() <= mixed.totals()["delivered"]
    assert frame["delivered"].is_monotonic_decreasing
    shares = frame.groupby(["dom", "vcpu"])["delivered_share"].sum()
    assert np.allclose(shares[shares > 0], 1)
    host = evtsim.Host(domains=[evtsim.Domain(word_bits=32)])
    b = evtsim.TraceBuilder(host)
    for _ in range(40):
        b.bind_ipi(dom=0)
    for port in (31, 32, 33):
        b.send(dom=0, port=port, ts=port)
    words = analysis.selector_words(evtsim.replay(b.trace()))
    columns = ["word", "first_port", "last_port", "ports", "raised"]
    assert sorted(words[columns].to_numpy().tolist()) == [[0, 0, 31, 1, 1], [1, 32, 63, 2, 2]]


def test_fairness_of_equal_and_of_unequal_ports():
    (equal,) = analysis.fairness(ipis([5, 5, 5, 5])).to_dict("records")
    assert (equal["ports"], equal["delivered"], equal["jain_delivered"]) == (4, 20, 1.0)
    assert equal["latency_max_ns"] == 3_100  # port 1 waits for three more and the upcall
    assert equal["latency_max_port"] == 1
    waits = np.array([3_100, 2_100, 1_100, 100])
    assert equal["jain_latency"] == pytest.approx(waits.sum() ** 2 / (4 * (waits**2).sum()))
    (unequal,) = analysis.fairness(ipis([30, 10])).to_dict("records")
    assert unequal["jain_delivered"] == pytest.approx(40**2 / (2 * (30**2 + 10**2)))
    assert unequal["longest_gap_ns"] == 2_000
    instant = ipis([3, 3])
    assert analysis.fairness(instant)["jain_latency"].between(0, 1).all()


def test_fairness_looks_at_each_vcpu_by_itself(mixed):
    frame = analysis.fairness(mixed)
    assert frame["jain_latency"].is_monotonic_increasing
    for name in ("jain_latency", "jain_delivered"):
        assert (frame[name] <= 1 + 1e-12).all()
        assert (frame[name] * frame["ports"] >= 1 - 1e-12).all()


@pytest.mark.parametrize("domains", [16, 200])
def test_a_storm_is_found_with_its_time_and_nothing_else_is(domains):
    trace = workloads.generate("storm", records=100_000, domains=domains)
    run = evtsim.replay(trace, outcomes=False)
    (storm,) = analysis.storms(run).to_dict("records")
    ports = run.ports
    busiest = ports.loc[ports["raised"].idxmax()]
    assert (storm["dom"], storm["port"]) == (busiest["dom"], busiest["port"])
    assert storm["reason"] == "rate, coalescing"
    assert storm["times_median"] > 1_000
    assert storm["begin_ns"] <= storm["busiest_ns"] < storm["end_ns"]
    flood = (trace.op == 4) & (trace.dom == domains - 1)
    flood &= trace.arg0 == np.bincount(trace.arg0[flood]).argmax()
    width = run.timeline["width_ns"].iloc[0]
    first, last = (int(ts) for ts in trace.ts[flood][[0, -1]])
    assert abs(int(storm["begin_ns"]) - first) <= 20 * width
    assert abs(int(storm["end_ns"]) - last) <= 20 * width


@pytest.mark.parametrize("name", ["io", "mixed", "timer", "ipi", "pirq", "boot", "churn"])
def test_healthy_hosts_have_no_storms(name):
    trace = workloads.generate(name, records=100_000, domains=100)
    assert len(analysis.storms(evtsim.replay(trace, outcomes=False))) == 0


def test_a_port_that_coalesces_apart_from_the_rest_is_found():
    counts = [150] * 11
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1))
    for _ in counts:
        b.bind_ipi(dom=0)
    for i in range(150):
        for port in range(1, 12):
            b.send(dom=0, port=port, ts=1_000 * i)
        if i % 2:
            b.send(dom=0, port=7)
        b.upcall(dom=0)
    (storm,) = analysis.storms(evtsim.replay(b.trace())).to_dict("records")
    assert (storm["port"], storm["reason"]) == (7, "coalescing")
    assert storm["coalesced_share"] == pytest.approx(75 / 225)


def test_a_threshold_decides_what_leaves_the_rest():
    run = ipis([1, 1, 1, 1, 1, 40])
    assert analysis.storms(run)["port"].tolist() == [6]
    assert len(analysis.storms(run, threshold=np.log(40) / (outliers.NORMAL * 0.5) + 1e-9)) == 0


def test_exhaustion_tells_who_is_out_of_ports_and_since_when():
    trace = workloads.generate("exhaust", records=30_000, word_bits="32")
    run = evtsim.replay(trace, outcomes=True)
    first, second = analysis.exhaustion(run).to_dict("records")[:2]
    assert (first["dom"], first["usable"], first["in_use"], first["peak_share"]) == (
        15,
        1023,
        1023,
        1,
    )
    failed = run.outcomes.rc == -28
    assert (first["enospc"], first["first_enospc_ns"]) == (failed.sum(), trace.ts[failed][0])
    assert second["enospc"] == 0
    assert pd.isna(second["first_enospc_ns"])


def test_exhaustion_forecasts_steady_growth():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    for _ in range(50):  # a start that says nothing of what comes
        b.alloc_unbound(dom=1, remote_dom=0, ts=0)
    for i in range(1_000):
        b.alloc_unbound(dom=1, remote_dom=0, ts=10**9 + i * 10**6)
    row, idle = analysis.exhaustion(evtsim.replay(b.trace())).to_dict("records")
    assert row["growth"] == pytest.approx(1_000, rel=0.01)
    when = 2 * 10**9 + (4_095 - 1_050) / 1_000 * 1e9
    assert row["forecast_ns"] == pytest.approx(when, rel=0.01)
    assert (idle["dom"], idle["growth"]) == (0, 0.0)
    assert np.isnan(idle["forecast_ns"])


def test_errors_are_those_of_the_tally():
    trace = workloads.generate("hostile", records=20_000)
    run = evtsim.replay(trace)
    frame = analysis.errors(run, by="operation")
    tally = {(row.op_name, row.rc): row.records for row in run.tally() if row.rc < 0}
    assert frame["records"].sum() == sum(tally.values()) == run.totals()["errors"]
    rc = {f"{name}": -int(number) for name, number in evtsim.abi.Errno.__members__.items()}
    for row in frame[frame["op_name"] != "op_76"].itertuples():  # which sums up all unknown ones
        assert row.records == tally[row.op_name, rc[row.errno_name]]
    assert frame["records"].is_monotonic_decreasing
    failed = np.flatnonzero(run.outcomes.rc < 0)[0]
    first = frame.loc[frame["first_ns"].idxmin()]
    assert first["first_ns"] == trace.ts[failed]
    assert first["first_dom"] in (trace.dom[failed], -1)
    by_domain = analysis.errors(run)
    assert by_domain["records"].sum() == frame["records"].sum()
    assert by_domain["share"].between(0, 1, inclusive="right").all()
    sends = by_domain[(by_domain["op_name"] == "send") & (by_domain["dom"] == 0)]
    of_dom = (trace.op == 4) & (trace.dom == 0)
    assert sends["share"].sum() == pytest.approx((run.outcomes.rc[of_dom] < 0).mean())


def test_the_matrix_is_the_edge_list(mixed):
    edges = analysis.edges(mixed)
    whole = analysis.matrix(mixed, most=1_000)
    assert whole.shape == (300, 300)
    assert np.count_nonzero(whole) == len(edges)
    assert whole.to_numpy()[edges["dom"], edges["target"]].tolist() == edges["raised"].tolist()
    groups = analysis.matrix(mixed)
    assert groups.shape == (150, 150)
    assert groups.index.tolist() == groups.columns.tolist() == list(range(0, 300, 2))
    assert groups.to_numpy().sum() == whole.to_numpy().sum() == edges["raised"].sum()
    assert groups.loc[4, 0] == whole.loc[4:5, 0:1].to_numpy().sum()


def test_compare_shows_the_largest_change_first(io):
    slow = evtsim.replay(io, guest=evtsim.Guest(wake_ns=50_000), drain=True)
    fast = evtsim.replay(io, guest=evtsim.Guest(wake_ns=500), drain=True)
    frame = analysis.compare(slow, fast)
    assert frame["relative"].abs().is_monotonic_decreasing
    metrics = frame.set_index("metric")
    assert metrics.loc["records", "change"] == 0
    assert metrics.loc["coalesced", "a"] == slow.totals()["coalesced"]
    assert metrics.loc["coalesced", "relative"] < -0.5
    assert metrics.loc["interdomain p50_ns", "change"] == pytest.approx(-49_500, rel=0.05)
    ports = analysis.compare(slow, fast, by="port")
    assert ports["of_total"].abs().is_monotonic_decreasing
    top = ports[ports["metric"] == "coalesced"].iloc[0]
    both = [run.ports.set_index(["dom", "port"])["coalesced"] for run in (slow, fast)]
    assert (top["a"], top["b"]) == tuple(side.loc[top["dom"], top["port"]] for side in both)
    assert top["of_total"] == pytest.approx(top["change"] / both[0].sum())
    assert len(analysis.compare(slow, slow, by="port")) == 0


def test_compare_of_hosts_with_different_ports():
    small, large = ipis([1]), ipis([1] * 200)
    frame = analysis.compare(small, large, by="port")
    raised = frame[frame["metric"] == "raised"]
    assert sorted(raised["port"]) == list(range(2, 201))
    assert set(raised["a"]) == {0.0}
    nothing = evtsim.replay(workloads.generate("channels", records=10), stats=None)
    assert "kicks" not in analysis.compare(nothing, large)["metric"].tolist()


def test_sweep_replays_every_setting(io):
    grid = {"wake_ns": [500, 20_000], "eoi": ["edge", "late"]}
    calls = []
    frame = analysis.sweep(io, grid, progress=lambda *done: calls.append(done))
    assert calls == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert frame[["wake_ns", "eoi"]].to_numpy().tolist() == [
        [500, "edge"], [500, "late"], [20_000, "edge"], [20_000, "late"],
    ]  # fmt: skip
    run = evtsim.replay(io, guest=evtsim.Guest(wake_ns=20_000, eoi="late"), drain=True)
    last, totals = frame.iloc[3], run.totals()
    assert (last["coalesced"], last["delivered"]) == (totals["coalesced"], totals["delivered"])
    assert last["upcalls"] == run.vcpus["upcalls"].sum()
    assert last["max_ns"] >= run.ports["latency_max"].max()
    assert frame["coalesced_share"].iloc[0] < frame["coalesced_share"].iloc[2]


def test_sweep_takes_distributions_and_names_what_is_wrong(io, tmp_path):
    io[:2_000].save(tmp_path / "t.arrow")
    frame = analysis.sweep(tmp_path / "t.arrow", {"wake_ns": [evtsim.Exponential(5_000)]})
    assert frame["wake_ns"].tolist() == ["Exponential(mean_ns=5000)"]
    with pytest.raises(EvtsimError, match="grid: no field 'wake'"):
        analysis.sweep(io, {"wake": [1]})
    with pytest.raises(EvtsimError, match="eoi is 'never'"):
        analysis.sweep(io, {"eoi": ["never"]})


def test_the_first_enospc_is_exact_at_any_time():
    frame = workloads.generate("exhaust", records=20_000, word_bits=32).frame()
    frame["ts"] += np.uint64(1_700_000_000_000_000_001)
    host = workloads.generate("exhaust", records=1, word_bits=32).host
    run = evtsim.replay(evtsim.Trace.from_frame(frame, host))
    first = analysis.exhaustion(run).set_index("dom")["first_enospc_ns"].dropna()
    operations = run.operations[run.operations["errno_name"] == "ENOSPC"]
    assert len(first) > 0
    assert first.to_dict() == operations.groupby("dom")["first_ts"].min().to_dict()


@pytest.mark.parametrize("most", [0, -1, 1.5])
def test_a_matrix_has_at_least_one_row(most):
    run = evtsim.replay(workloads.generate("channels", records=100, domains=3))
    with pytest.raises(evtsim.EvtsimError, match="most is "):
        analysis.matrix(run, most=most)


def test_a_latency_may_be_as_long_as_64_bits_allow():
    builder = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    builder.bind_ipi(dom=1, ts=0)
    builder.send(dom=1, port=1, ts=0)
    builder.upcall(dom=1, ts=2**64 - 1)
    frame = analysis.latency_percentiles(evtsim.replay(builder.trace()))
    assert frame["max_ns"].tolist() == [2**64 - 1]
    assert set(frame.dtypes[2:].astype(str)) == {"uint64"}
