"""The cost table's cases under pytest-benchmark; the bare loop is a case of its own."""

import pytest

from bench.cases import CASES
from bench.table import Pair

RECORDS = 1_000_000


@pytest.fixture(scope="module", params=CASES, ids=lambda case: case.name)
def pair(request):
    pair = Pair(request.param, RECORDS)
    assert pair.agree()  # compiles, too
    return pair


def test_bare_loop(pair, benchmark):
    benchmark.extra_info["records"] = RECORDS
    benchmark(pair.run_bare)


def test_replay(pair, benchmark):
    benchmark.extra_info["records"] = RECORDS
    benchmark(pair.run_replay)
