import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evtsim import EvtsimError
from evtsim.interop import observations, xentrace
from tests.unit.interop.xentrace_files import Record, encoded, expected, lost, runstate

HZ = 10**9  # so that ns are ticks

DOMS = st.sampled_from([0, 1, 7, 32767])
VCPUS = st.integers(0, 3)


@st.composite
def records(draw, tsc):
    kind = draw(st.integers(0, 9))
    dom, vcpu = draw(DOMS), draw(VCPUS)
    stamp = draw(st.sampled_from([tsc, tsc, tsc, None]))
    if kind == 0:
        given = draw(st.integers(0, 2))
        number = draw(st.sampled_from([32, 32, 29]))
        event = draw(st.sampled_from([0x20100D, 0x20200E]))
        words = (number | given << 20, *range(4, 4 + given))
        return Record(event, words, stamp)
    if kind == 1:
        return Record(0x82012, (draw(st.sampled_from([32, 24])),), None)
    if kind == 2:
        return Record(0x82004, (draw(st.sampled_from([0xF3, 0xEF])), 0), None)
    if kind == 3:
        return runstate(draw(st.integers(0, 3)), draw(st.integers(0, 3)), dom, vcpu, stamp)
    if kind == 4:
        event = draw(st.sampled_from([0x28003, 0x28004, 0x28005, 0x28006]))
        return Record(event, (dom, vcpu), stamp)
    if kind == 5:
        return Record(0x2800A, (1, 0, dom, vcpu), stamp)
    if kind == 6:
        return lost(draw(st.integers(1, 99)), dom, vcpu, max(tsc - 5, 1000), tsc)
    if kind == 7:
        return Record(0x802008, (draw(st.integers(0, 255)), 1, 2), stamp)
    if kind == 8:
        return Record(draw(st.sampled_from([0x41001, 0x41002])), (dom,), stamp)
    # Padding, whose stamp means nothing, and a record of no interest.
    return draw(st.sampled_from([Record(0x1F002, (0, 0)), Record(0x81002, tuple(range(7)), stamp)]))


@st.composite
def files(draw):
    """Windows of several CPUs, whose times overlap and never decrease on one CPU."""
    now = dict.fromkeys((0, 1, 5), 1000)
    windows = []
    for _ in range(draw(st.integers(1, 6))):
        cpu = draw(st.sampled_from(sorted(now)))
        made = []
        for _ in range(draw(st.integers(0, 6))):
            now[cpu] += draw(st.integers(0, 20))
            made.append(draw(records(now[cpu])))
        windows.append((cpu, made))
    # A first stamp of the whole file, which every other is after.
    return [(0, [Record(0x81002, (), 900)]), *windows]


def rows_of(frame):
    columns = ("ts_ns", "pcpu", "dom", "vcpu", "kind", "value")
    return list(zip(*(frame[name].tolist() for name in columns), strict=True))


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return tmp_path_factory.mktemp("xentrace") / "t.bin"


@given(windows=files(), idle=st.booleans())
def test_rows_are_those_of_a_plain_loop(path, windows, idle):
    path.write_bytes(encoded(windows))
    frame = xentrace.read(path, hz=HZ, idle=idle)
    wanted = [(tsc - 900, *rest) for tsc, *rest in expected(windows, idle)]
    rows = rows_of(frame)
    assert [row[0] for row in rows] == [row[0] for row in wanted]
    assert sorted(rows) == sorted(wanted)
    for cpu in (0, 1, 5):  # within a CPU as in the file, but for where gaps begin
        mine = [row for row in rows if row[1] == cpu and row[4] != "lost"]
        assert mine == [row for row in wanted if row[1] == cpu and row[4] != "lost"]


EXAMPLE = [
    (0, [runstate(1, 0, 1, 0, 1000), Record(0x20100D, (32,), 1010), Record(0x82004, (0xF3, 0))]),
    (1, [runstate(1, 0, 2, 1, 1005), Record(0x28004, (1, 0), 1020)]),
    (0, [lost(9, 1, 0, 1030, 1040), Record(0x2800A, (1, 0, 3, 2), 1050)]),
]


def test_an_example_read(path):
    path.write_bytes(encoded(EXAMPLE))
    frame = xentrace.read(path, hz=HZ)
    assert rows_of(frame) == [
        (0, 0, 1, 0, "runstate", 0),
        (5, 1, 2, 1, "runstate", 0),
        (10, 0, 1, 0, "event_channel_op", -1),
        (10, 0, 1, 0, "upcall", 0xF3),
        (20, 1, 1, 0, "wake", 0),
        (30, 0, 1, 0, "lost", 9),
        (40, 0, 1, 0, "lost_end", 9),
        (50, 0, 3, 2, "switch", 1),
    ]
    gaps = observations.gaps(frame)
    assert gaps.to_numpy().tolist() == [[0, 30, 40, 9]]
    assert xentrace.read(path, hz=HZ / 2)["ts_ns"].tolist()[-1] == 100
    assert len(frame["kind"].cat.categories) == len(observations.KINDS)


def test_every_truncation_keeps_what_is_whole_and_warns(path):
    data = encoded(EXAMPLE)
    path.write_bytes(data)
    whole = rows_of(xentrace.read(path, hz=HZ))
    bounds, offset = {len(data)}, 0
    for _, made in EXAMPLE[:-1]:
        offset += 12 + 4 * sum(len(r.encoded()) for r in made)
        bounds.add(offset)
    for length in range(len(data)):
        path.write_bytes(data[:length])
        if length < 4:
            with pytest.raises(EvtsimError, match="not a xentrace file"):
                xentrace.read(path, hz=HZ)
            continue
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rows = rows_of(xentrace.read(path, hz=HZ))
        assert set(rows) <= set(whole)
        assert len(caught) == (length not in bounds), length
        assert all("ends in mid-record" in str(warning.message) for warning in caught)


