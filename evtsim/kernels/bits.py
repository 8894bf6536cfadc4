"""Bit words and cache lines: the smallest pieces, which know nothing of event channels."""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from evtsim._jit import hot

ONE = np.uint64(1)
ZERO = np.uint64(0)
HALF = np.uint64(0xFFFFFFFF)


@hot
def bit(n):
    """Return the word whose only set bit is n (0 to 63)."""
    return ONE << np.uint64(n)


@intrinsic
def trailing_zeros(typingctx, word):
    """Return the number of the lowest set bit of a uint64 that is not 0, as int64."""

    def codegen(context, builder, signature, args):
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def leading_zeros(typingctx, word):
    """Return how many zeros stand before the highest set bit of a uint64 that is not 0."""

    def codegen(context, builder, signature, args):
        return builder.ctlz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.uint64), codegen


@intrinsic
def count_ones(typingctx, word):
    """Return how many bits of a uint64 are set, as int64."""

    def codegen(context, builder, signature, args):
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """Ask for the cache line of array[index], of one dimension; index must lie within."""

    def codegen(context, builder, signature, args):
        array_type = signature.args[0]
        view = context.make_array(array_type)(context, builder, args[0])
        item = cgutils.get_item_pointer(
            context, builder, array_type, view, [args[1]], wraparound=False, boundscheck=False
        )
        pointer = builder.bitcast(item, ir.IntType(8).as_pointer())
        word = ir.IntType(32)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(ir.VoidType(), [pointer.type, word, word, word]),
            "llvm.prefetch.p0",
        )
        # for writing, to be kept in all levels, data
        builder.call(function, [pointer, word(1), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(array, index), codegen
