"""The frames that a report is made of, each asked for once."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from evtsim import analysis, statistics

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run


def rows(frame: pd.DataFrame) -> Any:
    """Return a frame's rows, their columns as attributes (of no type that mypy can know)."""
    return frame.itertuples()


class Answers:
    """What :mod:`evtsim.analysis` says of a run.

    A frame that the run's statistics do not reach is an EvtsimError; `counted` and `by_port` tell.

    Attributes
    ----------
    run : Run
    counted : bool
        Whether the run has statistics at all.
    by_port : bool
        Whether it has them by port.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.counted = run.has("domains")
        self.by_port = run.has("ports")

    def after_start(self, ns: float) -> int:
        """Return the ns from the first record to a time; bins may begin before it."""
        return max(0, int(ns) - self.first_ns)

    @property
    def first_ns(self) -> int:
        """The first record's ts."""
        return int(self.run.state.tables.host["first_ts"][0])

    @functools.cached_property
    def totals(self) -> dict[str, Any]:
        """The run in a few numbers, with those of its vcpus."""
        totals = self.run.totals()
        if self.counted:
            totals |= statistics.vcpu_totals(self.run.state)
            totals |= {n: int(self.notified[n].sum()) for n in ("raised", "coalesced")}
        return totals

    @functools.cached_property
    def ports(self) -> pd.DataFrame:
        """Ports with notifications or sends, with the mean latency."""
        ports = self.run.ports
        used = ports[(ports["raised"] > 0) | (ports["sends"] > 0)]
        return used.assign(
            latency_mean=used["latency_sum"] / used["delivered"].where(used["delivered"] > 0),
            coalesced_share=used["coalesced"] / used["raised"].where(used["raised"] > 0),
        )

    @functools.cached_property
    def notified(self) -> pd.DataFrame:
        """Notifications by type of channel."""
        return analysis.coalescing(self.run, by="type")

    @functools.cached_property
    def coalescing(self) -> pd.DataFrame:
        """Notifications by port."""
        return analysis.coalescing(self.run)

    @functools.cached_property
    def latency(self) -> pd.DataFrame:
        """Latencies of all events: one row, or none."""
        return analysis.latency_percentiles(self.run, by="host")

    @functools.cached_property
    def latency_by_type(self) -> pd.DataFrame:
        """Latencies by type of channel, with what became of the notifications."""
        notified = self.notified.drop(columns="rate")
        return notified.merge(analysis.latency_percentiles(self.run), on="type", how="left")

    @functools.cached_property
    def latency_by_priority(self) -> pd.DataFrame:
        """Latencies by priority (FIFO)."""
        return analysis.latency_percentiles(self.run, by="priority")

    @functools.cached_property
    def storms(self) -> pd.DataFrame:
        """Ports that leave the rest."""
        return analysis.storms(self.run)

    @functools.cached_property
    def last_moments_ns(self) -> int:
        """How long an event may wait at the end without being called stuck.

        0 with a guest, which says what it is about to do. Without one nobody knows what comes
        after the trace: as long as 99.9 % of the events waited at most.
        """
        if self.run.guest is not None or self.latency.empty:
            return 0
        return int(self.latency["p999_ns"].iloc[0])

    @functools.cached_property
    def stuck(self) -> pd.DataFrame:
        """Channels that are stuck, the longest first."""
        last_moments = self.last_moments_ns
        stuck = analysis.stuck(self.run, older_than_ns=last_moments + 1 if last_moments else 0)
        return stuck.sort_values(
            ["waiting_ns", "dropped"], ascending=False, kind="stable", ignore_index=True
        )

    @functools.cached_property
    def exhaustion(self) -> pd.DataFrame:
        """Port use by domain."""
        return analysis.exhaustion(self.run)

    @functools.cached_property
    def domains(self) -> pd.DataFrame:
        """What domains did, and how near they are to their last port."""
        more = self.exhaustion.drop(columns=["in_use", "in_use_peak"])
        return self.run.domains.merge(more, on="dom")

    @functools.cached_property
    def errors(self) -> pd.DataFrame:
        """Errors by operation."""
        return analysis.errors(self.run, by="operation")

    @functools.cached_property
    def errors_by_domain(self) -> pd.DataFrame:
        """Errors by caller."""
        return analysis.errors(self.run)

    @functools.cached_property
    def edges(self) -> pd.DataFrame:
        """Who notified whom."""
        return analysis.edges(self.run)

    @functools.cached_property
    def fairness(self) -> pd.DataFrame:
        """How evenly vcpus serve their ports."""
        return analysis.fairness(self.run)

    @functools.cached_property
    def vcpus(self) -> pd.DataFrame:
        """What vcpus did, with their fairness where it is known."""
        vcpus = self.run.vcpus
        if not self.by_port:
            return vcpus
        return vcpus.merge(self.fairness.drop(columns="delivered"), on=["dom", "vcpu"], how="left")

    @functools.cached_property
    def selector_words(self) -> pd.DataFrame:
        """Where in the selectors the work is."""
        return analysis.selector_words(self.run)
