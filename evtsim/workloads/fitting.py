"""Parameters of workloads, estimated from what a tracer saw of a real host.

Observations (:mod:`evtsim.interop.observations`) do not tell ports. What a call was for is
therefore unknown, and each workload is fitted as if all calls, or all upcalls, were of its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import draws
from evtsim.abi import MAX_DOMAINS, Op
from evtsim.errors import EvtsimError
from evtsim.interop import observations as seen

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.dtypes import Array

FEW = 20
"""Times between calls from which bursts are estimated, at least."""

APART = 5.0
"""How much longer pauses are than gaps, at least, for calls to come in bursts."""

HEAVY = 2.0
"""Squared coefficient of variation of bursts from which they are called heavy-tailed; a geometric
distribution's is below 1."""

TOGETHER_NS = 1000
"""Calls of a vcpu that follow each other sooner are one IPI to several vcpus."""


def fit(observations: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Estimate parameters of the workloads ``io``, ``ipi`` and ``timer``.

    They are estimates of what the guests (all domains but 0) do, each as if nothing else went on:
    ``io`` and ``ipi`` take all sends, and calls whose sub-operation is not recorded, ``timer``
    takes all upcalls, or wakes where no upcalls were seen. docs/your-own-data.md says how, and how
    far off they are on data of known parameters.

    Parameters
    ----------
    observations : DataFrame
        Of :func:`evtsim.interop.xentrace.read` or :func:`evtsim.interop.ftrace.read`.

    Returns
    -------
    dict of str to dict
        By workload, parameters for :func:`evtsim.workloads.generate`: domains, vcpus and wake_ns
        (if wakes were seen) of each; of ``io`` devices (1: bursts of a guest are not told apart by
        device), batching (0: what was seen are notifications, not requests), rate, zipf and, where
        there are enough calls, burst, bursts, shape and gap_ns; of ``ipi`` rate and broadcast; of
        ``timer`` rate and jitter_ns. A workload of which nothing was seen is left out.

    Raises
    ------
    EvtsimError
        These are no observations, or there is nothing of a guest's in them.

    Examples
    --------
    >>> from evtsim import workloads
    >>> from evtsim.interop import xentrace
    >>> observations = xentrace.read("host.bin", hz=2.1e9)  # doctest: +SKIP
    >>> workloads.generate("io", **workloads.fit(observations)["io"])  # doctest: +SKIP
    """
    seen.check(observations)
    guests = _guests(observations)
    value, kind = guests["value"], guests["kind"]
    sends = guests[(kind == "event_channel_op") & ((value == Op.SEND) | (value < 0))]
    told = guests[kind == "upcall"]
    told = told if len(told) else guests[kind == "wake"]
    seconds = seen.span_ns(observations) / 1e9
    if not seconds or not len(sends) + len(told):
        raise EvtsimError(
            "observations have no calls, upcalls or wakes of guests over any time "
            "(expected some of domains other than 0)"
        )
    host = _host(guests)
    fitted = {}
    if len(sends):
        fitted["io"] = {**host, **_io(sends, seconds)}
        fitted["ipi"] = {**host, **_ipi(sends, seconds, host)}
    ticks = _timer(told)
    if ticks:
        fitted["timer"] = {**host, **ticks}
    return fitted


def _guests(observations: pd.DataFrame) -> pd.DataFrame:
    """Return what is known to be of guests; where no domain is known at all, everything."""
    dom = observations["dom"]
    named = (dom > 0) & (dom != seen.IDLE)
    chosen = named if named.any() else dom < 0
    return observations[chosen & (observations["vcpu"] >= 0)]


def _host(guests: pd.DataFrame) -> dict[str, Any]:
    """Count domains, dom0 included, and vcpus; take the median wake-up."""
    latencies = seen.wake_latency(guests)["latency_ns"]
    return {
        "domains": min(1 + guests["dom"].nunique(), MAX_DOMAINS),
        "vcpus": min(1 + int(guests["vcpu"].max()), 512),
        **({"wake_ns": _time(latencies.median())} if len(latencies) else {}),
    }


def _time(ns: float) -> int:
    return round(min(ns, draws.MAX_NS))


def _rate(rate: float, low: float, high: float) -> float:
    return float(np.clip(rate, low, high))


def _each(rows: pd.DataFrame, by: list[str]) -> Iterator[Array]:
    """Yield the times between the rows of each domain or vcpu, in ns."""
    for _, ts in rows.groupby(by)["ts_ns"]:
        yield np.diff(np.sort(ts.to_numpy(np.int64)))


def _io(sends: pd.DataFrame, seconds: float) -> dict[str, Any]:
    """Take sends for requests on one ring a guest."""
    counts = np.sort(sends.groupby("dom").size().to_numpy(np.int64))[::-1]
    return {
        "devices": 1,
        "batching": 0.0,
        "rate": _rate(counts.mean() / seconds, 1, 1e7),
        "zipf": _zipf(counts),
        **_bursts(list(_each(sends, ["dom"]))),
    }


def _zipf(counts: Array) -> float:
    """Estimate the exponent of popularity: the slope of log count over log rank."""
    if len(counts) < 3:
        return 0.0
    rank = np.log(np.arange(1, len(counts) + 1))
    # The popular ones are counted best.
    slope = np.polyfit(rank, np.log(counts), 1, w=np.sqrt(counts))[0]
    return float(np.clip(-slope, 0, 3))


def _bursts(times: list[Array]) -> dict[str, Any]:
    """Tell bursts from the pauses between them.

    Times between calls are taken for a mixture of two exponential distributions. The share of the
    longer one is that of the pauses, so its inverse is the mean number of calls in a burst.
    """
    gaps = np.concatenate(times) if times else np.zeros(0)
    if len(gaps) < FEW:
        return {}
    short, long, share = _two_exponentials(gaps.astype(np.float64))
    if long < APART * short or share > 0.9:
        return {"bursts": "exponential", "burst": 1.0, "gap_ns": 0}
    # Where a time is as likely to be a pause as a gap.
    edge = np.log((1 - share) * long / (share * short)) / (1 / short - 1 / long)
    sizes = np.concatenate([_sizes(between > edge) for between in times])
    found: dict[str, Any] = {
        "burst": float(np.clip(1 / share, 1, 100_000)),
        "gap_ns": _time(short),
    }
    if len(sizes) >= FEW and sizes.var() > HEAVY * sizes.mean() ** 2:
        return {**found, "bursts": "pareto", "shape": _tail(sizes)}
    return {**found, "bursts": "exponential"}


def _two_exponentials(gaps: Array) -> tuple[float, float, float]:
    """Fit a mixture of two exponential distributions by expectation maximization.

    Returns
    -------
    short, long : float
        Their means.
    share : float
        Of the longer one.
    """
    gaps = np.maximum(gaps, 1.0)
    if len(gaps) > 200_000:
        gaps = gaps[:: len(gaps) // 100_000]
    low, high = np.quantile(gaps, (0.25, 0.75))
    short, long, share = max(low, 1.0), max(gaps[gaps >= high].mean(), 2 * low, 2.0), 0.25
    for _ in range(200):
        logs = np.log(share / (1 - share) * short / long) + gaps * (1 / short - 1 / long)
        weight = 1 / (1 + np.exp(-np.clip(logs, -500, 500)))
        total = weight.sum()
        before = share
        share = float(np.clip(total / len(gaps), 1e-9, 1 - 1e-9))
        long = float((weight * gaps).sum() / max(total, 1e-9))
        short = float(((1 - weight) * gaps).sum() / max(len(gaps) - total, 1e-9))
        short, long = max(min(short, long), 1.0), max(short, long, 1.0)
        if abs(share - before) < 1e-7:
            break
    return short, long, share


def _sizes(pauses: Array) -> Array:
    """Count the calls of the bursts between pauses; the first and last may be cut, and are not."""
    sizes: Array = np.diff(np.flatnonzero(pauses)).astype(np.float64)
    return sizes


def _tail(sizes: Array) -> float:
    """Estimate the shape of a Pareto distribution from the larger half (Hill's estimator)."""
    least = float(np.median(sizes))
    larger = sizes[sizes > least]
    # Sizes are whole numbers: half of the step between two belongs to each.
    shape = 1 / max(float(np.log(larger / (least + 0.5)).mean()), 1e-9)
    return float(np.clip(shape, 1.05, 10))


def _ipi(sends: pd.DataFrame, seconds: float, host: dict[str, Any]) -> dict[str, Any]:
    """Take sends for IPIs; those that a vcpu makes at once for one that goes to all others."""
    events = several = 0
    for gaps in _each(sends, ["dom", "vcpu"]):
        apart = np.flatnonzero(np.concatenate([[True], gaps > TOGETHER_NS, [True]]))
        sizes = np.diff(apart)
        events += len(sizes)
        several += int((sizes > 1).sum())
    guests = sends["dom"].nunique()
    return {
        "vcpus": max(2, host["vcpus"]),
        "rate": _rate(events / guests / seconds, 0.01, 1e8),
        "broadcast": several / events if host["vcpus"] > 2 else 0.0,
    }


def _timer(told: pd.DataFrame) -> dict[str, Any]:
    """Take upcalls for ticks; the times between them differ from the period by their jitter.

    The difference of two exponential delays of one mean has that mean as its mean absolute value.
    """
    times = [gaps for gaps in _each(told, ["dom", "vcpu"]) if len(gaps)]
    if not times:
        return {}
    gaps = np.concatenate(times)
    period = float(np.median(gaps))
    near = gaps[(gaps > period / 2) & (gaps < period * 3 / 2)]
    return {
        "rate": _rate(1e9 / max(period, 1.0), 1, 1e5),
        "jitter_ns": _time(float(np.abs(near - period).mean())) if len(near) else 0,
    }
