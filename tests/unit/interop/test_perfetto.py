import gzip
import json
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import evtsim
from evtsim import EvtsimError, Guest, Host, TraceBuilder, workloads
from evtsim.abi import PROFILES
from evtsim.interop import perfetto
from evtsim.interop.intervals import PIECE
from evtsim.interop.perfetto import ROW

LATE = Guest(wake_ns=evtsim.Exponential(3000), eoi="late", eoi_ns=5000)

PHASES = set("MXsfCi")


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("perfetto") / "t.json"


def exported(trace, out, **options):
    count = perfetto.write(trace, out, **options)
    data = json.loads(out.read_text())
    assert data["displayTimeUnit"] == "ns"
    assert len(data["traceEvents"]) == count
    return data["traceEvents"]


def ns(event, field="ts"):
    return round(event[field] * 1000)


def named(events, name):
    return [event for event in events if event["name"] == name]


def phase(events, ph):
    return [event for event in events if event["ph"] == ph]


def assert_well_formed(events):
    for event in events:
        assert event.keys() >= {"name", "ph", "ts", "pid", "tid", "args"}
        assert event["ph"] in PHASES
    threads = {(e["pid"], e["tid"]) for e in named(events, "thread_name")}
    processes = {e["pid"] for e in named(events, "process_name")}
    assert {e["pid"] for e in events} == processes
    assert {(e["pid"], e["tid"]) for e in events if e["ph"] in "Xsfi"} == threads
    assert all(ns(e, "dur") >= 0 for e in phase(events, "X"))
    assert all(e["args"]["ports"] >= 0 for e in phase(events, "C"))


def assert_flows_have_both_ends(events):
    """And each end lies on an instant, which is what Perfetto ties it to."""
    ends = defaultdict(dict)
    for event in phase(events, "s") + phase(events, "f"):
        assert event["ph"] not in ends[event["id"]]
        ends[event["id"]][event["ph"]] = event
    instants = {(e["name"], e["ts"], e["pid"], e["tid"]) for e in phase(events, "i")}
    for pair in ends.values():
        assert ns(pair["s"]) <= ns(pair["f"])
        for ph, name in (("s", "send"), ("f", "delivered")):
            assert (name, pair[ph]["ts"], pair[ph]["pid"], pair[ph]["tid"]) in instants


def assert_slices_nest(events):
    """Perfetto drops a slice that begins in another and ends after it."""
    rows = defaultdict(list)
    for event in phase(events, "X"):
        rows[event["pid"], event["tid"]].append((ns(event), ns(event) + ns(event, "dur")))
    for slices in rows.values():
        open_ends = []
        for start, end in sorted(slices, key=lambda s: (s[0], -s[1])):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


def assert_agrees(events, run):
    slices = phase(events, "X")
    ports = run.ports
    assert len(slices) == ports["set"].sum()
    assert sum(ns(e, "dur") for e in slices) == ports["pending_ns"].sum()
    ends = Counter(e["args"]["end"] for e in slices)
    assert ends["delivered"] == ports["delivered"].sum()
    by_port = Counter((e["pid"], e["args"]["port"]) for e in slices)
    counts = ports.set_index(["dom", "port"])["set"]
    assert by_port == Counter(counts[counts > 0].to_dict())
    assert len(named(events, "KICK")) + run.totals()["errors"] == sum(
        e.get("cat") in ("kick", "error") for e in phase(events, "i")
    )
    levels = {e["pid"]: e["args"]["ports"] for e in phase(events, "C")}
    pending = run.domains.set_index("dom")["pending"].to_dict()
    assert {dom: n for dom, n in levels.items() if n} == {d: n for d, n in pending.items() if n}


@pytest.mark.parametrize("guest", [None, LATE])
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("channels", {"records": 3000, "domains": 5}),
        ("mixed", {"records": 3000, "domains": 4}),
        ("hostile", {"records": 2000}),
        ("hostile", {"records": 2000, "profile": "xen-4.23", "seed": 3}),
        ("migrate", {"records": 3000, "domains": 4, "abi": "fifo"}),
    ],
)
def test_slices_agree_with_the_statistics(out, name, parameters, guest):
    trace = workloads.generate(name, **parameters)
    events = exported(trace, out, guest=guest)
    run = evtsim.replay(trace, guest=guest)
    assert_well_formed(events)
    assert_flows_have_both_ends(events)
    assert_slices_nest(events)
    assert_agrees(events, run)
    if name != "hostile":
        assert len(phase(events, "s")) > 100


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000), records=st.integers(0, 300), profile=st.sampled_from(list(PROFILES))
)
def test_any_short_trace_agrees(out, seed, records, profile):
    trace = workloads.generate(
        "hostile", records=records, seed=seed, domains=3, nonsense=0.0, profile=profile
    )
    events = exported(trace, out)
    assert_well_formed(events)
    assert_flows_have_both_ends(events)
    assert_agrees(events, evtsim.replay(trace))


