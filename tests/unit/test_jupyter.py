"""Habits of a notebook: what things show of themselves, and progress bars."""

import re

import pytest

import evtsim
from evtsim import analysis, samples, workloads


def test_what_a_notebook_shows_of_things_is_short_and_escaped():
    trace = evtsim.Trace.load(samples.path("xen-4.0-default.arrow"))
    run = evtsim.replay(trace)
    for thing in (trace.host, evtsim.Host.uniform(4_000), trace, run, evtsim.verify(trace)):
        shown = thing._repr_html_()
        assert f"<b>{type(thing).__name__}</b>" in shown
        assert len(shown) < 40_000
        outside = re.sub(
            r"</?[a-z]+[^<>]*>", "", re.sub(r"<style.*?</style>", "", shown, flags=re.S)
        )
        assert not set("<>") & set(outside)


@pytest.mark.parametrize(
    ("what", "work"),
    [
        ("replaying", lambda trace, progress: evtsim.replay(trace, progress=progress)),
        ("verifying", lambda trace, progress: evtsim.verify(trace, progress=progress)),
        (
            "sweeping",
            lambda trace, progress: analysis.sweep(trace, {"seed": [1, 2]}, None, progress),
        ),
    ],
)
def test_a_bar_shows_progress_if_asked_for(capsys, what, work):
    trace = evtsim.Trace.load(samples.path("xen-4.0-default.arrow"))
    work(trace, True)
    assert f"{what}: 100%" in capsys.readouterr().err
    work(trace, False)
    work(trace, None)
    assert what not in capsys.readouterr().err
    calls = []
    work(trace, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] > 0


def test_many_records_are_counted_in_thousands(capsys):
    evtsim.replay(workloads.generate("channels", records=20_000), progress=True)
    assert "20.0k/20.0k" in capsys.readouterr().err
