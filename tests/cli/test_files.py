"""What every command says of files and folders that it cannot use, and of rows to write."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import typer

import evtsim
from evtsim import workloads
from evtsim.cli.exporting import bounds
from tests.cli.test_cli import SAMPLE
from tests.commands import assert_refused


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "run"
    trace = workloads.generate("io", records=5000, domains=8)
    evtsim.replay(trace).save(path)
    return str(path)


READERS = [
    *(("info", "X"), ("replay", "X"), ("verify", "X"), ("validate", "X"), ("at", "X", "1")),
    *(("explain", "X", "1"), ("port", "X", "0", "1"), ("convert", "X", "o.csv")),
    *(("export", "X", "--perfetto", "o.json"), ("sweep", "X", "--wake", "1us")),
    *(("host", "infer", "X"), ("host", "show", "X"), ("inspect", "X"), ("xentrace", "X")),
    *(("ftrace", "X"), ("info", SAMPLE, "--host", "X"), ("replay", SAMPLE, "--from", "X")),
    *(("generate", "io", "o.csv", "--from", "X"), ("generate", "io", "o.csv", "--host", "X")),
]


@pytest.mark.parametrize("command", READERS, ids=" ".join)
def test_a_missing_file_and_a_folder_are_told_in_the_same_words(in_process, tmp_path, command):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    for name, words in (
        ("none.arrow", "none.arrow: no such file"),
        ("folder", "folder: is a folder (expected a file)"),
    ):
        assert_refused(in_process(*(name if word == "X" else word for word in command)), words)
    assert {path.name for path in tmp_path.iterdir()} == {"folder", "file"}


WRITERS = [
    *(("convert", SAMPLE, "X.csv"), ("generate", "io", "X.csv", "-n", "10")),
    *(("replay", SAMPLE, "--outcomes", "X.csv"), ("replay", SAMPLE, "--state", "X.csv")),
    *(("replay", SAMPLE, "--deliveries", "X.csv"), ("report", SAMPLE, "-o", "X.html")),
    *(("export", SAMPLE, "--perfetto", "X.json"), ("host", "uniform", "2", "-o", "X.json")),
    *(("sweep", SAMPLE, "--wake", "1us", "--csv", "X.csv"), ("fleet", SAMPLE, "--csv", "X.csv")),
    ("sweep", SAMPLE, "--wake", "1us", "--plot", "X.png"),
    *(("show", "RUN", "ports", "--csv", "X.csv"), ("show", "RUN", "ports", "--parquet", "X.csv")),
    *(("xentrace", SAMPLE, "--csv", "X.csv"), ("ftrace", SAMPLE, "--parquet", "X.csv")),
    *(("inspect", SAMPLE, "--html", "X.html"), ("inspect", SAMPLE, "--state", "X.state")),
]


@pytest.mark.parametrize("command", WRITERS, ids=" ".join)
def test_what_cannot_be_written_is_told_before_the_work(in_process, saved, tmp_path, command):
    suffix = next(word[1:] for word in command if word.startswith("X."))
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"there{suffix}").write_text("mine")
    for name, words in (
        (f"folder{suffix}", "is a folder (expected a file)"),
        (f"there{suffix}", "exists already (--force replaces it)"),
        (f"no/x{suffix}", "its folder does not exist"),
    ):
        given = (name if word.startswith("X.") else word for word in command)
        done = in_process(*(saved if word == "RUN" else word for word in given))
        assert_refused(done, f"{name}: {words}")
    assert (tmp_path / f"there{suffix}").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 2


FOLDERS = [
    ("replay", SAMPLE, "--save", "file"),
    ("replay", SAMPLE, "--checkpoint", "file"),
    ("replay", SAMPLE, "--outcomes", "file/"),
    ("demo", "-o", "file"),
]


@pytest.mark.parametrize("command", FOLDERS, ids=" ".join)
def test_a_file_where_a_folder_belongs(in_process, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    assert_refused(in_process(*command), "file: is a file (expected a folder)")
    assert (tmp_path / "file").read_text() == "mine"


def test_rows_hold_in_every_form_when_they_are_said(in_process, saved, tmp_path):
    ports = evtsim.Run.load(saved).ports
    assert len(ports) > 40
    shown = in_process("show", saved, "ports").stdout.splitlines()
    assert len(shown) == 1 + 40 + 1
    assert len(in_process("show", saved, "ports", "-n", "5").stdout.splitlines()) == 1 + 5 + 1
    for options, wanted in (((), len(ports)), (("-n", "5"), 5), (("-n", "0"), 0)):
        command = ("show", saved, "ports", *options)
        assert len(json.loads(in_process(*command, "--json").stdout)) == wanted
        text = in_process(*command, "--csv", "-").stdout
        assert len(pd.read_csv(io.StringIO(text))) == wanted
        done = in_process(*command, "--csv", "p.csv", "--parquet", "p.parquet", "-f")
        assert (done.returncode, done.stdout) == (0, "")
        assert len(pd.read_csv("p.csv")) == len(pd.read_parquet("p.parquet")) == wanted


@pytest.mark.parametrize("command", [("at", SAMPLE, "500"), ("port", SAMPLE, "12", "1")])
def test_rows_hold_for_json_of_states_and_lives(in_process, command):
    def count(text):
        data = json.loads(text)
        return len(data["ports"] if isinstance(data, dict) else data)

    assert count(in_process(*command, "--json", "-n", "3").stdout) == 3
    assert count(in_process(*command, "--json").stdout) > 3


def test_a_frame_goes_to_stdout_as_csv_and_not_as_parquet(in_process, saved, tmp_path):
    done = in_process("show", saved, "ports", "--parquet", "-")
    assert_refused(done, "--parquet -: stdout takes no Parquet (expected a file)")
    done = in_process("show", saved, "ports", "--csv", "-", "--json")
    assert_refused(done, "--csv - and --json both write to stdout (expected one of them)")
    done = in_process("show", saved, "ports", "--parquet", "p", "--csv", "p")
    assert_refused(done, "p: cannot hold both --csv and --parquet")
    assert list(tmp_path.iterdir()) == []


def test_a_run_takes_nobody_elses_place(in_process, tmp_path):
    Path("d").mkdir()
    Path("d/outcomes.parquet").write_bytes(Path(SAMPLE).with_name("mixed.parquet").read_bytes())
    Path("d/ports.parquet").write_text("mine")
    before = {path.name: path.read_bytes() for path in Path("d").iterdir()}
    for command, words in (
        (("d/outcomes.parquet", "--save", "d", "-f"), "d: cannot hold both the trace and --save"),
        ((SAMPLE, "--save", "d", "--outcomes", "d/o.csv"), "d: cannot hold both --outcomes and"),
        ((SAMPLE, "--save", "d"), "d: has a file ports.parquet of no run (--force replaces it)"),
    ):
        assert_refused(in_process("replay", *command), words)
    assert {path.name: path.read_bytes() for path in Path("d").iterdir()} == before


def test_a_window_is_exact_to_the_ns():
    assert bounds("1700000000123456789ns:18446744073709551614") == (
        1_700_000_000_123_456_789,
        2**64 - 2,
    )
    with pytest.raises(typer.BadParameter):
        bounds("0:18446744073709551615")


def test_a_terminal_of_ascii_shows_what_it_can(saved):
    command = [sys.executable, "-m", "evtsim", "show", str(saved), "ports"]
    env = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) > 40
