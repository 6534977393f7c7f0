"""Compares what was asked for with what was observed, attribute by attribute."""

from collections import defaultdict
from collections.abc import Iterable
from itertools import permutations

OBJECT_ATTRIBUTES = ("color", "shape", "size", "motion", "direction", "speed")
ATTRIBUTES = ("count", "background", "camera", *OBJECT_ATTRIBUTES)
OF_FOUND = ("shape", "motion")


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
    for want, saw in matched(wanted, observed["objects"]):
        for name, value in want.items():
            result[name].append(value == saw.get(name))
    too_many = max(len(observed["objects"]) - len(wanted), 0)
    for name in {name for want in wanted for name in want}:
        result[name] += [False] * too_many
    return dict(result)


def matched(wanted: list[dict], seen: list[dict]) -> list[tuple[dict, dict]]:
    """Each thing that was asked for with the one that was seen, {} for none."""
    seen = seen + [{}] * len(wanted)
    return max(
        (list(zip(wanted, chosen, strict=True)) for chosen in permutations(seen, len(wanted))),
        key=lambda pairs: sum(w[a] == s.get(a) for w, s in pairs for a in w),
    )


def compare_found(asked: dict, observed: dict) -> dict[str, list[bool]]:
    """Of the things alone that are there, whether they have the shape and the motion that was
    asked for: not of those that are missing, nor of those that nobody asked for."""
    pairs = matched(asked["objects"], observed["objects"])
    return {
        name: [want[name] == saw.get(name) for want, saw in pairs if saw and name in want]
        for name in OF_FOUND
    }


def tally(results: Iterable[dict[str, list[bool]]]) -> dict[str, tuple[int, int]]:
    """(right, asked) of each attribute over many clips."""
    counts = {name: [0, 0] for name in ATTRIBUTES}
    for result in results:
        for name, hits in result.items():
            counts[name][0] += sum(hits)
            counts[name][1] += len(hits)
    return {name: (right, asked) for name, (right, asked) in counts.items()}
