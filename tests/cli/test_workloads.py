"""The commands workloads and generate as a shell sees them."""

import json
import os
import pty
import subprocess
import sys

import pytest

import evtsim
from evtsim import workloads
from tests.commands import assert_refused, evtsim_command


@pytest.fixture(scope="module", autouse=True)
def _compiled():
    """Compiling is said on stderr, which most tests here want to be empty."""
    workloads.generate("mixed", records=100)


def test_workloads_lists_them():
    done = evtsim_command("workloads")
    lines = done.stdout.splitlines()[1:]
    assert [line.split()[0] for line in lines] == list(workloads.REGISTRY)
    assert json.loads(evtsim_command("workloads", "--json").stdout)["io"] == workloads.describe(
        "io"
    )


def test_workloads_shows_parameters():
    done = evtsim_command("workloads", "io")
    assert "gap_ns" in done.stdout
    assert "pareto or exponential" in done.stdout
    shown = json.loads(evtsim_command("workloads", "io", "--json").stdout)["parameters"]
    assert {name: row["default"] for name, row in shown.items()} == workloads.parameters("io")
    assert shown["gap_ns"]["unit"] == "ns"


def test_mixed_is_the_default(tmp_path):
    options = ("-n", "2k", "--duration", "1s", "-p", "domains=4", "-p", "wake_ns=3us")
    for words in (["a.arrow"], ["mixed", "b.arrow"]):
        done = evtsim_command("generate", *words, *options, cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    a, b = (evtsim.Trace.load(tmp_path / name) for name in ("a.arrow", "b.arrow"))
    assert a.digest() == b.digest()
    want = workloads.generate(records=2000, duration_ns=10**9, domains=4, wake_ns=3000)
    assert a.digest() == want.digest()


def test_a_host_file(tmp_path):
    host = evtsim.Host.uniform(5, vcpus=3)
    host.to_json(tmp_path / "h.json")
    words = ("generate", "io", "t.csv", "-n", "500", "--host", "h.json")
    assert evtsim_command(*words, cwd=tmp_path).returncode == 0
    assert (tmp_path / "t.csv").read_text().count("\n") > 500
    done = evtsim_command(*words, "-f", "-p", "vcpus=2", cwd=tmp_path)
    assert_refused(done, "host= and vcpus= exclude each other")


def test_generate_shows_progress_on_a_terminal(tmp_path):
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "evtsim", "generate", str(tmp_path / "t.arrow"), "-n", "400k"]
    done = subprocess.run(command, stderr=terminal, stdout=subprocess.PIPE, check=True)
    os.close(terminal)
    assert b"generating" in os.read(master, 1 << 16)
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["mixed", "x.arrow", "y.arrow"], "'y.arrow' (expected [WORKLOAD] FILE)"),
        (["io", "x.arrow", "-p", "zipf=9"], "zipf is 9 (expected 0 to 3)"),
        (["io", "x.arrow", "-p", "gap_ns=1h"], "gap_ns is '1h'"),
        (
            ["io", "x.arrow", "--duration", "soon"],
            "--duration is 'soon' (expected a time like 300ns, 2us, 1.5ms or 1s)",
        ),
        (["io", "x.arrow", "-p", "bursts=long"], "expected pareto or exponential"),
        (["io", "x.arrow", "--host", "none.json"], "none.json: no such file"),
        (["io", "x.txt"], "unknown suffix"),
        ([], "Missing argument"),
    ],
)
def test_wrong_usage(tmp_path, words, message):
    assert_refused(evtsim_command("generate", *words, cwd=tmp_path), message)
    assert list(tmp_path.iterdir()) == []
