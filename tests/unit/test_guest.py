"""The guest: closed forms, configuration, the log of deliveries, time that goes on."""

import json

import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, draws
from evtsim.abi import Op
from tests.commands import evtsim_command


def one_port(ts, *, mask=False):
    """Return a trace of sends at the times ts into one port of dom1, from dom0."""
    host = evtsim.Host.uniform(2)
    setup = evtsim.TraceBuilder(host)
    setup.alloc_unbound(dom=1, remote_dom=0, ts=0)
    setup.bind_interdomain(dom=0, remote_dom=1, remote_port=1, ts=0)
    if mask:
        setup.mask(dom=1, port=1, ts=0)
    sends = np.zeros(len(ts), evtsim.RECORD_DTYPE)
    sends["ts"], sends["op"], sends["arg0"] = ts, Op.SEND, 1
    return evtsim.Trace.concat([setup.trace(), evtsim.Trace.from_records(sends, host)])


def target(run):
    ports = run.ports
    return ports[(ports["dom"] == 1) & (ports["port"] == 1)].iloc[0]


@pytest.mark.parametrize("load", [0.2, 1.0, 5.0])
def test_poisson_sends_coalesce_as_the_closed_form_says(load):
    """A bit set waits W; of the sends, W in 1/rate + W find it set."""
    wake = 10_000
    uniform = draws.words(3, 0, 0, 1_000_000) / 2**64
    gaps = -np.log1p(-uniform) * wake / load
    ts = 10**6 + np.cumsum(gaps).astype(np.uint64)
    guest = evtsim.Guest(wake_ns=wake, handler_ns=0)
    run = evtsim.replay(one_port(ts), guest=guest, outcomes=False, drain=True)
    port = target(run)
    assert port["coalesced"] / port["raised"] == pytest.approx(load / (1 + load), rel=0.01)
    assert port["latency_max"] == wake
    assert port["latency_sum"] == wake * port["delivered"]
    assert port["delivered"] == port["set"]


def test_a_periodic_source_slower_than_the_guest_never_coalesces():
    ts = 10**6 + np.arange(10_000) * 2_001
    guest = evtsim.Guest(wake_ns=2_000, handler_ns=0)
    port = target(evtsim.replay(one_port(ts), guest=guest, drain=True))
    assert (port["coalesced"], port["delivered"]) == (0, 10_000)


def test_a_masked_port_delivers_nothing_and_coalesces_all_but_one():
    ts = 10**6 + np.arange(1_000) * 50_000
    port = target(evtsim.replay(one_port(ts, mask=True), guest=evtsim.Guest(), drain=True))
    assert (port["delivered"], port["coalesced"], port["outstanding"]) == (0, 999, 1)


def test_late_eois_hold_back_a_flood():
    """Sends every us, an EOI 20 us after each handling: one delivery in about 22 us."""
    ts = 10**6 + np.arange(100_000) * 1_000
    guest = evtsim.Guest(wake_ns=1_500, handler_ns=500, eoi="late", eoi_ns=20_000)
    run = evtsim.replay(one_port(ts), guest=guest)
    port = target(run)
    # Wake, handling, EOI: the bit was set meanwhile, so the unmask kicks at once.
    assert port["delivered"] == pytest.approx(100_000 * 1_000 / 22_000, rel=0.001)
    edge = evtsim.replay(one_port(ts), guest=evtsim.Guest(wake_ns=1_500, handler_ns=500))
    assert target(edge)["delivered"] > 10 * port["delivered"]


def test_guests_draw_the_distribution_they_are_given():
    ts = 10**6 + np.arange(200_000) * 10**6
    guest = evtsim.Guest(wake_ns=evtsim.Exponential(5_000), handler_ns=0, seed=4)
    run = evtsim.replay(one_port(ts), guest=guest, outcomes=False, deliveries=10**6)
    latency = run.deliveries.query("dom == 1")["latency"]
    assert latency.mean() == pytest.approx(5_000, rel=0.01)
    assert latency.quantile(0.99) == pytest.approx(5_000 * np.log(100), rel=0.03)
    other = evtsim.Guest(wake_ns=evtsim.Exponential(5_000), handler_ns=0, seed=5)
    again = evtsim.replay(one_port(ts), guest=other, outcomes=False, deliveries=10**6)
    assert not np.array_equal(latency, again.deliveries.query("dom == 1")["latency"])


