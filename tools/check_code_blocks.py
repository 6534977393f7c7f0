#!/usr/bin/env python3
"""Checks that code in documents is code that compiles.

    tools/check_code_blocks.py [README.md]

A block of a document after the line <!-- code: FILE --> must be that file, byte for byte; the files
are built and run by tools/check_install.sh. The example in the head comment of a public header must
compile: its lines are those indented by two spaces more than the text. Exits 1 if not so.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(r"<!-- code: (\S+) -->\n```\w*\n(.*?)^```$", re.S | re.M)

# Header -> compiler, and what the example takes for granted, around it.
HEADERS = {
    "include/monarchrt/engine.h": (
        ["g++", "-std=c++20", "-x", "c++"],
        "void Show(const uint8_t* rgb, int64_t frames);\nvoid Example() {\n", "}\n"),
    "include/monarchrt/attention.h": (
        ["g++", "-std=c++20", "-x", "c++"],
        "monarchrt::Status Example() {\n", "return status;\n}\n"),
    "include/monarchrt/c_api.h": (
        ["gcc", "-std=c99", "-pedantic", "-x", "c"],
        "#include <stdio.h>\n#include <stdlib.h>\nvoid show(const uint8_t* rgb, int64_t frames);\n"
        "void example(void);\nvoid example(void) {\n", "}\n"),
}


def check_document(path):
    """The problems of one document, and how many blocks it has."""
    blocks = BLOCK.findall(path.read_text())
    problems = []
    for name, code in blocks:
        if code != (ROOT / name).read_text():
            problems.append(f"{path.name}: the block of {name} is not that file")
    return problems, len(blocks)


def example_of(text):
    """The indented lines of the first comment."""
    lines = []
    for line in text.splitlines():
        if not re.match(r"//|/\*| \*", line):
            break
        match = re.match(r"(?://|/\*| \*)  +(.*)", line)
        if match:
            lines.append(match.group(1))
    return "\n".join(lines) + "\n"


def check_header(name, compiler, before, after):
    example = example_of((ROOT / name).read_text())
    if example.count("\n") < 3:
        return [f"{name}: has no example in its head"]
    source = f'#include "{name.removeprefix("include/")}"\n{before}{example}{after}'
    flags = ["-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers", "-fsyntax-only",
             "-I", str(ROOT / "include"), "-"]
    result = subprocess.run(compiler + flags, input=source, text=True, capture_output=True)
    if result.returncode:
        return [f"{name}: its example does not compile:\n{result.stderr}"]
    return []


def main():
    documents = [Path(p) for p in sys.argv[1:]] or [ROOT / "README.md"]
    problems, blocks = [], 0
    for document in documents:
        found, count = check_document(document)
        problems += found
        blocks += count
    if blocks == 0:
        problems.append(f"{documents[0]}: has no block with a marker")
    for name, (compiler, before, after) in HEADERS.items():
        problems += check_header(name, compiler, before, after)
    print("\n".join(problems + [f"check_code_blocks: {blocks} blocks, {len(HEADERS)} headers, "
                                f"{len(problems)} problems"]))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
