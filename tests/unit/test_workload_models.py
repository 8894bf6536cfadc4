"""The models' distributions come out as asked, and what each stands for is in its trace."""

import numpy as np
import pytest

import evtsim
from evtsim import workloads
from evtsim.abi import DOMID_SELF, Effect, Errno, Op, PortState, Virq

FEW_PORTS = evtsim.Host(
    "xen-4.23",
    [
        evtsim.Domain(privileged=True),
        *[evtsim.Domain(alive=False)] * 5,
        evtsim.Domain(max_port=1999),
    ],
)
QUIET = {"batching": 0, "devices": 1, "wake_ns": 100}


def requests(trace):
    """Times and domains of what frontends send once all are up."""
    up = trace.ts[np.flatnonzero(trace.op == Op.BIND_INTERDOMAIN)[-1]] + 20_000_000
    chosen = (trace.op == Op.SEND) & (trace.dom != 0) & (trace.ts > up)
    return trace.ts[chosen].astype(np.int64), trace.dom[chosen]


def seconds(ts):
    return (ts[-1] - ts[0]) / 1e9


def test_popularity_follows_zipf():
    for exponent in (0.5, 1.2):
        trace = workloads.generate(
            "io", domains=65, records=400_000, zipf=exponent, burst=1, bursts="exponential", **QUIET
        )
        counts = np.sort(np.bincount(requests(trace)[1], minlength=65)[1:])[::-1]
        slope, _ = np.polyfit(np.log(np.arange(1, 65)), np.log(counts), 1)
        assert slope == pytest.approx(-exponent, abs=0.05)
    first = np.argmax(np.bincount(requests(trace)[1]))
    other = workloads.generate("io", domains=65, records=100_000, zipf=1.2, seed=8, **QUIET)
    assert first != np.argmax(np.bincount(requests(other)[1])), "the same guest is always popular"


@pytest.mark.parametrize("bursts", ["pareto", "exponential"])
def test_bursts(bursts):
    """A burst ends where the next request takes longer than any gap within one."""
    trace = workloads.generate(
        "io", domains=41, records=800_000, zipf=0, bursts=bursts, burst=20, shape=2, rate=200,
        **QUIET,
    )  # fmt: skip
    ts, dom = requests(trace)
    assert len(ts) / seconds(ts) / 40 == pytest.approx(200, rel=0.05)
    lengths, gaps = [], []
    for guest in range(1, 41):
        between = np.diff(ts[dom == guest])
        ends = np.flatnonzero(between > 500_000)  # 25 mean gaps; pauses are 100 ms long
        lengths.append(np.diff(ends))
        gaps.append(between[between <= 500_000])
    lengths, gaps = np.concatenate(lengths), np.concatenate(gaps)
    assert gaps.mean() == pytest.approx(20_000, rel=0.02)
    assert np.median(gaps) == pytest.approx(20_000 * np.log(2), rel=0.02)
    assert lengths.mean() == pytest.approx(20, rel=0.08)
    if bursts == "pareto":  # with shape 2: P(length > x) = (least / x) ** 2
        assert lengths.min() == 10
        for times in (2, 4, 8):
            assert (lengths > 10 * times).mean() == pytest.approx(times**-2, rel=0.2)
    else:
        assert (lengths > 40).mean() == pytest.approx(np.exp(-2), rel=0.1)


def test_wake_and_service_times():
    trace = workloads.generate(
        "io", domains=2, records=100_000, rate=20, burst=1, bursts="exponential", devices=1,
        wake_ns=7_000, service_ns=300_000,
    )  # fmt: skip
    tail = trace[2000:]
    assert set(tail.op) == {Op.SEND, Op.UPCALL}
    ts, op, dom = tail.ts.astype(np.int64), tail.op, tail.dom
    after = np.diff(ts)
    sent = (op[:-1] == Op.SEND) & (op[1:] == Op.UPCALL) & (dom[:-1] != dom[1:])
    assert np.median(after[sent]) == pytest.approx(7_000, rel=0.02)
    assert np.std(np.log(after[sent])) == pytest.approx(0.5, rel=0.02)
    answered = (op[:-1] == Op.UPCALL) & (dom[:-1] == 0) & (op[1:] == Op.SEND) & (dom[1:] == 0)
    assert np.median(after[answered]) == pytest.approx(300_000, rel=0.02)


