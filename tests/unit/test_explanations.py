"""Every errno of docs/operations.md is explained, and what explanations cite is there."""

import re
from pathlib import Path

import numpy as np
import pytest

import evtsim
from evtsim.abi import PROFILES, Effect, Op, errno_name
from evtsim.history import deeds, xen
from evtsim.history.explanation import errno_order, errnos_in_front, errnos_of_result
from evtsim.history.rules import IN_FRONT, IN_FRONT_OF_CREATE, RESULT, checks_of
from tests.conformance.test_recordings import RECORDINGS
from tests.unit.test_operations_table import CASES, ERRNOS, in_front

DOCS = Path(__file__).parents[2] / "docs"
HEADINGS = set(re.findall(r"^## (.+)$", (DOCS / "semantics.md").read_text(), re.MULTILINE)) | set(
    re.findall(r"^### (.+)$", (DOCS / "semantics.md").read_text(), re.MULTILINE)
)
MODERN_ONLY = (Op.INIT_CONTROL, Op.EXPAND_ARRAY, Op.SET_PRIORITY, Op.RESET_CONT)


@pytest.mark.parametrize("profile", PROFILES)
def test_errnos_stand_in_the_order_of_the_page(profile):
    for op in Op:
        assert errno_order(profile, op) == ERRNOS[profile, op], op.name


@pytest.mark.parametrize(
    ("profile", "op", "front", "last"),
    [
        ("xen-4.0", Op.SEND, ["ESRCH", "ENOENT", "EFAULT"], []),
        ("xen-4.0", Op.BIND_IPI, ["ESRCH", "ENOENT", "EFAULT"], ["EFAULT"]),
        ("xen-4.0", Op.INIT_CONTROL, ["ESRCH", "ENOENT"], []),  # ENOSYS is all of its own
        ("xen-4.23", Op.INIT_CONTROL, ["ESRCH", "ENOENT", "EFAULT"], ["EFAULT"]),
        ("xen-4.23", Op.UPCALL, ["ESRCH", "ENOENT"], []),
        ("xen-4.23", Op.CREATE_DOMAIN, ["ESRCH"], []),
        ("xen-4.23", 63, ["ESRCH", "ENOENT"], []),
    ],
)
def test_errnos_before_and_after_an_operations_own(profile, op, front, last):
    assert (errnos_in_front(profile, op), errnos_of_result(profile, op)) == (front, last)


@pytest.mark.parametrize("profile", PROFILES)
def test_no_errno_of_a_recording_is_left_out(profile):
    seen = set()
    for path in RECORDINGS:
        if path.parent.name == profile:
            with np.load(path) as recording:
                ops, rcs = recording["trace"]["op"].tolist(), recording["outcomes"]["rc"].tolist()
            seen.update((op, errno_name(rc)) for op, rc in zip(ops, rcs, strict=True) if rc)
    stages = (errnos_in_front, errno_order, errnos_of_result)
    for op, errno in seen:
        assert any(errno in stage(profile, op) for stage in stages), (op, errno)
    assert len(seen) > 50


def test_what_is_cited_is_there():
    checks = [*IN_FRONT, *IN_FRONT_OF_CREATE, RESULT]
    checks += [check for profile in PROFILES for op in Op for check in checks_of(profile, op)]
    assert {check.section for check in checks} <= HEADINGS
    assert {*deeds.SECTIONS.values(), deeds.FIFO_SECTION} <= HEADINGS
    assert set(xen.OWN) == set(Op)
    assert set(deeds.DEEDS) == set(Op) - {Op.RESET_CONT}  # which is never carried out
    assert all(check.rule for check in checks)


def history_of(path):
    with np.load(path) as recording:
        names = recording["domains"].dtype.names
        domains = [
            evtsim.Domain(**dict(zip(names, row, strict=True)))
            for row in recording["domains"].tolist()
        ]
        host = evtsim.Host(path.parent.name, domains)
        return evtsim.History(evtsim.Trace.from_records(recording["trace"], host), every=1000)


def recorded_pairs(profile):
    """Return a record of the recordings for each (operation, errno), and for each effect."""
    found = {}
    for path in RECORDINGS:
        if path.parent.name != profile:
            continue
        with np.load(path) as recording:
            ops = recording["trace"]["op"].tolist()
            rcs, effects = recording["outcomes"]["rc"].tolist(), recording["effects"].tolist()
        for number, (op, rc, flags) in enumerate(zip(ops, rcs, effects, strict=True)):
            if op in Op.__members__.values():
                found.setdefault((Op(op), errno_name(rc), flags), (path, number))
    return found


