"""Runs: kept in a folder, shown by the command line, documented in one place."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, workloads
from evtsim._files import held
from evtsim.run import FRAMES
from tests.commands import evtsim_command

DOCS = Path(__file__).parents[2] / "docs" / "statistics.md"


@pytest.fixture(scope="module")
def run():
    trace = workloads.generate("channels", records=20_000, domains=5, vcpus=2)
    return evtsim.replay(trace, deliveries=1_000_000)


@pytest.mark.parametrize("name", FRAMES)
def test_every_column_is_documented(run, name):
    section = re.search(rf"^## run\.{name}$(.*?)(?=^## |\Z)", DOCS.read_text(), re.M | re.S)[1]
    documented = re.findall(r"^\| (\w+) \|", section, re.M)[1:]
    assert documented == list(getattr(run, name))


@pytest.mark.parametrize("stats", [None, "domain", "port"])
def test_a_run_is_kept_in_a_folder(tmp_path, stats):
    trace = workloads.generate("channels", records=20_000, domains=5)
    run = evtsim.replay(trace, stats=stats, outcomes=stats == "port")
    run.save(tmp_path / "run")
    loaded = evtsim.Run.load(tmp_path / "run")
    assert loaded.totals() == run.totals()
    assert loaded.source == run.source == {"meta": trace.meta, "digest": trace.digest()}
    for name in FRAMES:
        path = tmp_path / "run" / f"{name}.parquet"
        assert path.exists() == run.has(name)
        if run.has(name):
            pd.testing.assert_frame_equal(getattr(loaded, name), getattr(run, name))
            assert len(pd.read_parquet(path)) == len(getattr(run, name))
    if stats == "port":
        for name, column in run.outcomes.fields():
            assert np.array_equal(getattr(loaded.outcomes, name), column)
    else:
        assert loaded.outcomes is None
    with pytest.raises(EvtsimError, match="holds a run already"):
        run.save(tmp_path / "run")


def test_a_run_stays_until_another_can_take_its_place(tmp_path, run, monkeypatch):
    run.save(tmp_path)
    (tmp_path / ".bashrc~").write_text("somebody's own")
    whole = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(EvtsimError, match="No space left"):
        patch.setattr(pd.DataFrame, "to_parquet", fail)
        run.save(tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole
    with held(tmp_path), pytest.raises(EvtsimError, match="another process is writing here"):
        run.save(tmp_path, overwrite=True)
    run.save(tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == whole


@pytest.mark.parametrize("guest", [None, evtsim.Guest()])
def test_the_duration_does_not_depend_on_what_is_counted(guest):
    host = evtsim.Host.uniform(2)
    builder = evtsim.TraceBuilder(host)
    for ts in (10_000, 20_000):
        builder.send(ts=ts, dom=0, port=1)
    found = set()
    for stats in (None, "domain", "port"):
        sim = evtsim.Simulator(host, guest, stats)
        if guest:
            sim.advance(5_000)
        sim.apply(builder.trace())
        found.add(evtsim.Run.of(sim).totals()["duration_ns"])
    assert found == {15_000 if guest else 10_000}


def test_a_run_that_replaces_another_leaves_nothing_of_it(tmp_path, run):
    run.save(tmp_path / "run")
    small = evtsim.replay(
        workloads.generate("channels", records=100), outcomes=False, stats="domain"
    )
    small.save(tmp_path / "run", overwrite=True)
    loaded = evtsim.Run.load(tmp_path / "run")
    assert loaded.outcomes is None
    assert loaded.records == 100
    assert not (tmp_path / "run" / "ports.parquet").exists()


def test_time_may_be_as_long_as_64_bits_allow():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1))
    b.bind_ipi(dom=0, ts=0)
    b.send(dom=0, port=1)
    b.upcall(dom=0, ts=2**63 + 2**62)
    run = evtsim.replay(b.trace())
    assert run.ports["latency_max"].max() == 2**63 + 2**62
    assert (run.latency["low_ns"] <= 2**63 + 2**62).all()
    assert (run.latency["high_ns"] >= 2**63 + 2**62).all()


def test_ports_of_a_destroyed_domain_are_free():
    b = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    b.destroy_domain(dom=1)
    ports = evtsim.replay(b.trace()).ports
    assert set(ports[ports["dom"] == 1]["state_name"]) == {"FREE"}


def test_a_folder_without_a_run_is_refused(tmp_path, run):
    with pytest.raises(EvtsimError, match="holds no run"):
        evtsim.Run.load(tmp_path)
    run.save(tmp_path / "run")
    (tmp_path / "run" / "state").write_bytes(b"nonsense")
    with pytest.raises(EvtsimError, match="not a checkpoint"):
        evtsim.Run.load(tmp_path / "run")


def test_show(run, tmp_path):
    folder = str(tmp_path / "run")
    run.save(folder)
    assert "notified" not in evtsim_command("show", folder, "ports").stderr
    assert "more rows" in evtsim_command("show", folder, "ports").stdout
    shown = json.loads(evtsim_command("show", folder, "vcpus", "--json").stdout)
    assert shown == json.loads(run.vcpus.to_json(orient="records"))
    out = str(tmp_path / "ports.csv")
    assert evtsim_command("show", folder, "ports", "--csv", out).returncode == 0
    assert len(pd.read_csv(out)) == len(run.ports)
    again = evtsim_command("show", folder, "ports", "--csv", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert "no frame 'ponies'" in evtsim_command("show", folder, "ponies").stderr


def test_replay_sums_up_and_saves(tmp_path):
    trace = str(tmp_path / "t.arrow")
    workloads.generate("channels", records=5000, domains=5).save(trace)
    done = evtsim_command("replay", trace, "--save", str(tmp_path / "run"))
    assert "latency p99" in done.stdout
    assert "busiest" in done.stdout
    assert evtsim.Run.load(tmp_path / "run").records == 5000
    quiet = evtsim_command("replay", trace, "--stats", "none", "--json")
    assert json.loads(quiet.stdout)["types"] == []
    assert "--stats is 'all'" in evtsim_command("replay", trace, "--stats", "all").stderr


def test_latency_quantiles(run):
    rows = evtsim.statistics.by_type(run.state)
    assert [row["type"] for row in rows] == ["interdomain"]
    counts = run.state.tables.latency[0]
    _, high = evtsim.statistics.latency_bounds(np.arange(len(counts))[: 59 * 32])
    exact = np.repeat(high[counts[: 59 * 32] > 0], counts[counts > 0])
    latency = rows[0]["latency_ns"]
    assert latency["p50"] == exact[(len(exact) - 1) // 2]
    assert latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
    assert rows[0]["raised"] == run.ports["raised"].sum()
    assert rows[0]["coalesced"] == run.ports["coalesced"].sum()
    assert rows[0]["masked"] == run.ports["masked"].sum()


@pytest.mark.parametrize(("domains", "groups"), [(256, 256), (257, 129), (400, 200), (700, 175)])
def test_every_group_of_the_timeline_has_domains(domains, groups):
    host = evtsim.Host.uniform(domains)
    builder = evtsim.TraceBuilder(host)
    builder.bind_ipi(dom=domains - 1)
    timeline = evtsim.replay(builder.trace(), stats="domain").timeline
    assert timeline["group"].max() == groups - 1
    assert (timeline["first_dom"] <= timeline["last_dom"]).all()
    assert timeline["last_dom"].max() == domains - 1
    ends = timeline["start_ns"] + timeline["width_ns"]
    assert ends.dtype == np.uint64
