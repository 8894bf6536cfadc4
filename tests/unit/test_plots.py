"""Plots: units on every axis, the axes given, hosts of every size, and nothing to draw."""

import re

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

import evtsim
from evtsim import EvtsimError, analysis, plots, workloads
from evtsim.dtypes import RECORD_DTYPE
from evtsim.plots import _canvas

mpl.use("Agg")

OF_RUNS = [name for name in plots.__all__ if name != "sweep"]


def lone_domain():
    """Return a run of one domain that sends IPIs to itself, with errors."""
    b = evtsim.TraceBuilder(evtsim.Host.uniform(1, vcpus=2))
    for vcpu in (0, 1, 0):
        b.bind_ipi(dom=0, target_vcpu=vcpu)
    for i in range(200):
        b.send(dom=0, port=1 + i % 4, ts=1_000 * i)  # port 4 does not exist
        if i % 5 == 0:
            b.upcall(dom=0, vcpu=i % 2)
    return evtsim.replay(b.trace())


@pytest.fixture(scope="module")
def runs():
    empty = evtsim.Trace.from_records(np.zeros(0, RECORD_DTYPE), evtsim.Host.uniform(3))
    churn = workloads.generate("churn", domains=1_000, records=400_000, races=1, rate=200)
    hostile = workloads.generate("hostile", records=10_000)
    return {
        "1 domain": lone_domain(),
        "1,000 domains": evtsim.replay(churn, outcomes=False),
        "hostile": evtsim.replay(hostile),
        "empty": evtsim.replay(empty),
    }


@pytest.fixture(scope="module")
def swept():
    trace = workloads.generate("io", records=5_000, domains=5, deliver="model")
    return analysis.sweep(trace, {"wake_ns": [500, 5_000, 50_000], "eoi": ["edge", "late"]})


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def assert_sound(ax):
    """Every axis says its unit, and no legend lies within the axes or outside of the picture."""
    for other in ax.figure.axes:
        labels = [other.get_xlabel(), other.get_ylabel()] if other is ax else [other.get_ylabel()]
        for label in labels:
            unit = r"\([^()]+\)|^notifications$|^ports$|^vcpus$|^domains$|^operation: errno$|index"
            assert re.search(unit, label), label
    ax.figure.canvas.draw()
    inside = ax.get_window_extent()
    if ax.get_legend() is not None:
        legend = ax.get_legend().get_window_extent()
        assert legend.x0 >= inside.x1
        assert legend.x1 <= ax.figure.bbox.x1
    assert not ax.get_title()


@pytest.mark.parametrize("name", OF_RUNS)
@pytest.mark.parametrize("which", ["1 domain", "1,000 domains", "hostile", "empty"])
def test_every_plot_of_every_run(runs, name, which):
    ax = getattr(plots, name)(runs[which])
    assert_sound(ax)
    assert len(ax.lines) <= 7
    assert all(len(line.get_xdata()) <= 4_000 for line in ax.lines)
    notes = [text.get_text() for text in ax.texts if text.get_text().startswith("no ")]
    drawn = which != "empty" or name == "port_occupancy"
    if (which, name) == ("1,000 domains", "errors"):
        assert ax.lines
    assert bool(notes) != drawn, notes


@pytest.mark.parametrize("name", OF_RUNS)
def test_the_axes_given_are_used(runs, name):
    figure = mpl.figure.Figure()
    ax = figure.add_subplot()
    assert getattr(plots, name)(runs["hostile"], ax=ax) is ax
    assert plt.get_fignums() == []
    assert ax.has_data()


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("timeline", lambda run: run.timeline),
        ("latency_cdf", lambda run: run.latency),
        ("latency_percentiles", analysis.latency_percentiles),
        ("latency_percentiles", lambda run: analysis.latency_percentiles(run, "group")),
        ("latency_percentiles", lambda run: analysis.latency_percentiles(run, "host")),
        ("pending", analysis.pending),
        ("coalescing", analysis.coalescing),
        ("coalescing", lambda run: analysis.coalescing(run, "domain")),
        ("fairness", analysis.fairness),
        ("matrix", analysis.matrix),
        ("port_occupancy", analysis.exhaustion),
        ("errors", analysis.errors),
    ],
)
def test_frames_are_drawn_as_runs_are(runs, name, frame):
    for which in ("1,000 domains", "1 domain", "empty"):
        assert_sound(getattr(plots, name)(frame(runs[which])))


def test_points_spread_evenly_are_no_density():
    x, y = np.meshgrid(np.geomspace(1, 1000, 60), np.linspace(1, 99, 35))
    _, ax = plt.subplots()
    ax.set_ylim(0, 100)
    _canvas.add_cloud(ax, x.ravel(), y.ravel(), "port")
    assert len(ax.collections) == 0
    assert len(ax.lines[0].get_xdata()) == x.size > _canvas.MOST_POINTS
    plt.close(ax.figure)


def test_many_points_are_a_density_and_few_are_points(runs):
    few, many = (plots.coalescing(runs[w]) for w in ("hostile", "1,000 domains"))
    assert len(runs["1,000 domains"].ports.query("raised > 0")) > _canvas.MOST_POINTS
    assert (len(few.lines), len(few.collections)) == (2, 0)
    assert (len(many.lines), len(many.collections)) == (2, 1)
    cells = many.collections[0].get_array()
    assert cells.min() >= _canvas.DENSE
    lone = [line for line in many.lines if line.get_label() == "a port"]
    drawn = cells.sum() + len(lone[0].get_xdata())
    assert drawn == len(analysis.coalescing(runs["1,000 domains"]))
    assert len(lone[0].get_xdata()) > 0


