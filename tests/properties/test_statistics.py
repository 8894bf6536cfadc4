"""What the kernels count is what an observer of the reference model counts; the books balance."""

import numpy as np
import pytest
from hypothesis import given

import evtsim
from evtsim import statistics
from evtsim.abi import Effect, Op
from evtsim.dtypes import LATENCY_BINS
from tests.compare import host_of, trace_of
from tests.conformance.test_recordings import RECORDINGS
from tests.observed import ObservedHost
from tests.reference import Record
from tests.strategies import runs

PORT_COUNTS = (
    "sends",
    "dropped",
    "to_xen",
    "raised",
    "set",
    "coalesced",
    "masked",
    "delivered",
    "cleared",
    "saved",
    "no_control_block",
    "pending_ns",
    "masked_ns",
    "latency_sum",
    "latency_max",
    "longest_gap",
)
VCPU_COUNTS = (
    "kicks",
    "upcalls",
    "spurious",
    "ignored_upcalls",
    "delivered",
    "largest_batch",
    "poll_wakes",
)
DOMAIN_COUNTS = (
    "hypercalls",
    "errors",
    "in_use",
    "in_use_peak",
    "pending",
    "pending_peak",
)


def assert_books_balance(run, *, guest=False):
    ports = run.ports
    assert (
        ports["raised"]
        == ports["set"] + ports["coalesced"] + ports["saved"] + ports["no_control_block"]
    ).all()
    assert (ports["set"] == ports["delivered"] + ports["cleared"] + ports["outstanding"]).all()
    assert (ports[list(PORT_COUNTS)] >= 0).all().all()
    totals = run.totals()
    assert ports["delivered"].sum() == totals["delivered"]
    # Under FIFO one expand_array notifies many ports, and an unmask reports what it notifies
    # again, which counts as nothing.
    if run.host.profile == "xen-4.0":
        for name in ("set", "coalesced", "masked"):
            assert ports[name].sum() == totals[name], name
        if not guest:  # whose EOIs kick, and are no records
            assert run.vcpus["kicks"].sum() == totals["kick"]
    else:
        for name in ("set", "masked", "saved"):
            assert ports[name].sum() >= totals[name], name
        assert ports["coalesced"].sum() <= totals["coalesced"]
    assert ports["dropped"].sum() == totals["dropped"]
    assert ports["to_xen"].sum() == totals["xen"]
    operations = run.operations
    assert operations["records"].sum() == totals["records"]
    assert operations.loc[operations["rc"] < 0, "records"].sum() == totals["errors"]
    sent = operations[(operations["op"] == 4) & (operations["rc"] == 0)]["records"].sum()
    assert ports["sends"].sum() == sent
    timeline = run.timeline
    whole, groups = timeline[timeline["group"] == -1], timeline[timeline["group"] >= 0]
    for name in ("set", "coalesced", "masked", "delivered"):
        assert whole[name].sum() == groups[name].sum() == ports[name].sum()
    assert whole["cleared"].sum() == ports["cleared"].sum()
    assert whole["kicks"].sum() == run.vcpus["kicks"].sum()
    latency = run.latency
    assert latency.loc[latency["type"] != "all", "events"].sum() == totals["delivered"]
    assert latency.loc[latency["type"] == "all", "events"].sum() == totals["delivered"]
    assert run.vcpus["delivered"].sum() == totals["delivered"]


def assert_same_counts(run, observed):
    outstanding = observed.outstanding()
    for row in run.ports.to_dict("records"):
        want = observed.port[row["dom"], row["port"]]
        assert {n: row[n] for n in PORT_COUNTS} == {n: want[n] for n in PORT_COUNTS}, row
        assert row["outstanding"] == outstanding[row["dom"], row["port"]], row
    for row in run.vcpus.to_dict("records"):
        want = observed.vcpu[row["dom"], row["vcpu"]]
        assert {n: row[n] for n in VCPU_COUNTS} == {n: want[n] for n in VCPU_COUNTS}, row
    for row in run.domains.to_dict("records"):
        want = observed.domain[row["dom"]]
        assert {n: row[n] for n in DOMAIN_COUNTS} == {n: want[n] for n in DOMAIN_COUNTS}, row
    edges = {(e["dom"], e["target"]): e for e in run.edges.to_dict("records")}
    assert edges.keys() == observed.edge.keys()
    for key, want in observed.edge.items():
        assert (edges[key]["raised"], edges[key]["coalesced"]) == (
            want["raised"],
            want["coalesced"],
        )
    got = {
        (o["dom"], o["op"], o["rc"]): (o["records"], o["first_ts"])
        for o in run.operations.to_dict("records")
    }
    assert got == {key: (n, observed.first_ts[key]) for key, n in observed.operation.items()}
    by_type = run.latency[run.latency["type"] != "all"]
    for low, high, events in zip(
        *(by_type[c] for c in ("low_ns", "high_ns", "events")), strict=True
    ):
        assert events <= sum(low <= latency <= high for latency in observed.latencies)


