"""What was seen in place of what was asked for: confusion matrices of shapes and motions."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from monarchrt_eval import report
from monarchrt_eval.checker import OF_FOUND, matched

MISSING = "missing"  # the thing is not there
UNCLEAR = "unclear"  # it is there, and the checker does not say

Confusion = dict[str, dict[str, int]]  # asked for -> seen -> things


def confusion(pairs: Iterable[tuple[dict, dict]]) -> dict[str, Confusion]:
    """Of pairs of what was asked for and what was observed, one matrix for each of OF_FOUND.

    Things are matched as adherence matches them; those too many are not counted.
    """
    counts: dict[str, dict[str, Counter]] = {name: defaultdict(Counter) for name in OF_FOUND}
    for asked, observed in pairs:
        for want, saw in matched(asked["objects"], observed["objects"]):
            for name in OF_FOUND:
                if name in want:
                    seen = saw.get(name) or UNCLEAR if saw else MISSING
                    counts[name][want[name]][seen] += 1
    return {
        name: {asked: dict(counter.most_common()) for asked, counter in sorted(of_all.items())}
        for name, of_all in counts.items()
    }


def table(rows: report.Rows) -> str:
    """The rows that have it: what was asked for, how often it was seen, and what else was."""
    body = []
    for row_name, row in rows.items():
        for name, matrix in row.get("confusion", {}).items():
            for asked, seen in matrix.items():
                right = f"{seen.get(asked, 0)} of {sum(seen.values())}"
                others = ", ".join(f"{other} {n}" for other, n in seen.items() if other != asked)
                body.append([row_name, name, asked, right, others])
    return report.lines(["", "attribute", "asked for", "seen", "seen instead"], body)