def test_an_override_is_for_its_domain_alone():
    guest = evtsim.Guest(wake_ns=100, overrides={1: evtsim.Guest(wake_ns=9_000)})
    run = evtsim.replay(one_port([10**6]), guest=guest, drain=True, deliveries=10)
    assert run.deliveries["latency"].tolist() == [100, 9_000]


def test_the_log_of_deliveries_agrees_with_the_histogram():
    trace = evtsim.workloads.generate("channels", records=50_000, domains=9, vcpus=2)
    run = evtsim.replay(trace, guest=evtsim.Guest(), deliveries=100_000, drain=True)
    log = run.deliveries
    assert len(log) == run.totals()["delivered"]
    histogram = run.latency.query("type == 'interdomain'")
    edges = [*histogram["low_ns"], histogram["high_ns"].iloc[-1] + 1]
    for low, high, events in histogram[["low_ns", "high_ns", "events"]].itertuples(index=False):
        assert log["latency"].between(low, high).sum() == events
    assert edges == sorted(edges)
    assert log["coalesced"].sum() <= run.ports["coalesced"].sum()
    assert (log.groupby(["dom", "vcpu", "batch"]).size().groupby(["dom", "vcpu"]).max()
            == run.vcpus.set_index(["dom", "vcpu"])["largest_batch"]).all()  # fmt: skip
    assert log.equals(log.sort_values(["ts", "dom", "vcpu"], kind="stable"))


def test_a_full_log_keeps_the_first_and_says_so():
    trace = evtsim.workloads.generate("channels", records=100_000, domains=50, vcpus=2)
    whole = evtsim.replay(trace, guest=evtsim.Guest(), deliveries=10**6).deliveries
    run = evtsim.replay(trace, guest=evtsim.Guest(), deliveries=1_000)
    with pytest.warns(UserWarning, match=f"first 1,000 of {len(whole):,} deliveries"):
        first = run.deliveries
    assert first.equals(whole[:1_000])


def test_checkpoints_go_on_in_mid_handler(tmp_path):
    trace = evtsim.workloads.generate("channels", records=20_000, domains=9, vcpus=2, rate=3e6)
    guest = evtsim.Guest(wake_ns=evtsim.Lognormal(3_000, 1.0), eoi="late", eoi_ns=900)
    whole = evtsim.Simulator(trace.host, guest, "port", deliveries=10**6)
    whole.apply(trace)
    first = evtsim.Simulator(trace.host, guest, "port", deliveries=10**6)
    first.apply(trace[:9_000])
    first.save(tmp_path / "half")
    second = evtsim.Simulator.load(tmp_path / "half")
    assert second.guest == guest
    second.apply(trace[9_000:])
    whole.drain()
    second.drain()
    assert whole.run().deliveries.equals(second.run().deliveries)
    assert whole.run().ports.equals(second.run().ports)


def test_time_goes_on_without_records():
    sim = evtsim.Simulator(evtsim.Host.uniform(2), evtsim.Guest(), "port")
    sim.apply(one_port([10**6]))
    sim.advance(1_002_000)
    assert sim.state.ports()["pending"].sum() == 1  # due at that very time: a record comes first
    sim.advance(1_002_001)
    assert sim.state.ports()["pending"].sum() == 0
    assert sim.last_ts == 1_002_001
    sim.drain()
    assert sim.last_ts == 1_002_300
    with pytest.raises(EvtsimError, match=r"ts is 5 .*at least 1002300"):
        sim.advance(5)
    with pytest.raises(EvtsimError, match="no guest"):
        evtsim.Simulator(sim.host).drain()
    with pytest.raises(EvtsimError, match="there is none"):
        evtsim.replay(one_port([5]), drain=True)


def test_what_would_come_after_the_end_of_time_never_happens():
    sim = evtsim.Simulator(evtsim.Host.uniform(2), evtsim.Guest(wake_ns=5), "port")
    sim.apply(one_port([2**64 - 3]))
    sim.drain()
    port = target(sim.run())
    assert (port["delivered"], port["outstanding"]) == (0, 1)


