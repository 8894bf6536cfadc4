"""Replays of any length: parts, checkpoints, resuming, memory."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest

import evtsim
from evtsim import EvtsimError, Guest, Outcomes, Trace, TraceError, workloads
from evtsim._files import held
from evtsim.crew import Crew
from evtsim.run import FRAMES
from evtsim.streaming import LongReplay
from evtsim.trace import TraceReader, files
from evtsim.trace.chunk import CHUNK_RECORDS

ROOT = Path(__file__).parents[2]
EVERY = 4_000


@pytest.fixture(scope="module")
def trace():
    return workloads.generate("mixed", records=15_000, domains=6, rate=4000)


@pytest.fixture(scope="module")
def path(trace, tmp_path_factory):
    path = tmp_path_factory.mktemp("streaming") / "t.parquet"
    trace.save(path)
    return path


def long_replay(path, folder, **options):
    given = {
        "outcomes": folder / "outcomes",
        "deliveries": folder / "deliveries",
        "checkpoint": folder / "checkpoints",
        "every": EVERY,
    }
    return evtsim.replay_file(path, **(given | options))


def interrupted(path, folder, records, **options):
    """Leave what a replay that was killed after so many records leaves, but unfinished files."""

    class KilledError(Exception):
        pass

    def kill(done, total):
        if done >= records:
            raise KilledError

    with pytest.raises(KilledError):
        long_replay(path, folder, progress=kill, **options)


def python(*arguments, timeout=300):
    """Run Python on this source; what it printed, as JSON."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".arrow", ".parquet", ".csv.gz"])
@pytest.mark.parametrize("guest", [None, Guest()])
def test_parts_and_statistics_are_those_of_a_replay_in_memory(trace, tmp_path, suffix, guest):
    path = tmp_path / f"t{suffix}"
    trace.save(path)
    drain = guest is not None
    plain = evtsim.replay(trace, guest=guest, drain=drain, deliveries=10**6)
    run = long_replay(path, tmp_path, guest=guest, drain=drain)
    parts = [Trace.load(part) for part in sorted((tmp_path / "outcomes").iterdir())]
    assert [len(part) for part in parts] == [4000, 4000, 4000, 3000]
    assert [part.first for part in parts] == [0, 4000, 8000, 12_000]
    whole = Trace.concat(parts)
    assert whole.digest() == trace.digest() == run.source["digest"]
    for name, column in plain.outcomes.fields():
        assert np.array_equal(getattr(whole.recorded, name), column)
    delivered = pd.read_parquet(tmp_path / "deliveries").reset_index(drop=True)
    assert delivered["ts"].is_monotonic_increasing
    if guest is None:  # upcalls of one ts may lie on both sides of a cut
        delivered = delivered.sort_values(["ts", "dom", "vcpu"], kind="stable", ignore_index=True)
    pd.testing.assert_frame_equal(delivered, plain.deliveries)
    assert run.totals() == plain.totals()
    for name in FRAMES[:-1]:
        pd.testing.assert_frame_equal(getattr(run, name), getattr(plain, name))
    assert not run.has("deliveries")


@pytest.fixture(scope="module")
def longer():
    return workloads.generate("channels", records=400_000, domains=20, ports=20)


@pytest.fixture(scope="module")
def files_of(longer, tmp_path_factory):
    """The same trace in pieces of several lengths."""
    folder = tmp_path_factory.mktemp("lengths")
    longer.save(folder / "t.arrow")
    longer.save(folder / "t.csv")
    with files.writer(folder / "odd.parquet", longer.host, longer.meta) as write:
        for begin in range(0, len(longer), 70_001):
            write(longer[begin : begin + 70_001].columns, None)
    return folder


