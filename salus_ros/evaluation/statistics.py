"""Intervals and tests that stay honest when there are few episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import beta, betabinom, binomtest

from salus_ros.errors import SalusError
from salus_ros.monitor.calibration import conformal_rank
from salus_ros.types import Floats

CONFIDENCE = 0.95
FEW_EPISODES = 30
"""Below this many episodes an interval is too wide to rank two arms; the report says so."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval; all nan when it cannot be computed."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True when the whole interval lies on one side of zero."""
        return self.low > 0.0 or self.high < 0.0


UNDEFINED = Estimate(float("nan"), float("nan"), float("nan"))


def clopper_pearson(successes: int, trials: int, confidence: float = CONFIDENCE) -> Estimate:
    """Exact binomial interval of a rate; it covers at least as often as it promises.

    No trials: the rate is nan and the interval is all of [0, 1].
    """
    if not 0 <= successes <= trials:
        raise SalusError(
            f"{successes} successes of {trials} trials is no rate; give 0 <= successes <= trials."
        )
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    tail = (1.0 - confidence) / 2.0
    low = 0.0 if successes == 0 else float(beta.ppf(tail, successes, trials - successes + 1))
    high = 1.0 if successes == trials else float(beta.ppf(1.0 - tail, successes + 1, trials - successes))
    return Estimate(successes / trials, low, high)


def promised_rates(
    alpha: float, calibrated_on: int, judged: int, confidence: float = CONFIDENCE
) -> tuple[float, float]:
    """Lowest and highest share of false alarms that a conformal threshold lets one expect.

    ``alpha`` is a promise about the mean over calibrations. The rate of a single one on n successes is
    Beta(n + 1 - rank, rank), and what is counted in a finite number of further successes is beta-binomial
    (Vovk 2012, proposition 2a; Angelopoulos and Bates 2023, section 3.2).

    Args:
        alpha: false alarms per success that were asked for.
        calibrated_on: n, successes that set the threshold, enough of them for ``alpha``.
        judged: further successes in which false alarms are counted.
        confidence: share of all calibrations and countings that the interval holds.
    """
    rank = conformal_rank(calibrated_on, alpha)
    counted = betabinom(judged, calibrated_on + 1 - rank, rank)
    low, high = counted.ppf([(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0])
    return float(low / judged), float(high / judged)


def mcnemar(only_first: int, only_second: int) -> float:
    """Exact two-sided p-value that two arms on the same seeds differ in a yes-or-no outcome.

    Args:
        only_first: seeds with the outcome in the first arm only.
        only_second: seeds with the outcome in the second arm only.
    """
    discordant = only_first + only_second
    if discordant == 0:
        return 1.0
    return float(binomtest(only_first, discordant, 0.5).pvalue)


def resamples(count: int, draws: int, seed: int = 0) -> Floats:
    """How often each of ``count`` episodes appears in each bootstrap resample: (draws, count)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(count, np.full(count, 1.0 / count), size=draws).astype(np.float64)


def bootstrap(
    statistic: Callable[[Floats], Floats],
    count: int,
    draws: int = 2000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """Percentile interval of a statistic, resampling whole episodes.

    Args:
        statistic: takes weights (draws, count) and returns one value per row; nan where undefined.
        count: number of episodes.
    """
    return interval(statistic(whole_and_resamples(count, draws, seed)), confidence) if count else UNDEFINED


def whole_and_resamples(count: int, draws: int, seed: int = 0) -> Floats:
    """(1 + draws, count), weights of the episodes: all as they are, then each bootstrap resample."""
    return np.concatenate([np.ones((1, count)), resamples(count, draws, seed)])


def interval(values: Floats, confidence: float = CONFIDENCE) -> Estimate:
    """Percentile interval of a statistic (1 + draws,), whose first value is that of the whole.

    Resamples in which it is undefined are left out; with more than half of them there is no interval.
    """
    value, resampled = float(values[0]), values[1:][np.isfinite(values[1:])]
    if not np.isfinite(value) or not resampled.size or resampled.size < (len(values) - 1) // 2:
        return Estimate(value, float("nan"), float("nan"))
    tail = 50.0 * (1.0 - confidence)
    low, high = np.percentile(resampled, [tail, 100.0 - tail])
    return Estimate(value, float(low), float(high))


def paired_difference(first: ArrayLike, second: ArrayLike, draws: int = 2000, seed: int = 0) -> Estimate:
    """Mean of ``second - first`` over pairs, with a paired bootstrap interval.

    Args:
        first, second: (N,) one value per seed, in the same order; pairs with a nan are left out.
    """
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    difference = difference[np.isfinite(difference)]
    if difference.size == 0:
        return UNDEFINED
    return bootstrap(
        lambda weights: weights @ difference / difference.size, difference.size, draws, seed=seed
    )


def relative_change(first: ArrayLike, second: ArrayLike, draws: int = 2000, seed: int = 0) -> Estimate:
    """Sum of ``second`` over that of ``first``, minus one: -0.65 is a cut by 65 %. Paired bootstrap.

    Args:
        first, second: (N,) one value per seed, in the same order. nan when the sum of ``first`` is 0.
    """
    a, b = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)

    def change(weights: Floats) -> Floats:
        before, after = weights @ a, weights @ b
        return np.where(before > 0.0, after / np.maximum(before, 1e-12) - 1.0, np.nan)

    return bootstrap(change, a.size, draws, seed=seed)


def median_ratio(pairs: Sequence[tuple[float, float]], draws: int = 2000, seed: int = 0) -> Estimate:
    """Median of second over first over pairs of positive numbers, with a bootstrap interval."""
    if not pairs:
        return UNDEFINED
    ratio = np.array([second / first for first, second in pairs])
    drawn = np.random.default_rng(seed).integers(len(ratio), size=(draws, len(ratio)))
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(np.median(ratio[drawn], axis=1), [tail, 100.0 - tail])
    return Estimate(float(np.median(ratio)), float(low), float(high))
