#!/usr/bin/env python3
"""Checks the layer rule, the vendor rule and the size limits by reading every file of the tree.

    tools/check_layers.py [ROOT]

Prints one line per violation and exits 1 if there is one. The tables below are the rule: change
them only together with AGENTS.md and a page in docs/decisions/.
"""

import argparse
import re
import sys
from pathlib import Path

# Layer -> the layers its files may include (its own is always allowed). A layer is a folder.
MAY_INCLUDE = {
    "include/monarchrt": set(),
    "src/base": set(),
    "src/tensor": {"src/base"},
    "src/kernels": {"src/base"},
    "src/ops": {"src/kernels", "src/tensor", "src/base"},
    "src/model": {"src/ops", "src/tensor", "src/base"},
    "src/attention": {"include/monarchrt", "src/kernels", "src/base"},
    "src/pipeline": {"include/monarchrt", "src/model", "src/ops", "src/kernels", "src/tensor",
                     "src/base"},
    "src/verify": {"include/monarchrt", "src/pipeline", "src/model", "src/ops", "src/kernels",
                   "src/tensor", "src/base"},
    "src/inspect": {"include/monarchrt", "src/tensor", "src/base"},
    "src/convert": {"include/monarchrt", "src/tensor", "src/base"},
    "src/c_api": {"include/monarchrt", "src/base"},
    "src/media": {"src/base"},
    "apps": {"include/monarchrt", "src/verify", "src/media", "src/base"},
    "testing": {"include/monarchrt", "src"},
    "tests": {"include/monarchrt", "apps", "testing", "src"},
    "bench": {"include/monarchrt", "src"},
    "examples": {"include/monarchrt"},
}
# std only and without state, so every layer may use them.
OPEN_HEADERS = {"include/monarchrt/status.h"}
# Of the kernels these layers see the contracts only: kernels/OP/OP.h, kernels/OP/cuda/OP_cuda.h and
# kernels/*.h.
CONTRACTS_ONLY = {"src/attention", "src/ops", "src/pipeline"}
CONTRACT = re.compile(r"src/kernels/(?:(\w+)/(?:\1|cuda/\1_cuda)|\w+)\.h")
# Tests and benchmarks beside the code may use what their folder may, and these.
TEST_SUFFIXES = ("_test.cc", "_bench.cc", "/test_util.h")
TEST_EXTRA = {"testing", "src/tensor", "src/base"}

# Header pattern -> the folders that may include it. The first pattern that fits counts; an angle
# header that fits none, is not of the C++ library and not in SYSTEM is a violation.
VENDOR = [
    (r"oneapi/dnnl/.*|dnnl.*", ["src/ops"]),
    (r"(libav\w+|libsw\w+)/.*", ["src/media"]),
    (r"sentencepiece.*", ["src/model/tokenizer"]),
    (r"utf8proc\.h", ["src/model/tokenizer"]),
    (r"(\w+mmintrin|immintrin|arm_neon)\.h", ["*/cpu"]),
    (r"(cuda|cublas)\w*\.h", ["*/cuda"]),
    (r"omp\.h", ["src/base"]),
    (r"CLI/.*", ["apps"]),
    (r"nlohmann/.*", ["src/base"]),
    (r"(gtest|gmock)/.*", ["*_test.cc", "*/test_util.h", "testing", "tests"]),
    (r"benchmark/.*", ["*_bench.cc", "bench"]),
    (r"sanitizer/.*", ["tests/fuzz"]),
    (r"ggml[\w-]*\.h", ["bench"]),
]
# Headers of the operating system: src/, apps/ and tests/, never the public API.
SYSTEM = re.compile(r"(sys/\w+|unistd|fcntl|sched|cpuid|signal|pthread|dlfcn|malloc|errno|poll|"
                    r"spawn|termios|stdio|stdlib|linux/\w+)\.h")

# What public headers that are C, too, include instead of the C++ library's.
C_HEADERS = {"stddef.h", "stdint.h"}
C_HEADER = re.compile(r"include/monarchrt/c_api\.h")

