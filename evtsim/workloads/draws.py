"""Random numbers that stay what they are: counter-based, integers only.

numpy's streams may change between versions and a libm's last bits do between machines. A draw
here is a function of (seed, stream, counter) by the finalizer of SplitMix64 (Steele, Lea and
Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014), so any stretch of a
stream can be drawn by itself.
"""

from __future__ import annotations

import numpy as np

from evtsim.dtypes import Array

GOLDEN = 0x9E3779B97F4A7C15
MASK64 = (1 << 64) - 1


def mix(words: Array) -> Array:
    """Scramble uint64 words, one to one."""
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    scrambled: Array = words ^ (words >> np.uint64(31))
    return scrambled


def words(seed: int, stream: int, start: int, stop: int) -> Array:
    """Draw words start to stop of a stream: uint64, uniform over all values."""
    key = mix(np.array([(seed + GOLDEN * (stream + 1)) & MASK64], np.uint64))
    counter = np.arange(start, stop, dtype=np.uint64) * np.uint64(GOLDEN)
    return mix(mix(counter + key) ^ key)


def below(limit: Array | int, drawn: Array) -> Array:
    """Bring uniform words below a limit (at most 2**32): int64; the bias is below 2**-32."""
    high = drawn >> np.uint64(32)
    return ((high * np.asarray(limit, np.uint64)) >> np.uint64(32)).astype(np.int64)