def planted(profile):
    """Yield a history whose last record breaks several rules, and its operation."""
    for case_profile, before, name, arguments, _ in CASES:
        if case_profile == profile:
            yield before, name, arguments


class Recorder:
    """Takes the calls that a case makes of a simulator, and keeps them as a trace."""

    def __init__(self, host):
        self.sim = evtsim.Simulator(host)
        self.builder = evtsim.TraceBuilder(host)

    def call(self, name, **arguments):
        getattr(self.builder, name)(**arguments)
        return self.sim.call(name, **arguments)


def history_of_case(profile, before, name, arguments):
    domains = [
        evtsim.Domain(vcpus=2, privileged=True, word_bits=32, nr_pirqs=4, pirq_permitted=True),
        evtsim.Domain(vcpus=2, word_bits=32, nr_pirqs=4),
    ]
    recorder = Recorder(evtsim.Host(profile, domains))
    if before is not None:
        before(recorder)
    rc = recorder.call(name, **{"dom": 1, **arguments}).rc
    return evtsim.History(recorder.builder.trace()), rc


@pytest.mark.parametrize("profile", PROFILES)
def test_every_errno_of_every_operation_is_explained(profile):
    explained = {}
    histories = {}
    for (op, errno, _), (path, number) in recorded_pairs(profile).items():
        if errno and (op, errno) not in explained:
            history = histories.setdefault(path, history_of(path))
            explanation = history.explain(number)
            assert (explanation.op_name, explanation.errno_name) == (op.name.lower(), errno)
            explained[op, errno] = explanation
    for before, name, arguments in planted(profile):
        history, rc = history_of_case(profile, before, name, arguments)
        explanation = history.explain(len(history) - 1)
        assert explanation.rc == rc
        explained[Op[name.upper()], explanation.errno_name] = explanation
    for op in Op:
        wanted = set(ERRNOS[profile, op])
        known = {errno for other, errno in explained if other == op}
        assert wanted <= known <= wanted | in_front(op) | {"EFAULT"}, op.name
    for explanation in explained.values():
        assert explanation.errno_name in explanation.text
        assert explanation.rule != "every check passed"
        assert explanation.section in HEADINGS


@pytest.mark.parametrize("profile", PROFILES)
def test_every_operation_and_combination_of_effects_of_the_recordings_is_explained(profile):
    histories = {}
    seen = set()
    for (op, errno, flags), (path, number) in recorded_pairs(profile).items():
        if errno:
            continue
        history = histories.setdefault(path, history_of(path))
        explanation = history.explain(number)
        assert explanation.rc == 0
        assert explanation.effects == [effect.name for effect in Effect(flags)]
        assert explanation.section in HEADINGS
        seen.add(op)
    unknown = MODERN_ONLY if profile == "xen-4.0" else (Op.RESET_CONT,)
    assert seen == set(Op) - set(unknown)