@pytest.mark.parametrize("handled", [False, True])
def test_neither_chunks_nor_threads_change_a_byte_of_the_parts(
    files_of, longer, handled, tmp_path, monkeypatch
):
    assert evtsim.simulator.SHARED_RECORDS % CHUNK_RECORDS == 0
    monkeypatch.setattr("evtsim.simulator.SHARED_RECORDS", 2 * CHUNK_RECORDS)
    options = {"guest": Guest(), "deliveries": tmp_path / "d"} if handled else {"stats": None}
    wanted = None
    for name in ("t.arrow", "odd.parquet", "t.csv"):
        for threads in (1, 2):
            run = evtsim.replay_file(
                files_of / name,
                outcomes=tmp_path / "o",
                every=170_000,
                threads=threads,
                overwrite=True,
                **options,
            )
            found = contents(tmp_path)
            assert len(found) == (6 if handled else 3)
            wanted = wanted or found
            assert found == wanted, (name, threads)
            assert run.source["digest"] == longer.digest()


def test_threads_get_long_blocks_from_any_file(files_of, longer, monkeypatch):
    asked = []
    work = Crew.replay

    def noted(crew, *arguments):
        done = work(crew, *arguments)
        asked.append((arguments[3:5], done))
        return done

    monkeypatch.setattr(Crew, "replay", noted)
    monkeypatch.setattr("evtsim.simulator.SHARED_RECORDS", 300_000)
    for name in ("t.arrow", "odd.parquet", "t.csv"):
        asked.clear()
        evtsim.replay_file(files_of / name, stats=None, threads=2)
        assert {stop for (_, stop), _ in asked} == {300_000, 100_000}
        assert max(done - start for (start, _), done in asked) > 200_000


def test_a_replay_is_resumed_by_any_number_of_threads(files_of, tmp_path, monkeypatch):
    monkeypatch.setattr("evtsim.simulator.SHARED_RECORDS", CHUNK_RECORDS)  # stops in the middle
    options = {"stats": None, "deliveries": None, "every": 60_000}
    long_replay(files_of / "t.arrow", tmp_path / "whole", **options)
    interrupted(files_of / "t.arrow", tmp_path / "broken", 150_000, threads=2, **options)
    interrupted(files_of / "t.arrow", tmp_path / "broken", 270_000, resume=True, **options)
    long_replay(files_of / "t.arrow", tmp_path / "broken", threads=2, resume=True, **options)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_replay_with_threads_ends_with_its_reader(files_of, tmp_path):
    """After damage, and after an interrupt, nobody reads on; parts are whole."""

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evtsim.replay_file(
            files_of / "t.arrow", stats=None, threads=2, outcomes=tmp_path / "o", progress=stop
        )
    assert list((tmp_path / "o").iterdir()) == []
    lines = (files_of / "t.csv").read_bytes().splitlines(keepends=True)
    damaged = tmp_path / "t.csv"
    damaged.write_bytes(b"".join([*lines[:350_000], b"1,2\n"]))
    with pytest.raises(TraceError, match="2 fields in '1,2'"):
        evtsim.replay_file(damaged, stats=None, threads=2, outcomes=tmp_path / "o", every=100_000)
    assert len(list((tmp_path / "o").iterdir())) == 3
    assert not [t for t in threading.enumerate() if t.name.startswith("evtsim-reader")]


def test_a_replay_runs_once_and_from_the_start_of_its_reader(path):
    reader = TraceReader(path)
    with LongReplay(reader, stats=None) as work:
        work.run()
        with pytest.raises(EvtsimError, match="a replay runs once"):
            work.run()
    begun = TraceReader(path)
    begun.take(1)
    with pytest.raises(EvtsimError, match="from the start of its reader"):
        evtsim.replay_file(begun, stats=None)


def test_parts_are_one_dataset_to_pyarrow_pandas_and_duckdb(path, tmp_path):
    run = long_replay(path, tmp_path)
    (tmp_path / "outcomes" / ".part-000009.parquet~").write_bytes(b"half")  # being written
    expected = {
        "outcomes": run.records,
        "deliveries": run.totals()["delivered"],
    }
    for name, rows in expected.items():
        folder = tmp_path / name
        assert ds.dataset(folder, format="parquet").count_rows() == rows
        assert len(pd.read_parquet(folder)) == rows
        glob = str(folder / "*.parquet")
        assert duckdb.sql(f"select count(*) from '{glob}'").fetchall() == [(rows,)]
    glob = str(tmp_path / "outcomes" / "*.parquet")
    errors = duckdb.sql(f"select count(*) from '{glob}' where out_rc < 0").fetchall()
    assert errors == [(run.totals()["errors"],)]


