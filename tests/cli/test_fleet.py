"""``evtsim fleet`` and ``evtsim sweep`` as a shell sees them."""

import json

import pandas as pd
import pytest

from evtsim import analysis, workloads
from tests.commands import assert_refused, evtsim_command, evtsim_process


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("traces")
    for seed in range(3):
        workloads.write(path / f"h{seed}.arrow", "io", records=6_000, domains=5, seed=seed)
    return path


@pytest.fixture(scope="module")
def scheduler(cluster_client):
    return ("--scheduler", cluster_client.scheduler.address)


def test_a_fleet_is_summed_up(folder, scheduler, tmp_path):
    table = tmp_path / "hosts.csv"
    done = evtsim_process(
        *("fleet", str(folder / "*.arrow"), "--csv", str(table), "--save", str(tmp_path / "kept")),
        *("--workload", "ipi", "--seeds", "3-4", "-n", "5k", "-p", "domains=3", *scheduler),
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "hosts          5 replayed\n" in done.stdout
    assert "records        28,000 in " in done.stdout
    for words in ("h0", "ipi-4", "interdomain", "latency p99", "bind_ipi"):
        assert words in done.stdout
    assert pd.read_csv(table)["host"].tolist() == ["h0", "h1", "h2", "ipi-3", "ipi-4"]
    shown = evtsim_command("show", str(tmp_path / "kept" / "host=h1"), "vcpus", "--json")
    assert len(json.loads(shown.stdout)) > 0


def test_a_fleet_as_json_and_a_failure(folder, scheduler):
    done = evtsim_process(
        *("fleet", str(folder / "h0.arrow"), str(folder / "none.arrow"), "--json"),
        *("--guest", "linux", "--wake", "exp:3us", "--drain", *scheduler),
    )
    assert done.returncode == 1
    assert done.stderr == f"evtsim: none failed: {folder / 'none.arrow'}: no such file\n"
    result = json.loads(done.stdout)
    assert result["totals"]["hosts"] == 1
    assert result["failed"] == {"none": f"{folder / 'none.arrow'}: no such file"}
    assert result["guest"]["wake_ns"] == {"exponential": {"mean_ns": 3000}}
    assert [host["host"] for host in result["hosts"]] == ["h0"]


def test_a_cluster_of_this_machine_is_made_and_closed(folder):
    done = evtsim_process("fleet", str(folder / "h*.arrow"), "--workers", "1", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert json.loads(done.stdout)["totals"]["records"] == 18_000


def test_a_sweep_is_a_frame_and_a_plot(folder, scheduler, tmp_path):
    trace = str(folder / "h1.arrow")
    files = [str(tmp_path / name) for name in ("s.csv", "s.parquet", "s.png")]
    options = [word for pair in zip(("--csv", "--parquet", "--plot"), files) for word in pair]  # noqa: B905
    varied = ("--wake", "1us,20us", "--eoi", "edge,late:9us", "--scan", "lowest", *scheduler)
    done = evtsim_process("sweep", trace, *varied, *options, "--y", "p99_ns")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    frame = pd.read_parquet(files[1])
    settings = [
        {"wake_ns": wake, **eoi, "scan": "lowest"}
        for wake in (1_000, 20_000)
        for eoi in ({"eoi": "edge", "eoi_ns": 0}, {"eoi": "late", "eoi_ns": 9_000})
    ]
    pd.testing.assert_frame_equal(frame, analysis.sweep(trace, settings))
    pd.testing.assert_frame_equal(pd.read_csv(files[0]), frame, check_dtype=False)
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")
    for line in frame["coalesced"]:
        assert f"{line:,}" in done.stdout
    refused = evtsim_command("sweep", trace, *varied, *options)
    assert_refused(refused, "s.csv", "exists already (--force replaces it)")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fleet"], ["no hosts"]),
        (["fleet", "none/*.arrow"], ["none/*.arrow: no such file"]),
        (["fleet", "t.arrow", "--wake", "1us"], ["add --guest linux"]),
        (["fleet", "t.arrow", "--drain"], ["add --guest linux"]),
        (["fleet", "t.arrow", "--stats", "port"], ["--save"]),
        (["fleet", "t.arrow", "--stats", "all"], ["port, domain or none"]),
        (["fleet", "t.arrow", "-n", "5"], ["add --workload"]),
        (["fleet", "--workload", "io", "--seeds", "9-1"], ["--seeds is '9-1'"]),
        (["fleet", "--workload", "no"], ["no workload 'no'"]),
        (["fleet", "t.arrow", "--workers", "0"], ["--workers"]),
        (["fleet", "t.arrow", "--csv", "none/t.csv"], ["none/t.csv: its folder does not exist"]),
        (["fleet", "t.arrow", "--workers", "1", "--scheduler", "tcp://x:1"], ["--scheduler"]),
        (["fleet", "t.arrow", "--scheduler", "nowhere"], ["no Dask scheduler answers"]),
        (["sweep", "t.arrow"], ["nothing to vary"]),
        (["sweep", "t.arrow", "--wake", "1us"], ["t.arrow: no such file"]),
        (["sweep", "t.arrow", "--wake", "1us,2"], ["--wake is '2'"]),
        (["sweep", "t.arrow", "--eoi", "edge,edge:5us"], ["--eoi is 'edge:5us'"]),
        (["sweep", "t.arrow", "--scan", "linux,bsd"], ["--scan is 'bsd'"]),
        (["sweep", "t.arrow", "--guest-seed", "1,x"], ["--guest-seed is '1,x'"]),
        (["sweep", "t.arrow", "--wake", "1us", "--plot", "p.jpg"], ["unknown suffix"]),
        (["sweep", "t.arrow", "--wake", "1us", "--y", "p98"], ["--y is 'p98'"]),
        (["sweep", "t.arrow", "--wake", "1us", "--x", "eoi"], ["--x is 'eoi'"]),
        (["sweep", "-", "--wake", "1us"], ["expected a file"]),
    ],
)
def test_what_is_wrong_is_told(arguments, words, tmp_path):
    assert_refused(evtsim_command(*arguments, cwd=tmp_path), *words)
