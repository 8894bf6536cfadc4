"""Random numbers that stay what they are: counter-based, integers only.

numpy's streams may change between versions and a libm's last bits do between machines. A draw
here is a function of (key, counter) by the finalizer of SplitMix64 (Steele, Lea and Flood, "Fast
splittable pseudorandom number generators", OOPSLA 2014), so any stretch of a stream can be drawn
by itself, and a word becomes a time through tables of integers, which are made of nothing but
integer arithmetic and what IEEE 754 rounds exactly.

Used by the guest model's kernels and by workload generators. The scalar functions are compiled
and called by other compiled code; `words` and `below` are for arrays.
"""

from __future__ import annotations

import math

import numpy as np

from evtsim._jit import hot
from evtsim.dtypes import Array

GOLDEN = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1
MAX_NS = 1 << 38
"""The largest mean or median, in ns: some four and a half minutes."""

MAX_SIGMA = 2.0
"""Keeps the longest lognormal draw below 2**21 medians."""

LN2 = 0.6931471805599453

_GOLDEN = np.uint64(GOLDEN)
_ONE = np.uint64(1)
_HALF = np.uint64(0xFFFFFFFF)
_TOP = np.uint64(1 << 63)
_U1, _U22, _U26, _U32 = (np.uint64(n) for n in (1, 22, 26, 32))
_U27, _U30, _U31, _U53, _U54, _U58 = (np.uint64(n) for n in (27, 30, 31, 53, 54, 58))
_A = np.uint64(0xBF58476D1CE4E5B9)
_B = np.uint64(0x94D049BB133111EB)


# Words, as arrays --------------------------------------------------------------------------------


def mix(words: Array) -> Array:
    """Scramble uint64 words, one to one."""
    words = (words ^ (words >> _U30)) * _A
    words = (words ^ (words >> _U27)) * _B
    scrambled: Array = words ^ (words >> _U31)
    return scrambled


def words(seed: int, stream: int, start: int, stop: int) -> Array:
    """Draw words start to stop of a stream: uint64, uniform over all values."""
    key = mix(np.array([(seed + GOLDEN * (stream + 1)) & MASK64], np.uint64))
    counter = np.arange(start, stop, dtype=np.uint64) * _GOLDEN
    return mix(mix(counter + key) ^ key)


def below(limit: Array | int, drawn: Array) -> Array:
    """Bring uniform words below a limit (at most 2**32): int64; the bias is below 2**-32."""
    high = drawn >> _U32
    return ((high * np.asarray(limit, np.uint64)) >> _U32).astype(np.int64)


# Tables ------------------------------------------------------------------------------------------


def _log2_table() -> Array:
    """Return log2(1 + k / 1024) for k from 0 to 1024, in units of 2**-32, rounded down."""
    table = []
    for k in range(1025):
        # Digit by digit: squaring a number doubles its logarithm.
        x, result = (1024 + k) << 54, 0
        for _ in range(32):
            x = (x * x) >> 64
            result <<= 1
            if x >> 65:
                x >>= 1
                result |= 1
        table.append(result if k < 1024 else 1 << 32)
    return np.array(table, np.uint64)


def _exp2_table() -> Array:
    """Return 2**(k / 1024) for k from 0 to 1024, in units of 2**-32, rounded down."""
    step = 2 << 96
    for _ in range(10):
        step = math.isqrt(step << 96)
    table, value = [], 1 << 96
    for _ in range(1025):
        table.append(value >> 64)
        value = (value * step) >> 96
    table[1024] = 2 << 32
    return np.array(table, np.uint64)


LOG2 = _log2_table()
EXP2 = _exp2_table()

NORMAL_OCTAVES = 40

# Wichura, "Algorithm AS 241: The percentage points of the normal distribution", Applied
# Statistics 37 (1988), PPND16: coefficients of numerators and denominators, lowest first.
_CENTRE = (
    (3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125,
     45921.953931549871457, 67265.770927008700853, 33430.575583588128105, 2509.0809287301226727),
    (1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077,
     21213.794301586595867, 39307.895800092710610, 28729.085735721942674, 5226.4952788528545610),
)  # fmt: skip
_MIDDLE = (
    (1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550,
     3.64784832476320460504, 1.27045825245236838258, 0.241780725177450611770,
     0.0227238449892691845833, 0.000774545014278341407640),
    (1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550,
     0.148103976427480074590, 0.0151986665636164571966, 0.000547593808499534494600,
     1.05075007164441684324e-9),
)  # fmt: skip
_TAIL = (
    (6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580,
     0.296560571828504891230, 0.0265321895265761230930, 0.00124266094738807843860,
     0.0000271155556874348757815, 2.01033439929228813265e-7),
    (1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525,
     0.000786869131145613259100, 0.0000184631831751005468180, 1.42151175831644588870e-7,
     2.04426310338993978564e-15),
)  # fmt: skip


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: float) -> float:
    top = bottom = 0.0
    for a, b in zip(reversed(coefficients[0]), reversed(coefficients[1]), strict=True):
        top, bottom = top * x + a, bottom * x + b
    return top / bottom


def _upper_quantile(p: float, minus_log2: float) -> float:
    """Return the z that a standard normal exceeds with probability p, 0 < p <= 1/2."""
    q = 0.5 - p
    if q <= 0.425:
        return q * _ratio(_CENTRE, 0.180625 - q * q)
    r = math.sqrt(minus_log2 * LN2)  # sqrt and the four operations are exact to the last bit
    return _ratio(_MIDDLE, r - 1.6) if r <= 5.0 else _ratio(_TAIL, r - 5.0)


