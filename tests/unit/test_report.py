"""The report: numbers equal the frames' to the digit shown, and every kind of run has a page."""

import html.parser
import itertools
import re

import numpy as np
import pandas as pd
import pytest

import evtsim
from evtsim import EvtsimError, analysis, report, workloads
from evtsim.dtypes import RECORD_DTYPE
from evtsim.report import tables as report_tables
from evtsim.report import words
from evtsim.report.answers import Answers

FACTORS = {"%": 0.01, "s": 1e9, "ms": 1e6, "µs": 1e3, "ns": 1, "/s": 1}


class Page(html.parser.HTMLParser):
    """What a reader, or a screen reader, finds on a page."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.headings, self.tags, self.images = {}, [], [], []
        self.ids, self.text, self._into = [], "", None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "section" and attributes.get("class") == "table":
            self.table = self.tables[attributes["id"]] = {"heads": [], "rows": []}
        elif tag == "th":
            assert attributes["scope"] == "col"
            self.table["heads"].append([attributes["data-name"], ""])
        elif tag == "tr" and "heads" in getattr(self, "table", {}):
            self.table["rows"].append([])
        elif tag == "td":
            self.table["rows"][-1].append("")
        if attributes.get("role") == "img":
            self.images.append(attributes["aria-label"])
        self._into = tag if tag in ("th", "td", "h1", "h2", "h3", "style", "script") else self._into
        if self._into in ("h1", "h2", "h3") and tag == self._into:
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag):
        if tag in (self._into, "tr", "thead"):
            self._into = None

    def handle_data(self, data):
        if self._into == "th":
            self.table["heads"][-1][1] += data
        elif self._into == "td":
            self.table["rows"][-1][-1] += data
        elif self._into in ("h1", "h2", "h3"):
            level, text = self.headings[-1]
            self.headings[-1] = (level, text + data)
        if self._into not in ("style", "script"):
            self.text += data

    def rows(self, name):
        """Return a table's rows as dicts of text, without the row of headings."""
        heads = [column for column, _ in self.tables[name]["heads"]]
        return [dict(zip(heads, row, strict=True)) for row in self.tables[name]["rows"] if row]

    def units(self, name):
        found = {}
        for column, title in self.tables[name]["heads"]:
            unit = re.search(r"\(([^()]+)\)$", title)
            found[column] = unit[1] if unit else ""
        return found


def assert_shows(page, name, frame, first_ns=0, moments=()):
    """A table's rows are a frame's first ones, every number equal to the last digit shown."""
    rows, units = page.rows(name), page.units(name)
    assert len(rows) == min(len(frame), report_tables.MOST_ROWS)
    for row, (_, want) in zip(rows, frame.iterrows(), strict=False):
        for column, shown in row.items():
            assert_equal(shown, want[column], units[column], first_ns * (column in moments))


def assert_equal(shown, value, unit, start=0):
    if shown == report_tables.NONE:
        assert value is pd.NA or value != value
    elif isinstance(value, str):
        assert shown == value
    else:
        number = shown.replace(",", "")
        digits = len(number.partition(".")[2])
        value = (max(0, value - start) if start else value) / FACTORS.get(unit, 1)
        assert abs(float(number) - value) <= 0.5 * 10**-digits * (1 + 1e-9), (shown, value)


@pytest.fixture(scope="module")
def storm():
    trace = workloads.generate("storm", records=60_000, domains=12, start_ns=5_000_000_000)
    return evtsim.replay(trace, outcomes=False)


@pytest.fixture(scope="module")
def hostile():
    return evtsim.replay(workloads.generate("hostile", records=8_000), outcomes=False)


@pytest.fixture(scope="module")
def text(storm):
    return report.html(storm)


@pytest.fixture(scope="module")
def page(text):
    return Page(text)


