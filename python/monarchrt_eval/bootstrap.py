"""Confidence intervals: what would other clips of the same kind have given?

Clips are drawn again with replacement (Efron and Tibshirani, An Introduction to the Bootstrap,
1993), always whole clips, because frames and things of one clip are not independent.
"""

from dataclasses import asdict, dataclass

import numpy as np

ROUNDS = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its confidence interval, of `clips` clips."""

    value: float
    low: float
    high: float
    clips: int

    def json(self) -> dict:
        return asdict(self)


def resamples(clips: int, seed: int, rounds: int = ROUNDS) -> np.ndarray:
    """int [rounds, clips]: the clips of each new draw."""
    return np.random.default_rng(seed).integers(clips, size=(rounds, clips))


def quantiles(replicates: np.ndarray) -> tuple[float, float]:
    """The middle LEVEL of the values [rounds]."""
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def ratio(part: np.ndarray, whole: np.ndarray, seed: int) -> Estimate | None:
    """sum(part) / sum(whole) of numbers [clips], with the percentile interval. None of nothing."""
    if whole.sum() == 0:
        return None
    at = resamples(len(part), seed)
    parts, wholes = part[at].sum(1), whole[at].sum(1)
    there = wholes > 0  # a draw may hold no clip that was asked for it
    low, high = quantiles(parts[there] / wholes[there])
    return Estimate(float(part.sum() / whole.sum()), low, high, int((whole > 0).sum()))


def difference(before: np.ndarray, after: np.ndarray, seed: int) -> Estimate:
    """How much `ratio` changes between two looks at the same clips, each [clips, (part, whole)].

    That is the difference of the ratios of sums, not the mean of the changes of each clip.
    """
    at = resamples(len(before), seed)
    looks = np.stack([before, after])  # [2, clips, 2]
    sums = looks[:, at].sum(2)  # [2, rounds, 2]
    there = (sums[..., 1] > 0).all(0)
    ratios = sums[:, there, 0] / sums[:, there, 1]
    total = looks.sum(1)
    value = total[:, 0] / total[:, 1]
    low, high = quantiles(ratios[1] - ratios[0])
    return Estimate(float(value[1] - value[0]), low, high, len(before))


def mean(values: np.ndarray, seed: int) -> Estimate:
    """The mean of numbers [clips], with the percentile interval."""
    return ratio(values, np.ones(len(values)), seed)
