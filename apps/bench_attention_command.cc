#include <algorithm>
#include <cstdio>
#include <memory>

#include "apps/attention_rows.h"
#include "apps/attention_shape.h"
#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/generation_flags.h"
#include "apps/number.h"
#include "apps/text_files.h"
#include "base/json.h"
#include "base/status.h"
#include "base/threads.h"
#include "monarchrt/doctor.h"

namespace mrt::apps {
namespace {

using monarchrt::AttentionMode;
using monarchrt::ElementType;
using mrt::Json;

struct Flags {
  std::vector<std::string> shapes = {"A"};
  std::vector<std::string> ops = {"all"};
  std::vector<std::string> impls;  // empty: all that can run, but the reference
  std::string dtype = "bf16";
  std::vector<int> threads = {0};
  AttentionEffort effort;
  CLI::Option* json = nullptr;  // given: the result as JSON
  std::string json_path;        // empty: to standard output
};

const char* DtypeName(ElementType element) { return element == ElementType::kF32 ? "f32" : "bf16"; }

bool Wants(const std::vector<std::string>& ops, const std::string& op) {
  return std::ranges::any_of(ops, [&](const auto& one) { return one == "all" || one == op; });
}

struct Refusal {
  AttentionRow row;
  std::string why;
};

/// All rows that the flags ask for; those that cannot run here go to `refusals`. A kernel that was
/// named must be one of some operation.
monarchrt::Result<std::vector<AttentionRow>> ListRows(const Flags& flags,
                                                      const AttentionShape& shape,
                                                      std::vector<Refusal>& refusals) {
  std::vector<AttentionRow> rows;
  std::vector<std::string> names;  // of all these operations' kernels
  std::string choice;              // the same, with commas
  monarchrt::AttentionOptions options = shape.options;
  monarchrt::AttentionProblem problem = shape.problem;
  for (const AttentionMode mode : monarchrt::ListAttentionModes()) {
    if (!Wants(flags.ops, AttentionModeName(mode))) continue;
    for (const ElementType element : {ElementType::kBF16, ElementType::kF32}) {
      if (flags.dtype != "all" && flags.dtype != DtypeName(element)) continue;
      options.mode = mode;
      problem.element = element;
      MRT_ASSIGN_OR_RETURN(const double flop, AttentionFlop(options, problem));
      MRT_ASSIGN_OR_RETURN(const double density, AttentionDensity(options, problem));
      MRT_ASSIGN_OR_RETURN(const auto list, ListAttentionImplementations(options, problem));
      for (const auto& known : list) {
        if (std::ranges::find(names, known.name) == names.end()) {
          choice += (names.empty() ? "" : ", ") + known.name;
          names.push_back(known.name);
        }
        const bool named = std::ranges::find(flags.impls, known.name) != flags.impls.end();
        if (flags.impls.empty() ? known.name == "reference" : !named) continue;
        for (const int threads : flags.threads) {
          const AttentionRow row{.mode = mode,
                                 .impl = known.name,
                                 .element = element,
                                 .threads = threads,
                                 .flop = flop,
                                 .density = density};
          if (known.refuses.empty()) {
            rows.push_back(row);
          } else {
            refusals.push_back({row, known.refuses});
          }
        }
      }
    }
  }
  for (const std::string& impl : flags.impls)
    if (std::ranges::find(names, impl) == names.end())
      return InvalidArgument("[impl] got implementation " + impl + ", need one of " + choice);
  return rows;
}

/// "A,B" names two shapes; the commas of a list of settings are its own.
std::vector<std::string> SplitNames(const std::vector<std::string>& texts) {
  std::vector<std::string> shapes;
  for (const std::string& text : texts) {
    size_t first = 0;
    for (size_t comma; text.find('=') == text.npos && (comma = text.find(',', first)) != text.npos;
         first = comma + 1)
      shapes.push_back(text.substr(first, comma - first));
    shapes.push_back(text.substr(first));
  }
  return shapes;
}

Json MachineJson() {
  const monarchrt::DoctorReport r = monarchrt::Diagnose();
  return {{"cpu", r.cpu},
          {"avx2", r.avx2},
          {"avx512", r.avx512},
          {"avx512_bf16", r.avx512_bf16},
          {"amx_bf16", r.amx_bf16},
          {"cpus", r.threads},
          {"memory_bytes", r.memory_total_bytes},
          {"version", r.version}};
}

Json RowJson(const AttentionShape& shape, const AttentionRow& row, int cpus) {
  return {{"op", AttentionModeName(row.mode)},
          {"impl", row.impl},
          {"shape", shape.name},
          {"dtype", DtypeName(row.element)},
          {"threads", row.threads == 0 ? cpus : row.threads},
          {"runs", row.ms.size()},
          {"ms_median", row.MedianMs()},
          {"ms_p95", row.P95Ms()},
          {"density", row.density},
          {"gflop", row.flop / 1e9},
          {"tflops", row.Tflops()},
          {"rel_l2", row.relative_l2}};
}

/// The dense row to compare `row` with: the same but for the operation.
const AttentionRow* DenseLike(const AttentionRow& row, const std::vector<AttentionRow>& rows) {
  const auto found = std::ranges::find_if(rows, [&](const AttentionRow& other) {
    return other.mode == AttentionMode::kDense && other.impl == row.impl &&
           other.element == row.element && other.threads == row.threads;
  });
  return found == rows.end() ? nullptr : &*found;
}

void PrintTable(const AttentionShape& shape, const std::vector<AttentionRow>& rows,
                const std::string& cpu, int cpus) {
  const monarchrt::AttentionProblem& p = shape.problem;
  std::printf("%s, %d CPUs\n", cpu.c_str(), cpus);
  std::printf("shape %s: %d heads of %d, grid %dx%d, %d query and %d key frames, tiles %d,%d,%d\n",
              shape.name.c_str(), p.heads, p.head_dim, p.rows, p.cols, p.frames_q, p.frames_kv,
              shape.options.f_tied, shape.options.h_reduce, shape.options.w_reduce);
  std::printf("%-8s %-11s %-5s %7s %5s %12s %12s %8s %9s %9s %9s\n", "op", "impl", "dtype",
              "threads", "runs", "median ms", "p95 ms", "density", "TFLOP/s", "rel L2", "vs dense");
  for (const AttentionRow& row : rows) {
    const AttentionRow* dense = DenseLike(row, rows);
    std::printf("%-8s %-11s %-5s %7d %5zu %12.2f %12.2f %8.4f %9.3f %9.1e",
                AttentionModeName(row.mode), row.impl.c_str(), DtypeName(row.element),
                row.threads == 0 ? cpus : row.threads, row.ms.size(), row.MedianMs(), row.P95Ms(),
                row.density, row.Tflops(), row.relative_l2);
    if (dense != nullptr && dense != &row)
      std::printf(" %8.2fx", dense->MedianMs() / row.MedianMs());
    std::printf("\n");
  }
}

monarchrt::Status Run(const Flags& flags) {
  // Now, not after the inputs and the samples, which take seconds.
  for (const int threads : flags.threads) MRT_RETURN_IF_ERROR(CheckThreads(threads));
  if (!flags.json_path.empty()) MRT_RETURN_IF_ERROR(CheckWritable(flags.json_path));
  std::vector<AttentionShape> shapes;
  for (const std::string& text : SplitNames(flags.shapes)) {
    MRT_ASSIGN_OR_RETURN(const AttentionShape shape, ParseAttentionShape(text));
    shapes.push_back(shape);
  }
  const bool print = flags.json->count() == 0 || !flags.json_path.empty();
  Json json = {{"machine", MachineJson()}, {"rows", Json::array()}, {"refused", Json::array()}};
  const int cpus = json["machine"]["cpus"];
  for (const AttentionShape& shape : shapes) {
    std::vector<Refusal> refusals;
    MRT_ASSIGN_OR_RETURN(std::vector<AttentionRow> rows, ListRows(flags, shape, refusals));
    if (rows.empty())
      return Unavailable("[bench] got no implementation that can run: " + refusals[0].row.impl +
                         ": " + refusals[0].why);
    MRT_RETURN_IF_ERROR(MeasureAttention(shape, flags.effort, rows));
    for (const AttentionRow& row : rows) json["rows"].push_back(RowJson(shape, row, cpus));
    if (print) PrintTable(shape, rows, json["machine"]["cpu"], cpus);
    for (const Refusal& refusal : refusals) {
      json["refused"].push_back({{"op", AttentionModeName(refusal.row.mode)},
                                 {"impl", refusal.row.impl},
                                 {"shape", shape.name},
                                 {"dtype", DtypeName(refusal.row.element)},
                                 {"why", refusal.why}});
      if (print)
        std::printf("%-8s %-11s %-5s %s\n", AttentionModeName(refusal.row.mode),
                    refusal.row.impl.c_str(), DtypeName(refusal.row.element), refusal.why.c_str());
    }
  }
  if (!flags.json_path.empty()) return WriteText(flags.json_path, mrt::DumpJson(json, 1) + "\n");
  if (!print) std::printf("%s\n", mrt::DumpJson(json, 1).c_str());
  return {};
}

}  // namespace

void AddBenchAttention(CLI::App& bench, Action& action) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = bench.add_subcommand(
      "attention", "Measure the attention kernels side by side, with random inputs.");
  command
      ->add_option("--shape", flags->shapes,
                   "A (Wan 2.1 1.3B at 480x832, full window), B (one query frame), C (720p, tiles "
                   "3,1,1), D (4 heads of 64), or a list like "
                   "heads=12,head_dim=128,grid=30x52,q=3,kv=21,tiles=1,1,1,density=0.053 that "
                   "changes A; may be "
                   "repeated, and names may be separated by commas")
      ->capture_default_str()
      ->allow_extra_args(false);
  std::vector<std::string> ops = AttentionModeNames();
  ops.emplace_back("all");
  command->add_option("--op", flags->ops, "which operations, separated by commas")
      ->check(CLI::IsMember(ops))
      ->delimiter(',')
      ->capture_default_str();
  command
      ->add_option("--impl", flags->impls,
                   "kernels, separated by commas; without it all that can run here but the "
                   "reference")
      ->delimiter(',');
  command->add_option("--dtype", flags->dtype, "how tensors are stored")
      ->check(CLI::IsMember({"bf16", "f32", "all"}))
      ->capture_default_str();
  AddNumbers(*command, "--threads", flags->threads, /*count=*/0,
             "numbers of threads, separated by commas; 0: all CPUs this process may use")
      ->type_name("N,...")
      ->default_str("0");
  command->add_option("--runs", flags->effort.runs, "runs of each row at most")
      ->transform(Number<int>())
      ->check(CLI::Range(1, 10000))
      ->capture_default_str();
  command
      ->add_option("--seconds", flags->effort.seconds,
                   "no further run of a row that took so long in all, after three runs")
      ->transform(Number<double>())
      ->check(CLI::Range(0.0, 86400.0))
      ->capture_default_str();
  flags->json =
      command
          ->add_option("--json", flags->json_path, "print the result as JSON, or write it to FILE")
          ->expected(0, 1)
          ->type_name("[FILE]");
  command->footer(
      "Example:\n  monarchrt bench attention --shape A --impl avx2 --threads 1,2 --json");
  command->callback([flags, &action] { action = [flags] { return Finish(Run(*flags)); }; });
}

}  // namespace mrt::apps