@pytest.fixture(scope="module")
def story():
    """Build a channel, of which one send is delivered, one cleared and one left pending."""
    b = TraceBuilder(Host.uniform(2, vcpus=2))
    b.alloc_unbound(ts=10, dom=1, remote_dom=0)
    b.bind_interdomain(ts=20, dom=0, remote_dom=1, remote_port=1)
    b.upcall(ts=30, dom=0)
    b.bind_vcpu(ts=40, dom=1, port=1, target_vcpu=1)
    b.send(ts=1000, dom=0, vcpu=1, port=1)
    b.send(ts=1100, dom=0, port=1)
    b.upcall(ts=2500, dom=1, vcpu=1)
    b.send(ts=3000, dom=0, port=1)
    b.clear_pending(ts=3500, dom=1, port=1)
    b.send(ts=4000, dom=0, port=9)
    b.send(ts=5000, dom=0, port=1)
    b.upcall(ts=6000, dom=0)
    return b.trace()


def test_a_story_is_told(out, story):
    events = exported(story, out)
    slices = [
        (ns(e), ns(e, "dur"), e["pid"], e["tid"], e["args"]["end"], e["args"].get("from_vcpu"))
        for e in sorted(phase(events, "X"), key=ns)
    ]
    assert slices == [
        (20, 10, 0, 0, "delivered", None),  # of the bind, which nobody sent
        (1000, 1500, 1, 1, "delivered", 1),
        (3000, 500, 1, 1, "cleared", 0),
        (5000, 1000, 1, 1, "pending", 0),
    ]
    (delivered,) = [e for e in phase(events, "X") if ns(e) == 1000]
    assert delivered["args"]["coalesced"] == 1
    assert delivered["cat"] == "interdomain"
    flows = [(e["ph"], ns(e), e["pid"], e["tid"]) for e in events if e["ph"] in "sf"]
    assert flows == [("s", 1000, 0, 1), ("f", 2500, 1, 1)]
    kicks = [(ns(e), e["pid"], e["tid"]) for e in named(events, "KICK")]
    # The vcpu takes no upcall after the bit was cleared, so upcall_pending stays.
    assert kicks == [(20, 0, 0), (1000, 1, 1), (3000, 1, 1)]
    (error,) = [e for e in events if e.get("cat") == "error"]
    assert (error["name"], ns(error), error["pid"]) == ("EINVAL send", 4000, 0)
    levels = [(ns(e), e["args"]["ports"]) for e in phase(events, "C") if e["pid"] == 1]
    assert levels == [(1000, 1), (2500, 0), (3000, 1), (3500, 0), (5000, 1)]


def test_a_window_has_what_ends_or_happens_in_it(out, story):
    events = exported(story, out, window=(2000, 3200))
    slices = [(ns(e), ns(e, "dur"), e["args"]["end"]) for e in phase(events, "X")]
    assert slices == [(1000, 1500, "delivered"), (3000, 200, "pending")]
    assert all(ns(e) >= 2000 for e in events if e["ph"] in "C" or e["name"] == "KICK")
    assert phase(exported(story, out, window=(None, 15)), "X") == []
    assert len(phase(exported(story, out, window=(5500, None)), "X")) == 1
    assert phase(exported(story, out, window=(7000, None)), "X") == []
    whole = exported(story, out)
    assert exported(story, out, window=(0, 10**9)) == whole
    assert exported(story, out, window=(None, None)) == whole


def test_a_window_of_a_large_trace_is_the_same_events(out):
    trace = workloads.generate("mixed", records=4000, domains=4)
    middle = int(trace.ts[2000])
    for guest in (None, LATE):
        late = {
            (e["name"], ns(e), ns(e, "dur"), e["pid"])
            for e in phase(exported(trace, out, guest=guest), "X")
            if ns(e) + ns(e, "dur") >= middle
        }
        windowed = exported(trace, out, guest=guest, window=(middle, None))
        assert_well_formed(windowed)
        assert_flows_have_both_ends(windowed)
        assert {(e["name"], ns(e), ns(e, "dur"), e["pid"]) for e in phase(windowed, "X")} == late


