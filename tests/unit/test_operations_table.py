"""docs/operations.md says what Xen's own code answered, and in which order it looks."""

import re
from pathlib import Path

import numpy as np
import pytest

import evtsim
from evtsim.abi import Effect, Errno, Op, errno_name
from tests.conformance.test_recordings import RECORDINGS

PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
PROFILES = ("xen-4.0", "xen-4.23")
NOTIFY = {"SET", "COALESCED", "MASKED", "SELECTED", "KICK", "POLL_WAKE"}
FIFO_NOTIFY = NOTIFY | {"SAVED", "NO_CONTROL_BLOCK"}


def table():
    """Return errnos in order, and effects, by (profile, operation)."""
    errnos, effects = {}, {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not re.match(r"\| \d", line):
            continue
        op = Op(int(cells[0]))
        assert cells[1] == op.name.lower()
        first = [word for word in cells[2].split(", ") if word]
        second = first if cells[3] == "=" else [word for word in cells[3].split(", ") if word]
        for profile, names, did in zip(PROFILES, (first, second), cells[4:6], strict=True):
            errnos[profile, op] = names
            words = {word for word in did.split(", ") if word}
            if "notify" in words:
                words = words - {"notify"} | (NOTIFY if profile == "xen-4.0" else FIFO_NOTIFY)
            effects[profile, op] = words
    return errnos, effects


ERRNOS, EFFECTS = table()


def in_front(op):
    """Return what is checked in front of an operation that the profile knows."""
    if op == Op.CREATE_DOMAIN:
        return {"ESRCH", "ENOENT"}
    return {"ESRCH", "ENOENT"} | ({"EFAULT"} if op < 64 else set())


def recorded(profile):
    """Return errnos and effects by operation that recordings show."""
    errnos = {op: set() for op in Op}
    effects = dict.fromkeys(Op, 0)
    for path in RECORDINGS:
        if path.parent.name != profile:
            continue
        with np.load(path) as recording:
            ops = recording["trace"]["op"].tolist()
            rcs, did = recording["outcomes"]["rc"].tolist(), recording["effects"].tolist()
        for op, rc, flags in zip(ops, rcs, did, strict=True):
            if op in errnos:
                errnos[op] |= {errno_name(rc)} if rc else set()
                effects[op] |= flags
    return errnos, effects


def test_the_table_has_every_operation():
    assert {op for _, op in ERRNOS} == set(Op)


@pytest.mark.parametrize("profile", PROFILES)
def test_recordings_show_what_the_table_says_and_no_more(profile):
    errnos, effects = recorded(profile)
    for op in Op:
        listed = set(ERRNOS[profile, op])
        assert errnos[op] - in_front(op) <= listed, op.name
        planted = {name for *place, name in PLANTED_ERRNOS if place == [profile, op]}
        assert listed <= errnos[op] | planted, op.name
        named = {effect.name for effect in Effect if effects[op] & effect}
        assert named <= EFFECTS[profile, op], op.name


def full(sim, dom):
    """Give out every port of a domain."""
    while not sim.call("bind_ipi", dom=dom).rc:
        pass


def xen_port(sim):
    sim.call("alloc_xen", dom=1, remote_domid=0)


def fifo(sim):
    sim.call("init_control", dom=1)


def whole_array(sim):
    fifo(sim)
    for _ in range(128):
        sim.call("expand_array", dom=1)


def virq_bound(sim):
    sim.call("bind_virq", dom=1, virq=0)
    full(sim, 1)


def pirq_bound(sim):
    sim.call("bind_pirq", dom=0, pirq=0)
    full(sim, 0)


# (profiles, what comes before, operation, arguments, the errnos whose rules it breaks):
# the answer must be the one that the table has first.
BROKEN = [
    (PROFILES, None, "bind_interdomain", {"remote_dom": 7, "remote_port": 9999},
     {"ESRCH", "EINVAL"}),
    (PROFILES, lambda s: full(s, 1), "bind_interdomain", {"remote_dom": 0, "remote_port": 9999},
     {"ENOSPC", "EINVAL"}),
    (PROFILES, lambda s: full(s, 1), "bind_interdomain", {"remote_dom": 7, "remote_port": 9999},
     {"ESRCH", "ENOSPC", "EINVAL"}),
    (PROFILES, None, "bind_virq", {"virq": 3, "target_vcpu": 9}, {"EINVAL", "ENOENT"}),
    (PROFILES, None, "bind_virq", {"virq": 24, "target_vcpu": 9}, {"EINVAL", "ENOENT"}),
    (PROFILES, virq_bound, "bind_virq", {"virq": 0}, {"EEXIST", "ENOSPC"}),
    (PROFILES, virq_bound, "bind_virq", {"virq": 0, "target_vcpu": 9}, {"ENOENT", "ENOSPC"}),
    (("xen-4.23",), lambda s: full(s, 1), "bind_virq", {"virq": 3}, {"EBUSY", "ENOSPC"}),
    (PROFILES, None, "bind_pirq", {"pirq": 99}, {"EINVAL", "EPERM"}),
    (PROFILES, lambda s: full(s, 1), "bind_pirq", {"pirq": 0}, {"EPERM", "ENOSPC"}),
    (PROFILES, pirq_bound, "bind_pirq", {"dom": 0, "pirq": 0}, {"EEXIST", "ENOSPC"}),
    (PROFILES, pirq_bound, "bind_pirq", {"dom": 0, "pirq": 1}, {"ENOSPC"}),
    (PROFILES, None, "status", {"target_dom": 7, "port": 9999}, {"ESRCH", "EPERM", "EINVAL"}),
    (PROFILES, None, "status", {"target_dom": 0, "port": 9999}, {"EPERM", "EINVAL"}),
    (PROFILES, None, "alloc_unbound", {"target_dom": 7, "remote_dom": 0}, {"ESRCH", "EPERM"}),
    (PROFILES, lambda s: full(s, 0), "alloc_unbound", {"target_dom": 0, "remote_dom": 0},
     {"EPERM", "ENOSPC"}),
    (PROFILES, lambda s: full(s, 1), "alloc_unbound", {"remote_dom": 0}, {"ENOSPC"}),
    (PROFILES, lambda s: full(s, 1), "bind_ipi", {"target_vcpu": 9}, {"ENOENT", "ENOSPC"}),
    (PROFILES, None, "bind_vcpu", {"port": 9999, "target_vcpu": 9}, {"ENOENT", "EINVAL"}),
    (PROFILES, None, "reset", {"target_dom": 7}, {"ESRCH", "EPERM"}),
    (PROFILES, None, "raise_virq", {"virq": 24, "target_vcpu": 9}, {"EINVAL", "ENOENT"}),
    (("xen-4.23",), fifo, "init_control", {"target_vcpu": 9, "offset": 7}, {"ENOENT", "EINVAL"}),
    (("xen-4.23",), whole_array, "expand_array", {}, {"ENOSPC"}),
    (("xen-4.23",), None, "set_priority", {"port": 9999, "priority": 16}, {"EINVAL", "ENOSYS"}),
    (("xen-4.23",), None, "set_priority", {"port": 5, "priority": 16}, {"ENOSYS", "EACCES"}),
    (("xen-4.23",), fifo, "set_priority", {"port": 5, "priority": 3}, {"EACCES"}),
    (("xen-4.23",), None, "reset_cont", {"target_dom": 7}, {"ESRCH", "EPERM", "EBUSY"}),
    (("xen-4.23",), None, "reset_cont", {"target_dom": 0}, {"EPERM", "EBUSY"}),
    (PROFILES, xen_port, "close", {"port": 1}, {"EINVAL"}),
    (PROFILES, None, "create_domain", {"vcpu": 9}, {"ENOENT", "EEXIST"}),
]  # fmt: skip

CASES = [(profile, *case[1:]) for case in BROKEN for profile in case[0]]
PLANTED_ERRNOS = {
    (profile, Op[name.upper()], errno)
    for profile, _, name, _, broken in CASES
    for errno in broken
    if errno == next(e for e in ERRNOS[profile, Op[name.upper()]] if e in broken)
}


@pytest.mark.parametrize(
    ("profile", "before", "name", "arguments", "broken"),
    CASES,
    ids=[f"{case[0]}-{case[2]}-{'-'.join(sorted(case[4]))}" for case in CASES],
)
def test_of_several_errnos_the_first_is_answered(profile, before, name, arguments, broken):
    domains = [
        evtsim.Domain(vcpus=2, privileged=True, word_bits=32, nr_pirqs=4, pirq_permitted=True),
        evtsim.Domain(vcpus=2, word_bits=32, nr_pirqs=4),
    ]
    sim = evtsim.Simulator(evtsim.Host(profile=profile, domains=domains))
    if before is not None:
        before(sim)
    answer = sim.call(name, **{"dom": 1, **arguments})
    first = next(errno for errno in ERRNOS[profile, Op[name.upper()]] if errno in broken)
    assert answer.rc == -Errno[first]