def test_a_port_is_busy_until_its_guest_came_by():
    """Allocating in another domain lets that one's guest catch up, wherever a trace is cut."""
    host = evtsim.Host.uniform(2, profile="xen-4.23")
    b = evtsim.TraceBuilder(host)
    b.init_control(dom=1, ts=0)
    b.expand_array(dom=1)
    b.bind_ipi(dom=1)
    b.send(dom=1, port=1, ts=100)
    b.close(dom=1, port=1, ts=150)  # linked until its handler is due at 2,100
    b.bind_ipi(dom=0, ts=5_000)
    b.alloc_unbound(dom=0, target_dom=1, remote_dom=0, ts=5_000)
    trace = b.trace()
    whole = evtsim.Simulator(host, evtsim.Guest())
    cut = evtsim.Simulator(host, evtsim.Guest())
    cut.apply(trace[:-1])
    assert whole.apply(trace).port[-1] == cut.apply(trace[-1:]).port[-1] == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"wake_ns": -1}, "wake_ns: ns is -1"),
        ({"wake_ns": "2us"}, "wake_ns is '2us'"),
        ({"handler_ns": float("nan")}, "handler_ns: ns is nan"),
        ({"scan": "fifo"}, "scan is 'fifo' .*'lowest' or 'linux'"),
        ({"eoi": True}, "eoi is True"),
        ({"eoi_ns": -1}, "eoi_ns is -1"),
        ({"overrides": None}, "overrides is None"),
        ({"seed": 2**64}, "seed is 18446744073709551616"),
        ({"overrides": {-1: evtsim.Guest()}}, "domain is -1"),
        ({"overrides": {1: None}}, "domain 1 has None"),
    ],
)
def test_a_guest_that_makes_no_sense(fields, message):
    with pytest.raises(EvtsimError, match=message):
        evtsim.Guest(**fields)


def test_what_needs_what():
    host = evtsim.Host.uniform(2)
    with pytest.raises(EvtsimError, match="domain 2"):
        evtsim.Simulator(host, evtsim.Guest(overrides={2: evtsim.Guest()}))
    with pytest.raises(EvtsimError, match="needs stats='port'"):
        evtsim.Simulator(host, stats="domain", deliveries=5)
    with pytest.raises(EvtsimError, match="deliveries=N"):
        _ = evtsim.replay(one_port([10**6])).deliveries
    with pytest.raises(EvtsimError, match="guest is 'linux'"):
        evtsim.Simulator(host, "linux")


def test_a_guest_survives_as_plain_data():
    guest = evtsim.Guest(
        wake_ns=evtsim.Lognormal(5, 1.5), seed=3, overrides={4: evtsim.Guest(eoi="late", eoi_ns=9)}
    )
    assert evtsim.Guest.from_dict(guest.to_dict()) == guest
    assert hash(guest) == hash(evtsim.Guest.from_dict(json.loads(json.dumps(guest.to_dict()))))
    of_numpy = evtsim.Guest(wake_ns=evtsim.Exponential(np.float32(3)), seed=np.int64(3))
    assert json.dumps(of_numpy.to_dict())
    assert "Lognormal" in repr(guest)


# The command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("guest") / "trace.arrow"
    evtsim.workloads.generate("channels", records=5_000, domains=5).save(path)
    return str(path)


def test_replay_with_a_guest(path, tmp_path):
    log = tmp_path / "log.parquet"
    options = [
        "--guest",
        "linux",
        "--wake",
        "exp:2us",
        "--handler",
        "300ns",
        "--eoi",
        "late:5us",
        "--drain",
    ]
    done = evtsim_command("replay", path, *options, "--deliveries", str(log), "--most", "100")
    assert "guest" in done.stdout
    assert "upcall records: guests handle events" in done.stdout
    assert "coalesced %" in done.stdout
    assert "first 100 of" in done.stderr
    import pandas as pd

    assert len(pd.read_parquet(log)) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--wake 2us", "--wake is the guest's: add --guest linux"),
        ("--guest windows", "--guest is 'windows' (expected lowest or linux)"),
        ("--guest linux --wake 2", "--wake is '2' (expected a time like 300ns, 2us, 1.5ms or 1s)"),
        ("--guest linux --wake 2h", "--wake is '2h'"),
        ("--guest linux --wake gamma:2us", "exp:2us or lognormal:2us:0.5"),
        ("--guest linux --wake lognormal:2us:9", "sigma is 9.0"),
        ("--guest linux --handler 1e3s", "--handler is '1e3s'"),
        ("--guest linux --wake 900s", "--wake is 900000000000 (expected 0 to"),
        ("--guest linux --wake " + 40 * "9" + "s", "expected a time like"),
        ("--guest linux --eoi never", "--eoi is 'never'"),
        ("--guest linux --eoi edge:5us", "--eoi is 'edge:5us'"),
        ("--drain", "--drain lets guests go on"),
        ("--deliveries log.txt", "log.txt: unknown suffix"),
        (
            "--stats domain --deliveries log.csv",
            "--deliveries needs counts of ports (expected --stats port)",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line(path, options, message):
    done = evtsim_command("replay", path, *options.split())
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