def _normal_table() -> Array:
    """Return upper quantiles of the standard normal, in units of 2**-32.

    Row o, column k holds that of p = 2**-(o + 2) * (1 + k / 64), k from 0 to 64.
    """
    table = np.zeros((NORMAL_OCTAVES, 65), np.uint64)
    for octave in range(NORMAL_OCTAVES):
        for k in range(65):
            p = (64 + k) / 64 / (4 << octave)
            log = octave + 2 - int(LOG2[16 * k]) / (1 << 32)
            table[octave, k] = int(_upper_quantile(p, log) * (1 << 32))
    return table


NORMAL = _normal_table()


# Single draws, compiled --------------------------------------------------------------------------


@hot
def mixed(word):
    """Scramble one uint64, one to one."""
    word = (word ^ (word >> _U30)) * _A
    word = (word ^ (word >> _U27)) * _B
    return word ^ (word >> _U31)


@hot
def key(seed, stream, who):
    """Return the key of a stream: seed uint64, stream and who int64."""
    return mixed(mixed(seed + _GOLDEN * np.uint64(stream + 1)) ^ (_GOLDEN * np.uint64(who + 1)))


@hot
def word(stream_key, number):
    """Draw word number (int64) of the stream with a key: uint64, uniform over all values."""
    return mixed(mixed(np.uint64(number) * _GOLDEN + stream_key) ^ stream_key)


@hot
def below_one(limit, drawn):
    """Bring a uniform word below a limit (int64, at most 2**32): int64."""
    return np.int64(((drawn >> _U32) * np.uint64(limit)) >> _U32)


@hot
def product(a, b, shift):
    """Return a * b >> shift of uint64, as uint64; shift is 1 to 63, the result must fit."""
    a1, a0 = a >> _U32, a & _HALF
    b1, b0 = b >> _U32, b & _HALF
    low = a0 * b0
    middle = a1 * b0 + (low >> _U32)
    other = a0 * b1 + (middle & _HALF)
    high = a1 * b1 + (middle >> _U32) + (other >> _U32)
    low = (other << _U32) | (low & _HALF)
    return (high << (np.uint64(64) - shift)) | (low >> shift)


@hot
def minus_log2(drawn):
    """Return -log2(u) of a uniform word, u = word / 2**64: uint64, in units of 2**-32."""
    zeros = np.uint64(1)
    rest = drawn | _ONE
    while not rest & _TOP:
        rest <<= _U1
        zeros += _ONE
    rest <<= _U1  # behind the leading one: a fraction of 64 bits
    cell = rest >> _U54
    low = LOG2[cell]
    within = (rest >> _U22) & _HALF
    log = low + (((LOG2[cell + _ONE] - low) * within) >> _U32)
    return (zeros << _U32) - log


@hot
def exp2(x):
    """Return 2**x of an int64 x in units of 2**-32, as uint64 in the same; x below 30."""
    fraction = np.uint64(x) & _HALF
    cell = fraction >> _U22
    low = EXP2[cell]
    within = fraction & np.uint64((1 << 22) - 1)
    value = low + (((EXP2[cell + _ONE] - low) * within) >> _U22)
    whole = x >> 32
    if whole >= 0:
        return value << np.uint64(whole)
    return value >> np.uint64(-whole) if whole > -64 else np.uint64(0)


@hot
def exponential(drawn, scale):
    """Return an exponential time in ns, int64, of a word and the mean's `exponential_scale`."""
    return np.int64((product(minus_log2(drawn), np.uint64(scale), _U53) + _ONE) >> _U1)


@hot
def normal(drawn):
    """Return a standard normal of a word: int64, in units of 2**-32."""
    p = (drawn << _U1) | _ONE  # the top bit is the sign, the rest a probability below 1/2
    octave = 0
    while not p & _TOP and octave < NORMAL_OCTAVES - 1:
        p <<= _U1
        octave += 1
    if not p & _TOP:
        z = NORMAL[octave, 0]  # beyond the table: 2**-41
    else:
        p <<= _U1
        cell = p >> _U58
        high = NORMAL[np.uint64(octave), cell]
        within = (p >> _U26) & _HALF
        z = high - (((high - NORMAL[np.uint64(octave), cell + _ONE]) * within) >> _U32)
    return -np.int64(z) if drawn & _TOP else np.int64(z)


@hot
def lognormal(drawn, median, spread):
    """Return a lognormal time in ns, int64, of a word, the median (ns) and `lognormal_spread`."""
    z = normal(drawn)
    x = np.int64(product(np.uint64(abs(z)), np.uint64(spread), _U32))
    factor = exp2(-x if z < 0 else x)
    return np.int64((product(np.uint64(median), factor, _U31) + _ONE) >> _U1)


def exponential_scale(mean_ns: float) -> int:
    """Return what `exponential` wants of a mean: ln 2 times it, in units of 2**-22."""
    return round(mean_ns * LN2 * (1 << 22))


def lognormal_spread(sigma: float) -> int:
    """Return what `lognormal` wants of a sigma: log2(e) times it, in units of 2**-32."""
    return round(sigma / LN2 * (1 << 32))