def test_domains_are_chosen_and_flows_stay_whole(out):
    trace = workloads.generate("mixed", records=3000, domains=4)
    whole = exported(trace, out)
    events = exported(trace, out, domains=[0, 2])
    assert {e["pid"] for e in events} == {0, 2}
    assert_flows_have_both_ends(events)
    assert len(phase(events, "X")) == sum(e["pid"] in (0, 2) for e in phase(whole, "X"))
    assert 0 < len(phase(events, "s")) < len(phase(whole, "s"))


def test_drain_lets_guests_finish(out, story):
    events = exported(story, out, guest=LATE, drain=True)
    assert {e["args"]["end"] for e in phase(events, "X")} <= {"delivered", "cleared"}
    assert_agrees(events, evtsim.replay(story, guest=LATE, drain=True))


def test_slices_that_cross_get_another_row(out):
    b = TraceBuilder(Host.uniform(1))
    for virq in (2, 3, 4):
        b.bind_virq(dom=0, virq=virq)
    for ts, virq in ((10, 2), (20, 3), (30, 4)):
        b.raise_virq(ts=ts, dom=0, virq=virq)
    b.clear_pending(ts=40, dom=0, port=1)
    b.clear_pending(ts=50, dom=0, port=2)
    b.upcall(ts=60, dom=0)
    events = exported(b.trace(), out)
    rows = {e["args"]["port"]: e["tid"] for e in phase(events, "X")}
    assert rows == {1: 0, 2: ROW, 3: 2 * ROW}
    names = {e["tid"]: e["args"]["name"] for e in named(events, "thread_name")}
    assert names == {0: "vcpu 0", ROW: "vcpu 0 (2)", 2 * ROW: "vcpu 0 (3)"}
    assert_slices_nest(events)


def test_a_row_forgets_and_stays_right():
    row = perfetto._Row()
    assert all(row.takes(10 * i, 10 * i + 5) for i in range(2000))
    assert len(row.slices) <= perfetto.REMEMBERED
    assert not row.takes(3, 20_001)  # across one that is forgotten
    assert row.takes(19_995, 20_001)


def test_compressed_files_are_the_same_and_reproducible(out, story):
    exported(story, out)
    packed = out.with_name("t.json.gz")
    perfetto.write(story, packed)
    first = packed.read_bytes()
    assert gzip.decompress(first) == out.read_bytes()
    perfetto.write(story, packed)
    assert packed.read_bytes() == first


def test_an_empty_trace_is_an_empty_page(out):
    assert exported(TraceBuilder(Host.uniform(2)).trace(), out) == []
    assert exported(TraceBuilder(Host.uniform(2)).trace(), out, guest=LATE, drain=True) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"window": (5, 3)}, "window is"),
        ({"window": (-1, None)}, "window is"),
        ({"window": 7}, "window is"),
        ({"window": ("a", "b")}, "window is"),
        ({"domains": [2]}, "domain 2 .expected 0 to 1"),
        ({"domains": ["0"]}, "domain '0'"),
        ({"drain": True}, "drain lets a guest go on"),
        ({"overwrite": False}, "exists already"),
    ],
)
def test_what_makes_no_sense_is_refused_and_leaves_the_file(out, story, options, words):
    out.write_text("mine")
    with pytest.raises(EvtsimError, match=words):
        perfetto.write(story, out, **options)
    assert out.read_text() == "mine"
    with pytest.raises(EvtsimError, match="unknown suffix"):
        perfetto.write(story, out.with_suffix(".txt"))


def test_progress_and_memory_go_by_pieces(out, monkeypatch):
    """The log of deliveries is emptied after each piece."""
    trace = workloads.generate("channels", records=300_000, domains=4)
    logs = []
    take = evtsim.state.State.take_deliveries

    def taken(state):
        rows = take(state)
        logs.append(len(rows))
        return rows

    monkeypatch.setattr("evtsim.state.State.take_deliveries", taken)
    seen = []
    last = int(trace.ts[-1])
    perfetto.write(
        trace, out, window=(last - 1000, None), progress=lambda done, total: seen.append(done)
    )
    assert seen[-1] == 300_000
    assert len(seen) == -(-300_000 // PIECE)
    assert max(logs) < 2 * PIECE
    assert int(evtsim.replay(trace).totals()["delivered"]) == sum(logs)
