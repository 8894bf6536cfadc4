"""The report in a real browser: it sorts and filters, in the dark, on a phone and on paper.

Needs playwright (the extra `browser`) and Chromium: $CHROMIUM or on the PATH.
"""

import os
import shutil

import pytest

import evtsim
from evtsim import report, workloads
from evtsim.report.tables import NONE

pytestmark = pytest.mark.browser

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("report") / "storm.html"
    run = evtsim.replay(workloads.generate("storm", records=60_000, domains=40), outcomes=False)
    report.write(run, path)
    return path.as_uri()


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, "no Chromium: set $CHROMIUM, or install Debian's package chromium"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield launched
        launched.close()


@pytest.fixture
def opened(browser, address):
    """Open the report with options of a browser's context; watch what it asks for and says."""
    contexts, said, asked = [], [], []

    def open_it(**options):
        contexts.append(browser.new_context(**options))
        page = contexts[-1].new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_it
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if url != address and not url.startswith("data:")] == []


def column(page, table, name):
    """Return the texts of a column's rows that are shown."""
    return page.evaluate(
        """([table, name]) => {
            const section = document.getElementById(table);
            const heads = [...section.querySelectorAll("th")];
            const i = heads.findIndex((head) => head.dataset.name === name);
            const rows = [...section.querySelectorAll("tbody tr")];
            return rows.filter((row) => !row.hidden).map((row) => row.cells[i].textContent);
        }""",
        [table, name],
    )


def numbers(texts):
    return [float(text.replace(",", "")) for text in texts if text != NONE]


def test_a_heading_sorts_its_table(opened):
    page = opened()
    head = page.locator("#ports th[data-name=latency_max]")
    before = column(page, "ports", "latency_max")
    assert before != sorted(before)
    head.get_by_role("button").click()
    down = column(page, "ports", "latency_max")
    assert numbers(down) == sorted(numbers(before), reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.get_by_role("button").click()
    up = column(page, "ports", "latency_max")
    assert numbers(up) == sorted(numbers(before))
    assert head.get_attribute("aria-sort") == "ascending"
    assert up[len(numbers(up)) :] == [NONE] * before.count(NONE)  # at the end, whichever way
    page.locator("#ports th[data-name=state_name] button").focus()
    page.keyboard.press("Enter")
    names = column(page, "ports", "state_name")
    assert names == sorted(names)
    assert head.get_attribute("aria-sort") is None


def test_a_filter_keeps_the_rows_that_it_names(opened):
    page = opened()
    field = page.get_by_role("searchbox", name="Filter Ports")
    doms = column(page, "ports", "dom")
    field.fill("dom=0")
    assert column(page, "ports", "dom") == ["0"] * doms.count("0")
    status = page.locator("#ports [role=status]")
    assert status.inner_text() == f"{doms.count('0')} of {len(doms)} rows"
    field.fill("raised>500 interdomain")
    shown = column(page, "ports", "raised")
    assert shown
    assert min(numbers(shown)) > 500
    page.locator("#ports th[data-name=raised] button").click()
    page.locator("#ports th[data-name=raised] button").click()
    assert numbers(column(page, "ports", "raised")) == sorted(numbers(shown))
    field.fill("nothing has this")
    assert column(page, "ports", "dom") == []
    field.fill("")
    assert sorted(column(page, "ports", "dom")) == sorted(doms)


def test_light_and_dark(opened):
    pairs = []
    for scheme in ("light", "dark"):
        page = opened(color_scheme=scheme)
        style = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
        ink, paper = page.locator("body").evaluate(style)
        label = page.locator("figure svg text").first
        assert label.evaluate("e => getComputedStyle(e).fill") == ink
        pairs.append((ink, paper))
    (light_ink, light_paper), (dark_ink, dark_paper) = pairs
    assert brightness(light_ink) < 60 < 200 < brightness(light_paper)
    assert brightness(dark_paper) < 60 < 200 < brightness(dark_ink)


def brightness(colour):
    """Return the mean of rgb(r, g, b)."""
    return sum(map(int, colour[colour.index("(") + 1 : -1].split(",")[:3])) / 3


@pytest.mark.parametrize("options", [PHONE, {"viewport": {"width": 1280, "height": 900}}])
def test_only_tables_scroll_sideways(opened, options):
    page = opened(**options)
    width = options["viewport"]["width"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#ports .scroll").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= width
    if options is PHONE:
        inside = page.locator("#ports .scroll").evaluate("e => e.scrollWidth - e.clientWidth")
        assert inside > 0
        size = page.locator("figure svg text").first.evaluate(
            "e => e.getBoundingClientRect().height"
        )
        assert size > 7


def test_it_can_be_printed(opened):
    page = opened(color_scheme="dark")
    page.emulate_media(media="print")
    paper = page.locator("body").evaluate("e => getComputedStyle(e).backgroundColor")
    assert brightness(paper) == 255
    assert page.locator("nav").is_hidden()
    assert page.locator("#ports tbody tr").nth(24).is_visible()
    assert page.locator("#ports tbody tr").nth(25).is_hidden()
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_everything_has_a_name(opened):
    page = opened()
    for role in ("button", "searchbox", "img", "region", "link"):
        found = page.get_by_role(role).all()
        assert found, role
        for each in found:
            name = each.evaluate(
                "e => e.getAttribute('aria-label') || e.textContent.trim() || e.title ||"
                " [...(e.labels || [])].map(l => l.textContent.trim()).join('') ||"
                " (document.getElementById(e.getAttribute('aria-labelledby')) || {}).textContent"
            )
            assert name, role


def test_without_scripts_it_still_can_be_read(opened):
    page = opened(java_script_enabled=False)
    assert page.locator("#ports tbody tr").count() > 20
    assert page.get_by_role("searchbox").count() == 0