LINES_MAX = 800
COLUMNS_MAX = 100
CODE = {".h", ".cc", ".cu", ".cuh"}
TEXT = CODE | {".c", ".py", ".sh", ".cmake"}
INCLUDE = re.compile(r'^\s*#\s*include\s*(?:"([^"]+)"|<([^>]+)>)')
NAMESPACE = re.compile(r"namespace ([\w:]+) \{$")
TYPE = re.compile(r"(?:struct|class|enum class|union) (?:MRT_API )?(\w+)(?: final)?(?: :| \{)")
# In src/ and include/: the library reports through Status and never does these itself.
FORBIDDEN = re.compile(r"\b(?:std::)?(?:printf|fprintf|puts|abort|exit|quick_exit|_exit)\s*\(|"
                       r"\bstd::(?:cout|cerr|clog)\b")
FORBIDDEN_EXCEPT = {"src/base/check.cc"}  # MRT_CHECK itself


def layer_of(path):
    """The layer of a path such as "src/ops/cpu/linear.cc", or None."""
    names = [n for n in MAY_INCLUDE if path.startswith(n + "/")]
    return max(names, key=len) if names else None


def component_of(path):
    """The unit of the cycle check: kernels and models have one per sub-folder."""
    parts = path.split("/")[:-1]
    deep = parts[:2] in (["src", "kernels"], ["src", "model"])
    return "/".join(parts[:3] if deep else parts[:2])


def is_test(path):
    return path.endswith(TEST_SUFFIXES)


def fits(path, place):
    """Whether a path lies in a place: a folder, "*/name" (folders so called) or "*suffix.ext"."""
    if place.startswith("*/") and "." not in place:
        return f"/{place[2:]}/" in f"/{path}"
    if place.startswith("*"):
        return path.endswith(place[1:])
    return path.startswith(place + "/")


