"""Estimates as JSON and as Markdown."""

import json
from pathlib import Path

from monarchrt_eval.bootstrap import Estimate

Rows = dict[
    str, dict
]  # of each row "adherence" and what else it has: "by_things", "steadiness", "frechet"

STEADINESS = {  # heading and digits, all in percent
    "warp_error": ("warp error", 2),
    "lost": ("lost", 1),
    "flicker": ("flicker", 2),
    "sharpness": ("sharpness", 2),
    "colorfulness": ("colour", 1),
}


def plain(value: object) -> object:
    """Estimates in dicts as what JSON can hold."""
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items()}
    return value.json() if isinstance(value, Estimate) else value


def cell(estimate: Estimate | None, digits: int, scale: float = 1) -> str:
    """`value (low to high)`; without the interval if there is but one clip."""
    if estimate is None:
        return ""
    value, low, high = (
        f"{scale * x:.{digits}f}" for x in (estimate.value, estimate.low, estimate.high)
    )
    return value if estimate.clips < 2 else f"{value} ({low} to {high})"


def lines(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    whole = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in whole)


def adherence(rows: Rows, digits: int = 0) -> str:
    """Attributes in percent; those of all together first."""
    names = list(next(iter(rows.values()))["adherence"])
    names = names[-1:] + names[:-1]
    body = [
        [name, str(row["adherence"]["all"].clips)]
        + [cell(row["adherence"][n], digits, 100) for n in names]
        for name, row in rows.items()
    ]
    return lines(["%", "clips", *names], body)


def by_things(rows: Rows) -> str:
    """The same table, the rows that have it by how many things were asked for."""
    return adherence(
        {
            f"{name}, {number}": {"adherence": part}
            for name, row in rows.items()
            for number, part in row.get("by_things", {}).items()
        }
    )


def differences(rows: dict[str, dict[str, Estimate | None]]) -> str:
    """Of adherence, in points; nothing if there are none."""
    return adherence({name: {"adherence": row} for name, row in rows.items()}, 1) if rows else ""


def steadiness(rows: Rows) -> str:
    """The rows that have it, with the Fréchet distance of those that have that."""
    there = {name: row for name, row in rows.items() if "steadiness" in row}
    distances = any("frechet" in row for row in there.values())
    body = [
        [name]
        + ([cell(row.get("frechet"), 1)] if distances else [])
        + [cell(row["steadiness"][key], digits, 100) for key, (_, digits) in STEADINESS.items()]
        for name, row in there.items()
    ]
    heads = [f"{head} %" for head, _ in STEADINESS.values()]
    return lines(["", *(["Fréchet"] if distances else []), *heads], body)


def write(out: Path, name: str, content: dict, text: str) -> None:
    """out/name.json and out/name.md."""
    (out / f"{name}.json").write_text(json.dumps(plain(content), indent=1) + "\n")
    (out / f"{name}.md").write_text(text)