def test_batching_leaves_needless_notifications_out():
    def coalesced(batching):
        busy = {"rate": 20_000, "records": 200_000, "wake_ns": 50_000}
        run = evtsim.replay(workloads.generate("io", batching=batching, **busy))
        return run.totals()["coalesced"] / run.totals()["set"]

    assert coalesced(1) == 0
    assert 0 < 4 * coalesced(0.9) < coalesced(0)


def test_timers_tick_at_their_rate():
    trace = workloads.generate("timer", rate=100, jitter_ns="30us", domains=6, duration_ns="3s")
    ticks = trace.op == Op.RAISE_VIRQ
    for dom in range(1, 6):
        for vcpu in range(2):
            mine = trace.ts[ticks & (trace.dom == dom) & (trace.vcpu == vcpu)].astype(np.int64)
            phase = mine % 10_000_000
            assert (np.diff((mine + 5_000_000 - phase.min()) // 10_000_000) == 1).all()
            assert np.mean((phase - phase.min()) % 10_000_000) == pytest.approx(30_000, rel=0.35)


def test_ipis():
    trace = workloads.generate("ipi", vcpus=4, records=200_000, broadcast=0.1, rate=500)
    run = evtsim.replay(trace)
    ports = run.ports[run.ports["sends"] > 0].merge(
        run.state.ports(), on=["dom", "port"], suffixes=("", "_now")
    )
    ipis = ports[ports["state_now"] == PortState.IPI]
    # Ports lie in the order of binding: timer, spin unlock, reschedule, call function, debug, ...
    per_kind = ipis.groupby((ipis["port"] - 3) % 7)["sends"].sum()
    assert set(per_kind.index) == {2, 3, 5}
    operations = per_kind[2] + per_kind[5] + per_kind[3] / 3
    assert per_kind[3] / 3 / operations == pytest.approx(0.1, rel=0.1)
    assert per_kind[2] == pytest.approx(per_kind[5], rel=0.05)
    assert operations / 15 / seconds(trace.ts.astype(float)) == pytest.approx(500, rel=0.05)
    sent = trace.op == Op.SEND
    assert set(trace.vcpu[sent & (trace.dom == 3)]) == {0, 1, 2, 3}


def test_interrupts_are_masked_while_they_are_handled():
    trace = workloads.generate("pirq", pirqs=3, rate=1000, handler_ns="50us", duration_ns="4s")
    raised = trace.op == Op.RAISE_PIRQ
    assert set(trace.dom[raised]) == {0, 1}
    load = seconds(trace.ts[raised].astype(float))
    assert raised.sum() / 6 / load == pytest.approx(1000, rel=0.05)
    run = evtsim.replay(trace)
    assert run.totals()["masked"] > 100
    told = (trace.op == Op.SEND) & (trace.dom == 1) & (trace.ts > trace.ts[raised][0])
    assert told.sum() > 0.5 * raised.sum() / 2, "guests hear of their driver domain's interrupts"


def test_boot_binds_what_linux_binds():
    trace = workloads.generate("boot", domains=5, vcpus=3, devices=2)
    ports = evtsim.replay(trace).state.ports()
    states = ports.groupby("dom")["state"].value_counts().unstack()
    assert (states[PortState.IPI] == [5 * 4, *[5 * 3] * 4]).all()
    assert (states[PortState.VIRQ] == [2 * 4 + 2, *[2 * 3] * 4]).all()
    assert (states[PortState.INTERDOMAIN] == [4 * 4, *[4] * 4]).all()
    bound = ports[ports["state"] > PortState.UNBOUND]
    assert not bound["mask"].any()
    guest = bound[bound["dom"] == 2].sort_values("port")
    assert guest["state"].tolist()[:9] == [3, 3, 5, 6, 6, 6, 5, 6, 6]
    assert guest["notify_vcpu"].tolist()[2:23] == [0] * 7 + [1] * 7 + [2] * 7
    assert len(trace) == len(
        workloads.generate("boot", domains=5, vcpus=3, devices=2, records=10**7)
    )


@pytest.mark.parametrize(
    ("priorities", "timer", "devices"),
    [("linux", 0, [7, 7, 7]), ("devices", 0, [0, 1, 2]), ("equal", 7, [7, 7, 7])],
)
def test_guests_set_the_fifo_abi_up(priorities, timer, devices):
    trace = workloads.generate("boot", domains=5, devices=3, abi="fifo", priorities=priorities)
    run = evtsim.replay(trace)
    domains, ports = run.state.domains(), run.state.ports()
    assert domains["fifo"].all()
    assert (domains["num_evtchns"] == 1024).all()
    first = trace.op == Op.INIT_CONTROL
    assert trace.arg0[first & (trace.dom == 0)].tolist() == [0, 1, 2, 3]
    assert trace.arg0[first & (trace.dom == 3)].tolist() == [0, 1]
    used = ports[ports["state"] > PortState.RESERVED]
    assert not used["mask"].any()
    timers = (used["state"] == PortState.VIRQ) & (used["irq"] == Virq.TIMER)
    assert (used["priority"][timers] == timer).all()
    for dom in range(1, 5):
        ends = used[(used["dom"] == dom) & (used["state"] == PortState.INTERDOMAIN)]
        assert ends["priority"].tolist() == [7, 7, *devices]
        backends = used[(used["dom"] == 0) & (used["remote_dom"] == dom)]
        assert sorted(backends["priority"]) == sorted([7, 7, *devices])


def test_event_arrays_grow_and_new_ports_are_masked():
    trace = workloads.generate("boot", domains=600, abi="fifo", rate=1e5, records=10**6)
    run = evtsim.replay(trace, outcomes=True)
    words = run.state.domains()["num_evtchns"]
    assert words[0] == 3 * 1024
    assert (words[1:] == 1024).all()
    grown = np.flatnonzero((trace.op == Op.EXPAND_ARRAY) & (trace.dom == 0))
    bound = np.flatnonzero((trace.op == Op.BIND_INTERDOMAIN) & (trace.dom == 0))
    ports = run.outcomes.port[bound]
    assert (np.diff(ports) == 1).all()
    for page, record in enumerate(grown[1:].tolist(), start=1):
        assert ports[bound < record].max() == 1024 * page - 1
    assert (run.outcomes.effects[bound] & Effect.MASKED).all()


def test_channels_beyond_the_2_level_limit():
    trace = workloads.generate("channels", abi="fifo", ports=6000, domains=5, vcpus=3)
    run = evtsim.replay(trace)
    assert run.totals()["errors"] == run.totals()["no_control_block"] == 0
    assert (run.state.domains()["num_evtchns"] == 6 * 1024).all()
    assert run.state.ports()["port"].max() >= 5999


def test_a_slow_guest_finds_the_ports_of_the_trace():
    trace = workloads.generate(
        "churn", abi="fifo", deliver="model", rate=500, down_ns=0, races=0, phase_ns=0
    )
    guest = evtsim.Guest(wake_ns=1_000_000, eoi="late", eoi_ns=100_000)
    assert evtsim.replay(trace, guest=guest).totals()["errors"] == 0


def test_a_storm_floods_one_port():
    trace = workloads.generate("storm", domains=10, storm_rate=300_000, records=200_000)
    run = evtsim.replay(trace)
    sent = trace.ts[(trace.op == Op.SEND) & (trace.dom == 9)].astype(float)[100:]
    assert len(sent) / seconds(sent) == pytest.approx(300_000, rel=0.02)
    busiest = run.ports.nlargest(2, "coalesced")
    assert busiest["dom"].iloc[0] == 0
    assert busiest["coalesced"].iloc[0] > 10 * busiest["coalesced"].iloc[1]


def test_churn_restarts_guests():
    trace = workloads.generate("churn", rate=100, down_ns="20ms", records=300_000, races=0)
    gone, come = (np.flatnonzero(trace.op == op) for op in (Op.DESTROY_DOMAIN, Op.CREATE_DOMAIN))
    spent = (trace.ts[-1] - trace.ts[gone[0]]) / 1e9
    assert len(gone) / spent == pytest.approx(100, rel=0.25)  # some are chosen while they are down
    assert len(gone) - 15 < len(come) - 15 <= len(gone)
    assert evtsim.replay(trace).totals()["errors"] == 0


def test_churn_has_races_if_it_shall():
    trace = workloads.generate("churn", rate=200, races=1, records=300_000)
    run = evtsim.replay(trace)
    failed = run.outcomes.rc[run.outcomes.rc != 0]
    assert 10 < len(failed) < 0.05 * len(trace)
    assert set(failed) == {-Errno.ESRCH}
    assert run.totals()["dropped"] > 0


@pytest.mark.parametrize("abi", ["2l", "fifo"])
def test_migrated_guests_bind_anew(abi):
    trace = workloads.generate("migrate", rate=50, records=200_000, domains=6, abi=abi)
    resets = np.flatnonzero(trace.op == Op.RESET)
    assert len(resets) > 20
    assert set(trace.dom[resets]) == {0}
    assert set(trace.arg0[resets]) == {1, 2, 3, 4, 5}
    guest = int(trace.arg0[resets[0]])
    after = trace[int(resets[0]) :]
    bound = after.op[(after.dom == guest) & (after.op == Op.BIND_VIRQ)]
    assert len(bound) >= 4
    blocks = after.op[(after.dom == guest) & (after.op == Op.INIT_CONTROL)]
    assert len(blocks) >= (2 if abi == "fifo" else 0)
    assert evtsim.replay(trace).totals()["errors"] == 0


@pytest.mark.parametrize(
    ("parameters", "limit"),
    [
        ({"domains": 7}, 4096),
        ({"domains": 7, "word_bits": "32"}, 1024),
        ({"domains": 7, "profile": "xen-4.23"}, 4096),
        ({"domains": 7, "abi": "fifo", "open_rate": 1e7, "records": 140_000}, 131_072),
        ({"abi": "fifo", "host": FEW_PORTS}, 2000),
        ({"abi": "2l", "host": FEW_PORTS}, 2000),
    ],
)
def test_exhaust_is_refused_at_the_limit(parameters, limit):
    trace = workloads.generate("exhaust", **parameters)
    rc = evtsim.replay(trace).outcomes.rc
    opened = (trace.op == Op.ALLOC_UNBOUND) & (trace.dom == 6)
    assert (trace.arg0[opened] == DOMID_SELF).all()
    assert (rc[~opened] == 0).all()
    assert (rc[opened][: limit - 1] == 0).all()
    assert (rc[opened][limit - 1 :] == -Errno.ENOSPC).all()
    assert opened.sum() > limit + 1000


def test_hostile_tries_everything():
    trace = workloads.generate("hostile", records=200_000)
    run = evtsim.replay(trace)
    assert {int(op) for op in Op} < set(trace.op)
    assert set(trace.flags) == {0, 1, 2, 3}
    errors = set(-run.outcomes.rc[run.outcomes.rc < 0])
    assert errors == {1, 2, 3, 14, 17, 22, 38}
    worked = {int(op) for op in np.unique(trace.op[run.outcomes.rc == 0])}
    assert {int(op) for op in Op} - worked == {11, 12, 13, 14}
    assert all(run.totals()[name] > 50 for name in ("set", "coalesced", "masked", "dropped", "xen"))


def test_hostile_comes_to_the_fifo_abi_and_back():
    trace = workloads.generate("hostile", records=200_000, profile="xen-4.23")
    run = evtsim.replay(trace)
    worked = {int(op) for op in np.unique(trace.op[run.outcomes.rc == 0])}
    assert {int(op) for op in Op} - worked == {Op.RESET_CONT}
    errors = set(-run.outcomes.rc[run.outcomes.rc < 0])
    assert errors == {int(errno) for errno in Errno} - {Errno.ENOSPC}
    assert all(run.totals()[name] > 50 for name in ("saved", "no_control_block"))


def test_mixed_has_something_of_everything():
    trace = workloads.generate("mixed", records=300_000, churn_rate=20)
    counts = np.bincount(trace.op, minlength=76)
    for op in (Op.SEND, Op.RAISE_VIRQ, Op.UPCALL, Op.DESTROY_DOMAIN, Op.BIND_IPI, Op.CLOSE):
        assert counts[op] > 0
    types = evtsim.replay(trace).latency.groupby("type", observed=True)["events"].sum()
    assert (types > 1000).sum() >= 3