def of_trace(*, stats="port", guest=None):
    """Return a run of two domains with one stuck channel and one without a peer."""
    b = evtsim.TraceBuilder(evtsim.Host.uniform(2, vcpus=2))
    b.alloc_unbound(dom=1, remote_dom=0)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    b.alloc_unbound(dom=1, remote_dom=0)
    b.upcall(dom=0)  # binding notifies the binder
    b.mask(dom=1, port=1, ts=1_000)
    b.send(dom=0, port=1, ts=2_000)
    b.send(dom=0, port=1, ts=3_000)
    b.send(dom=1, port=2, ts=4_000)
    b.send(dom=1, port=9, ts=1_002_000)
    return evtsim.replay(b.trace(), stats=stats, guest=guest)


def finding(run, name):
    return next(each for each in report.findings(run) if each.name == name)


def test_tables_have_the_frames_numbers(storm, page):
    ports = storm.ports
    ports = ports[(ports["raised"] > 0) | (ports["sends"] > 0)]
    ports = ports.assign(
        coalesced_share=ports["coalesced"] / ports["raised"].where(ports["raised"] > 0),
        latency_mean=ports["latency_sum"] / ports["delivered"].where(ports["delivered"] > 0),
    )
    shown = {(int(row["dom"]), int(row["port"])) for row in page.rows("ports")}
    kept = [key in shown for key in zip(ports["dom"], ports["port"], strict=True)]
    ordered = ports[kept].sort_values("raised", ascending=False, kind="stable")
    assert_shows(page, "ports", ordered)
    assert_shows(page, "edges", analysis.edges(storm))
    assert_shows(page, "words", analysis.selector_words(storm))
    first = int(storm.state.tables.host["first_ts"][0])
    assert first > 10**9
    storms = analysis.storms(storm)
    assert len(storms) == 1
    assert_shows(page, "storms", storms, first, ("begin_ns", "end_ns"))
    by_type = analysis.coalescing(storm, by="type").merge(analysis.latency_percentiles(storm))
    assert_shows(page, "latency", by_type)
    domains = storm.domains.merge(
        analysis.exhaustion(storm)[["dom", "usable", "peak_share", "enospc"]]
    )
    domains = domains.sort_values("peak_share", ascending=False, kind="stable")
    assert_shows(page, "domains", domains)


def test_errors_and_stuck_channels_have_the_frames_numbers(hostile):
    page = Page(report.html(hostile))
    assert_shows(page, "errors", analysis.errors(hostile, by="operation"))
    assert_shows(page, "callers", analysis.errors(hostile))
    wait = int(analysis.latency_percentiles(hostile, by="host")["p999_ns"].iloc[0])
    stuck = analysis.stuck(hostile, older_than_ns=wait + 1)
    stuck = stuck.sort_values(["waiting_ns", "dropped"], ascending=False, kind="stable")
    assert len(stuck) > 0
    assert_shows(page, "stuck", stuck)
    records = {(r["op_name"], r["errno_name"]): r["records"] for r in page.rows("operations")}
    assert sum(int(text.replace(",", "")) for text in records.values()) == 8_000


def test_a_table_that_is_cut_says_so_and_keeps_the_most_of_each(monkeypatch, storm):
    monkeypatch.setattr(report_tables, "MOST_ROWS", 20)
    tables = {table.name: table for table in report_tables.tables(Answers(storm))}
    ports = tables["ports"]
    assert 4 <= len(ports.rows) <= 20
    everything = storm.ports
    busy = everything.loc[everything["latency_max"].idxmax()]
    assert any(row[:2] == (str(busy["dom"]), str(busy["port"])) for row in ports.rows)
    used = ((everything["raised"] > 0) | (everything["sends"] > 0)).sum()
    assert f"{len(ports.rows)} of {used:,} ports" in ports.note
    assert len(tables["edges"].rows) == 20
    assert f"the first 20 of {len(storm.edges)} rows" in tables["edges"].note


