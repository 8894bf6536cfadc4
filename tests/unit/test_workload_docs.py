"""docs/workloads.md lists every workload and parameter as the registry has them."""

from pathlib import Path

import pytest

from evtsim import workloads
from evtsim.workloads.parameters import EXTENT

PAGE = Path(__file__).parents[2] / "docs" / "workloads.md"


def table(parameters):
    lines = ["| parameter | default | unit | range | what it is |", "|---|---|---|---|---|"]
    lines += [
        f"| {p.name} | {p.default_text} | {p.unit} | {p.range} | {p.what} |" for p in parameters
    ]
    return "\n".join(lines) + "\n"


def sections():
    parts = PAGE.read_text().split("\n## ")[1:]
    return {part.partition("\n")[0]: part for part in parts}


def test_what_all_have_in_common():
    assert table(EXTENT) in sections()["What all have in common"]


@pytest.mark.parametrize("name", workloads.REGISTRY)
def test_a_workloads_own_parameters(name):
    own = [p for p in workloads.REGISTRY[name].parameters if p not in EXTENT]
    section = sections()[name]
    assert workloads.describe(name) in section
    assert table(own) in section


def test_no_other_workload_is_described():
    names = [name for name in sections() if name.islower()]
    assert names == list(workloads.REGISTRY)
