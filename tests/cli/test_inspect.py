"""evtsim inspect as a shell sees it."""

import json

import pytest

from evtsim.interop import dumps
from tests.commands import assert_refused, evtsim_command
from tests.unit.interop.test_dumps import LISTED, POSTED, STAMPED

CLEAN = "Event channel information for domain 3:\n   1 [0/0/0]: s=6 n=0 x=0\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "console.log"
    path.write_text(POSTED + POSTED + STAMPED)
    return str(path)


def test_dumps_are_shown_with_their_findings(log):
    done = evtsim_command("inspect", log)
    assert done.returncode == 0
    assert "dump 2 of 3: debug key e, lines 12 to 22" in done.stdout
    assert "2 ports pending and not masked, and the vcpu has been told" in done.stdout
    assert "dom27 port 1 (INTERDOMAIN with dom0 port 33, vcpu 0)" in done.stdout
    assert "since the dump before: 3 stuck" in done.stdout
    assert done.stderr == ""


def test_json_has_everything(log):
    done = evtsim_command("inspect", log, "--json", "--dom", "27")
    told = json.loads(done.stdout)
    assert [each["form"] for each in told["dumps"]] == ["e"] * 3
    assert told["dumps"][0]["domains"][0]["polling"] == [0, 2, 3]
    assert {each["kind"] for each in told["dumps"][1]["findings"]} >= {"stuck", "masked"}
    assert told["dumps"][2]["domains"] == []
    assert len(told["dumps"][1]["changes"]) == 3


def test_check_tells_by_the_exit_status(log, tmp_path):
    assert evtsim_command("inspect", log, "--check").returncode == 1
    done = evtsim_command("inspect", "-", "--check", input=CLEAN)
    assert done.returncode == 0
    assert "nothing stands out" in done.stdout


def test_a_page_and_a_state_are_written_and_not_overwritten(log, tmp_path):
    page, state = str(tmp_path / "p.html"), str(tmp_path / "s.state")
    done = evtsim_command("inspect", log, "--html", page, "--state", state)
    assert done.returncode == 0
    assert "note: " in done.stderr  # peers in domains that the dump lacks
    assert "<h2>Findings</h2>" in (tmp_path / "p.html").read_text()
    assert (tmp_path / "s.state").read_bytes().startswith(b"evtsim checkpoint")
    assert_refused(evtsim_command("inspect", log, "--html", page), "exists already")
    assert_refused(
        evtsim_command("inspect", log, "--state", state, "--html", page, "--force", "--dom", "9"),
        "no domain 9",
    )


def test_lsevtchns_domain_is_named_by_dom(tmp_path):
    done = evtsim_command("inspect", "-", "--dom", "7", "--json", input=LISTED)
    assert json.loads(done.stdout)["dumps"][0]["domains"][0]["dom"] == 7
    assert dumps.read(LISTED)[0].domains["dom"].tolist() == [0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no.log"], ["no.log", "no such file"]),
        (["LOG", "--html", "x.png"], ["unknown suffix"]),
        (["LOG", "--state", "no/s"], ["no/s: its folder does not exist"]),
        (["LOG", "--dom", "x"], ["--dom"]),
    ],
)
def test_errors_are_one_line(arguments, words, log):
    done = evtsim_command("inspect", *(log if word == "LOG" else word for word in arguments))
    assert_refused(done, *words)


def test_a_log_without_a_dump_is_an_error(tmp_path):
    (tmp_path / "x.log").write_text("nothing\n")
    assert_refused(evtsim_command("inspect", str(tmp_path / "x.log")), "no dump of event channels")


def test_a_dump_can_be_loaded_and_replayed(tmp_path):
    """From a log to a state, to load on its channels, to a replay."""
    log, state, trace = (str(tmp_path / name) for name in ("log", "state", "io.arrow"))
    lines = {
        0: ["1 [0/0/0]: s=3 n=0 x=0 d=1 p=1"],
        1: ["1 [1/0/1]: s=3 n=0 x=0 d=0 p=1"],
    }
    text = "".join(
        "\n".join([f"Event channel information for domain {dom}:", *ports, ""])
        for dom, ports in lines.items()
    )
    (tmp_path / "log").write_text(text)
    for command in (
        ("inspect", log, "--state", state),
        ("generate", "io", trace, "-n", "1000", "--from", state),
        ("replay", trace, "--from", state, "--json"),
    ):
        done = evtsim_command(*command)
        assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["records"] == 1000
    assert told["errors"] == 0
    assert told["delivered"] > 0
    done = evtsim_command("generate", "mixed", trace, "-f", "--from", state)
    assert_refused(done, "mixed begins with no state")
