"""Fleets and sweeps on a cluster: the same as a loop, whatever happens to workers and traces."""

import functools
import os
import signal
import sys
import threading

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pytest

import evtsim
from evtsim import EvtsimError, analysis, cluster, fleet, statistics, workloads
from evtsim.fleet import specs

HOSTS = 8
GUEST = evtsim.Guest(wake_ns=evtsim.Exponential(5_000))


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fleet")
    paths = [folder / f"h{seed}.arrow" for seed in range(HOSTS)]
    for seed, path in enumerate(paths):
        kind = ("mixed", "io")[seed % 2]
        workloads.write(path, kind, records=4_000 * (seed + 1), domains=8 + seed, seed=seed)
    return paths


@pytest.fixture(scope="module")
def loop(traces):
    return [evtsim.replay(path, stats="domain", outcomes=False) for path in traces]


def assert_same_fleet(one, other):
    assert one.totals() == other.totals()
    assert one.types() == other.types()
    assert one.vcpu_totals() == other.vcpu_totals()
    for name in ("hosts", "operations", "latency"):
        pd.testing.assert_frame_equal(getattr(one, name), getattr(other, name))


def test_sums_are_those_of_a_loop_bit_for_bit(cluster_client, traces, loop):
    done = []
    result = fleet.replay(traces, client=cluster_client, progress=lambda *now: done.append(now))
    assert done == [(number, HOSTS) for number in range(1, HOSTS + 1)]
    assert result.names == [f"h{seed}" for seed in range(HOSTS)]
    each = [run.totals() for run in loop]
    wanted = {name: sum(totals[name] for totals in each) for name in each[0]}
    wanted["duration_ns"] = max(totals["duration_ns"] for totals in each)
    assert result.totals() == {"hosts": HOSTS, "failed": 0, **wanted}
    latency = pd.concat([run.latency for run in loop])
    summed = latency.groupby(["type", "priority", "low_ns", "high_ns"])["events"].sum()
    keys = list(summed.index.names)
    found = result.latency.set_index(keys)["events"]
    assert found.to_dict() == summed.to_dict()
    operations = pd.concat([run.operations for run in loop])
    summed = operations.groupby(["op", "rc"])["records"].sum()
    assert result.operations.set_index(["op", "rc"])["records"].to_dict() == summed.to_dict()
    vcpus = pd.concat([run.vcpus for run in loop])
    for name in ("kicks", "upcalls", "spurious", "ignored_upcalls", "delivered", "poll_wakes"):
        assert result.vcpu_totals()[name] == vcpus[name].sum()
    assert result.vcpu_totals()["largest_batch"] == vcpus["largest_batch"].max()


def test_types_of_channels_have_quantiles_of_all_hosts_events(cluster_client, traces, loop):
    types = {row["type"]: row for row in fleet.replay(traces, client=cluster_client).types()}
    each = [row for run in loop for row in statistics.by_type(run.state)]
    assert set(types) == {row["type"] for row in each}
    for name, row in types.items():
        of_type = [other for other in each if other["type"] == name]
        for field in ("raised", "coalesced", "masked", "delivered"):
            assert row[field] == sum(other[field] for other in of_type)
        latencies = [other["latency_ns"] for other in of_type]
        assert row["latency_ns"]["max"] == max(latency["max"] for latency in latencies)
        medians = [latency["p50"] for latency in latencies if latency["max"]]
        if medians:
            assert min(medians) <= row["latency_ns"]["p50"] <= max(medians)


def test_a_host_s_row_and_frames_are_its_run_s(cluster_client, traces, loop):
    result = fleet.replay(traces, client=cluster_client)
    for run, (_, row), path in zip(loop, result.hosts.iterrows(), traces, strict=True):
        assert row["source"] == str(path)
        assert row["records"] == run.records
        assert row["kicks"] == run.vcpus["kicks"].sum()
        latency = analysis.latency_percentiles(run, by="host")
        assert row["p99_ns"] == latency["p99_ns"].sum()
    for name in ("domains", "vcpus", "operations", "latency"):
        wanted = [getattr(run, name).assign(host=f"h{i}") for i, run in enumerate(loop)]
        frame = result.frame(name)
        assert frame.columns[0] == "host"
        wanted = pd.concat(wanted, ignore_index=True)[list(frame)]
        pd.testing.assert_frame_equal(frame, wanted, check_dtype=False, check_categorical=False)
    with pytest.raises(EvtsimError, match="ports: not kept"):
        result.frame("ports")


