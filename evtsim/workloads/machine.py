"""Lays out a host's sources and books for the event-driven generator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from evtsim import draws
from evtsim._jit import announced
from evtsim.dtypes import RECORD_DTYPE, Columns
from evtsim.errors import EvtsimError
from evtsim.host import Host
from evtsim.workloads import scripts
from evtsim.workloads._kernels import tables as t
from evtsim.workloads._kernels.loop import fill, give_keys, power_of_two, zipf_weights

if TYPE_CHECKING:
    from evtsim.dtypes import Array

SIGMA = 0.5
"""Of the lognormal wake and service times."""

STEP_NS = 2000
"""Mean time between two hypercalls of a script."""

SCRIPTS = ("boot", "restart", "crash", "migrate")

FIRST_STREAM = 64
"""Of the draws: one for each kind of source from here on."""


class Machine:
    """A host of dom0, driver domains, guests and attackers, in the order of their ids.

    Parameters
    ----------
    host : Host
    seed : int
    drivers : int
        Driver domains. If there are any, they serve the guests, else dom0 does.
    devices : int
        Of every guest.
    pirqs : int
        Of dom0 and of every driver domain, as far as the host has them.
    attackers : int
        Domains that bind nothing.
    abi : scripts.Abi
        Of all domains.

    Raises
    ------
    EvtsimError
        There are too few domains, or more channels than a domain has ports.
    """

    def __init__(
        self,
        host: Host,
        *,
        seed: int,
        drivers: int = 0,
        devices: int = 2,
        pirqs: int = 0,
        attackers: int = 0,
        abi: scripts.Abi,
    ) -> None:
        self.host = host
        self.abi = abi
        self.seed = seed
        self.drivers = drivers
        self.devices = devices
        count = len(host)
        self.vcpus = host.domains["vcpus"].astype(np.int64)
        self.guests = np.arange(1 + drivers, count - attackers)
        self.attackers = np.arange(count - attackers, count)
        if not len(self.guests):
            raise EvtsimError(
                f"{count} domains leave no guest (expected dom0, {drivers} driver domains, "
                f"{attackers} attackers and at least one guest)"
            )
        if not (host.domains["privileged"][0] and host.domains["alive"][0]):
            raise EvtsimError("dom0 is not alive and privileged (expected: it starts the guests)")
        self.pirqs = np.zeros(count, np.int64)
        may = np.where(host.domains["pirq_permitted"], host.domains["nr_pirqs"], 0)
        self.pirqs[: 1 + drivers] = np.minimum(pirqs, may[: 1 + drivers])
        self.services = np.zeros(count, np.int64)
        if drivers:
            self.services[self.guests] = 1 + np.arange(len(self.guests)) % drivers
        self.channels = t.PER_DOMAIN + t.PER_VCPU * self.vcpus + self.pirqs
        self.channels[self.guests] += devices
        self.channels[self.attackers] = 0
        self.first_end = 2 * (np.cumsum(self.channels) - self.channels)
        self.ports = self._ports()
        self.words = self.ports // 64 + 1
        self._sources = [self._of_vcpus(), self._of_lives()]
        self.settings: dict[str, int] = {
            "waiting": 1,
            "step": draws.exponential_scale(STEP_NS),
            "spread": draws.lognormal_spread(SIGMA),
            "first_guest": 1 + drivers,
            "guests": len(self.guests),
            "first_life": int(self.vcpus.sum()),
        }

    def _ports(self) -> Array:
        """Count the ports that each domain will use."""
        served = np.where(np.arange(len(self.host)) > self.drivers, self.devices, 0)
        served += t.PER_DOMAIN
        served[0] = 0
        served[self.attackers] = 0
        backends = np.bincount(self.services, served, minlength=len(self.host)).astype(np.int64)
        ports: Array = self.channels + backends
        limits = self.host.port_limits(fifo=self.abi.fifo) - 1
        dom = int(np.argmax(ports - limits))
        if ports[dom] > limits[dom]:
            raise EvtsimError(
                f"domain {dom} would need {ports[dom]:,} ports (expected at most {limits[dom]:,}: "
                "fewer domains, devices or vcpus, or more drivers)"
            )
        return ports

    # Sources -------------------------------------------------------------------------------------

    def _of_vcpus(self) -> Array:
        sources = np.zeros(self.vcpus.sum(), t.SOURCE)
        sources["kind"] = t.VCPU
        sources["dom"] = np.repeat(np.arange(len(self.host)), self.vcpus)
        sources["unit"] = _numbers(self.vcpus)
        sources["end"] = -1
        return sources

    def _of_lives(self) -> Array:
        sources = np.zeros(len(self.host), t.SOURCE)
        sources["kind"] = t.LIFE
        sources["dom"] = np.arange(len(self.host))
        return sources

    def _add(
        self, kind: int, doms: Array, units: Array | int, ends: Array | int, gap: Any, rest: Any = 0
    ) -> None:
        """Add sources of a domain's load."""
        sources = np.zeros(len(doms), t.SOURCE)
        for name, values in (
            ("kind", kind),
            ("dom", doms),
            ("unit", units),
            ("end", ends),
            ("gap", gap),
            ("rest", rest),
        ):
            sources[name] = values
        self._sources.append(sources)

    def _end(self, doms: Array, channel: Array | int) -> Array:
        end: Array = self.first_end[doms] + 2 * channel
        return end

    def _first_device(self, doms: Array) -> Array:
        first: Array = t.PER_DOMAIN + t.PER_VCPU * self.vcpus[doms]
        return first

    def add_rings(
        self,
        *,
        rate: float,
        zipf: float,
        bursts: str,
        burst: float,
        shape: float,
        gap_ns: float,
        service_ns: int,
        batching: float,
    ) -> None:
        """Let every guest's devices carry requests, by a Zipf law over the guests.

        The busiest rings have their gaps shortened so that a burst never takes more than half
        of the time.
        """
        rates = rate * len(self.guests) * self._popularity(zipf)
        each = np.repeat(rates / self.devices, self.devices)
        gaps = np.minimum(gap_ns, 0.5e9 / each)
        rests = np.minimum(burst * 1e9 / each - (burst - 1) * gaps, draws.MAX_NS)
        doms, units, fronts = self._rings()
        self._add(t.REQUEST, doms, units, fronts, _scale(gaps), _scale(rests))
        self.add_backends(service_ns=service_ns, batching=batching)
        if bursts == "pareto":
            # The mean of a Pareto distribution cut at 2**10 times the least, solved for the least.
            tail = power_of_two(round(10 * (1 - shape) * 2**32)) / 2**32
            least = burst * (shape - 1) / (shape - tail)
            self.settings["burst"] = max(1, round(least * 2**16))
            self.settings["tail"] = round(2**32 / shape)
        else:
            # 1 + floor(x) has half a request more than an exponential x.
            self.settings["burst"] = draws.exponential_scale(max(burst - 0.5, 0.1) * 2**16)

    def add_backends(self, *, service_ns: int = 0, batching: float) -> None:
        """Let backends send to the guests' devices, when they have something for them."""
        doms, units, fronts = self._rings()
        self._add(t.ANSWER, doms, units, fronts + 1, 0)
        self.settings["service"] = service_ns
        self.settings["batching"] = round(batching * 2**32)

    def _rings(self) -> tuple[Array, Array, Array]:
        """Return domain, number and front end of every guest's devices."""
        doms = np.repeat(self.guests, self.devices)
        units = np.tile(np.arange(self.devices), len(self.guests))
        return doms, units, self._end(doms, self._first_device(doms) + units)

    def _popularity(self, zipf: float) -> Array:
        """Return every guest's share of all requests; who is popular is drawn."""
        weights = np.zeros(len(self.guests), np.uint64)
        zipf_weights(round(zipf * 2**32), weights)
        rank = np.argsort(draws.words(self.seed, 0, 0, len(weights)), kind="stable")
        shares = np.empty(len(weights))
        shares[rank] = weights / float(weights.sum())
        return shares

    def add_timers(self, *, rate: float, jitter_ns: float) -> None:
        """Let every vcpu of a guest have a periodic timer."""
        doms = np.repeat(self.guests, self.vcpus[self.guests])
        units = _numbers(self.vcpus[self.guests])
        ends = self._end(doms, t.PER_DOMAIN + t.PER_VCPU * units + t.TIMER_VIRQ)
        self._add(t.TIMER, doms, units, ends, draws.exponential_scale(jitter_ns), round(1e9 / rate))

    def add_ipis(self, *, rate: float, broadcast: float) -> None:
        """Let the vcpus of each guest interrupt each other."""
        doms = self.guests[self.vcpus[self.guests] > 1]
        self.settings["broadcast"] = round(broadcast * 2**32)
        self._add(t.IPI, doms, 0, 0, draws.exponential_scale(1e9 / rate))

    def add_pirqs(self, *, rate: float, handler_ns: float) -> None:
        """Let devices of dom0 and driver domains interrupt."""
        doms = np.repeat(np.arange(len(self.host)), self.pirqs)
        if not len(doms):
            raise EvtsimError("the host has no PIRQs for dom0 and driver domains")
        units = _numbers(self.pirqs)
        ends = self._end(doms, self._first_device(doms) + units)
        self._add(t.PIRQ, doms, units, ends, draws.exponential_scale(1e9 / rate))
        self._add(t.EOI, doms, units, ends, 0)
        self.settings["handler"] = draws.exponential_scale(handler_ns)

    def add_toolstack(self, op: int, *, rate: float, down_ns: float, races: float = 0.0) -> None:
        """Let guests come and go (abi.Op.DESTROY_DOMAIN), or migrate (abi.Op.RESET)."""
        self._add(
            t.TOOLSTACK, np.zeros(1, np.int64), int(op), 0, draws.exponential_scale(1e9 / rate)
        )
        self.settings["down"] = draws.exponential_scale(down_ns)
        self.settings["races"] = round(races * 2**32)

    def add_flood(self, *, rate: float) -> None:
        """Let the last guest flood the backend of its first device."""
        doms = self.guests[-1:]
        end = self._end(doms, self._first_device(doms))
        self._add(t.FLOOD, doms, 0, end, draws.exponential_scale(1e9 / rate))
        self.settings["guests"] -= 1

    def add_exhaustion(self, *, rate: float) -> None:
        """Let the attackers open ports."""
        self._add(t.EXHAUST, self.attackers, 0, 0, draws.exponential_scale(1e9 / rate))

    # The engine ----------------------------------------------------------------------------------

    def engine(self) -> t.Engine:
        """Lay everything out; each call gives one that starts anew."""
        fixed = sum(len(sources) for sources in self._sources[:2])
        load = np.concatenate([np.zeros(0, t.SOURCE), *self._sources[2:]])
        load = load[np.argsort(load["dom"], kind="stable")]
        sources = np.concatenate([*self._sources[:2], load])
        give_keys(sources, np.uint64(self.seed), FIRST_STREAM)
        state = np.zeros(1, t.STATE)
        for name, value in self.settings.items():
            state[name] = value
        domains = self._domains()
        domains["sources"] = np.bincount(load["dom"], minlength=len(domains))
        domains["first_source"] = fixed + np.cumsum(domains["sources"]) - domains["sources"]
        program = self._scripts(domains)
        first_life = self.settings["first_life"]
        alive = self.host.domains["alive"] != 0
        sources["left"][first_life:fixed] = domains["boot"] + alive  # without create_domain
        leaves = 1 << max(1, int(len(sources) - 1).bit_length())
        due = np.full(2 * leaves, t.NEVER, np.int64)
        node = leaves + first_life  # dom0 begins
        while node:
            due[node] = 0
            node >>= 1
        used = np.zeros(self.words.sum(), np.uint64)
        used[domains["first_used"]] = 1  # port 0 is reserved
        served = self._served(sources, domains)
        return t.Engine(state, due, sources, self._ends(sources), domains, used, program, served)

    def _ends(self, sources: Array) -> Array:
        ends = np.zeros(2 * self.channels.sum(), t.CHANNEL_END)
        doms = np.repeat(np.arange(len(self.host)), self.channels)
        ends["dom"][::2] = doms
        ends["dom"][1::2] = self.services[doms]
        ends["masked"] = 1
        ends["next"] = ends["handler"] = -1
        handlers = np.flatnonzero(np.isin(sources["kind"], (t.ANSWER, t.EOI)))
        ends["handler"][sources["end"][handlers]] = handlers
        return ends

    def _domains(self) -> Array:
        domains = np.zeros(len(self.host), t.DOMAIN)
        domains["first_end"] = self.first_end
        domains["first_vcpu"] = np.cumsum(self.vcpus) - self.vcpus
        domains["channels"] = self.channels
        domains["ports"] = self.ports
        domains["first_used"] = np.cumsum(self.words) - self.words
        domains["vcpus"] = self.vcpus
        domains["service"] = self.services
        domains["stage"] = 2
        domains["stage"][: 1 + self.drivers] = 1
        domains["stage"][0] = 0
        return domains

    def _served(self, sources: Array, domains: Array) -> Array:
        """Return the answering sources by the domain that they answer from, and tell it where."""
        answers = np.flatnonzero(sources["kind"] == t.ANSWER)
        where = self.services[sources["dom"][answers]]
        domains["served"] = np.bincount(where, minlength=len(domains))
        domains["first_served"] = np.cumsum(domains["served"]) - domains["served"]
        served: Array = answers[np.argsort(where, kind="stable")].astype(np.int32)
        return served

    def _lives(self, dom: int) -> tuple[Array, ...]:
        """Return a domain's scripts, boot first."""
        vcpus, pirqs, ports = (int(a[dom]) for a in (self.vcpus, self.pirqs, self.ports))
        if dom == 0:
            return (scripts.table(scripts.dom0(self.abi, vcpus, pirqs, ports)),)
        if dom <= self.drivers:
            return (scripts.table(scripts.guest(self.abi, vcpus, 0, pirqs, ports)),)
        if dom >= len(self.host) - len(self.attackers):
            return (scripts.table(scripts.attacker(self.abi)),)
        return scripts.lives(self.abi, vcpus, self.devices)

    def _scripts(self, domains: Array) -> Array:
        """Return all scripts in one array, equal ones once, and tell domains where they begin."""
        program: list[Array] = []
        begins: dict[int, int] = {}
        length = 0
        for dom, row in enumerate(domains):
            for name, script in zip(SCRIPTS, self._lives(dom), strict=False):
                if id(script) not in begins:
                    begins[id(script)] = length
                    program.append(script)
                    length += len(script)
                row[name] = begins[id(script)]
        return np.concatenate(program)

    def pieces(self, size: int) -> Iterator[Columns]:
        """Make the records in pieces."""
        engine = self.engine()
        while True:
            out = Columns(*(np.empty(size, RECORD_DTYPE[name]) for name in Columns._fields))
            with announced():
                count = fill(engine, out)
            if count:
                yield Columns(*(column[:count] for column in out))
            if count < size:
                return


def _numbers(counts: Array) -> Array:
    """Count from 0 up to each of the counts, one after the other."""
    starts = np.repeat(np.cumsum(counts) - counts, counts)
    numbers: Array = np.arange(len(starts)) - starts
    return numbers


def _scale(mean_ns: Array) -> Array:
    """Return draws.exponential_scale of an array."""
    scales: Array = np.rint(mean_ns * draws.LN2 * (1 << 22)).astype(np.int64)
    return scales
