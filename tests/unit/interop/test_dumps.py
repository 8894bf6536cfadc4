"""Dumps of the debug key e and lsevtchn's lists: in every form, in noise, and back."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import evtsim
from evtsim.interop import dumps
from evtsim.interop.snapshots import Snapshot
from tests.compare import host_of, trace_of
from tests.strategies import runs

# As people post them: quoted, with others' lines in between.
POSTED = """\
> > (XEN) 'e' pressed -> dumping event-channel info
> > (XEN) Event channel information for domain 27:
> > (XEN) Polling vCPUs: {0,2-3}
> > (XEN)     port [p/m/s]
> > (XEN)        1 [1/0/1]: s=3 n=0 x=0 d=0 p=33
> > (XEN)        2 [1/1/1]: s=3 n=0 x=0 d=0 p=34
> > [  12.345678] xen-blkback: backend/vbd/27/51712: using 4 queues
> > (XEN)        3 [1/0/1]: s=5 n=1 x=0 v=0
> > (XEN)        4 [0/1/1]: s=2 n=0 x=1 d=0
> > (XEN)        5 [0/0/0]: s=6 n=2 x=0
> > (XEN)      131 [0/0/0]: s=4 n=0 x=0 p=17 i=-1 Z=system_u:object_r:dom0_t
"""
STAMPED = """\
(XEN) [2023-01-05 10:11:12.345] Event channel information for domain 0:
(XEN) [2023-01-05 10:11:12.345] Polling vCPUs: {}
(XEN) [2023-01-05 10:11:12.345]     port [p/m/s]
(XEN) [2023-01-05 10:11:12.345]        1 [0/0/  -   ]: s=3 n=0 x=0 d=1 p=1
(XEN) [2023-01-05 10:11:12.345]        2 [1/0/  3   ]: s=3 n=0 x=0 d=1 p=2
(XEN) [2023-01-05 10:11:12.345]        3 [1/0/B 0   ]: s=3 n=0 x=0 d=1 p=3
(XEN) [2023-01-05 10:11:12.345]     1024 [0/1/?     ]: s=6 n=0 x=0
"""
OF_2010 = """\
(XEN) 'e' pressed -> dumping event-channel info
(XEN) Domain 0 polling vCPUs: 00000005
(XEN) Event channel information for domain 0:
(XEN)     port [p/m]
(XEN)        1 [1/0]: s=3 n=0 d=1 p=33 x=0
(XEN)        2 [0/1]: s=4 n=0 p=9 x=0
(XEN)        3 [0/1]: s=5 n=0 v=2 x=0
(XEN) Domain 1 polling vCPUs: 00000000
(XEN) Event channel information for domain 1:
(XEN)     port [p/m]
"""
LISTED = """\
   1: VCPU 0: Interdomain (Connected) - Remote Domain 0, Port 33
   2: VCPU 1: Interdomain (Waiting connection) - Remote Domain 5
   3: VCPU 1: Virtual IRQ 3
   4: VCPU 0: Physical IRQ 17
   5: VCPU 1: IPI