def test_a_worker_that_is_killed_loses_nothing(cluster_client):
    hosts = [fleet.Synthetic("io", seed, {"records": 150_000}) for seed in range(6)]
    quiet = fleet.replay(hosts, client=cluster_client)
    victims = list(cluster_client.run(os.getpid).values())

    def kill(done, total):
        if done == 1:
            os.kill(victims[0], signal.SIGKILL)

    result = fleet.replay(hosts, client=cluster_client, progress=kill)
    assert not result.failed
    assert_same_fleet(result, quiet)
    cluster_client.wait_for_workers(2)
    assert victims[0] not in cluster_client.run(os.getpid).values()


def test_what_is_damaged_is_named_and_the_others_are_there(cluster_client, traces, tmp_path):
    damaged = tmp_path / "damaged.arrow"
    whole = bytearray(traces[3].read_bytes())
    whole[len(whole) // 2] ^= 1
    damaged.write_bytes(whole)
    absent = tmp_path / "absent.arrow"
    result = fleet.replay([traces[0], damaged, absent, traces[1]], client=cluster_client)
    assert list(result.failed) == ["damaged", "absent"]
    assert str(damaged) in result.failed["damaged"]
    assert result.failed["absent"] == f"{absent}: no such file"
    assert not any("\n" in why for why in result.failed.values())
    good = fleet.replay([traces[0], traces[1]], client=cluster_client)
    pd.testing.assert_frame_equal(result.hosts, good.hosts)
    assert result.totals() == {**good.totals(), "failed": 2}
    assert repr(result).startswith("<Fleet of 2 hosts, 2 failed, ")
    assert "Fleet" in result._repr_html_()


def test_all_hosts_may_fail(cluster_client, tmp_path):
    result = fleet.replay([tmp_path / "absent.arrow"], client=cluster_client)
    assert result.totals() == {"hosts": 0, "failed": 1}
    assert len(result.hosts) == len(result.operations) == len(result.latency) == 0
    assert result.types() == []


def test_without_statistics_records_are_counted(cluster_client, traces, loop):
    result = fleet.replay(traces, stats=None, client=cluster_client)
    assert result.totals()["records"] == sum(run.records for run in loop)
    assert list(result.hosts["delivered"]) == [run.totals()["delivered"] for run in loop]
    with pytest.raises(EvtsimError, match="domains: not counted"):
        result.frame("domains")


def test_a_generated_host_is_its_trace_s(cluster_client):
    host = fleet.Synthetic("mixed", 7, {"records": "20k", "deliver": "model"})
    result = fleet.replay(host, guest=GUEST, drain=True, client=cluster_client)
    trace = workloads.generate("mixed", seed=7, records=20_000, deliver="model")
    run = evtsim.replay(trace, guest=GUEST, stats="domain", drain=True)
    assert result.types() == statistics.by_type(run.state)
    assert {**run.totals(), "hosts": 1, "failed": 0} == result.totals()


# Keeping -----------------------------------------------------------------------------------------


def test_what_is_saved_is_not_replayed_again(cluster_client, traces, tmp_path):
    paths = {f"web {path.stem}": tmp_path / path.name for path in traces[:4]}
    for path, source in zip(paths.values(), traces, strict=False):
        path.write_bytes(source.read_bytes())
    again = functools.partial(
        fleet.replay, paths, stats="port", client=cluster_client, save=tmp_path / "fleet"
    )
    first = again()
    assert first.kept == 0
    second = again()
    assert second.kept == 4
    assert_same_fleet(first, second)
    assert_same_fleet(first, fleet.load(tmp_path / "fleet"))

    os.utime(paths["web h0"])  # touched: its records are the same
    paths["web h1"].write_bytes(traces[5].read_bytes())  # another trace
    (first.folder / "host=web h2" / "host.json").unlink()  # died before it was whole
    third = again()
    assert third.kept == 2
    assert third.hosts["records"].tolist() == [4_000, 24_000, 12_000, 16_000]

    run = third.run("web h1")
    assert run.records == 24_000
    ports = third.frame("ports")
    of_one = ports[ports["host"] == "web h1"].drop(columns="host").reset_index(drop=True)
    pd.testing.assert_frame_equal(of_one, run.ports, check_dtype=False, check_categorical=False)
    some = third.dataset("edges").to_table(filter=pc.field("host") == "web h1")
    assert len(some) == len(run.edges)


def test_a_fleet_under_way_goes_on_where_it_was(cluster_client, traces, tmp_path):
    def stop(done, total):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fleet.replay(traces, client=cluster_client, save=tmp_path, progress=stop)
    assert len(fleet.load(tmp_path).hosts) >= 3
    result = fleet.replay(traces, client=cluster_client, save=tmp_path)
    assert 3 <= result.kept <= HOSTS
    assert_same_fleet(result, fleet.replay(traces, client=cluster_client))


def test_hosts_with_and_without_fifo_share_a_frame(cluster_client, tmp_path):
    parameters = {"records": 3_000, "domains": 4}
    hosts = {
        "old": fleet.Synthetic("timer", 0, parameters),
        "new": fleet.Synthetic("timer", 0, {**parameters, "abi": "fifo"}),
    }
    result = fleet.replay(hosts, stats="port", client=cluster_client, save=tmp_path)
    priorities = result.frame("ports").groupby("host")["priority"].count()
    assert priorities["old"] == 0
    assert priorities["new"] > 0


def test_a_folder_is_not_mixed_with_anything_else(cluster_client, traces, tmp_path):
    replay = functools.partial(fleet.replay, traces[:1], client=cluster_client)
    replay(save=tmp_path / "fleet")
    with pytest.raises(EvtsimError, match="replayed with another guest, drain "):
        replay(save=tmp_path / "fleet", guest=GUEST, drain=True)
    result = replay(save=tmp_path / "fleet", guest=GUEST, drain=True, overwrite=True)
    assert result.kept == 0
    assert result.run("h0").guest == GUEST
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").touch()
    with pytest.raises(EvtsimError, match="has other files, letter"):
        replay(save=tmp_path / "mine")
    with pytest.raises(EvtsimError, match="is a file"):
        replay(save=traces[0])
    with pytest.raises(EvtsimError, match="holds no fleet"):
        fleet.load(tmp_path / "mine")
    (tmp_path / "mine" / "fleet.json").write_text("{")
    with pytest.raises(EvtsimError, match="not JSON of a fleet"):
        fleet.load(tmp_path / "mine")
    with pytest.raises(EvtsimError, match="no host 'h9'"):
        result.run("h9")
    with pytest.raises(EvtsimError, match="ports: not counted"):
        result.frame("ports")
    with pytest.raises(EvtsimError, match="no frame 'port'"):
        result.dataset("port")


# What a host is ----------------------------------------------------------------------------------


def test_hosts_are_called_what_tells_them_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").mkdir()
    for name in ("a/x.arrow", "a/y.csv.gz", "x.arrow", "x.csv", "[z].arrow"):
        (tmp_path / name).touch()
    assert list(specs.named("a/*")) == ["x", "y"]
    assert list(specs.named(["x.arrow", "x.csv", "./x.csv"])) == ["x.arrow", "x.csv"]
    assert list(specs.named(["x.arrow", "a/x.arrow"])) == ["x.arrow", "a/x.arrow"]
    assert specs.named("[z].arrow") == {"[z]": str(tmp_path / "[z].arrow")}
    assert list(specs.named([fleet.Synthetic("io", 2), fleet.Synthetic("io", 3)])) == [
        "io-2",
        "io-3",
    ]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "no hosts"),
        ("none/*.arrow", "none/[*].arrow: no such file"),
        (["-"], "a host is '-'"),
        ([3], "a host is 3"),
        (3, "a host is 3"),
        ({"": "t.arrow"}, "hosts are called"),
        ([fleet.Synthetic("io"), fleet.Synthetic("io", 0, {"records": 5})], "called 'io-0'"),
    ],
)
def test_what_is_no_fleet_says_why(given, words):
    with pytest.raises(EvtsimError, match=words):
        specs.named(given)