@given(runs(size=80, profile=evtsim.abi.PROFILES))
def test_counts_are_those_of_an_observer(run):
    configs, records, _, reference = run
    profile = reference.profile.name
    observed = ObservedHost(configs, profile)
    for record in records:
        observed.apply(record)
    replayed = evtsim.replay(trace_of(records, host_of(configs, profile)), stats="port")
    assert_books_balance(replayed)
    assert_same_counts(replayed, observed)


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recordings(path):
    recording = np.load(path)
    host = evtsim.Host(profile=path.parent.name, domains=recording["domains"])
    run = evtsim.replay(evtsim.Trace.from_records(recording["trace"], host))
    assert_books_balance(run)
    np.testing.assert_array_equal(run.outcomes.effects, recording["effects"])
    # Every record's effect is one notification's, but for these two operations.
    ports, op, effects = run.ports, recording["trace"]["op"], recording["effects"]
    assert ports["coalesced"].sum() == np.count_nonzero(effects[op != Op.UNMASK] & Effect.COALESCED)
    if not (effects[op == Op.EXPAND_ARRAY] & Effect.SET).any():
        assert ports["set"].sum() == np.count_nonzero(effects & Effect.SET)
    assert ports["saved"].sum() == np.count_nonzero(effects & Effect.SAVED)


@pytest.mark.parametrize("path", RECORDINGS[::6], ids=lambda path: path.stem)
def test_counts_on_recordings_are_those_of_an_observer(path):
    from tests.reference import DomainConfig

    recording = np.load(path)
    names = recording["domains"].dtype.names
    rows = recording["domains"].tolist()
    configs = [DomainConfig(**dict(zip(names, row, strict=True))) for row in rows]
    profile = path.parent.name
    observed = ObservedHost(configs, profile)
    records = [Record(*row) for row in recording["trace"][:600].tolist()]
    for record in records:
        observed.apply(record)
    assert_same_counts(evtsim.replay(trace_of(records, host_of(configs, profile))), observed)


@given(runs(size=60, profile=evtsim.abi.PROFILES))
def test_statistics_change_no_answer(run):
    configs, records, outcomes, reference = run
    trace = trace_of(records, host_of(configs, reference.profile.name))
    plain = evtsim.Simulator(trace.host)
    plain.apply(trace)
    for level in ("domain", "port"):
        counted = evtsim.Simulator(trace.host, stats=level)
        assert counted.apply(trace).rc.tolist() == [outcome.rc for outcome in outcomes]
        before, after = plain.state.snapshot(), counted.state.snapshot()
        for name in ("domains", "vcpus", "ports", "shared", "virqs", "pirqs"):
            assert np.array_equal(before[name], after[name]), name


def test_a_million_records_balance_and_may_be_cut_anywhere():
    trace = evtsim.workloads.generate("channels", records=1_000_000, domains=300, vcpus=2, ports=12)
    whole = evtsim.Simulator(trace.host, stats="port")
    whole.apply(trace)
    assert_books_balance(whole.run())
    pieces = evtsim.Simulator(trace.host, stats="port")
    cuts = np.sort(np.random.default_rng(5).integers(0, len(trace), 200)).tolist()
    for start, stop in zip([0, *cuts], [*cuts, len(trace)], strict=True):
        pieces.apply(trace[start:stop])
    for name, table in whole.state.snapshot().items():
        if name != "result":
            assert np.array_equal(table, pieces.state.snapshot()[name]), name


def test_the_timeline_does_not_depend_on_when_bins_merge():
    """Bins begin at multiples of their width: late merging and early merging agree."""
    ts = np.sort(np.random.default_rng(2).integers(10**15, 10**15 + 10**10, 3000))
    records = [Record(int(t), 0, 0, 4, 0, 0, 0) for t in ts]  # each is an error
    run = evtsim.replay(trace_of(records, evtsim.Host.uniform(1)))
    timeline = run.timeline[run.timeline["group"] == 0]
    width = int(timeline["width_ns"].iloc[0])
    assert 512 < len(timeline) <= 1024
    assert (timeline["start_ns"] % width == 0).all()
    want = np.bincount(((ts // width) - (ts[0] // width)).astype(int), minlength=len(timeline))
    assert timeline["errors"].tolist() == want.tolist()


def test_histogram_bins_cover_every_latency_once():
    places = np.arange(LATENCY_BINS)
    low, high = statistics.latency_bounds(places[:1800])
    assert (low[1:] == high[:-1] + 1).all()
    assert low[0] == 0
    assert ((high - low + 1) * 32 <= np.maximum(low, 32)).all()


def test_what_was_not_counted_is_an_error_that_names_the_option():
    trace = evtsim.workloads.generate("channels", records=1000)
    plain = evtsim.replay(trace, stats=None)
    for name in ("ports", "vcpus", "domains", "operations", "timeline", "latency", "edges"):
        with pytest.raises(evtsim.EvtsimError, match="stats="):
            getattr(plain, name)
    some = evtsim.replay(trace, stats="domain")
    assert len(some.domains) == 16
    with pytest.raises(evtsim.EvtsimError, match="stats='port'"):
        some.ports


def test_edges_are_summed_up_when_their_log_is_full():
    """Channels opened and closed over and over: more edges than the log holds."""
    b = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    rounds = 20_000
    for _ in range(rounds):
        b.alloc_unbound(dom=0, remote_dom=1)
        b.bind_interdomain(dom=1, remote_dom=0, remote_port=1)
        b.send(dom=0, port=1)
        b.send(dom=1, port=1)
        b.close(dom=0, port=1)
        b.close(dom=1, port=1)
    run = evtsim.replay(b.trace())
    assert run.edges["raised"].tolist() == [rounds, rounds]
    assert_books_balance(run)