def test_what_is_already_there_is_not_replaced_unless_asked(path, tmp_path):
    long_replay(path, tmp_path)
    with pytest.raises(EvtsimError, match=r"holds checkpoints already .--resume goes on"):
        long_replay(path, tmp_path)
    with pytest.raises(EvtsimError, match="holds part files already"):
        long_replay(path, tmp_path, checkpoint=None)
    long_replay(path, tmp_path, overwrite=True, every=10_000)
    names = sorted(part.name for part in (tmp_path / "outcomes").iterdir())
    assert names == ["part-000000.parquet", "part-000001.parquet"]
    there = sorted(p for p in tmp_path.rglob("*") if p.is_file())
    for name in ("mine.txt", "part-of-mine.parquet"):
        mine = tmp_path / "outcomes" / name
        mine.write_text("mine")
        for options in ({"overwrite": True}, {"resume": True}):
            with pytest.raises(EvtsimError, match=f"outcomes: has other files, {name}"):
                long_replay(path, tmp_path, **options)
        mine.unlink()
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == there


def test_two_replays_do_not_write_into_one_folder(path, tmp_path):
    with pytest.raises(EvtsimError, match="cannot hold both outcomes and deliveries"):
        long_replay(path, tmp_path, deliveries=tmp_path / "outcomes")
    (tmp_path / "checkpoints").mkdir()
    with (
        held(tmp_path / "checkpoints"),
        pytest.raises(EvtsimError, match="another process is writing here"),
    ):
        long_replay(path, tmp_path)
    assert long_replay(path, tmp_path, resume=True).records == 15_000