def test_wrong_arguments_are_refused_before_anything_starts(traces):
    for keywords, words in [
        ({"stats": "ports"}, "stats is 'ports'"),
        ({"guest": "linux"}, "guest is 'linux'"),
        ({"drain": True}, "there is none"),
        ({"retries": -1}, "retries is -1"),
        ({"host": "host"}, "host is 'host'"),
        ({"client": 0}, "client is 0"),
        ({"client": "nowhere"}, "nowhere: no Dask scheduler answers"),
    ]:
        with pytest.raises(EvtsimError, match=words):
            fleet.replay(traces, **keywords)
    with pytest.raises(EvtsimError, match="no workload 'none'"):
        fleet.Synthetic("none")
    with pytest.raises(EvtsimError, match="no parameter 'record'"):
        fleet.Synthetic("io", 0, {"record": 5})
    with pytest.raises(EvtsimError, match="seed by itself"):
        fleet.Synthetic("io", 0, {"seed": 5})


# The cluster -------------------------------------------------------------------------------------


def square(folder, number):
    """Fail in all ways: once, always, with an answer."""
    if number == 1 and not (folder / "tried").exists():
        (folder / "tried").touch()
        raise MemoryError
    if number == 2:
        raise ValueError("two\nlines")
    if number == 3:
        raise EvtsimError("three")
    if number == 4:
        try:
            raise OSError(5, "Input/output error")
        except OSError:
            raise EvtsimError("four") from None
    return number**2


