#!/usr/bin/env python3
"""Checks that libmonarchrt.so shows the public API, all of it and nothing else.

    tools/check_exports.py LIBRARY

Allowed are the functions that c_api.h declares with MRT_API, each of which must be there, and the
members of namespace monarchrt but for what is inside of its classes (Impl). Exits 1 if not so.
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of each C++ header something that must be there: the rest of a header is marked alike.
CPP_NEEDED = {"monarchrt::Engine::Load", "monarchrt::Stream::Next", "monarchrt::Attend",
              "monarchrt::AttentionFlop", "monarchrt::Convert", "monarchrt::Trace::Summary",
              "monarchrt::Diagnose", "monarchrt::Inspect", "monarchrt::Verify",
              "monarchrt::GenerationStats::FpsEndToEnd", "monarchrt::Version"}
# No template, and no function of another namespace that returns a public type.
PUBLIC = re.compile(r"monarchrt::(\w+::)*(~?\w+|operator=)(\[abi:\w+\])?(\(|$)")


def defined_symbols(library):
    """The names of the dynamic symbols that the library defines, demangled."""
    text = subprocess.run(["nm", "-D", "--defined-only", "-C", library], check=True,
                          capture_output=True, text=True).stdout
    # ADDRESS TYPE NAME; a name may have spaces.
    return [line.split(maxsplit=2)[2] for line in text.splitlines() if line]


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    header = (ROOT / "include/monarchrt/c_api.h").read_text()
    declared = set(re.findall(r"^MRT_API [\w\s*]*?(mrt_\w+)\(", header, re.M))
    names = defined_symbols(sys.argv[1])
    found = set(names)
    problems = [f"{name}: is in c_api.h but not shown" for name in sorted(declared - found)]
    functions = {name.split("(")[0] for name in names}
    problems += [f"{name}: is not shown" for name in sorted(CPP_NEEDED - functions)]
    for name in names:
        if name not in declared and (not PUBLIC.match(name)
                                     or re.search(r"\bImpl\b", name)):
            problems.append(f"{name}: is shown, but not public")
    print("\n".join(problems + [f"check_exports: {len(names)} symbols, {len(declared)} of C, "
                                f"{len(problems)} problems"]))
    return 1 if problems or not declared else 0


if __name__ == "__main__":
    sys.exit(main())
