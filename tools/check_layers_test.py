#!/usr/bin/env python3
"""Shows that check_layers.py accepts a clean tree and finds each kind of planted violation."""

import tempfile
import unittest
from pathlib import Path

import check_layers

CLEAN = {
    "include/monarchrt/status.h": "#include <string>\n",
    "include/monarchrt/c_api.h": "#include <stdint.h>\n",
    "src/base/status.h": '#include "monarchrt/status.h"\n',
    "src/base/threads.cc": "#include <omp.h>\n",
    "src/tensor/tensor.h": '#include "base/status.h"\n',
    "src/kernels/dense/dense.h": '#include "base/status.h"\n',
    "src/kernels/dense/cpu/avx2.cc": '#include <immintrin.h>\n#include "kernels/dense/dense.h"\n',
    "src/kernels/dense/dense_test.cc": '#include <gtest/gtest.h>\n#include "testing/compare.h"\n'
                                       '#include "tensor/tensor.h"\n',
    "src/ops/cpu/linear.cc": "#include <oneapi/dnnl/dnnl.hpp>\n"
                             '#include "kernels/dense/dense.h"\n#include "tensor/tensor.h"\n',
    "src/media/writer.cc": "#include <libavcodec/avcodec.h>\n#include <sys/stat.h>\n",
    "src/model/wan/wan.h": '#include "tensor/tensor.h"\n',
    "src/pipeline/engine.cc": '#include "model/wan/wan.h"\n#include "monarchrt/status.h"\n',
    "apps/main.cc": '#include <CLI/CLI.hpp>\n#include "monarchrt/status.h"\n',
    "testing/compare.h": '#include "tensor/tensor.h"\n',
}


class CheckLayersTest(unittest.TestCase):
    def check(self, planted):
        with tempfile.TemporaryDirectory() as root:
            for name, text in {**CLEAN, **planted}.items():
                path = Path(root) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return check_layers.Tree(root).check()

    def assert_finds(self, name, text, message):
        problems = self.check({name: text})
        self.assertEqual(len(problems), 1, problems)
        self.assertIn(name, problems[0])
        self.assertIn(message, problems[0])

    def test_accepts_a_clean_tree(self):
        self.assertEqual(self.check({}), [])

    def test_finds_a_lower_layer_that_includes_a_higher_one(self):
        self.assert_finds("src/ops/bad.cc", '#include "model/wan/wan.h"\n', "may not include")

    def test_finds_a_source_that_includes_its_header_late(self):
        self.assert_finds("src/tensor/tensor.cc",
                          '#include <string>\n#include "tensor/tensor.h"\n', "first include")

    def test_finds_a_kernel_that_sees_tensors(self):
        self.assert_finds("src/kernels/dense/bad.cc", '#include "tensor/tensor.h"\n',
                          "may not include")

    def test_finds_an_operation_that_reaches_past_a_kernels_contract(self):
        problems = self.check({"src/kernels/dense/reference.h": "",
                               "src/ops/bad.cc": '#include "kernels/dense/reference.h"\n'})
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("contract", problems[0])

    def test_finds_a_c_header_in_a_public_header_that_is_not_c(self):
        self.assert_finds("include/monarchrt/bad.h", "#include <stdint.h>\n", "table")

    def test_finds_an_example_that_reaches_past_the_api(self):
        self.assert_finds("examples/cpp/bad.cc", '#include "base/status.h"\n', "may not include")

    def test_finds_an_app_that_reaches_past_the_api(self):
        self.assert_finds("apps/bad.cc", '#include "model/wan/wan.h"\n', "may not include")

    def test_finds_a_source_that_includes_the_test_harness(self):
        self.assert_finds("src/tensor/bad.cc", '#include "testing/compare.h"\n', "may not include")

    def test_finds_vendor_headers_outside_their_folder(self):
        for name, header in [("src/model/wan/bad.cc", "oneapi/dnnl/dnnl.hpp"),
                             ("src/pipeline/bad.cc", "libavutil/frame.h"),
                             ("src/model/wan/bad.cc", "sentencepiece_processor.h"),
                             ("src/kernels/dense/bad.cc", "immintrin.h"),
                             ("src/ops/bad.cc", "omp.h"),
                             ("src/base/bad.cc", "CLI/CLI.hpp"),
                             ("src/kernels/dense/bad.cc", "nlohmann/json.hpp"),
                             ("src/kernels/dense/bad.cc", "ggml-cpu.h")]:
            with self.subTest(header=header):
                self.assert_finds(name, f"#include <{header}>\n", "belongs in")

    def test_finds_an_unknown_library(self):
        self.assert_finds("src/tensor/bad.cc", "#include <boost/asio.hpp>\n", "not in the table")

    def test_finds_system_headers_in_the_public_api(self):
        self.assert_finds("include/monarchrt/bad.h", "#include <unistd.h>\n", "not in the table")

    def test_finds_an_include_that_names_no_file(self):
        self.assert_finds("src/tensor/bad.cc", '#include "gone.h"\n', "is no file")

    def test_finds_folders_that_include_each_other(self):
        problems = self.check({"src/model/wan/a.h": '#include "model/vae/b.h"\n',
                               "src/model/vae/b.h": "",
                               "src/model/vae/c.h": '#include "model/wan/wan.h"\n'})
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("folders include each other", problems[0])

    def test_finds_files_that_include_each_other(self):
        problems = self.check({"src/tensor/a.h": '#include "tensor/b.h"\n',
                               "src/tensor/b.h": '#include "tensor/a.h"\n'})
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("files include each other", problems[0])

    def test_finds_two_types_of_one_name(self):
        space = "namespace mrt {{\n{}\n}}  // namespace mrt\n"
        problems = self.check({"src/tensor/a.h": space.format("struct A {\n};\nstruct B;"),
                               "src/model/vae/b.h": space.format("class A final : public B {\n};")})
        self.assertEqual(len(problems), 1, problems)
        self.assertIn("A is also defined in", problems[0])
        self.assertEqual(self.check({"src/tensor/a.h": space.format("struct A {};"),
                                     "src/media/b.h": "namespace mrt::media {\nclass A {\n};\n}"}),
                         [])

    def test_finds_long_files_and_long_lines(self):
        self.assert_finds("src/base/bad.cc", "\n" * 801, "801 lines")
        self.assert_finds("src/base/bad.cc", "//" + "x" * 99 + "\n", "101 columns")
        self.assertEqual(self.check({"src/base/table.inc": "\n" * 801}), [])

    def test_finds_a_library_that_prints(self):
        self.assert_finds("src/base/bad.cc", 'void F() { std::cout << 1; }\n', "may not call")
        self.assert_finds("src/base/bad.cc", "void F() { std::exit(1); }\n", "may not call")
        self.assertEqual(self.check({"src/base/good.cc": '// printf("%d")\n'}), [])


if __name__ == "__main__":
    unittest.main()