"""
FIELDS = ["port", "state", "notify_vcpu", "xen", "remote_dom", "remote_port", "irq"]


def rows(snapshot: Snapshot, columns: list[str]) -> list[list[int]]:
    return snapshot.ports[columns].to_numpy().tolist()


def assert_same(a: Snapshot, b: Snapshot) -> None:
    """Compare what they say, not where it stood."""
    for name in ("ports", "domains"):
        frames = [getattr(each, name).drop(columns="line") for each in (a, b)]
        pd.testing.assert_frame_equal(*frames)
    assert a.form == b.form


def test_a_dump_in_a_mail_is_read_through_quoting_and_others_lines():
    (snapshot,) = dumps.read(POSTED)
    assert rows(snapshot, FIELDS) == [
        [1, 3, 0, 0, 0, 33, 0],
        [2, 3, 0, 0, 0, 34, 0],
        [3, 5, 1, 0, 0, 0, 0],
        [4, 2, 0, 1, 0, 0, 0],
        [5, 6, 2, 0, 0, 0, 0],
        [131, 4, 0, 0, 0, 0, 17],
    ]
    assert snapshot.ports["pending"].tolist() == [1, 1, 1, 0, 0, 0]
    assert snapshot.ports["mask"].tolist() == [0, 1, 0, 1, 0, 0]
    assert snapshot.ports["selector"].tolist() == [1, 1, 1, 1, 0, 0]
    assert snapshot.ports["host_irq"].tolist() == [-1] * 6
    assert snapshot.ports["label"].tolist() == [""] * 5 + ["system_u:object_r:dom0_t"]
    assert snapshot.ports["line"].tolist() == [5, 6, 8, 9, 10, 11]
    assert snapshot.domains.to_dict("records") == [
        {"dom": 27, "abi": "2l", "polling": (0, 2, 3), "line": 2}
    ]
    assert (snapshot.form, snapshot.line, snapshot.last_line) == ("e", 1, 11)
    assert snapshot.problems == ()


def test_event_words_and_timestamps_are_read():
    (snapshot,) = dumps.read(STAMPED)
    columns = ["port", "pending", "selector", "word", "busy", "linked", "link"]
    assert rows(snapshot, columns) == [
        [1, 0, -1, 1, 0, 0, 0],
        [2, 1, -1, 1, 0, 1, 3],
        [3, 1, -1, 1, 1, 1, 0],
        [1024, 0, -1, 0, 0, 0, 0],
    ]
    assert snapshot.time == "2023-01-05 10:11:12.345"
    assert snapshot.domains["abi"].tolist() == ["fifo"]


def test_early_event_words_have_no_place_for_busy():
    text = STAMPED.replace("/  -   ]", "/-   ]").replace("/  3   ]", "/3   ]")
    text = text.replace("/B 0   ]", "/0   ]").replace("/?     ]", "/?   ]")
    (snapshot,) = dumps.read(text)
    assert snapshot.problems == ()
    assert rows(snapshot, ["word", "linked", "link"]) == [
        [1, 0, 0],
        [1, 1, 3],
        [1, 1, 0],
        [0, 0, 0],
    ]


def test_the_form_of_2010_is_read():
    (snapshot,) = dumps.read(OF_2010)
    assert snapshot.form == "e-2010"
    assert rows(snapshot, FIELDS) == [
        [1, 3, 0, 0, 1, 33, 0],
        [2, 4, 0, 0, 0, 0, 9],
        [3, 5, 0, 0, 0, 0, 2],
    ]
    assert snapshot.ports["selector"].tolist() == [-1] * 3
    assert snapshot.domains["polling"].tolist() == [(0, 2), ()]


def test_lsevtchn_is_read_for_the_domain_that_is_named():
    (snapshot,) = dumps.read(LISTED, dom=7)
    assert rows(snapshot, ["dom", *FIELDS]) == [
        [7, 1, 3, 0, 0, 0, 33, 0],
        [7, 2, 2, 1, 0, 5, 0, 0],
        [7, 3, 5, 1, 0, 0, 0, 3],
        [7, 4, 4, 0, 0, 0, 0, 17],
        [7, 5, 6, 1, 0, 0, 0, 0],
    ]
    assert snapshot.ports["pending"].tolist() == [-1] * 5
    assert dumps.write(snapshot) == LISTED


def test_a_list_of_lsevtchn_ends_where_port_numbers_fall():
    first, second = dumps.read(LISTED + "   1: VCPU 0: IPI\n")
    assert (len(first.ports), len(second.ports)) == (5, 1)
    assert (second.line, second.last_line) == (6, 6)


@pytest.mark.parametrize("text", [POSTED.replace("> > ", ""), OF_2010, LISTED])
def test_what_xen_prints_is_written_byte_for_byte(text):
    own = "".join(line for line in text.splitlines(True) if "blkback" not in line)
    assert dumps.write(dumps.read(text)[0]) == own


def test_several_dumps_of_one_log_are_told_apart():
    other = "(XEN) 'h' pressed -> showing installed handlers\n"
    snapshots = dumps.read(POSTED + other + OF_2010 + STAMPED + LISTED + STAMPED)
    forms = [(each.form, each.line, len(each.ports)) for each in snapshots]
    assert forms == [
        ("e", 1, 6), ("e-2010", 13, 3), ("e", 23, 4), ("lsevtchn", 30, 5), ("e", 35, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("(XEN)        6 [1/0/1]: s=3 n=0 x=0 d=0 p=", "cannot be read"),
        ("(XEN)        6 [1/0", "cannot be read"),
        ("(XEN)        6 [1/0/1]: s=3 n=0 x=0 d=0 p=3[  12.3] garbled", "cannot be read"),
        ("(XEN)        6 in flux", "was changing"),
        ("(XEN)        6 [1/0/1]: s=3 n=0 x=0 d=0", "does not fit together"),
        ("(XEN)        6 [1/0/1]: s=3 n=9000 x=0 d=0 p=1", "out of range"),
        ("(XEN)        6 [1/0/1]: s=9 n=0 x=0", "does not fit together"),
        ("(XEN)        6 [1/0/1]: s=5 n=0 x=0 v=24", "out of range"),
        ("(XEN)        6 [1/0/  -   ]: s=6 n=0 x=0", "under another ABI"),
        ("(XEN)        1 [1/0/1]: s=3 n=0 x=0 d=0 p=33", "an earlier line once more"),
        ("(XEN)        1 [0/0/1]: s=6 n=0 x=0", "not above the port before it"),
        ("(XEN) Polling vCPUs: {0,9999}", "cannot be read"),
        ("(XEN) Event channel information for domain 2", "cannot be read"),
        ("(XEN) Event channel information for domain 40000:", "cannot be read"),
    ],
)
def test_a_line_that_cannot_be_used_is_reported_and_the_rest_is_read(line, what):
    lines = POSTED.splitlines(True)
    (snapshot,) = dumps.read("".join([*lines[:10], line + "\n"]))
    assert len(snapshot.ports) == 5
    (problem,) = snapshot.problems
    assert problem.line == 11
    assert what in str(problem)


def test_ports_whose_header_is_lost_are_not_taken_for_the_domains_before():
    lines = [line for line in (POSTED + STAMPED).splitlines(True) if "domain 0:" not in line]
    (snapshot,) = dumps.read("".join(lines).replace("/  -   ]", "/0]").replace("/  3   ]", "/0]"))
    assert snapshot.domains["dom"].tolist() == [27]
    assert snapshot.ports["port"].tolist() == [1, 2, 3, 4, 5, 131]
    assert any("without a domain's header" in problem.what for problem in snapshot.problems)


def test_ports_before_any_header_are_reported():
    stray = "(XEN)        1 [1/0/1]: s=6 n=0 x=0\n"
    (snapshot,) = dumps.read(stray + POSTED)
    assert [problem.line for problem in snapshot.problems] == [1]


def test_a_log_full_of_trouble_is_reported_in_few_lines():
    bad = "(XEN)        6 [1/0\n" * 5_000
    (snapshot,) = dumps.read(POSTED + bad)
    assert len(snapshot.problems) == 1_001
    assert "4,000 more" in snapshot.problems[-1].what


def test_files_are_read_packed_and_plain(tmp_path: Path):
    plain, packed = tmp_path / "log", tmp_path / "log.gz"
    plain.write_text(POSTED)
    packed.write_bytes(gzip.compress(POSTED.encode()))
    (a,), (b,) = dumps.read(plain), dumps.read(str(packed))
    assert_same(a, b)
    assert a.source == str(plain)
    (c,) = dumps.read(POSTED.replace("\n", "\r\n").encode() + b"\xff\xfe")
    assert_same(a, c)


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("nothing here\n", "no dump of event channels"),
        (b"", "no dump of event channels"),
        ("no/such/file", "no such file"),
        ("'e' pressed\n", "no dump"),
    ],
)
def test_a_log_without_a_dump_is_an_error(log, words):
    with pytest.raises(evtsim.EvtsimError, match=words):
        dumps.read(log)


def test_damaged_gzip_and_a_wrong_domain_are_errors(tmp_path: Path):
    (tmp_path / "x.gz").write_bytes(gzip.compress(POSTED.encode())[:50])
    with pytest.raises(evtsim.EvtsimError, match=r"x\.gz"):
        dumps.read(tmp_path / "x.gz")
    with pytest.raises(evtsim.EvtsimError, match="dom is -1"):
        dumps.read(LISTED, dom=-1)


def test_every_damage_of_a_packed_log_is_an_error(tmp_path: Path):
    whole = gzip.compress(POSTED.encode())
    path = tmp_path / "log.gz"
    for place in range(10, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        with pytest.raises(evtsim.EvtsimError, match=r"log\.gz: "):
            dumps.read(path)


def test_a_dump_is_written_to_a_file_that_is_not_there_yet(tmp_path: Path):
    (snapshot,) = dumps.read(POSTED)
    text = dumps.write(snapshot, tmp_path / "out", prefix="")
    assert (tmp_path / "out").read_text() == text
    assert text.startswith("'e' pressed")
    with pytest.raises(evtsim.EvtsimError, match="exists already"):
        dumps.write(snapshot, tmp_path / "out", overwrite=False)


@given(runs(60, ("xen-4.0", "xen-4.23")))
def test_every_state_is_read_back_from_its_dump(run):
    configs, records, _, reference = run
    sim = evtsim.Simulator(host_of(configs, reference.profile.name))
    sim.apply(trace_of(records, sim.host))
    said = Snapshot.of(sim.state)
    text = dumps.write(sim.state)
    if len(said.domains) == 0:
        return
    (snapshot,) = dumps.read(text)
    assert_same(snapshot, said)
    assert snapshot.problems == ()
    assert dumps.write(snapshot) == text


LINES = (POSTED + STAMPED + OF_2010 + LISTED).splitlines(True)


@st.composite
def noisy_logs(draw: st.DrawFn) -> bytes:
    """Draw a log that was cut, doubled, mixed and overwritten."""
    lines = [line.encode() for line in LINES]
    for _ in range(draw(st.integers(1, 12))):
        at = draw(st.integers(0, len(lines) - 1))
        kind = draw(st.sampled_from(["cut", "behead", "double", "drop", "move", "insert", "glue"]))
        line = lines[at]
        where = draw(st.integers(0, len(line)))
        if kind == "cut":
            lines[at] = line[:where]
        elif kind == "behead":
            lines[at] = line[where:]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), line)
        elif kind == "drop" and len(lines) > 1:
            del lines[at]
        elif kind == "move":
            lines.insert(draw(st.integers(0, len(lines) - 1)), lines.pop(at))
        elif kind == "insert":
            lines[at] = line[:where] + draw(st.binary(max_size=12)) + line[where:]
        elif kind == "glue":
            lines[at] = line.rstrip(b"\n")
    return b"".join(lines)


@given(noisy_logs())
def test_noise_is_survived(log):
    try:
        snapshots = dumps.read(log)
    except evtsim.EvtsimError as error:
        assert "no dump" in str(error)
        return
    count = log.count(b"\n") + 1
    for snapshot in snapshots:
        ports = snapshot.ports
        assert ports["line"].is_monotonic_increasing
        assert not ports.duplicated(["dom", "port"]).any()
        assert set(ports["dom"]) <= set(snapshot.domains["dom"])
        assert all(1 <= problem.line <= count for problem in snapshot.problems)
        assert 1 <= snapshot.line <= snapshot.last_line <= count
        assert all(str(problem) for problem in snapshot.problems)
        assert dumps.write(snapshot)
