import json

import numpy as np
import pytest

import evtsim
from evtsim import Domain, Host, HostError


def test_defaults():
    host = Host(domains=[Domain()])
    assert host.profile == "xen-4.0"
    assert host.domains[0].tolist() == (1, 0, 64, 0, 0, 1, 131071)


def test_uniform_makes_dom0_privileged():
    host = Host.uniform(3, vcpus=2)
    assert host.domains["privileged"].tolist() == [1, 0, 0]
    assert host.domains["vcpus"].tolist() == [2, 2, 2]


def test_an_array_and_a_list_make_the_same_host():
    listed = Host(domains=[Domain(vcpus=4, privileged=True), Domain(word_bits=32)])
    assert Host(domains=listed.domains.copy()) == listed
    assert hash(Host(domains=listed.domains.copy())) == hash(listed)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Host(), "0 domains (expected 1 to 32,752)"),
        (lambda: Host.uniform(40_000), "expected 1 to 32,752"),
        (lambda: Host.uniform(0), "expected 1 to 32,752"),
        (lambda: Host.uniform(2, vcpus=0), "vcpus is 0 (expected 1 to 8,192)"),
        (lambda: Host.uniform(2, word_bits=48), "word_bits is 48 (expected 32 or 64)"),
        (lambda: Host.uniform(2, colour=1), "unknown field 'colour'"),
        (lambda: Host("xen-9", [Domain()]), "profile 'xen-9' is not known"),
        (lambda: Host(domains=[Domain(), Domain(nr_pirqs=-1)]), "domain 1: nr_pirqs is -1"),
        (lambda: Host(domains=[Domain(vcpus=1.5)]), "vcpus is 1.5 (expected an integer)"),
        (lambda: Host(domains=[Domain(alive=2)]), "alive is 2 (expected true or false)"),
        (lambda: Host(domains=np.zeros(2, [("vcpus", "u2")])), "domains: no field"),
        (lambda: Host(domains=np.zeros(2, evtsim.DOMAIN_DTYPE)), "domain 0: vcpus is 0"),
    ],
)
def test_what_makes_no_sense_is_refused(make, words):
    with pytest.raises(HostError) as caught:
        make()
    assert words in str(caught.value)


def test_json_round_trip(tmp_path):
    host = Host(domains=[Domain(privileged=True), *[Domain(vcpus=2)] * 100, Domain(alive=False)])
    host.to_json(tmp_path / "host.json")
    assert Host.from_json(tmp_path / "host.json") == host
    runs = json.loads((tmp_path / "host.json").read_text())["domains"]
    assert runs == [{"privileged": True}, {"count": 100, "vcpus": 2}, {"alive": False}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not JSON"),
        ("[]", "not an object"),
        ("[" * 100_000, "nested too deeply"),
        ('{"domains": []}', "no domains"),
        ('{"profile": "xen-4.0"}', "no domains"),
        ('{"domains": [{}], "colour": 1}', "unknown field 'colour'"),
        ('{"domains": [{"color": 1}]}', "domain 0: unknown field 'color'"),
        ('{"domains": [{}, 7]}', "domain 1: 7 (expected an object)"),
        ('{"domains": [{"count": 40000}]}', "count is 40000"),
        ('{"domains": [{"count": 30000}, {"count": 30000}]}', "60,000 domains"),
        ('{"domains": [{"vcpus": 0}]}', "vcpus is 0"),
        ('{"domains": [{"vcpus": true}]}', "vcpus is True (expected an integer)"),
        ('{"domains": [{"word_bits": 48}]}', "word_bits is 48"),
        ('{"profile": 4, "domains": [{}]}', "profile is 4"),
    ],
)
def test_a_wrong_host_file_is_named(tmp_path, text, words):
    path = tmp_path / "host.json"
    path.write_text(text)
    with pytest.raises(HostError) as caught:
        Host.from_json(path)
    assert str(caught.value).startswith(str(path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_port_limits():
    domains = [Domain(), Domain(word_bits=32), Domain(max_port=2000), Domain(max_port=2**32 - 1)]
    old, new = (Host(profile, domains) for profile in ("xen-4.0", "xen-4.23"))
    assert old.port_limits().tolist() == [4096, 1024, 4096, 4096]
    assert new.port_limits().tolist() == [4096, 1024, 2001, 4096]
    assert new.port_limits(fifo=True).tolist() == [131_072, 131_072, 2001, 131_072]


def test_infer():
    b = evtsim.TraceBuilder()
    b.bind_virq(dom=2, virq=0, target_vcpu=3)
    b.raise_pirq(dom=0, pirq=7)
    b.create_domain(dom=1, vcpu=1)
    host = Host.infer(b.trace())
    assert host.domains["vcpus"].tolist() == [1, 2, 4]
    assert host.domains["nr_pirqs"].tolist() == [8, 0, 0]
    assert host.domains["alive"].tolist() == [1, 0, 1]
    run = evtsim.replay(b.trace(), host)
    assert run.outcomes.rc.tolist() == [0, 0, 0]


def test_infer_needs_records():
    with pytest.raises(HostError, match="without records"):
        Host.infer(evtsim.TraceBuilder().trace())


def test_html_shows_the_domains():
    assert "privileged" in Host.uniform(2)._repr_html_()
