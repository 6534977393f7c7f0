#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "apps/commands.h"
#include "apps/exit.h"
#include "apps/progress.h"
#include "apps/text_files.h"
#include "base/status.h"
#include "monarchrt/convert.h"

namespace mrt::apps {
namespace {

using monarchrt::ConvertDType;

struct ConvertFlags {
  monarchrt::ConvertOptions options;
  std::string dtype = "keep";
  std::string quantize = "none";
};

ConvertDType ToConvertDType(const std::string& dtype) {
  if (dtype == "f32") return ConvertDType::kF32;
  if (dtype == "bf16") return ConvertDType::kBF16;
  return dtype == "f16" ? ConvertDType::kF16 : ConvertDType::kKeep;
}

// Megabytes on stderr: every percent where it is drawn in place, else every tenth part.
class ConvertProgressLine {
 public:
  void Show(int64_t bytes_done, int64_t bytes_total) {
    constexpr int64_t kMegabyte = 1'000'000;
    if (!progress_) {
      progress_.emplace((bytes_total + kMegabyte - 1) / kMegabyte, stderr, "MB");
      progress_->Update(0);
    }
    const int64_t steps = progress_->in_place() ? 100 : 10;
    const int64_t step = bytes_done / (bytes_total / steps + 1);
    if (step == step_ && bytes_done < bytes_total) return;
    step_ = step;
    progress_->Update((bytes_done + kMegabyte - 1) / kMegabyte);
  }
  void Finish() { progress_.reset(); }

 private:
  std::optional<Progress> progress_;  // from the first bytes on: only then the total is known
  int64_t step_ = 0;
};

Status Run(ConvertFlags& flags) {
  flags.options.dtype = ToConvertDType(flags.dtype);
  if (flags.quantize == "int8") flags.options.quantize = monarchrt::ConvertQuantize::kInt8;
  ConvertProgressLine line;
  const auto report = monarchrt::Convert(
      flags.options, [&](int64_t done, int64_t total) { line.Show(done, total); });
  line.Finish();
  if (!report.ok()) return report.status();
  std::printf("%s\n%lld tensors, %s", flags.options.output.c_str(),
              static_cast<long long>(report->tensors), FormatBytes(report->output_bytes).c_str());
  if (flags.dtype != "keep")
    std::printf(", %lld converted to %s", static_cast<long long>(report->rounded),
                flags.dtype.c_str());
  if (flags.quantize != "none")
    std::printf(", %lld quantised to %s", static_cast<long long>(report->quantized),
                flags.quantize.c_str());
  std::printf("\n");
  return {};
}

}  // namespace

void AddConvert(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ConvertFlags>();
  CLI::App* command = app.add_subcommand("convert",
                                         "Write a checkpoint (.pt, .pth, safetensors, shards) as "
                                         "one safetensors file, or a package as "
                                         "a package.");
  command
      ->add_option("input", flags->options.input,
                   "the checkpoint, an index of shards, a directory with one, or a package")
      ->required()
      ->type_name("FILE[:key]|DIR");
  command
      ->add_option("output", flags->options.output,
                   "the new file, or of a package the new folder; it has this name only when it "
                   "is complete")
      ->required()
      ->type_name("FILE.safetensors|DIR");
  command
      ->add_option("--dtype", flags->dtype,
                   "of floating point tensors: keep, f32, bf16 or f16; others stay as they are")
      ->check(CLI::IsMember({"keep", "f32", "bf16", "f16"}))
      ->capture_default_str();
  command
      ->add_option("--quantize", flags->quantize,
                   "int8: the matrices of a Wan transformer's blocks, with a scale for each row")
      ->check(CLI::IsMember({"none", "int8"}))
      ->capture_default_str();
  command->add_option("--key", flags->options.key, "the dictionary in a .pt file, as FILE:key says")
      ->type_name("KEY");
  command
      ->add_option("--strip-prefix", flags->options.strip_prefix,
                   "cut this off every tensor's name, such as model.")
      ->type_name("PREFIX");
  command->footer(
      "Example:\n"
      "  monarchrt convert checkpoints/self_forcing_dmd.pt:generator_ema \\\n"
      "      diffusion_pytorch_model.safetensors --strip-prefix model. --dtype bf16");
  command->callback([flags, &action] { action = [flags] { return Finish(Run(*flags)); }; });
}

}  // namespace mrt::apps
