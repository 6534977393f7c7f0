"""The Fréchet distance of two sets of features, each taken to be a Gaussian.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1^1/2 C2 C1^1/2)^1/2)
(Dowson and Landau 1982; of features of images: Heusel et al. 2017, arXiv 1706.08500; of features
of videos: Unterthiner et al. 2018, arXiv 1812.01717.) Every d here is that square, as in those
papers.
"""

import numpy as np

from monarchrt_eval.bootstrap import LEVEL, Estimate, resamples


def gaussian_distance(
    mean_a: np.ndarray, cov_a: np.ndarray, mean_b: np.ndarray, cov_b: np.ndarray
) -> float:
    """Of Gaussians with means [d] and covariances [d, d]."""
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    offset = np.square(mean_a - mean_b).sum()
    return float(offset + np.trace(cov_a) + np.trace(cov_b) - 2 * cross)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Of two sets of features [n, d], n at least 2."""
    return gaussian_distance(a.mean(0), np.cov(a.T), b.mean(0), np.cov(b.T))


def estimate(features: np.ndarray, reference: np.ndarray, seed: int, rounds: int = 500) -> Estimate:
    """Of clips' features [clips, windows, d] against those [clips, windows, d] of real video.

    With few clips the distance comes out too large. So the bias that the bootstrap sees is taken
    off, 2 d - mean(d*), and the interval is the pivotal one, [2 d - d*_high, 2 d - d*_low] (Efron
    and Tibshirani 1993, chapters 10 and 13). What is left can be below 0.
    """

    def rows(x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, x.shape[-1])

    plain = distance(rows(features), rows(reference))
    ours = resamples(len(features), seed, rounds)
    theirs = resamples(len(reference), seed + 1, rounds)
    again = np.array(
        [distance(rows(features[i]), rows(reference[j])) for i, j in zip(ours, theirs, strict=True)]
    )
    low, high = 2 * plain - np.quantile(again, [(1 + LEVEL) / 2, (1 - LEVEL) / 2])
    return Estimate(2 * plain - float(again.mean()), float(low), float(high), len(features))
