"""The commands at, port and explain."""

import json

import pytest

import evtsim
from evtsim import samples
from tests.commands import assert_refused, evtsim_command

SAMPLE = str(samples.path("xen-4.0-default.arrow"))


def lines(*arguments):
    done = evtsim_command(*arguments)
    assert done.returncode == 0, done
    return done.stdout.splitlines()


def test_at():
    shown = lines("at", SAMPLE, "100", "--rows", "3")
    assert shown[0] == f"{SAMPLE}: before record 100, ts 104,286 ns"
    assert "domains" in shown
    assert "ports that are in use or pending" in shown
    assert "vcpus" not in shown
    assert sum("more rows (--rows or --json show them)" in line for line in shown) == 2
    assert lines("at", SAMPLE, "2.5k")[0].endswith("before record 2,500, the end")


def test_at_as_json_is_the_state():
    done = evtsim_command("at", SAMPLE, "100", "--dom", "3", "--vcpus", "--json")
    shown = json.loads(done.stdout)
    state = evtsim.History(evtsim.Trace.load(SAMPLE)).at(100)
    assert (shown["record"], shown["ts"]) == (100, 104_286)
    assert [row["dom"] for row in shown["domains"]] == [3]
    ports = state.ports().query("dom == 3 and (state > 1 or pending)")
    assert [row["port"] for row in shown["ports"]] == ports["port"].tolist()
    assert {row["state_name"] for row in shown["ports"]} == {"IPI", "UNBOUND"}
    assert shown["vcpus"] == json.loads(state.vcpus().query("dom == 3").to_json(orient="records"))


def test_port():
    shown = lines("port", SAMPLE, "12", "1", "--rows", "4")
    assert shown[0] == "dom 12's port 1: 25 changes in 2.399 ms"
    assert shown[2].split()[:7] == ["37", "39615", "alloc_unbound", "11", "27", "FREE", "UNBOUND"]
    assert shown[-1].startswith("… 21 more rows")
    (nothing,) = lines("port", SAMPLE, "0", "4000")
    assert nothing == "dom 0's port 4000: nothing changed it in 2,500 records"
    rows = json.loads("".join(lines("port", SAMPLE, "12", "1", "--json")))
    life = evtsim.History(evtsim.Trace.load(SAMPLE)).port(12, 1)
    assert rows == json.loads(life.to_json(orient="records"))


def test_port_with_a_guest():
    shown = lines("port", SAMPLE, "12", "1", "--guest", "linux", "--wake", "5ns", "--eoi", "late")
    handler = next(line.split() for line in shown if "handler" in line)
    assert handler[0] == "-"
    assert any("eoi" in line for line in shown)


def test_explain():
    shown = lines("explain", SAMPLE, "135")
    assert shown[1] == (
        "bind_interdomain(remote_dom=8, remote_port=2) by dom 8 vcpu 0: rc -22 (EINVAL)"
    )
    assert shown[2] == "  dom 8's port 2 is INTERDOMAIN, not UNBOUND"
    assert (
        "errnos, in order  of every operation: ESRCH, ENOENT, EFAULT; its own: ESRCH, ENOSPC, "
        "EINVAL; of its result: EFAULT (docs/operations.md)"
    ) in shown
    plain = json.loads(evtsim_command("explain", SAMPLE, "135", "--json").stdout)
    assert plain == evtsim.History(evtsim.Trace.load(SAMPLE)).explain(135).to_dict()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("at", SAMPLE, "2501"), ["record 2501 is not in the trace (expected 0 to 2500)"]),
        (("at", SAMPLE, "many"), ["N is 'many' (expected a number of records like"]),
        (("at", SAMPLE, "5", "--dom", "16"), ["no domain 16 (expected 0 to 15)"]),
        (
            ("at", SAMPLE, "700", "--dom", "10"),
            ["domain 10 is not alive before record 700 (expected one of: 0, 2, 3"],
        ),
        (("explain", SAMPLE, "2500"), ["record 2500 is not in the trace (expected 0 to 2499)"]),
        (("explain", "nothing.arrow", "5"), ["nothing.arrow: no such file"]),
        (("explain", SAMPLE, "5", "--wake", "2us"), ["--wake is the guest's: add --guest linux"]),
        (("port", SAMPLE, "1", "4096"), ["no port 4096 (expected 0 to 4095)"]),
        (("port", SAMPLE, "one", "1"), ["'DOM': 'one' (expected a whole number, 0 or more)"]),
    ],
)
def test_what_makes_no_sense_is_refused(arguments, words):
    assert_refused(evtsim_command(*arguments), *words)