def test_failures_are_tried_again_and_then_told(cluster_client, tmp_path):
    work = functools.partial(square, tmp_path)
    found = dict(cluster.each(cluster_client, work, range(6), retries=1))
    texts = {number: str(found.pop(number)) for number in (2, 3, 4)}
    assert texts == {2: "ValueError: two lines", 3: "three", 4: "four"}
    assert found == {0: 0, 1: 1, 5: 25}


def test_work_that_kills_its_workers_is_given_up(cluster_client, monkeypatch):
    cluster_client.run_on_scheduler(forgive, 0)
    try:
        ((_, error),) = cluster.each(cluster_client, die, [None])
    finally:
        cluster_client.run_on_scheduler(forgive, 3)
    assert str(error) == cluster.LOST
    cluster_client.wait_for_workers(2)


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def forgive(times, dask_scheduler):
    dask_scheduler.allowed_failures = times


def test_workers_of_another_version_are_not_believed():
    error = cluster._attempt("0.0.1", abs, -1)
    assert "has evtsim" in str(error)
    assert "expected 0.0.1" in str(error)


def test_without_dask_the_extra_is_named(monkeypatch, traces):
    monkeypatch.setitem(sys.modules, "distributed", None)
    for work in (lambda: fleet.replay(traces), lambda: analysis.sweep(traces[0], {}, client=2)):
        with pytest.raises(EvtsimError, match=r"pip install 'evtsim\[fleet\]'"):
            work()


def test_one_process_compiles_at_a_time():
    order = []

    def compile_too():
        with cluster._one_at_a_time():
            order.append("second")

    thread = threading.Thread(target=compile_too)
    with cluster._one_at_a_time():
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


# Sweeps ------------------------------------------------------------------------------------------


def test_a_sweep_on_a_cluster_is_the_same(cluster_client, traces):
    grid = {"wake_ns": [500, 20_000, evtsim.Exponential(3_000)], "eoi": ["edge", "late"]}
    done = []
    frame = analysis.sweep(
        traces[1], grid, client=cluster_client, progress=lambda *now: done.append(now)
    )
    assert done[-1] == (6, 6)
    pd.testing.assert_frame_equal(frame, analysis.sweep(traces[1], grid))
    assert frame["wake_ns"].tolist()[::2] == ["500", "20000", "Exponential(mean_ns=3000)"]


def test_a_sweep_takes_settings_one_by_one(traces):
    settings = [{"eoi": "late", "eoi_ns": ns} for ns in (0, 9_000)]
    frame = analysis.sweep(traces[1], settings)
    assert frame[["eoi", "eoi_ns"]].to_numpy().tolist() == [["late", 0], ["late", 9_000]]
    assert frame["coalesced"].is_monotonic_increasing
    with pytest.raises(EvtsimError, match="as in the first"):
        analysis.sweep(traces[1], [{"eoi": "late"}, {"scan": "linux"}])
    assert len(analysis.sweep(traces[1], [])) == 0


def test_a_sweep_on_a_cluster_tells_what_is_wrong(cluster_client, traces, tmp_path):
    with pytest.raises(EvtsimError, match="expected a path"):
        analysis.sweep(evtsim.Trace.load(traces[0]), {"seed": [1]}, client=cluster_client)
    with pytest.raises(evtsim.TraceError, match=r"none.arrow: no such file"):
        analysis.sweep(tmp_path / "none.arrow", {"seed": [1]}, client=cluster_client)
    bare = evtsim.Trace.from_records(np.zeros(3, evtsim.RECORD_DTYPE))
    bare.save(tmp_path / "bare.arrow")
    host = evtsim.Host.uniform(1)
    frame = analysis.sweep(tmp_path / "bare.arrow", {"seed": [1]}, client=cluster_client, host=host)
    assert frame["raised"].tolist() == [0]