def test_percentiles_that_coincide_are_all_seen(runs):
    """Where one line lies on another, it has gaps and smaller points."""
    frame = analysis.latency_percentiles(runs["hostile"], "group")
    frame[[name for name in frame if name.endswith("_ns")]] = 5_000
    ax = plots.latency_percentiles(frame)
    figure = ax.figure
    drawn = {mpl.colors.to_hex(line.get_color()).upper() for line in ax.lines}
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3]
    box = ax.get_window_extent()
    rows = slice(len(pixels) - int(box.y1), len(pixels) - int(box.y0))
    inside = pixels[rows, int(box.x0) : int(box.x1)].reshape(-1, 3)
    seen = {mpl.colors.to_hex(colour / 255).upper() for colour in np.unique(inside, axis=0)}
    assert drawn <= seen
    assert len(drawn) == 5


def test_the_latency_curve_goes_through_the_percentiles(runs):
    run = runs["1,000 domains"]
    ax = plots.latency_cdf(run)
    unit = dict(_canvas.TIME_UNITS)[re.search(r"\((.*)\)", ax.get_xlabel())[1]]
    row = analysis.latency_percentiles(run).iloc[0]
    line = ax.lines[0]
    assert line.get_label().startswith(row["type"])
    x, y = line.get_xdata() * unit, line.get_ydata()
    assert y[np.searchsorted(x, row["p90_ns"] * 0.999)] >= 90
    assert y[-1] == 100


def test_the_timeline_adds_up(runs):
    run = runs["1,000 domains"]
    (line, *_) = plots.timeline(run, counts=["delivered"]).lines
    host = run.timeline.query("group == -1")
    widths = host["width_ns"].sum() / len(line.get_xdata()) / 1e9
    assert len(line.get_xdata()) <= 256
    assert line.get_ydata().sum() * widths == pytest.approx(host["delivered"].sum(), rel=0.02)


def test_heat_maps_show_the_largest(runs):
    run = runs["1,000 domains"]
    (image,) = plots.pending(run).images
    assert max(image.get_array().shape) <= 256
    pending = analysis.pending(run)
    assert image.get_array().max() == pending.loc[pending["group"] >= 0, "pending"].max()


@pytest.mark.parametrize(
    ("ns", "unit"), [(0, "ns"), (999, "ns"), (1_000, "µs"), (2.5e6, "ms"), (1e12, "s")]
)
def test_times_get_the_unit_that_suits_them(ns, unit):
    assert _canvas.time_unit(ns)[0] == unit


@pytest.mark.parametrize("y", ["coalesced_share", "p99_ns", "kicks", "raised", "pending"])
def test_sweeps_are_curves(swept, y):
    ax = plots.sweep(swept, y)
    assert_sound(ax)
    assert [line.get_label() for line in ax.lines] == ["eoi = edge", "eoi = late"]
    assert ax.get_xlabel() == "wake (µs)"
    assert ax.get_xscale() == "log"
    assert_sound(plots.sweep(swept, y, x="eoi"))
    figure = mpl.figure.Figure()
    given = figure.add_subplot()
    assert plots.sweep(swept, y, ax=given) is given


def test_sweeps_that_cannot_be_drawn_say_why(swept):
    with pytest.raises(EvtsimError, match="y is 'latency'"):
        plots.sweep(swept, "latency")
    with pytest.raises(EvtsimError, match=r"x is 'p99_ns' \(expected one of: wake_ns, eoi\)"):
        plots.sweep(swept, x="p99_ns")
    many = swept.loc[swept.index.repeat(15)].assign(eoi=lambda f: np.arange(len(f)).astype(str))
    with pytest.raises(EvtsimError, match="90 lines are too many"):
        plots.sweep(many)
    nothing = analysis.sweep(evtsim.workloads.generate("io", records=100), {"wake_ns": []})
    assert plots.sweep(nothing).texts[0].get_text() == "no settings"


def test_a_domain_is_drawn_where_it_is():
    host = evtsim.Host.uniform(400)
    builder = evtsim.TraceBuilder(host)
    builder.bind_ipi(dom=399, ts=0)
    builder.send(dom=399, port=1, ts=2000)
    run = evtsim.replay(builder.trace())
    image = plots.pending(run).images[0]
    left, right, bottom, top = image.get_extent()
    table = image.get_array()
    row = int((399 - bottom) / (top - bottom) * len(table))
    assert np.flatnonzero(table.max(axis=1)).tolist() == [row]
    assert (left, right) == (0, run.timeline["start_ns"].max() / 1000 + 1.024)


def test_the_timeline_draws_all_that_is_asked_for():
    run = evtsim.replay(workloads.generate("churn", records=3000))
    names = ["set", "coalesced", "masked", "delivered", "cleared", "kicks", "errors", "opened"]
    ax = plots.timeline(run, counts=names)
    assert [line.get_label() for line in ax.lines] == names
    assert ax.get_ylim()[0] < min(line.get_ydata().min() for line in ax.lines) < 0
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.lines}) == len(names)
    with pytest.raises(EvtsimError, match=r"counts has 'foo' .expected some of: set, "):
        plots.timeline(run, counts=["set", "foo"])
    ax = plots.timeline(run, counts="set")
    assert [line.get_label() for line in ax.lines] == ["set"]
    assert ax.get_ylim()[0] == 0
