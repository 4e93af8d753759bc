import numpy as np
import pytest

from salus_ros.errors import SalusError
from salus_ros.evaluation.statistics import (
    bootstrap,
    clopper_pearson,
    mcnemar,
    median_ratio,
    paired_difference,
    promised_rates,
    relative_change,
)


def test_clopper_pearson_agrees_with_the_published_table() -> None:
    # 7 of 10: 0.3475 to 0.9333, in any table of exact binomial limits.
    rate = clopper_pearson(7, 10)
    assert (rate.value, rate.low, rate.high) == pytest.approx((0.7, 0.3475, 0.9333), abs=1e-4)


@pytest.mark.parametrize(("successes", "low", "high"), [(0, 0.0, 0.3085), (10, 0.6915, 1.0)])
def test_clopper_pearson_is_one_sided_at_the_ends(successes: int, low: float, high: float) -> None:
    rate = clopper_pearson(successes, 10)
    assert (rate.low, rate.high) == pytest.approx((low, high), abs=1e-4)


def test_a_rate_without_trials_is_unknown_rather_than_zero() -> None:
    rate = clopper_pearson(0, 0)
    assert np.isnan(rate.value)
    assert (rate.low, rate.high) == (0.0, 1.0)


def test_more_successes_than_trials_is_refused() -> None:
    with pytest.raises(SalusError, match="3 successes of 2 trials"):
        clopper_pearson(3, 2)


def test_a_conformal_threshold_promises_what_many_calibrations_do() -> None:
    """Uniform scores of successes, thresholds of rank 48 of 49 of them (alpha 0.05), 200 more counted."""
    rng = np.random.default_rng(0)
    thresholds = np.sort(rng.random((4000, 49)), axis=1)[:, 47]
    rates = (rng.random((4000, 200)) > thresholds[:, None]).mean(axis=1)
    low, high = promised_rates(0.05, 49, 200)
    assert 0.945 < ((rates >= low) & (rates <= high)).mean() < 0.98
    assert (rates < low).mean() < 0.03 and (rates > high).mean() < 0.03


def test_mcnemar_counts_discordant_pairs_like_coin_flips() -> None:
    # 5 saved and none harmed: two-sided 2 * (1/2)^5.
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)
    assert mcnemar(4, 4) == pytest.approx(1.0)
    assert mcnemar(0, 0) == 1.0


def test_paired_difference_sees_what_unpaired_noise_would_hide() -> None:
    rng = np.random.default_rng(1)
    seeds = rng.normal(0.0, 10.0, 50)
    difference = paired_difference(seeds, seeds + 1.0 + rng.normal(0.0, 0.1, 50))
    assert difference.value == pytest.approx(1.0, abs=0.1)
    assert difference.excludes_zero
    assert difference.high - difference.low < 0.2


def test_paired_difference_leaves_pairs_with_a_gap_out() -> None:
    assert paired_difference([1.0, np.nan, 3.0], [2.0, 5.0, 4.0]).value == pytest.approx(1.0)
    assert np.isnan(paired_difference([np.nan], [1.0]).value)


def test_the_bootstrap_interval_of_a_mean_has_the_width_that_theory_gives() -> None:
    values = np.random.default_rng(0).normal(0.0, 1.0, 400)
    interval = bootstrap(lambda weights: weights @ values / 400, 400)
    assert (interval.high - interval.low) / 2 == pytest.approx(1.96 / 20.0, rel=0.1)


def test_a_cut_by_half_is_minus_one_half_with_an_interval_around_it() -> None:
    before = [True] * 40 + [False] * 60
    after = [True] * 20 + [False] * 80
    cut = relative_change(before, after)
    assert cut.value == -0.5
    assert -0.7 < cut.low < -0.5 < cut.high < -0.3


def test_a_cut_of_what_never_happened_is_not_available() -> None:
    assert np.isnan(relative_change([False] * 10, [True] * 10).value)


def test_the_median_ratio_is_of_pairs_and_its_interval_holds_it() -> None:
    ratio = median_ratio([(1.0, 1.5), (2.0, 2.0), (4.0, 8.0)])
    assert ratio.value == 1.5
    assert ratio.low <= 1.5 <= ratio.high
    assert np.isnan(median_ratio([]).value)