def strip_comments_and_strings(text):
    """The text with comments and literals blanked, line structure kept."""
    token = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'', re.S)
    return token.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), text)


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        self.problems = []
        self.edges = {}  # file -> {file it includes: line}
        self.types = {}  # name of a type -> where it is defined
        self.files = sorted(self._list())

    def _list(self):
        for top in ("include", "src", "apps", "testing", "tests", "bench", "tools", "scripts",
                    "cmake", "examples", "python"):
            for path in (self.root / top).rglob("*"):
                if path.suffix in TEXT and path.is_file() and "golden" not in path.parts:
                    yield path.relative_to(self.root).as_posix()

    def report(self, path, line, message):
        self.problems.append(f"{path}:{line}: {message}")

    def resolve(self, path, name):
        own = ("apps/",) if path.startswith("apps/") else ()
        for base in ("src/", "include/", "") + own:
            if (self.root / (base + name)).is_file():
                return base + name
        return None

    def check(self):
        for path in self.files:
            lines = (self.root / path).read_text(encoding="utf-8").splitlines()
            self.check_size(path, lines)
            if Path(path).suffix in CODE:
                self.check_includes(path, lines)
                self.check_own_header(path, lines)
                self.check_type_names(path, lines)
                self.check_library_is_silent(path, lines)
        self.check_cycles(self.edges, "files")
        self.check_cycles(self.component_edges(), "folders")
        return self.problems

    def check_size(self, path, lines):
        if len(lines) > LINES_MAX:
            self.report(path, len(lines), f"{len(lines)} lines, at most {LINES_MAX}")
        for number, line in enumerate(lines, 1):
            if len(line) > COLUMNS_MAX:
                self.report(path, number, f"{len(line)} columns, at most {COLUMNS_MAX}")

    def check_includes(self, path, lines):
        for number, line in enumerate(lines, 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            quoted, angle = match.groups()
            if quoted is None:
                self.check_library(path, number, angle)
                continue
            target = self.resolve(path, quoted)
            if target is None:
                self.report(path, number, f'"{quoted}" is no file under src/, include/ or the root')
                continue
            self.edges.setdefault(path, {})[target] = number
            self.check_layer(path, number, target)

    def check_own_header(self, path, lines):
        """FILE.cc includes FILE.h before anything else, so building it shows that FILE.h includes
        what it uses: tools/check_headers.sh compiles only the other headers."""
        own = path.removesuffix(".cc") + ".h"
        if not path.endswith(".cc") or own not in self.files:
            return
        first = next((m for m in map(INCLUDE.match, lines) if m), None)
        if first is None or not first[1] or self.resolve(path, first[1]) != own:
            self.report(path, 1, f"the first include must be {own}")

    def check_type_names(self, path, lines):
        """Two headers do not define one name: programs with both would hold one destructor for two
        types, and no linker says so."""
        if not path.endswith(".h"):
            return
        space = ""
        for number, line in enumerate(lines, 1):
            if match := NAMESPACE.match(line):
                space = match[1]
            elif match := TYPE.match(line):
                first = self.types.setdefault(f"{space}::{match[1]}", f"{path}:{number}")
                if first != f"{path}:{number}":
                    self.report(path, number, f"{match[1]} is also defined in {first}")

    def check_layer(self, path, number, target):
        source, wanted = layer_of(path), layer_of(target)
        allowed = set(MAY_INCLUDE.get(source, set())) | ({source} if source else set())
        if is_test(path):
            allowed |= TEST_EXTRA
        elif (source in CONTRACTS_ONLY and wanted == "src/kernels"
              and not CONTRACT.fullmatch(target)):
            self.report(path, number, f"{source} may include a kernel's contract, not {target}")
            return
        if target in OPEN_HEADERS or any(wanted and (wanted + "/").startswith(a + "/")
                                         for a in allowed):
            return
        names = ", ".join(sorted(allowed - {source})) or "nothing else"
        self.report(path, number, f"{source} may not include {target} (it may include {names})")

    def check_library(self, path, number, name):
        public = path.startswith("include/")
        for pattern, places in VENDOR:
            if re.fullmatch(pattern, name):
                if public or not any(fits(path, place) for place in places):
                    self.report(path, number, f"<{name}> belongs in {', '.join(places)} only")
                return
        if SYSTEM.fullmatch(name) and not public:
            return
        if name in C_HEADERS and C_HEADER.fullmatch(path):
            return
        if not re.fullmatch(r"[a-z_]+", name):  # the C++ library has no dot and no slash
            self.report(path, number, f"<{name}> is not in the table of allowed libraries")

    def check_library_is_silent(self, path, lines):
        if not path.startswith(("src/", "include/")) or is_test(path) or path in FORBIDDEN_EXCEPT:
            return
        code = strip_comments_and_strings("\n".join(lines))
        for number, line in enumerate(code.splitlines(), 1):
            match = FORBIDDEN.search(line)
            if match:
                self.report(path, number, f"the library may not call {match.group().strip('( ')}")

    def component_edges(self):
        edges = {}
        for source, targets in self.edges.items():
            if is_test(source) or source.startswith(("tests/", "testing/")):
                continue
            for target, number in targets.items():
                if component_of(source) != component_of(target):
                    edges.setdefault(component_of(source), {})[component_of(target)] = number
        return edges

    def check_cycles(self, edges, what):
        done = set()
        stack = []

        def visit(node):
            if node in stack:
                cycle = stack[stack.index(node):] + [node]
                self.problems.append(f"{node}: {what} include each other: {' -> '.join(cycle)}")
                return
            if node in done:
                return
            stack.append(node)
            for target in sorted(edges.get(node, {})):
                visit(target)
            stack.pop()
            done.add(node)

        for node in sorted(edges):
            visit(node)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    default_root = Path(__file__).resolve().parent.parent
    parser.add_argument("root", nargs="?", default=default_root)
    tree = Tree(parser.parse_args().root)
    problems = tree.check()
    if not any(Path(path).suffix in CODE for path in tree.files):
        problems.append(f"{tree.root}: no source files found")
    for problem in problems:
        print(problem)
    print(f"check_layers: {len(tree.files)} files, {len(problems)} violations")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
