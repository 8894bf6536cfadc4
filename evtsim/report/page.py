"""Putting the page together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from evtsim import __version__
from evtsim._files import written_whole
from evtsim.report.answers import Answers, rows
from evtsim.report.figures import figures
from evtsim.report.findings import findings
from evtsim.report.tables import tables
from evtsim.report.words import duration, percent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from evtsim.run import Run

LEVELS = ("none", "domain", "port")
TEMPLATE = "template.html.j2"


def html(run: Run, title: str | None = None) -> str:
    """Return a run's report as an HTML page that needs nothing beside it.

    Parameters
    ----------
    run : Run
        With any statistics; what was not counted is left out, and said.
    title : str, optional
        The trace's name, if it is known, if not given.

    Returns
    -------
    str
        The same for the same run: nothing in it depends on the clock or the machine.
    """
    answers, source = Answers(run), run.source
    return rendered(
        title=title or _title(source),
        version=__version__,
        note="Moments are told from the first record on.",
        provenance=_provenance(run, source),
        numbers=_numbers(answers),
        findings=findings(answers),
        figures=figures(answers),
        tables=tables(answers),
        missing=_missing(answers),
    )


def rendered(**parts: Any) -> str:
    """Return the template filled in."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("evtsim", "report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(TEMPLATE).render(**parts)


def write(
    run: Run,
    path: str | os.PathLike[str],
    title: str | None = None,
    *,
    overwrite: bool = True,
) -> None:
    """Write a run's report, see :func:`html`.

    Parameters
    ----------
    run : Run
    path : path-like
        An .html file.
    title : str, optional
    overwrite : bool
        Whether a file that is there already may be replaced.

    Raises
    ------
    EvtsimError
        The file exists and may not be replaced, or cannot be written.
    """
    page = html(run, title)
    with written_whole(path, overwrite=overwrite) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _title(source: Mapping[str, Any]) -> str:
    """Name the page after the trace."""
    if source.get("name", "-") != "-":
        return str(source["name"])
    workload = source.get("meta", {}).get("workload")
    return f"Workload {workload}" if workload else "A run"


def _provenance(run: Run, source: Mapping[str, Any]) -> dict[str, str]:
    """Say what was replayed, on which host, by which guests and which version."""
    domains, host = run.host.domains, run.host
    return {
        **_trace(source),
        "Host": (
            f"profile {host.profile}, {len(host):,} domains, {int(domains['vcpus'].sum()):,} vcpus"
        ),
        "Guest": repr(run.guest) if run.guest else "none: the trace's own upcalls deliver",
        "Statistics": LEVELS[run.state.level],
        "Made by": f"evtsim {__version__}",
    }


def _trace(source: Mapping[str, Any]) -> dict[str, str]:
    """Say which trace it was and where that came from."""
    meta = dict(source.get("meta", {}))
    name = source.get("name")
    said = {"Trace": "standard input" if name == "-" else str(name)} if name else {}
    parameters = meta.pop("parameters", None)
    if "workload" in meta:
        said["Workload"] = f"{meta['workload']}, generator {meta.get('generator', '?')}"
    elif meta:
        made_by = str(meta.pop("made_by", ""))
        said["Trace made by"] = ", ".join(filter(None, [made_by, _plain(meta)]))
    if parameters:
        said["Parameters"] = _plain(parameters)
    if source.get("digest"):
        said["sha256"] = source["digest"]
    return said


def _plain(values: Mapping[str, Any]) -> str:
    """Write names and values in a line."""
    text = ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
    return text if len(text) <= 600 else f"{text[:590]}…"


def _numbers(answers: Answers) -> list[tuple[str, str, str]]:
    """Return the numbers at the head of the page: what, how much, and a word to it."""
    totals = answers.totals
    seconds = totals["duration_ns"] / 1e9
    rate = f"{totals['records'] / seconds:,.0f} a second" if seconds else ""
    numbers = [
        ("Records", f"{totals['records']:,}", rate),
        ("Time span", duration(totals["duration_ns"]), "of the trace"),
        ("Errors", f"{totals['errors']:,}", percent(totals["errors"], totals["records"])),
    ]
    if not answers.counted:
        return [*numbers, ("Delivered", f"{totals['delivered']:,}", "events")]
    raised = totals["raised"]
    coalesced = f"{totals['coalesced']:,}"
    numbers += [
        ("Notifications", f"{raised:,}", "raised"),
        ("Coalesced", percent(totals["coalesced"], raised), f"{coalesced} notifications"),
        ("Delivered", f"{totals['delivered']:,}", "events"),
        ("Still pending", f"{totals['pending']:,}", "ports at the end"),
    ]
    if not answers.latency.empty:
        row = next(rows(answers.latency))
        numbers += [
            ("Median latency", duration(row.p50_ns), "set to delivered"),
            ("99 % within", duration(row.p99_ns), f"longest {duration(row.max_ns)}"),
        ]
    return numbers


def _missing(answers: Answers) -> str:
    """Say what the run's statistics leave out."""
    if answers.by_port:
        return ""
    what = "ports, storms, stuck channels and who talks to whom"
    if not answers.counted:
        what = f"latencies, domains, errors by caller, {what}"
    level = LEVELS[answers.run.state.level]
    return f"The run was counted with statistics “{level}”: {what} need “port”."
