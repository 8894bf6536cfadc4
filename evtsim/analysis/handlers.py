"""How evenly a vcpu's handler serves its ports, and where in its selector the work is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from evtsim.analysis._common import share

if TYPE_CHECKING:
    import pandas as pd

    from evtsim.run import Run

VCPU = ["dom", "vcpu"]


def _notified_ports(run: Run) -> pd.DataFrame:
    """Return the counts of ports with notifications that are valid now, with their vcpu."""
    counts = run.ports
    now = run.state.ports()[["dom", "port", "notify_vcpu"]].astype(np.int64)
    counts = counts[counts["raised"] > 0].merge(now, on=["dom", "port"])
    return counts.rename(columns={"notify_vcpu": "vcpu"})


def selector_words(run: Run) -> pd.DataFrame:
    """Tell in which words of a vcpu's selector notifications and deliveries gather.

    Domains under the FIFO ABI have no selectors, and no rows.

    A handler looks through a word's ports bit by bit, so ports that are often pending together
    are handled faster in few words; and what is in one word waits for its neighbours.

    Parameters
    ----------
    run : Run
        With stats="port".

    Returns
    -------
    DataFrame
        A row for every word of a vcpu with notifications, most delivered first: dom, vcpu (that
        the ports notify now), word, first_port and last_port (of the word), ports (with
        notifications), raised, coalesced (notifications), delivered (events), delivered_share
        (of what the vcpu's ports delivered, 0 to 1).
    """
    ports = _notified_ports(run)
    ports = ports[run.state.tables.domains["fifo"][ports["dom"]] == 0]
    bits = run.host.domains["word_bits"].astype(np.int64)
    ports = ports.assign(ports=1, word=ports["port"] // bits[ports["dom"]])
    counted = ["ports", "raised", "coalesced", "delivered"]
    frame = ports.groupby([*VCPU, "word"], as_index=False)[counted].sum()
    first = frame["word"] * bits[frame["dom"]]
    frame.insert(3, "first_port", first)
    frame.insert(4, "last_port", first + bits[frame["dom"]] - 1)
    frame["delivered_share"] = share(
        frame["delivered"], frame.groupby(VCPU)["delivered"].transform("sum")
    )
    order = ["delivered", "raised"]
    words: pd.DataFrame = frame.sort_values(
        order, ascending=False, kind="stable", ignore_index=True
    )
    return words


def fairness(run: Run) -> pd.DataFrame:
    """Tell how evenly the ports of a vcpu are served.

    Jain's index of n values x is (Σx)² / (n Σx²): 1 if all are alike, 1/n if one has everything
    (Jain, Chiu, Hawe: "A quantitative measure of fairness and discrimination", DEC-TR-301, 1984).

    Parameters
    ----------
    run : Run
        With stats="port".

    Returns
    -------
    DataFrame
        A row for every vcpu with deliveries, least fair first (by jain_latency): dom, vcpu
        (that the ports notify now), ports (with deliveries), delivered (events), jain_delivered
        (of the ports' deliveries: how even the load is), jain_latency (of their mean latencies:
        how evenly they wait), longest_gap_ns (between two deliveries of one port),
        longest_gap_port (which), latency_max_ns (the longest wait), latency_max_port (whose).
    """
    ports = _notified_ports(run)
    ports = ports[ports["delivered"] > 0]
    ports = ports.assign(
        ports=1,
        jain_delivered=ports["delivered"].astype(float),
        jain_latency=ports["latency_sum"] / ports["delivered"],
    )
    groups = ports.groupby(VCPU)
    frame = groups[["ports", "delivered"]].sum()
    for name in ("jain_delivered", "jain_latency"):
        squares = (ports[name] ** 2).groupby([ports["dom"], ports["vcpu"]]).sum()
        # Where nothing waits, all wait alike.
        frame[name] = share(groups[name].sum() ** 2, frame["ports"] * squares).fillna(1.0)
    for name in ("longest_gap", "latency_max"):
        most = ports.sort_values(name, ascending=False, kind="stable").drop_duplicates(VCPU)
        most = most.set_index(VCPU)
        frame[f"{name}_ns"], frame[f"{name}_port"] = most[name], most["port"]
    frame = frame.reset_index()
    return frame.sort_values("jain_latency", kind="stable", ignore_index=True)
