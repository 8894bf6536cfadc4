"""Bundles of arrays that kernels hand to each other by reference.

To numba a NamedTuple of arrays is every field of every array: of a host's tables some 300
arguments of every function, which cost more to compile than what the functions do with them. A
bundle is the address of a row of words that say where the arrays lie and how long they are. In
Python it stays the NamedTuple that it is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    typeof_impl,
    unbox,
)
from numba.np.arrayobj import make_array, populate_array

from evtsim.dtypes import Array

WORDS = types.Array(types.int64, 1, "C")


def by_reference(cls: type, *, at_hand: Collection[str] = ()) -> None:
    """Have kernels take a NamedTuple class by reference.

    An entry must not return a member or a part of one: nothing would keep its memory.

    Parameters
    ----------
    cls : type
        Its members are C-contiguous arrays, integers or None; which of these a member is, and
        of what dtype and number of dimensions, is a part of the type that numba compiles for.
    at_hand : collection of str
        Members whose words are handed on besides, in this order: what inner loops touch. They are
        arguments like any others, which the compiler keeps where it likes. The first few arrive
        in registers, which the loops' own variables need more: the least used come first.
    """

    @typeof_impl.register(cls)
    def typeof_bundle(bundle: Any, context: Any) -> Bundle:
        return Bundle(cls, [typeof_impl(member, context) for member in bundle], at_hand)


class Bundle(types.Type):
    """numba's type of such a class; see `by_reference`."""

    def __init__(self, cls: Any, members: list[types.Type], at_hand: Collection[str]) -> None:
        self.members: dict[str, types.Type] = dict(zip(cls._fields, members, strict=True))
        self.places: dict[str, int] = {}
        self.at_hand: list[int] = []
        words = 0
        for name, member in self.members.items():
            self.places[name] = words
            words += _length(member)
        for name in at_hand:
            first = self.places[name]
            self.at_hand += range(first, first + _length(self.members[name]))
        # The name is what numba tells types by, and a part of every function's: not pages long.
        text = f"{cls.__module__}.{cls.__qualname__} {self.members} {self.at_hand}"
        digest = hashlib.sha256(text.encode()).hexdigest()[:16]
        super().__init__(f"{cls.__name__}_{digest}")


def _length(member: types.Type) -> int:
    """Return how many words say what a member is."""
    if isinstance(member, types.Array) and member.ndim and member.layout == "C":
        return 1 + member.ndim
    if member == types.none:
        return 0
    if isinstance(member, (types.Integer, types.Boolean)):
        return 1
    raise TypeError(f"{member} in a bundle (expected a C-contiguous array, an integer or None)")


def words_of(bundle: tuple[Any, ...]) -> Array:
    """Return a bundle's row of words, for as long as its arrays exist."""
    words: list[int] = []
    for member in bundle:
        if isinstance(member, np.ndarray):
            words += (member.ctypes.data, *member.shape)
        elif member is not None:
            words.append(int(member))
    return np.array(words, np.int64)


@register_model(Bundle)
class BundleModel(models.StructModel):  # type: ignore[misc]
    """A bundle is an address, and some of the words that lie there."""

    def __init__(self, dmm: Any, bundle: Bundle) -> None:
        words = [(_word(place), types.int64) for place in bundle.at_hand]
        super().__init__(dmm, bundle, [("address", types.CPointer(types.int64)), *words])  # type: ignore[attr-defined]


def _word(place: int) -> str:
    return f"word_{place}"


@unbox(Bundle)
def unbox_bundle(bundle: Bundle, value: Any, c: Any) -> NativeValue:
    """Have Python write the words: no compiled code does, so that they are constant to it."""
    builder = c.builder
    describe = c.pyapi.unserialize(c.pyapi.serialize_object(words_of))
    words = c.pyapi.call_function_objargs(describe, (value,))
    c.pyapi.decref(describe)
    made = cgutils.create_struct_proxy(bundle)(c.context, builder)
    is_error = cgutils.alloca_once_value(builder, cgutils.true_bit)
    with builder.if_then(cgutils.is_not_null(builder, words)):
        native = c.unbox(WORDS, words)
        builder.store(native.is_error, is_error)
        made.address = make_array(WORDS)(c.context, builder, native.value).data
        c.context.nrt.decref(builder, WORDS, native.value)  # `words` keeps them until the end
        for place in bundle.at_hand:
            setattr(made, _word(place), _load(builder, made.address, place))
    return NativeValue(
        made._getvalue(),
        is_error=builder.load(is_error),
        cleanup=lambda: c.pyapi.decref(words),
    )


def _load(builder: Any, address: Any, place: int) -> Any:
    word = builder.load(cgutils.gep_inbounds(builder, address, place))
    word.set_metadata("invariant.load", builder.module.add_metadata([]))
    return word


@infer_getattr
class BundleAttributes(AttributeTemplate):  # type: ignore[misc]
    """The types of a bundle's members."""

    key = Bundle

    def generic_resolve(self, bundle: Bundle, name: str) -> types.Type | None:
        """Return the type of a member."""
        return bundle.members.get(name)


@lower_getattr_generic(Bundle)
def get_member(context: Any, builder: Any, bundle: Bundle, value: Any, name: str) -> Any:
    """Make a member of its words: a borrowed array, whose references nobody counts."""
    member = bundle.members[name]
    if member == types.none:
        return context.get_dummy_value()
    made = cgutils.create_struct_proxy(bundle)(context, builder, value)

    def word(number: int) -> Any:
        place = bundle.places[name] + number
        if place in bundle.at_hand:
            return getattr(made, _word(place))
        return _load(builder, made.address, place)

    if not isinstance(member, types.Array):
        return context.cast(builder, word(0), types.int64, member)
    item = context.get_data_type(member.dtype)
    itemsize = context.get_constant(types.intp, context.get_abi_sizeof(item))
    shape = [word(1 + axis) for axis in range(member.ndim)]
    strides = [itemsize]
    for extent in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], extent))
    array = make_array(member)(context, builder)
    data = builder.inttoptr(word(0), item.as_pointer())
    populate_array(array, data, shape, strides, itemsize, meminfo=None)
    return array._getvalue()
