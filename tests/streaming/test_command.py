"""Long replays, and sizes, on the command line."""

import gzip
import json
import re

import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, Trace, sizing, workloads
from evtsim.cli.summary import ignored_upcalls
from tests.commands import assert_refused, evtsim_command


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("command") / "t.parquet"
    workloads.generate("mixed", records=15_000, domains=6, rate=4000).save(path)
    return str(path)


def test_a_replay_in_parts_is_resumed_by_the_same_command(trace, tmp_path):
    command = ("replay", trace, "--checkpoint", "c", "--every", "4k", "--save", "run")
    command += ("--outcomes", "outcomes/", "--deliveries", "deliveries/")
    done = evtsim_command(*command, cwd=tmp_path)
    assert done.returncode == 0, done
    assert len(list((tmp_path / "outcomes").iterdir())) == 4
    assert (
        len(pd.read_parquet(tmp_path / "deliveries")) == evtsim.replay(trace).totals()["delivered"]
    )
    refused = evtsim_command(*command[:6], cwd=tmp_path)
    assert_refused(refused, "holds checkpoints already", "--resume")
    before = (tmp_path / "run" / "run.json").read_bytes()
    again = evtsim_command(*command, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again
    assert "15,000 replayed, 0 of them now" in again.stdout
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    newest = tmp_path / "c" / "checkpoint-000004"
    newest.write_bytes(newest.read_bytes()[:-1])
    mended = evtsim_command(*command, "--resume", cwd=tmp_path)
    assert mended.returncode == 0
    assert mended.stderr.startswith("evtsim: c/checkpoint-000004: damaged")
    assert "3,000 of them now" in mended.stdout
    shown = evtsim_command("show", "run", "deliveries", cwd=tmp_path)
    assert_refused(shown, "deliveries are in part files in 'deliveries'")
    other = (*command[:-6], "--save", "other", *command[-4:], "--resume")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("mine")
    assert_refused(evtsim_command(*other, cwd=tmp_path), "other: holds a run already")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--resume"], "--resume needs the folder of checkpoints"),
        (["--every", "1M"], "--every is of checkpoints and part files"),
        (["--most", "5"], "--most is of --deliveries FILE"),
        (["--most", "5", "--deliveries", "d/"], "--most is of --deliveries FILE"),
        (["--checkpoint", "c", "--outcomes", "o.csv"], "--checkpoint needs outcomes in part files"),
        (["--outcomes", "d/", "--deliveries", "d/"], "cannot hold both outcomes and deliveries"),
        (
            ["--every", "none", "--checkpoint", "c"],
            "--every is 'none' (expected a number of",
        ),
    ],
)
def test_options_that_make_no_sense_are_refused(trace, tmp_path, options, words):
    assert_refused(evtsim_command("replay", trace, *options, cwd=tmp_path), words)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_begun_if_the_end_could_not_be_written(trace, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("mine")
    done = evtsim_command("replay", trace, "--checkpoint", "c", "--save", "run", cwd=tmp_path)
    assert_refused(done, "run: holds a run already")
    assert not (tmp_path / "c").exists()


def test_a_run_that_began_with_a_checkpoint_says_so(trace, tmp_path):
    first, rest = tmp_path / "first.parquet", tmp_path / "rest.parquet"
    whole = Trace.load(trace)
    whole[:6000].save(first)
    whole[6000:].save(rest)
    assert evtsim_command("replay", first, "--state", "s.ckpt", cwd=tmp_path).returncode == 0
    done = evtsim_command("replay", rest, "--from", "s.ckpt", "--save", "run", cwd=tmp_path)
    assert "15,000 replayed, 9,000 of them now" in done.stdout
    run = evtsim.Run.load(tmp_path / "run")
    assert run.source["before"] == {"checkpoint": "s.ckpt", "records": 6000}
    assert run.totals() == evtsim.replay(whole).totals()
    sim = evtsim.Simulator.load(tmp_path / "s.ckpt")
    sim.apply(whole[6000:])
    assert evtsim.Run.of(sim, trace=whole[6000:]).source["before"] == {"records": 6000}


def test_what_a_log_leaves_out_is_said_in_a_line(trace, tmp_path):
    command = ("replay", trace, "--deliveries", "d.csv", "--most", "100", "--save", "run")
    done = evtsim_command(*command, cwd=tmp_path)
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("evtsim: d.csv has the first 100 of ")
    shown = evtsim_command("show", "run", "deliveries", cwd=tmp_path)
    assert shown.stderr.startswith("evtsim: run has the first 100 of ")
    assert shown.stderr.count("\n") == 1


def test_upcall_records_that_do_nothing_are_said_at_every_level(trace):
    run = evtsim.replay(trace, guest=evtsim.Guest(), stats=None)
    done = evtsim_command("replay", trace, "--stats", "none", "--guest", "linux")
    assert f"{ignored_upcalls(run):,} upcall records: guests handle" in done.stdout
    counted = evtsim.replay(trace, guest=evtsim.Guest())
    assert ignored_upcalls(run) == counted.vcpus["ignored_upcalls"].sum() > 0


def test_a_dry_run_tells_what_a_replay_needs(trace, tmp_path):
    done = evtsim_command("replay", trace, "--dry-run", "--guest", "linux", "--save", "run")
    assert done.returncode == 0, done
    assert re.search(r"about .* \(\d+ ns a record, (measured just now|as the last)", done.stdout)
    facts = json.loads(evtsim_command("replay", trace, "--dry-run", "--json").stdout)
    assert facts["records"] == 15_000
    assert facts["records_counted"] is True
    assert facts["outcome_bytes"] == 15_000 * 18
    assert facts["seconds"] == pytest.approx(facts["ns_per_record"] * 15_000 / 1e9)
    path = str(tmp_path / "t.csv.gz")
    Trace.load(trace).save(path)
    facts = json.loads(evtsim_command("replay", path, "--dry-run", "--json").stdout)
    assert (facts["records"], facts["records_counted"]) == (15_000, True)
    with pytest.raises(EvtsimError, match="could not be read again"):
        sizing.measure("-", None)
    assert list(tmp_path.iterdir()) == [tmp_path / "t.csv.gz"]


def test_the_number_of_records_of_a_long_csv_file_is_estimated(tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "LOOKED_AT", 100_000)
    trace = workloads.generate("channels", records=20_000, domains=5)
    for suffix in ("csv", "csv.gz"):
        trace.save(tmp_path / f"t.{suffix}")
        size = sizing.size_of(tmp_path / f"t.{suffix}", None, trace.host)
        assert size.counted is False
        assert size.records == pytest.approx(20_000, rel=0.2)
        assert size.column_bytes == 24 * size.records


def test_all_members_of_a_gzip_file_are_counted(tmp_path):
    trace = workloads.generate("channels", records=1000, domains=5)
    trace.save(tmp_path / "t.csv")
    text = (tmp_path / "t.csv").read_bytes()
    packed = gzip.compress(text[:9000]) + gzip.compress(text[9000:])
    (tmp_path / "t.csv.gz").write_bytes(packed)
    size = sizing.size_of(tmp_path / "t.csv.gz", None, trace.host)
    assert (size.records, size.counted) == (1000, True)


def test_rates_are_remembered_by_kind(monkeypatch, tmp_path):
    monkeypatch.setattr(sizing, "_file", lambda: tmp_path / "rates.json")
    host = evtsim.Host.uniform(2)
    sim = evtsim.Simulator(host, stats="port")
    sizing.remember(sim, sizing.SAMPLE - 1, 1.0)
    assert sizing.recall(host) is None
    sizing.remember(sim, 1_000_000, 0.05)
    assert sizing.recall(host) == pytest.approx(50)
    assert sizing.recall(host, stats="domain") is None
    assert sizing.recall(host, evtsim.Guest()) is None
    (tmp_path / "rates.json").write_text("[]")
    assert sizing.recall(host) is None


def test_both_estimates_of_a_trace_are_the_same(in_process, trace, tmp_path, monkeypatch):
    monkeypatch.setattr(sizing, "_file", lambda: tmp_path / "rates.json")

    def told(*command):
        return json.loads(in_process(*command, "--json").stdout)

    assert told("info", trace)["replay"]["seconds"] is None
    first = told("replay", trace, "--dry-run")
    assert first["measured_records"] == 15_000
    assert told("info", trace)["replay"]["seconds"] is None  # 15,000 are too few to remember
    longer = str(tmp_path / "long.arrow")
    workloads.generate("channels", records=300_000, domains=6).save(longer)
    measured = told("replay", longer, "--dry-run")
    assert measured["measured_records"] >= sizing.SAMPLE
    for path, wanted in ((longer, measured["seconds"]), (trace, measured["ns_per_record"] * 15e-6)):
        assert told("info", path)["replay"]["seconds"] == pytest.approx(wanted)
    short = told("replay", trace, "--dry-run")
    assert short["seconds"] == told("info", trace)["replay"]["seconds"]
    words = "ns a record, as the last such replay here took"
    for command in (("info", trace), ("replay", trace, "--dry-run")):
        assert words in in_process(*command).stdout


def test_loading_a_simulator_makes_its_tables_once(tmp_path, monkeypatch):
    from evtsim import state

    made = []
    allocate = state.allocate
    monkeypatch.setattr(state, "allocate", lambda *given: made.append(1) or allocate(*given))
    sim = evtsim.Simulator(evtsim.Host.uniform(2), stats="port", deliveries=5)
    sim.save(tmp_path / "s")
    loaded = evtsim.Simulator.load(tmp_path / "s")
    assert made == [1, 1]
    assert loaded.state.deliveries_kept == 5
