"""Numbers as people read them: thousands, shares, times in the unit that suits them."""

from __future__ import annotations

UNITS = (("s", 10**9), ("ms", 10**6), ("µs", 10**3), ("ns", 1))


def unit(ns: float) -> tuple[str, int]:
    """Return the largest unit of which a time has at least one, and how many ns that is."""
    return next((each for each in UNITS if ns >= each[1]), UNITS[-1])


def duration(ns: float) -> str:
    """Say a time with four digits, or more if it is thousands of seconds."""
    name, size = unit(ns)
    value = ns / size
    return f"{value:,.0f} {name}" if value >= 1_000 or size == 1 else f"{value:.4g} {name}"


def percent(part: float, whole: float = 1) -> str:
    """Say a share; all and nothing only where it is all or nothing."""
    if not whole or not part:
        return "0 %"
    if part == whole:
        return "100 %"
    share = 100 * part / whole
    if share < 0.005:
        return "under 0.01 %"
    return "over 99.99 %" if share > 99.995 else f"{share:.2f} %"


def per_second(rate: float) -> str:
    """Say a rate; there is none if all happened at one moment."""
    if rate != rate:
        return "at one moment"
    return f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.2g}/s"


def count(number: int, one: str, several: str = "") -> str:
    """Say how many: no events, 1 event, 2,000 events."""
    if number == 1:
        return f"1 {one}"
    return f"{f'{number:,}' if number else 'no'} {several or one + 's'}"