def test_an_empty_trace_has_one_empty_part(tmp_path):
    empty = Trace.from_records(np.zeros(0, evtsim.RECORD_DTYPE), evtsim.Host.uniform(2))
    run = long_replay(empty, tmp_path)
    assert run.records == 0
    assert len(pd.read_parquet(tmp_path / "outcomes")) == 0
    assert list(pd.read_parquet(tmp_path / "deliveries")) == list(
        evtsim.replay(empty, deliveries=1).deliveries
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"every": 0}, "every is 0"),
        ({"resume": True, "checkpoint": None}, "resume needs the folder of checkpoints"),
        ({"drain": True}, "drain lets a guest go on"),
        ({"stats": "domain"}, "needs stats='port'"),
    ],
)
def test_wrong_options_are_refused(path, tmp_path, options, words):
    with pytest.raises(EvtsimError, match=words):
        long_replay(path, tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


# Resuming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("how", "kills"), [(["moments", "20"], 20), (["steps", "999"], 10)])
def test_killed_replays_end_with_the_same_bytes(how, kills, tmp_path):
    """Every file a reader sees after a kill is whole, too; killing.py looks.

    A third of the steps; all of them, and more moments: bench/kills.py.
    """
    stride = ["3"] if "steps" in how else []
    result = python("-m", "tests.streaming.killing", *how, str(tmp_path), *stride)
    assert result["killed"] >= kills
    assert result["completed"] >= 2
    assert len(result["parts_seen"]) > 2


def contents(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_damaged_checkpoint_falls_back_to_the_one_before(path, tmp_path):
    long_replay(path, tmp_path / "whole")
    interrupted(path, tmp_path / "broken", 13_000)
    newest = tmp_path / "broken" / "checkpoints" / "checkpoint-000003"
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    with pytest.warns(UserWarning, match="checkpoint-000003: damaged: .* going back"):
        long_replay(path, tmp_path / "broken", resume=True)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")
    for file in (tmp_path / "broken" / "checkpoints").iterdir():
        file.write_bytes(b"")
    with (
        pytest.warns(UserWarning, match="not a checkpoint"),
        pytest.raises(EvtsimError, match="no checkpoint is whole"),
    ):
        long_replay(path, tmp_path / "broken", resume=True)


def test_every_is_that_of_the_beginning(path, tmp_path):
    interrupted(path, tmp_path, 9_000)
    with pytest.raises(EvtsimError, match="was begun with every 4000, not 5000"):
        long_replay(path, tmp_path, resume=True, every=5000)
    long_replay(path, tmp_path, resume=True, every=None)
    assert len(list((tmp_path / "outcomes").iterdir())) == 4


def test_only_the_same_replay_is_resumed(path, trace, tmp_path):
    interrupted(path, tmp_path, 9_000, guest=Guest())
    before = contents(tmp_path)
    same = {"resume": True, "guest": Guest()}
    for options, words in (
        ({"guest": None}, "another guest"),
        ({"guest": Guest(wake_ns=1)}, "another guest"),
        ({"stats": "domain", "deliveries": None}, "with stats 'port', not 'domain'"),
        ({"outcomes": None}, "with outcomes 'parts', not None"),
        ({"deliveries": 100}, "with deliveries 'parts', not 100"),
        ({"drain": True}, "with drain False, not True"),
        ({"host": evtsim.Host.uniform(6)}, "another host"),
    ):
        with pytest.raises(EvtsimError, match=words):
            long_replay(path, tmp_path, **(same | options))
    with pytest.raises(EvtsimError, match="another trace"):
        long_replay(trace[:14_000], tmp_path, **same)
    assert contents(tmp_path) == before
    assert long_replay(path, tmp_path, **same).records == 15_000


@pytest.mark.parametrize("finished", [False, True])
def test_a_trace_with_other_records_is_another(trace, tmp_path, finished):
    """Of a CSV file nothing is known but its records."""
    path = tmp_path / "t.csv"
    trace.save(path)
    if finished:
        long_replay(path, tmp_path)
    else:
        interrupted(path, tmp_path, 9_000)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6000]))
    with pytest.raises(EvtsimError, match="begun with another trace"):
        long_replay(path, tmp_path, resume=True)
    path.write_bytes(b"".join([*lines[:50], *lines[51:]]))
    with pytest.raises(EvtsimError, match=r"records of .* are not those that were replayed"):
        long_replay(path, tmp_path, resume=True)
    path.write_bytes(b"".join([*lines, lines[-1]]))
    if finished:
        with pytest.raises(EvtsimError, match=r"finished after 15,000 records, and .* has more"):
            long_replay(path, tmp_path, resume=True)
    else:  # the file has grown meanwhile
        assert long_replay(path, tmp_path, resume=True).records == 15_001


def test_parts_that_are_missing_are_noticed(path, tmp_path):
    interrupted(path, tmp_path, 9_000)
    part = tmp_path / "outcomes" / "part-000001.parquet"
    part.write_bytes(part.read_bytes()[:-1])
    with pytest.raises(EvtsimError, match=r"part-000001\.parquet: not what was written here"):
        long_replay(path, tmp_path, resume=True)
    part.unlink()
    with pytest.raises(EvtsimError, match=r"part-000001\.parquet: not what was written here"):
        long_replay(path, tmp_path, resume=True)


def test_a_checkpoint_of_another_kind_cannot_be_resumed(path, trace, tmp_path):
    (tmp_path / "checkpoints").mkdir()
    evtsim.Simulator(trace.host).save(tmp_path / "checkpoints" / "checkpoint-000001")
    with (
        pytest.warns(UserWarning, match="not a checkpoint of a replay in parts"),
        pytest.raises(EvtsimError, match="no checkpoint is whole"),
    ):
        long_replay(path, tmp_path, resume=True)


