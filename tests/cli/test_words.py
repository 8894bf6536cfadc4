"""Errors are in the words of who typed the command: its options, its numbers."""

import pickle

import pytest

from evtsim import EvtsimError, TraceError
from evtsim.errors import ArgumentError, HostError, HostFieldError
from tests.cli.test_cli import SAMPLE
from tests.commands import assert_refused


@pytest.mark.parametrize(
    "command",
    [
        *(("at", SAMPLE, "X"), ("explain", SAMPLE, "X"), ("port", SAMPLE, "X", "1")),
        *(("port", SAMPLE, "0", "X"), ("host", "uniform", "X")),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("number", ["-1", "-12", "-5k", "-1.5"])
def test_a_number_below_zero_is_no_option(in_process, command, number):
    done = in_process(*(number if word == "X" else word for word in command))
    assert_refused(done, f"'{number}' (expected a number from 0 on)")


def test_an_unknown_option_is_one(in_process):
    assert_refused(in_process("at", SAMPLE, "-x"), "No such option: -x")
    assert_refused(in_process("at", SAMPLE, "--1"), "No such option: --1")


WHOLE = [
    *(("at", SAMPLE, "1", "--dom"), ("at", SAMPLE, "1", "--rows"), ("port", SAMPLE, "1")),
    *(("show", "run", "ports", "-n"), ("inspect", "log", "--dom"), ("host", "uniform")),
    *(("host", "uniform", "2", "--vcpus"), ("host", "uniform", "2", "--word-bits")),
    *(("generate", "x.csv", "--seed"), ("replay", SAMPLE, "--threads")),
    *(("replay", SAMPLE, "--guest", "linux", "--guest-seed"), ("fleet", SAMPLE, "--retries")),
    *(("fleet", SAMPLE, "--workers"), ("sweep", SAMPLE, "--workers"), ("xentrace", "f", "-n")),
]


@pytest.mark.parametrize("command", WHOLE, ids=" ".join)
def test_what_is_no_whole_number_is_told_without_names_of_types(in_process, tmp_path, command):
    for value in ("many", "1.5", ""):
        done = in_process(*command, value)
        assert_refused(done, f"{value!r} (expected a whole number, ")
        assert "integer" not in done.stderr
    if command[-1].startswith("-"):
        assert_refused(in_process(*command, "-1"), "-1 (expected ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("generate", "x.csv", "--duration", "5parsecs"), "--duration is '5parsecs' (expected a"),
        (("generate", "x.csv", "--duration", "1e30"), "--duration is 1e+30 (expected 0 to 1.15e"),
        (("generate", "x.csv", "-n", "1e30"), "--records is 1000000000000000"),
        (("generate", "x.csv", "--seed", "9" * 30), "--seed is 999999"),
        (("generate", "x.csv", "-p", "wake_ns=1h"), "wake_ns is '1h' (expected a time like 300ns"),
        (("generate", "x.csv", "-p", "rate=-1"), "rate is -1 (expected 1 to 1e+07 /s)"),
        (("replay", SAMPLE, "--threads", "1000"), "--threads is 1000 (expected 1 to "),
        (("replay", SAMPLE, "--deliveries", "d.csv", "--most", "0"), "--most is '0'"),
        (("replay", SAMPLE, "--checkpoint", "c", "--every", "0"), "--every is 0"),
        (("replay", SAMPLE, "--guest", "linux", "--wake", "400s"), "--wake is 400000000000 (exp"),
        (("replay", SAMPLE, "--guest", "linux", "--handler", "exp:400s"), "--handler's mean_ns"),
        (("replay", SAMPLE, "--guest", "linux", "--eoi", "late:400s"), "--eoi is 400000000000"),
        (("sweep", SAMPLE, "--wake", "1us,400s"), "--wake is 400000000000 (expected 0 to"),
        (("replay", ""), "TRACE is '' (expected a file or a folder)"),
        (("replay", SAMPLE, "--save", ""), "--save is '' (expected a file or a folder)"),
        (("replay", SAMPLE, "--guest", "linux", "--wake", ""), "--wake is '' (expected a value)"),
        (("fleet", SAMPLE, "--seeds", ""), "--seeds is '' (expected a value)"),
        (("workloads", ""), "no workload '' (expected one of: mixed, "),
        (("generate", "mixed", ""), "[WORKLOAD] FILE is '' (expected a file or a folder)"),
        (("generate", "x.csv", "--duration", "-5s"), "--duration is -5000000000 (expected 0 to"),
        (("generate", "x.csv", "-p", "domains=1e9"), "domains is 1000000000 (expected 2 to"),
        (("generate", "x.csv", "-n", "-5"), "--records is '-5' (expected a number of records"),
        (("at", SAMPLE, "x"), "N is 'x' (expected a number of records like 500000, 1e6 or 10M)"),
        (("demo", "-n", "1e99"), "--records is 9999"),
        (("replay", SAMPLE, "--guest", "linux", "--wake", "soon"), "--wake is 'soon' (expected a"),
        (("replay", SAMPLE, "--deliveries", "d.csv", "--stats", "none"), "--deliveries needs"),
        (("sweep", SAMPLE, "--guest-seed", "9" * 30), "--guest-seed is '999"),
        (("export", SAMPLE, "--perfetto", "p.json", "--dom", "9-1"), "--dom is '9-1' (expected"),
        (("host", "uniform", "3", "--word-bits", "48"), "--word-bits is 48 (expected 32 or 64)"),
        (("host", "uniform", "3", "--vcpus", "0"), "--vcpus is 0 (expected 1 to 8,192)"),
        (("xentrace", SAMPLE, "--hz", "1"), "--hz is 1.0 (expected "),
    ],
)
def test_errors_name_the_option(in_process, tmp_path, command, words):
    assert_refused(in_process(*command), f"error: {words}")
    assert list(tmp_path.iterdir()) == []


def test_errors_survive_the_way_from_a_worker():
    for error in (
        ArgumentError("every", 0, "at least 1"),
        HostFieldError("vcpus", 0, "1 to 9", "domain 3: "),
        TraceError("torn", path="t.arrow"),
    ):
        there = pickle.loads(pickle.dumps(error))
        assert (type(there), str(there), vars(there)) == (type(error), str(error), vars(error))
        assert isinstance(there, EvtsimError)
    assert isinstance(there, TraceError)
    assert issubclass(HostFieldError, HostError)
