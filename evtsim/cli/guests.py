"""The guest on the command line: its options, and times as people write them."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evtsim.cli.command import whole
from evtsim.errors import ArgumentError

if TYPE_CHECKING:
    from evtsim.guest import Guest

UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9}
TIME = "300ns, 2us, 1.5ms or 1s"
MAX_SEED = (1 << 64) - 1

Scan = Annotated[
    str | None,
    typer.Option(
        "--guest",
        metavar="SCAN",
        help="Let guests handle events by themselves, scanning as linux does or from the lowest "
        "port; upcall records then do nothing.",
    ),
]
Wake = Annotated[
    str | None,
    typer.Option(
        "--wake",
        metavar="TIME",
        help="From a kick to the handler: 2us (default), exp:2us, lognormal:2us:0.5 (sigma).",
    ),
]
Handler = Annotated[
    str | None,
    typer.Option("--handler", metavar="TIME", help="Handling one event: 300ns (default), …"),
]
Eoi = Annotated[
    str | None,
    typer.Option(
        "--eoi",
        metavar="WHEN",
        help="late: a port stays masked while it is handled; late:5us: and so long after; edge "
        "(default): never.",
    ),
]
GuestSeed = Annotated[
    int | None,
    typer.Option(
        "--guest-seed",
        metavar="N",
        parser=whole(0, MAX_SEED),
        help="Of the guest's random times.",
    ),
]
Drain = Annotated[bool, typer.Option("--drain", help="Let guests go on after the last record.")]


def with_guest(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the guest's options in place of its parameter ``guest``.

    What the options make, a Guest or None, is passed as ``guest``. Annotations must have their
    names at run time, so the command writes ``guest: Any``.
    """
    options = {"scan": Scan, "wake": Wake, "handler": Handler, "eoi": Eoi, "guest_seed": GuestSeed}

    @functools.wraps(command)
    def parsing(**given: Any) -> Any:
        return command(guest=guest_of(*map(given.pop, options)), **given)

    def option(name: str) -> inspect.Parameter:
        kind = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(name, kind, default=None, annotation=options[name])

    parameters: list[inspect.Parameter] = []
    signature = inspect.signature(command, eval_str=True)
    for name, parameter in signature.parameters.items():
        parameters += map(option, options) if name == "guest" else [parameter]
    parameters = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    parsing.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    parsing.__annotations__ = {each.name: each.annotation for each in parameters}
    return parsing


def nanoseconds(option: str, text: str) -> int:
    """Read a time with its unit."""
    match = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*(ns|us|µs|ms|s)", text.strip())
    if text.strip() == "0":
        return 0
    if match is None or len(match[1]) > 18:
        raise typer.BadParameter(f"{option} is {text!r} (expected a time like {TIME})")
    return round(float(match[1]) * UNITS[match[2]])


def duration(option: str, text: str) -> Any:
    """Read a constant or a distribution."""
    from evtsim.guest import Constant, Exponential, Lognormal

    kind, *values = text.split(":")
    try:
        if not values:
            return Constant(nanoseconds(option, kind))
        if kind == "exp" and len(values) == 1:
            return Exponential(nanoseconds(option, values[0]))
        if kind == "lognormal" and len(values) == 2:
            return Lognormal(nanoseconds(option, values[0]), float(values[1]))
    except ArgumentError as error:
        raise error.renamed(f"{option}'s {error.name}" if values else option) from None
    except ValueError:
        pass  # sigma is no number
    raise typer.BadParameter(
        f"{option} is {text!r} (expected 2us, exp:2us or lognormal:2us:0.5, any time and sigma)"
    )


def end_of_interrupt(text: str) -> dict[str, Any]:
    """Read when ports are unmasked: the guest's fields eoi and eoi_ns."""
    from evtsim.guest import EOIS

    when, colon, delay = text.partition(":")
    if when not in EOIS or (colon and when != "late"):
        raise typer.BadParameter(f"--eoi is {text!r} (expected edge, late or late:5us)")
    return {"eoi": when, "eoi_ns": nanoseconds("--eoi", delay) if colon else 0}


def guest_of(
    scan: str | None, wake: str | None, handler: str | None, eoi: str | None, seed: int | None
) -> Guest | None:
    """Make the guest that the options ask for, if any does."""
    from evtsim.guest import SCANS, Guest

    given = {"--wake": wake, "--handler": handler, "--eoi": eoi, "--guest-seed": seed}
    if scan is None:
        for option, value in given.items():
            if value is not None:
                raise typer.BadParameter(f"{option} is the guest's: add --guest linux")
        return None
    if scan not in SCANS:
        raise typer.BadParameter(f"--guest is {scan!r} (expected {' or '.join(SCANS)})")
    times = {
        "wake_ns": duration("--wake", wake or "2us"),
        "handler_ns": duration("--handler", handler or "300ns"),
    }
    try:
        return Guest(scan=scan, seed=seed or 0, **times, **end_of_interrupt(eoi or "edge"))
    except ArgumentError as error:
        raise error.renamed({"eoi_ns": "--eoi"}.get(error.name, error.name)) from None
