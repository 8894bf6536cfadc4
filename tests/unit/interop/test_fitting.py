import numpy as np
import pytest

from evtsim import EvtsimError, abi, workloads
from evtsim.interop.observations import KINDS, frame_of


def observed(trace):
    """What a tracer would have seen of a trace's load: calls and upcalls, without ports.

    Generated traces begin with the guests' boots, which are left out.
    """
    op = trace.op.astype(np.int64)
    call, upcall = op < abi.FIRST_NON_HYPERCALL, op == abi.Op.UPCALL
    kind = np.where(call, KINDS.index("event_channel_op"), KINDS.index("upcall"))
    keep = (call | upcall) & (trace.ts > trace.ts[-1] // 10)
    columns = (trace.ts, 0 * op, trace.dom, trace.vcpu, kind, np.where(call, op, 0))
    return frame_of(*(np.asarray(column)[keep] for column in columns))


@pytest.mark.parametrize(
    "wanted",
    [
        {"rate": 500.0, "burst": 32.0, "gap_ns": 20_000, "zipf": 0.8},
        {"rate": 2000.0, "burst": 8.0, "gap_ns": 20_000, "zipf": 0.0},
        {"rate": 100.0, "burst": 64.0, "gap_ns": 50_000, "zipf": 1.2},
    ],
)
def test_io_gives_its_parameters_back(wanted):
    trace = workloads.generate(
        "io", records=200_000, devices=1, batching=0.0, bursts="exponential", **wanted
    )
    found = workloads.fit(observed(trace))["io"]
    assert found["domains"] == 16
    assert found["rate"] == pytest.approx(wanted["rate"], rel=0.1)
    assert found["burst"] == pytest.approx(wanted["burst"], rel=0.15)
    assert found["gap_ns"] == pytest.approx(wanted["gap_ns"], rel=0.1)
    assert found["zipf"] == pytest.approx(wanted["zipf"], abs=0.2)
    assert found["bursts"] == "exponential"


def test_heavy_tails_are_noticed():
    trace = workloads.generate("io", records=300_000, devices=1, batching=0.0, shape=1.5)
    found = workloads.fit(observed(trace))["io"]
    assert found["bursts"] == "pareto"
    assert found["shape"] == pytest.approx(1.5, rel=0.2)
    assert found["burst"] == pytest.approx(32, rel=0.3)
    assert found["rate"] == pytest.approx(500, rel=0.3)  # such a mean settles slowly


def test_calls_without_bursts_are_not_said_to_have_any():
    rng = np.random.default_rng(1)
    ts = np.cumsum(rng.exponential(1e6, 5000)).astype(np.int64)
    zeros = np.zeros(len(ts), np.int64)
    frame = frame_of(
        ts, zeros, zeros + 1, zeros, zeros + KINDS.index("event_channel_op"), zeros - 1
    )
    found = workloads.fit(frame)["io"]
    assert found["burst"] == 1
    assert found["rate"] == pytest.approx(1000, rel=0.05)


@pytest.mark.parametrize(
    ("rate", "broadcast", "vcpus"), [(1000.0, 0.05, 4), (200.0, 0.3, 8), (500.0, 0.0, 2)]
)
def test_ipi_gives_its_parameters_back(rate, broadcast, vcpus):
    trace = workloads.generate(
        "ipi", records=60_000, rate=rate, broadcast=broadcast, vcpus=vcpus, domains=8
    )
    found = workloads.fit(observed(trace))["ipi"]
    assert found["rate"] == pytest.approx(rate, rel=0.1)
    assert found["broadcast"] == pytest.approx(broadcast, abs=0.03)
    assert found["vcpus"] == vcpus


@pytest.mark.parametrize(("rate", "jitter_ns"), [(250.0, 20_000), (1000.0, 50_000)])
def test_timer_gives_its_parameters_back(rate, jitter_ns):
    trace = workloads.generate("timer", records=60_000, rate=rate, jitter_ns=jitter_ns)
    found = workloads.fit(observed(trace))["timer"]
    assert found["rate"] == pytest.approx(rate, rel=0.02)
    assert found["jitter_ns"] == pytest.approx(jitter_ns, rel=0.15)


def test_estimates_generate_what_is_estimated_the_same():
    trace = workloads.generate("mixed", records=60_000)
    fitted = workloads.fit(observed(trace))
    assert set(fitted) == {"io", "ipi", "timer"}
    for name, parameters in fitted.items():
        assert len(workloads.generate(name, records=500, **parameters)) == 500
    again = workloads.generate("io", records=60_000, **fitted["io"])
    refitted = workloads.fit(observed(again))["io"]
    assert refitted["rate"] == pytest.approx(fitted["io"]["rate"], rel=0.3)


def test_what_was_not_seen_is_left_out():
    zeros, ts = np.zeros(3, np.int64), np.array([0, 10**6, 2 * 10**6])
    upcalls = frame_of(ts, zeros, zeros + 1, zeros, zeros + KINDS.index("upcall"), zeros)
    assert set(workloads.fit(upcalls)) == {"timer"}
    calls = frame_of(
        ts, zeros, zeros + 1, zeros, zeros + KINDS.index("event_channel_op"), zeros + 4
    )
    assert set(workloads.fit(calls)) == {"io", "ipi"}
    assert "burst" not in workloads.fit(calls)["io"]


def test_wakes_stand_for_upcalls_and_give_wake_times():
    steps = [("runstate", 2, 0), ("wake", 0, 4000), ("runstate", 0, 11_000)]
    rows = [(4_000_000 * i + at, kind, value) for i in range(50) for kind, value, at in steps]
    ts, kinds, values = zip(*rows, strict=True)
    zeros = np.zeros(len(rows), np.int64)
    codes = [KINDS.index(kind) for kind in kinds]
    found = workloads.fit(frame_of(ts, zeros, zeros + 3, zeros, codes, values))["timer"]
    assert found["wake_ns"] == 7000
    assert found["rate"] == pytest.approx(250)
    assert found["domains"] == 2


def test_only_guests_are_fitted_or_what_is_of_nobody_known():
    ts, dom = np.arange(8) * 10**6, np.array([0, -1, 5, 6, 32767, 0, 5, 6])
    zeros = np.zeros(8, np.int64)
    calls = zeros + KINDS.index("event_channel_op")
    mixed = workloads.fit(frame_of(ts, zeros, dom, zeros, calls, zeros - 1))["io"]
    assert mixed["domains"] == 3
    assert mixed["rate"] == pytest.approx(2 / 7e-3)
    unknown = workloads.fit(frame_of(ts, zeros, zeros - 1, zeros, calls, zeros - 1))["io"]
    assert unknown["domains"] == 2
    assert unknown["rate"] == pytest.approx(8 / 7e-3)


def test_nothing_to_fit_is_an_error():
    zeros = np.zeros(3, np.int64)
    dom0 = frame_of([1, 2, 3], zeros, zeros, zeros, zeros, zeros)
    for frame in (dom0, dom0[:0]):
        with pytest.raises(EvtsimError, match="no calls, upcalls or wakes of guests"):
            workloads.fit(frame)
    with pytest.raises(EvtsimError, match="observations are a list"):
        workloads.fit([1])
