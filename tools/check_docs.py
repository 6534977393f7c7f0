#!/usr/bin/env python3
"""Checks that documents say what is there.

    tools/check_docs.py [MONARCHRT]

Relative links of all Markdown files lead to files, and their anchors to headings. With the binary,
docs/cli.md has every flag of every command, and the man page every command. Exits 1 if not so.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```$", re.S | re.M)


def anchors(text):
    """What GitHub makes of the headings: small letters, digits, hyphens; a number if twice."""
    found = {}
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.M):
        heading = re.sub(r"\]\([^)]*\)", "]", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", heading).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
    return {f"{name}-{i}" if i else name for name, n in found.items() for i in range(n + 1)}


def link_problems(path):
    problems = []
    for link in LINK.findall(FENCE.sub("", path.read_text())):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            problems.append(f"{path.relative_to(ROOT)}: no file {name}")
        elif anchor and anchor not in anchors(target.read_text()):
            problems.append(f"{path.relative_to(ROOT)}: no heading for {link}")
    return problems


def help_of(binary, *command):
    return subprocess.run([binary, *command, "--help"], capture_output=True, text=True,
                          check=True).stdout


def commands(binary):
    for name in re.findall(r"^  ([a-z]+) {2,}", help_of(binary).split("Subcommands:")[1], re.M):
        below = re.findall(r"^  ([a-z]+) {2,}", help_of(binary, name).partition("Subcommands:")[2],
                           re.M)
        yield from ([name, part] for part in below) if below else iter([[name]])


def flag_problems(binary):
    reference = (ROOT / "docs" / "cli.md").read_text()
    manual = (ROOT / "docs" / "monarchrt.1").read_text()
    problems = []
    for command in commands(binary):
        text = " ".join(command)
        if f".B {text}" not in manual:
            problems.append(f"docs/monarchrt.1: no {text}")
        for flag in re.findall(r"^  (?:-\w,)?(--[\w-]+)", help_of(binary, *command), re.M):
            if flag != "--help" and not re.search(rf"{flag}\b(?!-)", reference):
                problems.append(f"docs/cli.md: no {flag} of {text}")
    return problems


def main():
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split() if listed.returncode == 0 else []
    documents = [ROOT / x for x in names] or sorted(
        [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
    problems = [x for path in documents for x in link_problems(path)]
    problems += [x for binary in sys.argv[1:] for x in flag_problems(binary)]
    print("\n".join(problems + [f"check_docs: {len(documents)} documents, "
                                f"{len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
