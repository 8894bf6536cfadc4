"""Draws are what their distributions say, and the same for ever."""

from statistics import NormalDist

import numba
import numpy as np
import pytest

from evtsim import draws


@numba.njit
def _many(count, mean, median, spread):
    key = draws.key(np.uint64(7), 3, 12)
    exponential = np.empty(count, np.int64)
    lognormal = np.empty(count, np.int64)
    normal = np.empty(count, np.int64)
    below = np.empty(count, np.int64)
    for i in range(count):
        word = draws.word(key, i)
        exponential[i] = draws.exponential(word, mean)
        lognormal[i] = draws.lognormal(word, median, spread)
        normal[i] = draws.normal(word)
        below[i] = draws.below_one(10, word)
    return exponential, lognormal, normal, below


@numba.njit
def _words(count, seed):
    key = draws.mixed(np.uint64(seed) + draws._GOLDEN * np.uint64(6))
    return np.array([draws.word(key, i) for i in range(count)])


def test_single_words_are_those_of_the_stream():
    assert _words(100, 3).tolist() == draws.words(3, 5, 0, 100).tolist()


GOLDEN = [
    [651902, 479948, 2111650],
    [362, 554, 1795],
    [-8729336317, -5072062212, 5024312158],
    [5, 6, 1],
]


def test_draws_never_change():
    """Golden: changing these changes every generated trace and every drawn guest."""
    drawn = [column[:3].tolist() for column in _many(3, *_scales(1e6, 1000, 0.5))]
    assert drawn == GOLDEN


def _scales(mean, median, sigma):
    return draws.exponential_scale(mean), median, draws.lognormal_spread(sigma)


def test_distributions():
    exponential, lognormal, normal, below = _many(1_000_000, *_scales(1e6, 1_000_000, 0.5))
    for share in (0.01, 0.5, 0.9, 0.999):
        margin = 4 * np.sqrt(share * (1 - share) / 1e6)
        assert (exponential < -np.log(1 - share) * 1e6).mean() == pytest.approx(share, abs=margin)
        z = NormalDist().inv_cdf(share)
        assert (normal < z * 2**32).mean() == pytest.approx(share, abs=margin)
        assert (lognormal < 1e6 * np.exp(0.5 * z)).mean() == pytest.approx(share, abs=margin)
    assert exponential.mean() == pytest.approx(1e6, rel=0.005)
    assert exponential.min() >= 0
    assert np.bincount(below, minlength=10) == pytest.approx(np.full(10, 1e5), rel=0.02)


def test_tables_are_the_functions_they_stand_for():
    steps = np.arange(1025) / 1024
    np.testing.assert_allclose(draws.LOG2 / 2**32, np.log2(1 + steps), atol=2.4e-10, rtol=0)
    np.testing.assert_allclose(draws.EXP2 / 2**32, 2**steps, atol=2.4e-10, rtol=0)
    for octave in range(draws.NORMAL_OCTAVES):
        for k in (0, 1, 31, 64):
            p = (64 + k) / 64 / 2 ** (octave + 2)
            want = -NormalDist().inv_cdf(p)
            assert draws.NORMAL[octave, k] / 2**32 == pytest.approx(want, abs=1e-9)


@numba.njit
def _extremes(mean, median, spread):
    last = np.uint64(2**64 - 1)
    return (
        draws.exponential(np.uint64(0), mean),
        draws.exponential(last, mean),
        draws.lognormal(np.uint64(2**63 - 1), median, spread),
        draws.lognormal(np.uint64(2**63), median, spread),
        draws.normal(np.uint64(2**63 - 1)),
    )


def test_the_ends_of_the_range():
    scales = _scales(draws.MAX_NS, draws.MAX_NS, draws.MAX_SIGMA)
    longest, shortest, middle, rare, zero = _extremes(*scales)
    assert longest == pytest.approx(64 * np.log(2) * draws.MAX_NS, rel=1e-6)
    assert 0 <= shortest < 100  # the last bit of the table, times 2**38
    assert middle == pytest.approx(draws.MAX_NS, rel=1e-6)
    assert abs(zero) < 8  # of 2**32
    assert 0 < rare < draws.MAX_NS >> 20


def test_draws_do_not_depend_on_where_one_begins():
    whole = draws.words(5, 2, 0, 1000)
    assert np.array_equal(whole[300:700], draws.words(5, 2, 300, 700))
    assert not np.array_equal(whole, draws.words(5, 3, 0, 1000))


def test_draws_are_even():
    dice = draws.below(6, draws.words(1, 0, 0, 600_000))
    counts = np.bincount(dice, minlength=6)
    assert len(counts) == 6
    assert (abs(counts - 100_000) < 1500).all()