# In words ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def story():
    """Two domains and a channel: bound, masked, coalesced, moved, closed."""
    host = evtsim.Host("xen-4.0", [evtsim.Domain(vcpus=2, privileged=True), evtsim.Domain(vcpus=2)])
    b = evtsim.TraceBuilder(host)
    b.alloc_unbound(dom=1, remote_dom=0, ts=0)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1, ts=10)
    b.send(dom=0, port=1, ts=20)
    b.send(dom=0, port=1, ts=30)
    b.mask(dom=1, port=1, ts=40)
    b.upcall(dom=1, ts=50)
    b.clear_pending(dom=1, port=1, ts=60)
    b.send(dom=0, port=1, ts=70)
    b.bind_vcpu(dom=1, port=1, target_vcpu=1, ts=80)
    b.bind_interdomain(dom=0, remote_dom=1, remote_port=1, ts=90)
    b.close(dom=0, port=1, ts=100)
    b.send(dom=1, port=1, ts=110)
    b.status(dom=1, target_dom=0, port=3, ts=120)
    b.bind_ipi(dom=1, ts=130)
    b.status(dom=1, port=2, flags=evtsim.abi.Fault.OUT, ts=140)
    b.bind_ipi(dom=1, flags=evtsim.abi.Fault.IN, ts=150)
    b.bind_virq(dom=1, virq=8, ts=160)
    b.raise_virq(dom=1, virq=8, ts=170)
    b.bind_vcpu(dom=1, port=3, target_vcpu=1, ts=180)
    b.upcall(dom=1, ts=190)
    b.poll(dom=1, port=3, ts=200)
    b.destroy_domain(dom=1, ts=210)
    b.close(dom=1, port=3, ts=220)
    b.create_domain(dom=1, ts=230)
    return evtsim.History(b.trace(), every=5)


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (1, "dom 0's port 1 and dom 1's port 1, which was UNBOUND and open to it, are connected"),
        (2, "upcall_pending of vcpu 0 became 1: KICK"),
        (3, "pending already since record 2, 10 ns ago: COALESCED, and no vcpu is told"),
        (4, "dom 1's port 1 is masked from now on"),
        (5, "takes its events: none; left behind the mask: port 1"),
        (6, "was pending since record 2, 40 ns ago, and is not any more: undelivered"),
        (7, "its mask bit is set since record 4, 30 ns ago: MASKED"),
        (8, "notifies vcpu 1 from now on; before, vcpu 0 (semantics.md"),
        (9, "rc -22 (EINVAL): dom 1's port 1 is INTERDOMAIN, not UNBOUND"),
        (10, "its peer, dom 1's port 1, is UNBOUND and open to dom 0; nothing tells it"),
        (11, "dom 1's port 1 is UNBOUND and waits for dom 0: DROPPED"),
        (12, "rc -1 (EPERM): dom 1 is not privileged and names dom 0"),
        (14, "rc -14 (EFAULT): dom 1's port 2 is IPI: code 5 (IPI); all is done and stays so"),
        (15, "rc -14 (EFAULT): its argument cannot be read (flag IN)"),
        (16, "dom 1's port 3 is bound to VIRQ 8 (CON_RING) and notifies vcpu 0"),
        (17, "VIRQ 8 (CON_RING) is bound to port 3; dom 1's port 3 is pending now: SET"),
        (18, "it is pending: vcpu 1 hears nothing of that, and vcpu 0 will pass it by"),
        (19, "left behind the mask: port 1; left to other vcpus: port 3"),
        (20, "it returns at once: dom 1's port 3 is pending since record 17, 30 ns ago"),
        (21, "dom 1 is not alive any more; closed: 3 ports"),
        (22, "rc -3 (ESRCH): dom 1 is not alive"),
        (23, "dom 1 is alive, with 128 valid ports, none in use"),
    ],
)
def test_in_words(story, record, words):
    assert words in story.explain(record).text


def test_of_an_explanation_everything_can_be_had(story):
    explanation = story.explain(9)
    assert explanation.rule == "the remote port is not UNBOUND"
    assert explanation.front == ["ESRCH", "ENOENT", "EFAULT"]
    assert explanation.order == ["ESRCH", "ENOSPC", "EINVAL"]
    assert explanation.last == ["EFAULT"]
    assert explanation.function == "evtchn_bind_interdomain, common/event_channel.c"
    assert explanation.arguments == {"remote_dom": 1, "remote_port": 1}
    assert str(explanation) == f"record 9: {explanation.text}"
    plain = explanation.to_dict()
    assert plain["rc"] == -22
    assert plain["text"] == explanation.text
    page = explanation._repr_html_()
    assert "<li>dom 1&#x27;s port 1 is INTERDOMAIN, not UNBOUND</li>" in page


def test_a_guests_handlers_are_told(story):
    guest = evtsim.Guest(wake_ns=3, handler_ns=1, eoi="late", eoi_ns=25)
    history = evtsim.History(story.trace, guest=guest)
    assert "handles events by itself" in history.explain(5).text
    # The first send was delivered at 23, which masked the port until 49.
    assert (
        "its mask bit is set for 7 ns, since the guest handled its event" in history.explain(3).text
    )


def test_rules_that_contradict_the_replay_are_not_shown(story, monkeypatch):
    from evtsim.history import explanation

    monkeypatch.setattr(explanation, "first_failure", lambda moment: None)
    with pytest.raises(evtsim.EvtsimError, match="fault of evtsim"):
        story.explain(9)
