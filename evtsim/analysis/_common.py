"""What several questions share: groupings that exist or not, rates, shares."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim.errors import EvtsimError, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from evtsim.run import Run


def choose(by: str, groupings: Iterable[str]) -> str:
    """Return ``by``, or raise an EvtsimError if that is no way to group."""
    known = list(groupings)
    if by not in known:
        raise EvtsimError(f"by is {shown(by)} (expected one of: {', '.join(known)})")
    return by


def share(part: Any, whole: Any) -> Any:
    """Divide; NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(part, whole)


def per_second(counts: Any, run: Run) -> Any:
    """Divide counts by the run's duration; NaN if all happened at one moment."""
    seconds = run.totals()["duration_ns"] / 1e9
    return counts / (seconds or np.nan)