def test_a_file_of_the_other_byte_order_is_read(path):
    data = np.frombuffer(encoded(EXAMPLE), np.uint32)
    path.write_bytes(data.tobytes())
    rows = rows_of(xentrace.read(path, hz=HZ))
    path.write_bytes(data.byteswap().tobytes())
    assert rows_of(xentrace.read(path, hz=HZ)) == rows


def test_nothing_recorded_is_an_empty_frame(path):
    path.write_bytes(encoded([(3, [])]))
    frame = xentrace.read(path)
    assert len(frame) == 0
    assert list(frame) == list(observations.COLUMNS)
    for summary in ("per_vcpu", "by_operation", "over_time", "wake_latency", "gaps"):
        assert len(getattr(observations, summary)(frame)) == 0
    assert len(observations.percentiles(observations.wake_latency(frame))) == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "begins with nothing"),
        (b"# tracer: nop\n\n", "not a xentrace file"),
        (encoded(EXAMPLE) + b"abcd", "damaged at byte 172: 0x64636261"),
        (encoded([(70000, [])]), "damaged at byte 0: a window of an impossible CPU"),
        (np.array([0x2001F003, 0, 6], np.uint32).tobytes(), "a multiple of 4 bytes"),
        (
            np.array([0x2001F003, 0, 4, 0xA0028004, 1, 0, 1, 0], np.uint32).tobytes(),
            "damaged at byte 12: a record 0xa0028004 goes beyond its window",
        ),
        (
            encoded(
                [(0, [Record(0x81002, (), 9), Record(0x82004, (1, 0)), Record(0x81002, (), 8)])]
            ),
            "damaged at byte 36: time runs backwards on CPU 0",
        ),
        (
            encoded([(0, [Record(0x28004, (1, 0), 0), Record(0x28004, (1, 0), 2**64 - 1)])]),
            "18,446,744,073 s at 1,000,000,000 Hz",
        ),
    ],
)
def test_what_is_no_xentrace_is_refused(path, data, words):
    path.write_bytes(data)
    with pytest.raises(EvtsimError) as caught:
        xentrace.read(path, hz=HZ)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)


@pytest.mark.parametrize("hz", [0, -1, float("nan"), float("inf"), "2.4G", True, 1e12])
def test_a_clock_rate_that_makes_no_sense_is_refused(path, hz):
    path.write_bytes(encoded(EXAMPLE))
    with pytest.raises(EvtsimError, match="hz is"):
        xentrace.read(path, hz=hz)


def test_files_that_cannot_be_read_are_named(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(EvtsimError, match=str(path)):
            xentrace.read(path)


# What observations tell -----------------------------------------------------------------------


def test_counts_by_vcpu_and_over_time(path):
    calls = [Record(0x20100D, (32 | 1 << 20, op), 1000 + 100 * i) for i, op in enumerate((4, 4, 9))]
    path.write_bytes(encoded([(0, [runstate(1, 0, 1, 2, 1000), *calls])]))
    frame = xentrace.read(path, hz=HZ)
    (row,) = observations.per_vcpu(frame).to_dict("records")
    assert (row["dom"], row["vcpu"], row["calls"], row["upcalls"], row["runs"]) == (1, 2, 3, 0, 1)
    assert row["calls_per_s"] == pytest.approx(3 / 200e-9)
    table = observations.by_operation(frame)
    assert table[["op_name", "calls"]].to_numpy().tolist() == [["send", 2], ["unmask", 1]]
    timeline = observations.over_time(frame, bins=4)
    assert timeline["start_ns"].tolist() == [0, 64, 192]
    assert set(timeline["width_ns"]) == {64}
    assert timeline["calls"].tolist() == [1, 1, 1]


def test_wake_latency_counts_a_sleeper_from_its_first_wake():
    rows = [
        (0, "runstate", 2),
        (10, "runstate", 1),  # blocked, then runnable: woken
        (11, "wake", 0),  # runnable already
        (25, "runstate", 0),
        (30, "wake", 0),  # it runs
        (40, "runstate", 2),
        (50, "wake", 0),
        (55, "wake", 0),
        (58, "lost", 1),
        (59, "lost_end", 1),
        (60, "runstate", 0),  # who knows what was lost
        (70, "runstate", 1),  # preempted, not woken
        (80, "runstate", 0),
        (90, "runstate", 2),
        (95, "wake", 0),
        (99, "runstate", 0),
    ]
    ts, kinds, values = zip(*rows, strict=True)
    codes = [observations.KINDS.index(kind) for kind in kinds]
    zeros = np.zeros(len(rows))
    frame = observations.frame_of(ts, zeros, zeros + 1, zeros, codes, values)
    table = observations.wake_latency(frame)
    assert table[["ts_ns", "latency_ns"]].to_numpy().tolist() == [[10, 15], [95, 4]]
    (row,) = observations.percentiles(table).to_dict("records")
    assert (row["wakes"], row["p50"], row["max"]) == (2, 15, 15)


def test_a_frame_of_another_kind_is_refused(path):
    path.write_bytes(encoded(EXAMPLE))
    frame = xentrace.read(path)
    for wrong in ([1], frame.drop(columns=["kind", "value"])):
        with pytest.raises(EvtsimError, match="observations"):
            observations.per_vcpu(wrong)
