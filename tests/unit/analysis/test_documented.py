"""docs/analysis.md lists what the frames have; empty runs give the same columns and dtypes."""

import re
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, analysis, workloads
from evtsim.dtypes import RECORD_DTYPE

DOCS = Path(__file__).parents[3] / "docs" / "analysis.md"
HOST = evtsim.Host.uniform(4, vcpus=2)
EMPTY = evtsim.Trace.from_records(np.zeros(0, RECORD_DTYPE), HOST)

QUESTIONS = {
    **{f"coalescing {by}": (analysis.coalescing, by) for by in ("port", "domain", "type", "rate")},
    **{
        f"latency_percentiles {by}": (analysis.latency_percentiles, by)
        for by in ("type", "host", "group", "priority")
    },
    **{f"errors {by}": (analysis.errors, by) for by in ("domain", "operation")},
    **{
        name: (getattr(analysis, name), None)
        for name in (
            *("pending", "selector_words", "fairness", "storms", "exhaustion", "edges", "stuck"),
        )
    },
}


def ask(question, run):
    function, by = QUESTIONS[question]
    return function(run) if by is None else function(run, by)


def documented(function, by=None):
    section = re.search(rf"^## {function}$(.*?)(?=^## |\Z)", DOCS.read_text(), re.M | re.S)[1]
    if by is not None:
        section = re.search(rf'^### by="{by}"$(.*?)(?=^### |\Z)', section, re.M | re.S)[1]
    table = section.split("| column | unit | what |\n|---|---|---|\n")[1].partition("\n\n")[0]
    return re.findall(r"^\| (\w+) \|", table, re.M)


@pytest.fixture(scope="module")
def run():
    trace = workloads.generate("hostile", records=20_000)
    storm = workloads.generate("storm", records=20_000, domains=4)
    return {"hostile": evtsim.replay(trace), "storm": evtsim.replay(storm)}


def test_the_example_runs(tmp_path, monkeypatch):
    mpl.use("Agg")
    monkeypatch.chdir(tmp_path)
    code = DOCS.read_text().split("```python\n")[1].split("```")[0]
    exec(compile(code, str(DOCS), "exec"), {})
    assert (tmp_path / "latency.png").stat().st_size > 0
    plt.close("all")


@pytest.mark.parametrize("question", QUESTIONS)
def test_every_column_is_documented(run, question):
    function, by = QUESTIONS[question]
    frame = ask(question, run["hostile"])
    assert documented(function.__name__, by) == list(frame)
    for column in frame:
        assert re.search(rf"\b{column}\b", function.__doc__), f"{column} is not in the docstring"


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_empty_run_gives_the_same_columns(run, question):
    whole = run["storm" if question == "storms" else "hostile"]
    frame, empty = ask(question, whole), ask(question, evtsim.replay(EMPTY))
    assert len(frame)
    assert len(empty) == (len(HOST) if question == "exhaustion" else 0)
    assert empty.dtypes.astype(str).to_dict() == frame.dtypes.astype(str).to_dict()


@pytest.mark.parametrize("by", ["metric", "port"])
def test_compare_is_documented(run, by):
    frame = analysis.compare(run["storm"], run["hostile"], by)
    assert documented("compare", by) == list(frame)
    empty = analysis.compare(evtsim.replay(EMPTY), evtsim.replay(EMPTY), by)
    assert empty.dtypes.astype(str).to_dict() == frame.dtypes.astype(str).to_dict()


def test_sweep_is_documented():
    frame = analysis.sweep(EMPTY, {"wake_ns": [1, 2]})
    assert list(frame) == ["wake_ns", *documented("sweep")]
    assert list(frame["raised"]) == [0, 0]
    assert analysis.sweep(EMPTY, {"wake_ns": []}).dtypes["raised"] == np.int64


NEED_NO_PORTS = {
    *(
        "coalescing type",
        "latency_percentiles type",
        "latency_percentiles host",
        "latency_percentiles priority",
    ),
    *("errors domain", "errors operation", "pending", "exhaustion"),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_what_was_not_counted_is_an_error_that_names_the_option(question):
    trace = workloads.generate("channels", records=100)
    with pytest.raises(EvtsimError, match=r"stats=.*'port'"):
        ask(question, evtsim.replay(trace, stats=None))
    some = evtsim.replay(trace, stats="domain")
    if question in NEED_NO_PORTS:
        assert ask(question, some).columns.equals(ask(question, evtsim.replay(trace)).columns)
    else:
        with pytest.raises(EvtsimError, match="stats='port'"):
            ask(question, some)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_run_that_was_kept_answers_the_same(run, question, tmp_path_factory):
    folder = tmp_path_factory.getbasetemp() / "kept"
    if not folder.exists():
        run["storm"].save(folder)
    kept = evtsim.Run.load(folder)
    pd.testing.assert_frame_equal(ask(question, kept), ask(question, run["storm"]))


@pytest.mark.parametrize(
    ("function", "by"),
    [
        (analysis.coalescing, "colour"),
        (analysis.coalescing, "priority"),
        (analysis.latency_percentiles, "state"),
        (analysis.errors, "port"),
    ],
)
def test_what_cannot_be_grouped_by_is_an_error(run, function, by):
    with pytest.raises(EvtsimError, match="by"):
        function(run["storm"], by)
