"""Seeded random draws that do not depend on the machine or on the order of other draws."""

import zlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


class Draw:
    """A stream of draws named by words and integers: the same key gives the same stream."""

    def __init__(self, *key: str | int) -> None:
        words = [zlib.crc32(k.encode()) if isinstance(k, str) else k for k in key]
        self._bits = np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * float(self._bits.random())

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.uniform() * len(items))]

    def some(self, items: Sequence[T], count: int) -> list[T]:
        """So many of the items, each at most once."""
        left = list(items)
        return [left.pop(int(self.uniform() * len(left))) for _ in range(count)]

    def weighted(self, weights: dict[T, float]) -> T:
        """One of the keys, with the probability its weight says; the weights add up to 1."""
        left = self.uniform()
        for item, weight in weights.items():
            left -= weight
            if left < 0:
                return item
        return next(reversed(weights))
