"""The FIFO ABI's queues, put together from the links of a dump.

A dump has each port's LINK and neither heads, tails nor priorities. Every chain of links is a
queue, or the rest of one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evtsim import abi

if TYPE_CHECKING:
    from collections.abc import Callable

    from evtsim.dtypes import Array

ORDER = (*range(abi.FIFO_DEFAULT_PRIORITY, abi.FIFO_PRIORITIES), *range(7)[::-1])
"""The priorities that a vcpu's chains get, one after the other."""


class Queues(NamedTuple):
    """LINKED ports, one row each, as int64: dom, port, link, vcpu, priority; first is bool."""

    dom: Array
    port: Array
    link: Array
    vcpu: Array
    priority: Array
    first: Array


def lay_out(ports: dict[str, Array], notes: list[str]) -> Queues:
    """Return the queues of ports under the FIFO ABI; what does not fit is told.

    Ports that are linked to and not in the dump are FREE, and still linked. A link to a port
    that is not linked, or that another links to, and one that closes a circle, is cut.
    """
    rows: list[tuple[int, ...]] = []
    for dom in np.unique(ports["dom"]).tolist():
        own = np.flatnonzero(ports["dom"] == dom)
        port = ports["port"][own].tolist()
        linked = ports["linked"][own].tolist()
        links = ports["link"][own].tolist()
        known = dict(zip(port, linked, strict=True))
        vcpus = dict(zip(port, ports["notify_vcpu"][own].tolist(), strict=True))
        chains = _chains(
            {p: n for p, n, is_linked in zip(port, links, linked, strict=True) if is_linked == 1},
            {p for p, is_linked in known.items() if is_linked != 1},
            lambda p, what: notes.append(f"domain {dom}, port {p}: {what}"),  # noqa: B023
        )
        rows += _assign(dom, chains, vcpus)
    columns = np.array(rows, np.int64).reshape(-1, 6).T
    return Queues(columns[0], columns[1], columns[2], columns[3], columns[4], columns[5] == 1)


def _chains(
    links: dict[int, int], unlinked: set[int], say: Callable[[int, str], None]
) -> list[list[int]]:
    """Return chains of ports, each from its head to its tail, by their lowest ports."""
    before: dict[int, int] = {}
    for port in sorted(links):
        target = links[port]
        if target == 0:
            continue
        if target in unlinked or target in before:
            say(port, f"linked to port {target}, which is not linked or another's: the link is cut")
            links[port] = 0
        else:
            before[target] = port
    links.update({target: 0 for target in before if target not in links})
    chains, seen = [], set()
    for start in [*(p for p in sorted(links) if p not in before), *sorted(links)]:
        if start in seen:
            continue
        if start in before:
            say(before[start], f"linked in a circle: the link to port {start} is cut")
        chain, port = [], start
        while port and port not in seen:
            seen.add(port)
            chain.append(port)
            port = links[port]
        chains.append(chain)
    return sorted(chains, key=min)


def _assign(dom: int, chains: list[list[int]], vcpus: dict[int, int]) -> list[tuple[int, ...]]:
    """Give each chain a queue of the vcpu that its head notifies; beyond 16, the last of them."""
    queues: dict[tuple[int, int], list[int]] = {}
    used: dict[int, int] = {}
    for chain in chains:
        vcpu = next((vcpus[p] for p in chain if p in vcpus), 0)
        number = used.get(vcpu, 0)
        used[vcpu] = number + 1
        queues.setdefault((vcpu, ORDER[min(number, len(ORDER) - 1)]), []).extend(chain)
    return [
        (dom, port, following, vcpu, priority, int(port == chain[0]))
        for (vcpu, priority), chain in queues.items()
        for port, following in zip(chain, [*chain[1:], 0], strict=True)
    ]
