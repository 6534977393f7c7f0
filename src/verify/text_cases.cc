
#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/metadata.h"
#include "verify/text_case.h"

namespace mrt::verify {

std::vector<int32_t> PadTokens(std::vector<int32_t> ids, int64_t text_len) {
  constexpr int32_t kPad = 0;
  ids.resize(static_cast<size_t>(text_len), kPad);
  return ids;
}

Status VerifyText(const std::string& directory, const Files& files, ops::Context& context,
                  Judge& judge) {
  MRT_ASSIGN_OR_RETURN(const Tokenizer tokenizer,
                       Tokenizer::Load(directory + "/google/umt5-xxl/spiece.model"));
  MRT_ASSIGN_OR_RETURN(Checkpoint weights,
                       Checkpoint::Open(directory + "/models_t5_umt5-xxl-enc-bf16.pth"));
  MRT_ASSIGN_OR_RETURN(const Umt5Encoder encoder, Umt5Encoder::Open(std::move(weights)));
  for (const std::string& path : files) {
    MRT_ASSIGN_OR_RETURN(const Checkpoint file, OpenCase(path));
    const Metadata metadata(file);
    for (int n = 0; metadata.Has("text_" + std::to_string(n)); ++n) {
      const std::string index = std::to_string(n);
      const ConstTensorView ids = file.Find("ids_" + index);
      const ConstTensorView embedding = file.Find("embedding_" + index);
      if (ids.empty() || ids.shape.rank() != 1 || ids.shape[0] < 1)
        return BadData("[verify] " + path + ": ids_" + index + " must be I32 [text_len]");
      const int text_len = static_cast<int>(ids.shape[0]);
      MRT_ASSIGN_OR_RETURN(
          const std::vector<int32_t> got,
          tokenizer.Encode(CleanPrompt(metadata.Text("text_" + index, "")), text_len));
      judge.CompareExact(path, "ids_" + index, PadTokens(got, text_len), ids);
      if (embedding.empty()) continue;
      MRT_ASSIGN_OR_RETURN(const Tensor rows, encoder.Encode(context, got, text_len));
      judge.Compare(path, "embedding_" + index, rows, embedding, kTensorLimit);
    }
  }
  return {};
}

}  // namespace mrt::verify