def test_summary_numbers(storm, page):
    totals = storm.totals()
    for name in ("records", "delivered"):
        assert f"{totals[name]:,}" in page.text
    ports = storm.ports[["raised", "coalesced"]].sum()
    share = f"{100 * ports['coalesced'] / ports['raised']:.2f} %"
    assert (
        finding(storm, "coalescing").title
        == f"{share} of {ports['raised']:,} notifications coalesced"
    )
    latency = analysis.latency_percentiles(storm, by="host").iloc[0]
    assert finding(storm, "latency").title.startswith(
        f"The longest wait was {latency['max_ns'] / 1e3:.4g} µs"
    )


def test_the_three_longest_waits(storm):
    most = storm.ports.nlargest(3, "latency_max")
    cases = finding(storm, "latency").cases
    for case, (_, port) in zip(cases, most.iterrows(), strict=True):
        assert case.startswith(f"dom{port['dom']} port {port['port']} (INTERDOMAIN): ")
        assert f"{port['latency_max'] / 1e3:.4g} µs at most" in case


def test_storms_in_words(storm):
    told = finding(storm, "storms")
    port = analysis.storms(storm).iloc[0]
    assert told.status == "notice"
    assert told.title.startswith("1 port in a storm")
    assert f"dom{port['dom']} port {port['port']}" in told.cases[0]
    assert f"{port['raised']:,} notifications" in told.cases[0]


def test_stuck_channels_in_words():
    told = finding(of_trace(), "stuck")
    assert told.status == "problem"
    assert told.title == "2 channels are stuck at the end: 1 masked, 1 without a peer"
    assert told.cases == (
        "dom1 port 1, pending for 1 ms; pending behind its mask: nobody unmasked it",
        "dom1 port 2; unbound: 1 sends were dropped",
    )
    assert "Of each kind" not in told.text


def test_events_of_the_last_moments_are_not_called_stuck(storm):
    told = finding(storm, "stuck")
    assert told.status == "fine"
    assert len(analysis.stuck(storm)) > 0
    wait = int(analysis.latency_percentiles(storm, by="host")["p999_ns"].iloc[0])
    assert f"the last {words.duration(wait)}" in told.text
    guest = evtsim.replay(workloads.generate("io", records=5_000, domains=4), guest=evtsim.Guest())
    assert finding(guest, "stuck").text == ""
    assert "upcall records of the trace did nothing" in finding(guest, "handlers").text


def test_ports_that_ran_out_in_words():
    run = evtsim.replay(workloads.generate("exhaust", records=20_000, domains=4), outcomes=False)
    told = finding(run, "exhaustion")
    worst = analysis.exhaustion(run).iloc[0]
    assert report.findings(run)[0] == told
    assert told.status == "problem"
    assert f"dom{int(worst['dom'])}: 4,095 of 4,095 ports at most (100 %)" in told.cases[0]
    assert f"{int(worst['enospc']):,} records failed with ENOSPC" in told.cases[0]


def test_errors_in_words():
    told = finding(of_trace(), "errors")
    assert told.title == "1 record failed, 11.11 % of all"
    assert told.cases == (
        "send: EINVAL, 1 time (25.00 % of its records), only by dom1, 1.002 ms after the first "
        "record",
    )
    assert finding(evtsim.replay(workloads.generate("io", records=500)), "errors").status == "fine"


@pytest.mark.parametrize("stats", [None, "domain", "port"])
def test_every_level_of_statistics_has_a_page(stats):
    page = Page(report.html(of_trace(stats=stats)))
    assert ("ports" in page.tables) == (stats == "port")
    assert ("domains" in page.tables) == (stats is not None)
    assert "operations" in page.tables
    assert ("need “port”" in page.text) == (stats != "port")


def test_a_run_of_one_moment_long_after_the_epoch_has_a_page():
    start = 1_700_000_000_000_000_000
    b = evtsim.TraceBuilder(evtsim.Host.uniform(2))
    b.alloc_unbound(dom=1, remote_dom=0, ts=start)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1, ts=start)
    b.send(dom=0, port=1, ts=start)
    b.send(dom=0, port=9, ts=start)
    run = evtsim.replay(b.trace())
    page = Page(report.html(run))
    assert not re.search(r"\bnan\b", page.text)
    assert "only by dom0, 0 ns after the first record" in finding(run, "errors").cases[0]
    assert "dom0 → dom1: 1 (at one moment)" in finding(run, "traffic").cases[0]
    assert "pending for 0 ns" in finding(run, "stuck").cases[0]


