"""Compares what was asked for with what was observed, attribute by attribute."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import permutations

OBJECT_ATTRIBUTES = ("color", "shape", "size", "motion", "direction", "speed")
ATTRIBUTES = ("count", "background", "camera", *OBJECT_ATTRIBUTES)


def compare(asked: dict, observed: dict) -> dict[str, list[bool]]:
    """For each attribute that was asked for, whether it shows; one entry for each object.

    Objects are matched so that most attributes agree. An object that is not there has none of them
    right, and no more has one that nobody asked for: a frame full of patches would win otherwise.
    """
    result: dict[str, list[bool]] = defaultdict(list)
    for name in ("count", "background", "camera"):
        if name in asked:
            result[name].append(asked[name] == observed[name])
    wanted = asked["objects"]
    seen = observed["objects"] + [{}] * len(wanted)
    pairs = max(
        (list(zip(wanted, chosen, strict=True)) for chosen in permutations(seen, len(wanted))),
        key=lambda pairs: sum(w[a] == s.get(a) for w, s in pairs for a in w),
    )
    for want, saw in pairs:
        for name, value in want.items():
            result[name].append(value == saw.get(name))
    too_many = max(len(observed["objects"]) - len(wanted), 0)
    for name in {name for want in wanted for name in want}:
        result[name] += [False] * too_many
    return dict(result)


def tally(results: Iterable[dict[str, list[bool]]]) -> dict[str, tuple[int, int]]:
    """(right, asked) of each attribute over many clips."""
    counts = {name: [0, 0] for name in ATTRIBUTES}
    for result in results:
        for name, hits in result.items():
            counts[name][0] += sum(hits)
            counts[name][1] += len(hits)
    return {name: (right, asked) for name, (right, asked) in counts.items()}