def test_a_damaged_trace_leaves_whole_parts_and_can_be_mended(trace, tmp_path):
    path = tmp_path / "t.csv"
    trace.save(path)
    good = path.read_bytes()
    lines = good.splitlines(keepends=True)
    first = next(i for i, line in enumerate(lines) if line.startswith(b"ts")) + 1
    time = lines[first + 9_000].partition(b",")
    path.write_bytes(b"".join([*lines[: first + 9_000], b"1," + time[2], *lines[first + 9_001 :]]))
    with pytest.raises(TraceError, match=r"t.csv, record 9000, field ts: time runs backwards"):
        long_replay(path, tmp_path)
    names = [file.name for file in (tmp_path / "outcomes").iterdir()]
    assert [name for name in names if name.startswith(".")] == []
    path.write_bytes(good)
    # The whole file is one block: nothing of it was replayed, and only the beginning was kept.
    assert long_replay(path, tmp_path, resume=True).source["digest"] == trace.digest()


def test_a_checkpoint_of_a_long_replay_is_one_like_any_other(path, trace, tmp_path):
    interrupted(path, tmp_path, 13_000, deliveries=None)
    sim = evtsim.Simulator.load(tmp_path / "checkpoints" / "checkpoint-000003")
    assert sim.records == 12_000
    sim.apply(trace[12_000:])
    assert sim.run().totals() == evtsim.replay(trace).totals()


# Memory ------------------------------------------------------------------------------------------

MEASURE = """
import json, pathlib, sys, evtsim
most = {"trace": 0}
def look(done, total):
    status = pathlib.Path("/proc/self/status").read_text()
    most["trace"] = max(most["trace"], int(status.partition("RssAnon:")[2].split()[0]))
path, folder, threads = sys.argv[1:]
deliveries = None if threads == "2" else folder + "/d"
evtsim.replay_file(path, outcomes=folder + "/o", deliveries=deliveries, checkpoint=folder + "/c",
                   every=2_500_000, progress=look, threads=int(threads))
print(json.dumps(most["trace"]))
"""


@pytest.mark.parametrize(
    ("suffix", "threads", "lengths"),
    [
        (".parquet", 1, (1_000_000, 4_000_000)),
        (".csv", 1, (1_000_000, 2_500_000)),
        (".arrow", 2, (3_000_000, 7_000_000)),
    ],
)
def test_memory_does_not_grow_with_the_trace(suffix, threads, lengths, tmp_path):
    used = []
    for records in lengths:
        path = tmp_path / f"{records}{suffix}"
        workloads.write(path, "channels", records=records, domains=4)
        folder = str(tmp_path / str(records))
        used.append(python("-c", MEASURE, str(path), folder, str(threads)))
    assert used[1] - used[0] < 50_000, (
        used
    )  # kB; a million records are 42 MB in columns, and more on the way


VERIFY = """
import json, pathlib, sys, evtsim
most = [0]
def look(done, total):
    status = pathlib.Path("/proc/self/status").read_text()
    most[0] = max(most[0], int(status.partition("RssAnon:")[2].split()[0]))
assert evtsim.verify(evtsim.TraceReader(sys.argv[1]), progress=look)
print(json.dumps(most[0]))
"""


def test_memory_of_verifying_does_not_grow_with_the_trace(tmp_path):
    used = []
    for records in (1_000_000, 2_500_000):
        path = tmp_path / f"{records}.csv"
        trace = workloads.generate("channels", records=records, domains=4)
        outcomes = evtsim.replay(trace, stats=None).outcomes
        with files.writer(path, trace.host, {}, ["rc", "port"]) as write:
            write(trace.columns, Outcomes(rc=outcomes.rc, port=outcomes.port))
        used.append(python("-c", VERIFY, str(path)))
    assert used[1] - used[0] < 40_000, used  # kB; a million records are 42 MB with their outcomes


def test_a_long_replay_says_what_it_applied(path, tmp_path):
    interrupted(path, tmp_path, 9_000)
    reader = TraceReader(path)
    with LongReplay(
        reader,
        outcomes=tmp_path / "outcomes",
        deliveries=tmp_path / "deliveries",
        checkpoint=tmp_path / "checkpoints",
        resume=True,
    ) as work:
        work.run()
    assert (work.done, work.applied, work.parts) == (15_000, 7_000, 4)
