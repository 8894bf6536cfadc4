"""Bundles are by reference what NamedTuples of arrays are by value."""

import gc
import sys
import tracemalloc
from typing import NamedTuple

import numpy as np
import pytest
from numba.core.errors import TypingError

from evtsim import _jit
from evtsim._bundles import by_reference
from evtsim.dtypes import Array

ROW = np.dtype([("a", "u1"), ("b", "i8")], align=True)


class Things(NamedTuple):
    number: int | None
    rows: Array  # ROW, (any,)
    grid: Array  # int32, (any, any)
    cube: Array | None  # uint16, (any, any, any)


class ThingsAtHand(Things):
    pass


by_reference(Things)
by_reference(ThingsAtHand, at_hand=("grid", "number", "rows", "cube"))


@_jit.kernel
def add(things, row, more):
    things.rows[row]["b"] += more
    return things.rows[row]["b"]


@_jit.kernel_if("cube", otherwise=-1)
def in_cube(things, i, j, k):
    return things.cube[i, j, k]


@_jit.entry
def work(things):
    things.grid[1, 2] = 7
    things.grid[-1, 0] = things.grid.shape[0] * 100 + things.grid.shape[1]
    first = add(things, 1, 5)
    second = add(things, 1, 5)
    number = 0
    if things.number is not None:
        number = things.number
    return first, second, number, len(things.rows), in_cube(things, 1, 2, 3)


@_jit.entry
def both(first, second):
    return len(first.rows) + len(second.rows)


@_jit.entry
def sums(things):
    return things.grid.sum(), things.grid[1].sum(), things.grid[:, 1].sum()


def things_of(cls, number=9, cube=True):
    values = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)
    rows, grid = np.zeros(3, ROW), np.zeros((4, 3), np.int32)
    return cls(number, rows, grid, values if cube else None)


def memory_left_by(call):
    """Return how many bytes 1,000 calls leave that nobody will collect."""
    tracemalloc.start()
    try:
        for _ in range(1000):
            call()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("cls", [Things, ThingsAtHand])
class TestBundle:
    def test_kernels_read_and_write_its_arrays(self, cls):
        things = things_of(cls)
        assert work(things) == (5, 10, 9, 3, 23)
        assert things.rows["b"].tolist() == [0, 10, 0]
        assert things.grid[1, 2] == 7
        assert things.grid[3, 0] == 403

    def test_what_is_none_is_not_compiled(self, cls):
        assert work(things_of(cls, number=None, cube=False)) == (5, 10, 0, 3, -1)

    def test_other_lengths_are_the_same_type(self, cls):
        work(things_of(cls))
        compiled = len(work.signatures)
        longer = things_of(cls)._replace(grid=np.zeros((5, 4), np.int32))
        work(longer)
        assert longer.grid[4, 0] == 504
        assert len(work.signatures) == compiled

    def test_other_dtypes_are_other_types(self, cls):
        wider = things_of(cls)._replace(grid=np.full((4, 3), 2**40))
        assert sums(wider) == (12 * 2**40, 3 * 2**40, 4 * 2**40)
        assert sums(things_of(cls)) == (0, 0, 0)

    def test_calls_leave_no_references_and_no_memory(self, cls):
        things = things_of(cls)
        work(things)
        arrays = things[1:]
        before = [sys.getrefcount(array) for array in arrays]
        left = memory_left_by(lambda: work(things))
        assert [sys.getrefcount(array) for array in arrays] == before
        assert left < 100_000  # 1,000 calls' words are 200,000 bytes, and numba adds to each

    def test_a_call_that_fails_leaves_none_either(self, cls):
        things, late = things_of(cls), things_of(cls, number=np.uint64(2**63))

        def fail():
            with pytest.raises(OverflowError):
                both(things, late)

        fail()
        assert memory_left_by(fail) < 100_000

    def test_arrays_are_contiguous(self, cls):
        crooked = things_of(cls)._replace(grid=np.zeros((3, 4), np.int32).T)
        with pytest.raises(TypeError, match="C-contiguous"):
            work(crooked)

    def test_members_are_arrays_integers_or_none(self, cls):
        for number in (2.75, np.array(1)):
            with pytest.raises(TypeError, match="in a bundle"):
                work(things_of(cls)._replace(number=number))

    def test_members_that_are_not_there_are_found_when_compiling(self, cls):
        nonsense = _jit.entry(lambda things: things.nothing)
        with pytest.raises(TypingError, match="nothing"):
            nonsense(things_of(cls))


def test_classes_of_one_name_are_types_of_their_own():
    def pair(*names):
        cls = NamedTuple("Pair", [(name, Array) for name in names])
        by_reference(cls)
        return cls

    one, other = pair("dom", "port"), pair("port", "dom")
    first = _jit.entry(lambda pair: pair.dom[0])
    for cls in (one, other):
        assert first(cls(dom=np.array([1]), port=np.array([2]))) == 1
