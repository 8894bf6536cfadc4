"""Replays that begin with a state: a checkpoint, or the last dump of a log."""

import json

import pytest

import evtsim
from evtsim import samples, workloads
from evtsim.interop import dumps
from tests.cli.test_cli import SAMPLE
from tests.commands import assert_refused

LOG = str(samples.path("stuck.log"))


@pytest.fixture
def made(in_process, tmp_path):
    """Load for the last dump of a log, and a checkpoint of it."""
    for command in (
        ("inspect", LOG, "--state", "s.state"),
        ("generate", "io", "t.arrow", "-n", "2000", "--from", LOG, "-p", "deliver=model"),
    ):
        assert in_process(*command).returncode == 0
    return tmp_path


def test_a_dump_is_replayed_with_a_guest_as_python_does(in_process, made):
    guest = ("--guest", "linux", "--wake", "3us")
    command = ("replay", "t.arrow", "--from", LOG, *guest, "--deliveries", "d.csv", "--json")
    done = in_process(*command, "--save", "run")
    assert done.returncode == 0, done
    assert "warning" not in done.stderr
    told = json.loads(done.stdout)
    trace = evtsim.Trace.load("t.arrow")
    sim = evtsim.Simulator.from_dump(
        dumps.read(LOG)[-1], guest=evtsim.Guest(wake_ns=3000, scan="linux"), stats="port"
    )
    sim.apply(trace)
    run = sim.run()
    assert {name: told[name] for name in run.totals()} == run.totals()
    assert told["delivered"] > 1000
    assert len((made / "d.csv").read_text().splitlines()) == 1 + told["delivered"]
    saved = evtsim.Run.load("run")
    assert saved.source["before"] == {"dump": "stuck.log", "records": 0}
    assert saved.guest == sim.guest


def test_outcomes_in_one_file_are_verified_from_the_same_state(in_process, made):
    assert in_process("replay", "t.arrow", "--from", LOG, "--state", "end.state").returncode == 0
    more = ("generate", "io", "u.arrow", "-n", "2000", "--from", "end.state")
    assert in_process(*more).returncode == 0
    start = ("--from", "end.state")
    done = in_process("replay", "u.arrow", *start, "--outcomes", "o.arrow", "--deliveries", "d.CSV")
    assert done.returncode == 2  # a checkpoint has its own log
    assert in_process("replay", "u.arrow", *start, "--outcomes", "o.arrow").returncode == 0
    done = in_process("verify", "o.arrow", *start)
    assert (done.returncode, "all 2,000 records agree" in done.stdout) == (0, True), done


def test_a_dry_run_of_a_trace_for_a_state_tells_what_it_can(in_process, made):
    told = json.loads(in_process("replay", "t.arrow", "--dry-run", "--json").stdout)
    assert (told["records"], told["measured_records"]) == (2000, None)


def test_suffixes_are_read_in_any_case(in_process, made):
    files = ("--deliveries", "d.CSV", "--state", "s.CSV")
    done = in_process("replay", "t.arrow", "--from", LOG, "--guest", "linux", *files)
    assert done.returncode == 0, done
    for name in ("d.CSV", "s.CSV"):
        assert (made / name).read_text().startswith(("ts,", "dom,")), name


def test_a_dump_and_its_checkpoint_are_the_same_state(in_process, made):
    replays = [
        json.loads(in_process("replay", "t.arrow", "--from", path, "--json").stdout)
        for path in (LOG, "s.state")
    ]
    assert replays[0] == replays[1]
    assert replays[0]["records"] == 2000
    again = in_process("generate", "io", "u.arrow", "-n", "2000", "--from", "s.state")
    assert again.returncode == 0
    meta = [evtsim.Trace.load(name).meta["start"] for name in ("t.arrow", "u.arrow")]
    assert meta[0] == meta[1]


def test_a_trace_for_a_state_is_refused_without_it(in_process, made):
    there = sorted(path.name for path in made.iterdir())
    for command in (
        *(("replay", "t.arrow"), ("replay", "t.arrow", "--checkpoint", "c", "--outcomes", "o/")),
        *(("report", "t.arrow"), ("at", "t.arrow", "5")),
        *(("explain", "t.arrow", "5"), ("export", "t.arrow", "--perfetto", "p.json")),
    ):
        words = "t.arrow: was made for the channels of a state", "expected replay --from FILE"
        assert_refused(in_process(*command), *words)
    assert sorted(path.name for path in made.iterdir()) == there


def test_another_state_is_told(in_process, made):
    sim = evtsim.Simulator.load("s.state")
    sim.call("bind_ipi", dom=1, target_vcpu=0)
    sim.save("other.state")
    done = in_process("replay", "t.arrow", "--from", "other.state")
    assert done.returncode == 0
    assert done.stderr == ("evtsim: warning: t.arrow was made for another state than other.state\n")


def test_outcomes_that_began_with_a_state_are_verified_with_it(in_process, made):
    for start in (LOG, "s.state"):
        command = ("replay", "t.arrow", "--from", start, "--outcomes", "o.arrow", "-f")
        assert in_process(*command).returncode == 0
        assert in_process("verify", "o.arrow", "--from", start).returncode == 0
        assert_refused(in_process("verify", "o.arrow"), "was made for the channels of a state")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--from", SAMPLE), "not a checkpoint of evtsim, and no log with a dump"),
        (("--from", "s.state", "--guest", "linux"), "goes on with its own guest and log"),
        (("--from", "s.state", "--deliveries", "d.csv"), "goes on with its own guest and log"),
        (("--from", "s.state", "--dry-run"), "expected it without --from"),
        (("--from", "other.state"), "other.state: is of another host than the trace"),
        (("--from", "other.log"), "domain 0"),
    ],
)
def test_what_does_not_fit_is_refused(in_process, made, options, words):
    other = workloads.generate("boot", domains=9, vcpus=4, profile="xen-4.23")
    sim = evtsim.Simulator(other.host)
    sim.apply(other)
    sim.save("other.state")
    dumps.write(sim.state, "other.log")
    assert_refused(in_process("replay", "t.arrow", *options), words)
