"""docs/your-own-data.md does what it says."""

import doctest
import re
from pathlib import Path

import pytest

import evtsim
from evtsim.cli import app
from evtsim.interop import observations

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "your-own-data.md").read_text()


def test_the_example_in_python_runs():
    test = doctest.DocTestParser().get_doctest(PAGE, {}, "your-own-data.md", None, 0)
    assert len(test.examples) == 8
    assert not doctest.DocTestRunner().run(test).failed


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "my.csv"
    path.write_text(PAGE.split("```csv\n")[1].split("```")[0])
    return evtsim.Trace.load(path)


def test_the_csv_example_delivers_its_event(trace):
    assert trace.flags.tolist() == [0, 0, 0, 0]
    run = evtsim.replay(trace)
    assert run.outcomes.rc.tolist() == [0, 0, 0, 0]
    assert run.totals()["delivered"] == 1


@pytest.mark.parametrize("suffix", [".parquet", ".arrow", ".csv", ".csv.gz"])
def test_any_format_becomes_any_other_without_loss(trace, tmp_path, suffix):
    trace = evtsim.Trace.from_frame(
        trace.frame().join(evtsim.replay(trace).outcomes.frame().add_prefix("out_")), trace.host
    )
    trace.save(tmp_path / f"first{suffix}")
    first = evtsim.Trace.load(tmp_path / f"first{suffix}")
    for other in (".parquet", ".arrow", ".csv"):
        first.save(tmp_path / f"second{other}")
        second = evtsim.Trace.load(tmp_path / f"second{other}")
        assert second.digest() == trace.digest()
        assert evtsim.verify(second)
        pandas_file = second.frame()
        again = evtsim.Trace.from_frame(pandas_file, second.host)
        assert again.digest() == trace.digest()


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
def test_a_strangers_table_may_lack_what_no_operation_takes(trace, tmp_path, suffix):
    """Written by pandas, with its own types and without flags, arg1 and a host."""
    frame = trace.frame()[["ts", "dom", "vcpu", "op_name", "arg0"]]
    frame = frame.rename(columns={"op_name": "op"}).astype({"ts": "int64", "op": str})
    path = tmp_path / f"t{suffix}"
    write = frame.to_parquet if suffix == ".parquet" else frame.to_feather
    write(path)
    with pytest.raises(evtsim.TraceError, match=r"record 0, field arg1: .*takes remote_dom"):
        evtsim.Trace.load(path).columns
    sends = frame[frame["op"] == "send"].reset_index(drop=True)
    write = sends.to_parquet if suffix == ".parquet" else sends.to_feather
    write(path)
    assert evtsim.Trace.load(path).arg1.tolist() == [0]


def test_every_kind_of_observation_is_documented():
    table = PAGE.split("| kind | xentrace's event | value |")[1].split("\n\n")[0]
    names = [name for row in re.findall(r"^\| ([a-z_, ]+) \|", table, re.MULTILINE)
             for name in row.split(", ")]  # fmt: skip
    assert sorted(names) == sorted(observations.KINDS)


def test_the_commands_it_shows_exist():
    shown = set(re.findall(r"^evtsim (\w+) ", PAGE, re.MULTILINE))
    known = {command.callback.__name__ for command in app.app.registered_commands}
    assert shown <= known
    assert {"xentrace", "replay", "export", "convert"} <= shown


def test_its_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)", PAGE):
        assert (DOCS / target).exists(), target