def test_an_empty_run_has_a_page():
    run = evtsim.replay(
        evtsim.Trace.from_records(np.zeros(0, RECORD_DTYPE), evtsim.Host.uniform(3))
    )
    page = Page(report.html(run))
    assert [each.title for each in report.findings(run)] == ["The trace has no records"]
    assert page.images == []


def test_a_run_under_the_fifo_abi_has_a_page():
    host = evtsim.Host.uniform(2, profile="xen-4.23")
    b = evtsim.TraceBuilder(host)
    for dom in (0, 1):
        b.init_control(dom=dom, vcpu=0)
        b.expand_array(dom=dom)
    b.alloc_unbound(dom=1, remote_dom=0)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1)
    b.unmask(dom=1, port=1)
    b.send(dom=0, port=1, ts=1_000)
    b.upcall(dom=1, ts=3_000)
    page = Page(report.html(evtsim.replay(b.trace())))
    assert page.rows("priorities")[0]["p50_ns"] == "2.000"


def test_the_page_needs_nothing_and_can_be_read_aloud(text, page):
    assert "default-src 'none'" in text
    for name in ("src", "href", "xlink:href"):
        for target in re.findall(rf'\b{name}="([^"]*)"', text):
            assert target.startswith(("#", "data:")), target
    assert not re.search(r"url\((?!#)", text)
    assert len(set(page.ids)) == len(page.ids)
    assert [level for level, _ in page.headings].count(1) == 1
    levels = [level for level, _ in page.headings]
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert len(page.images) >= 8
    assert all(len(alt) > 20 for alt in page.images)
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= set(page.ids)


def test_plots_take_the_pages_colours(text):
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(drawings) >= 8
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert "#14161a" not in drawing
        assert "#ffffff" not in drawing


def test_provenance(tmp_path):
    trace = workloads.generate("io", records=2_000, domains=4, seed=77)
    trace.save(tmp_path / "busy.arrow")
    run = evtsim.replay(tmp_path / "busy.arrow", guest=evtsim.Guest(seed=5))
    run.save(tmp_path / "kept")
    for each in (run, evtsim.Run.load(tmp_path / "kept")):
        page = Page(report.html(each))
        assert page.headings[0] == (1, "busy.arrow")
        for word in ("io, generator", "seed 77", "seed=5", trace.digest(), evtsim.__version__):
            assert word in page.text
        assert str(tmp_path) not in page.text


def test_the_same_run_gives_the_same_file(storm, text, tmp_path):
    path = tmp_path / "r.html"
    report.write(storm, path)
    assert path.read_text(encoding="utf-8") == text
    assert path.stat().st_size < 500_000
    with pytest.raises(EvtsimError, match="exists already"):
        report.write(storm, path, overwrite=False)


def test_names_from_outside_are_text():
    page = report.html(of_trace(stats=None), title='<script>alert("x")</script>')
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


def test_numbers_in_words():
    assert [
        words.duration(ns) for ns in (0, 999, 1_000, 24_914, 5_696_108_939, 12_345 * 10**9)
    ] == [*("0 ns", "999 ns", "1 µs", "24.91 µs", "5.696 s", "12,345 s")]
    shares = [(0, 9), (9, 9), (1, 10**6), (10**6 - 1, 10**6), (1, 3), (0, 0)]
    assert [words.percent(*each) for each in shares] == [
        *("0 %", "100 %", "under 0.01 %", "over 99.99 %", "33.33 %", "0 %")
    ]
    assert [words.count(n, "event") for n in (0, 1, 2_000)] == [
        "no events",
        "1 event",
        "2,000 events",
    ]
    assert [words.per_second(rate) for rate in (0.25, 9.96, 1234.5)] == [
        "0.25/s",
        "10/s",
        "1,234/s",
    ]
