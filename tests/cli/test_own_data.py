"""evtsim xentrace, ftrace and export, as a shell sees them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest

from evtsim import workloads
from tests.commands import assert_refused, evtsim_command
from tests.unit.interop.test_ftrace import LOG
from tests.unit.interop.xentrace_files import Record, encoded, lost, runstate


@pytest.fixture(scope="module")
def xentrace(tmp_path_factory):
    """Write a guest's vcpu that calls, sleeps and is woken, 100 times, and loses records once."""
    path = tmp_path_factory.mktemp("xentrace") / "host.bin"
    records = []
    for i in range(100):
        tsc = 2400 * (1000 * i + 1000)
        records += [
            Record(0x28004, (3, 1), tsc),
            runstate(1, 0, 3, 1, tsc + 2400 * 5),
            Record(0x82004, (0xF3, 0)),
            Record(0x20100D, (32 | 1 << 20, 4), tsc + 2400 * 9),
            runstate(0, 2, 3, 1, tsc + 2400 * 20),
        ]
    end = 2400 * 102_000
    path.write_bytes(encoded([(2, records), (0, [lost(7, 0, 0, end - 2400, end)])]))
    return str(path)


def test_xentrace_sums_up(xentrace, tmp_path):
    done = evtsim_command("xentrace", xentrace, "--fit")
    assert done.returncode == 0, done
    assert re.fullmatch(r"(evtsim: compiling .*\n){0,2}", done.stderr)  # where it is the first
    assert "7 in 1 gaps" in done.stdout
    assert re.search(r"^3 +1 +100 +100 +100 +100 ", done.stdout, re.MULTILINE)
    assert re.search(r"^3 +1 +100 +5 us", done.stdout, re.MULTILINE)
    command = re.search(r"^evtsim (generate timer .*)$", done.stdout, re.MULTILINE)[1].split()
    made = evtsim_command(*command, "-n", "500", cwd=tmp_path)
    assert made.returncode == 0, made
    assert (tmp_path / "timer.arrow").exists()


def test_xentrace_as_json_and_files(xentrace, tmp_path):
    files = ("--csv", str(tmp_path / "t.csv"), "--parquet", str(tmp_path / "t.parquet"))
    done = evtsim_command("xentrace", xentrace, "--json", "--fit", *files)
    data = json.loads(done.stdout)
    assert data["kinds"]["event_channel_op"] == 100
    assert data["operations"] == [{"dom": 3, "vcpu": 1, "op": 4, "op_name": "send", "calls": 100}]
    assert data["wake_latency_ns"][0]["p99"] == 5000
    assert sum(row["calls"] for row in data["timeline"]) == 100
    assert data["gaps"][0]["records"] == 7
    assert data["estimates"]["timer"]["wake_ns"] == 5000
    table = pd.read_parquet(tmp_path / "t.parquet")
    assert len(table) == len(pd.read_csv(tmp_path / "t.csv")) == sum(data["kinds"].values())
    assert_refused(evtsim_command("xentrace", xentrace, *files), "t.csv: exists already")
    half = json.loads(evtsim_command("xentrace", xentrace, "--json", "--hz", "1.2GHz").stdout)
    assert half["span_ns"] == 2 * data["span_ns"]
    piped = evtsim_command("xentrace", xentrace, "--csv", "-")
    assert piped.stdout.startswith("ts_ns,pcpu,dom,vcpu,kind,value\n")


def test_a_cut_xentrace_file_is_summed_up_with_a_warning(xentrace, tmp_path):
    path = tmp_path / "cut.bin"
    path.write_bytes(Path(xentrace).read_bytes()[:-30])
    done = evtsim_command("xentrace", str(path))
    assert done.returncode == 0
    assert done.stderr == f"evtsim: warning: {path}: ends in mid-record; the first 500 records " \
        "are whole\n"  # fmt: skip


def test_ftrace_sums_up(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text(LOG)
    done = evtsim_command("ftrace", str(path))
    assert done.returncode == 0, done
    assert re.search(r"^-1 +0 +send +1$", done.stdout, re.MULTILINE)
    data = json.loads(evtsim_command("ftrace", str(path), "--json").stdout)
    assert {row["op_name"]: row["calls"] for row in data["operations"]} == {"send": 1, "unmask": 1}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("xentrace", "none.bin"), "none.bin: no such file"),
        (("xentrace", "README"), "README: not a xentrace file"),
        (
            ("xentrace", "README", "--hz", "fast"),
            "--hz is 'fast' (expected a clock rate",
        ),
        (("xentrace", "README", "--hz", "1.2.3"), "--hz is '1.2.3'"),
        (("xentrace", "README", "--hz", "0"), "hz is 0.0"),
        (("ftrace", "README"), "README: not an ftrace log"),
        (("ftrace", "."), ".: is a folder (expected a file)"),
    ],
)
def test_what_is_of_another_kind_is_refused(tmp_path, arguments, words):
    (tmp_path / "README").write_text("This is text.\n")
    assert_refused(evtsim_command(*arguments, cwd=tmp_path), words)


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    path = tmp_path_factory.mktemp("export") / "t.arrow"
    workloads.generate("mixed", records=3000, domains=4).save(path)
    return path


def test_export(trace, tmp_path):
    out = tmp_path / "t.json"
    command = ("export", str(trace), "--perfetto", str(out))
    done = evtsim_command(*command)
    assert done.returncode == 0, done
    assert done.stdout == ""
    events = json.loads(out.read_text())["traceEvents"]
    assert f"{len(events):,} events" in done.stderr
    assert_refused(evtsim_command(*command), "t.json: exists already (--force replaces it)")
    options = ("-f", "--dom", "0,2-3", "--guest", "linux", "--eoi", "late:5us", "--drain")
    done = evtsim_command(*command, "--window", "1ms:1s", *options)
    assert done.returncode == 0, done
    events = json.loads(out.read_text())["traceEvents"]
    assert {event["pid"] for event in events} == {0, 2, 3}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((), "Missing option '--perfetto'"),
        (("--perfetto", "t.txt"), "t.txt: unknown suffix (expected .json or .json.gz)"),
        (("--perfetto", "no/t.json"), "no/t.json: its folder does not exist"),
        (("--perfetto", "t.json", "--window", "5"), "--window is '5' (expected FROM:TO"),
        (("--perfetto", "t.json", "--window", "5s:3s"), "expected FROM before TO"),
        (("--perfetto", "t.json", "--window", "5x:"), "--window is '5x'"),
        (
            ("--perfetto", "t.json", "--dom", "one"),
            "--dom is 'one' (expected domains like",
        ),
        (("--perfetto", "t.json", "--dom", "4"), "domain 4 (expected 0 to 3)"),
        (("--perfetto", "t.json", "--drain"), "--drain lets guests go on (add --guest linux)"),
        (("--perfetto", "t.json", "--wake", "2us"), "add --guest linux"),
    ],
)
def test_export_refuses_nonsense_and_leaves_nothing(trace, tmp_path, options, words):
    done = evtsim_command("export", str(trace), *options, cwd=tmp_path)
    assert_refused(done, words)
    assert list(tmp_path.iterdir()) == []
