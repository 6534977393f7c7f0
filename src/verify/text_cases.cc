#include <string_view>

#include "model/tokenizer/tokenizer.h"
#include "model/umt5/umt5.h"
#include "tensor/printable.h"
#include "verify/case_file.h"
#include "verify/cases.h"
#include "verify/metadata.h"
#include "verify/text_case.h"

namespace mrt::verify {
namespace {

constexpr std::string_view kIds = "ids_", kEmbedding = "embedding_";

/// text_N -> ids_N -> embedding_N, of the N in `number`.
Status VerifyCase(const Checkpoint& file, const std::string& number, const Tokenizer& tokenizer,
                  const Umt5Encoder& encoder, ops::Context& context, Judge& judge) {
  const Metadata metadata(file);
  const std::string ids_name = std::string(kIds) + number;
  const std::string embedding_name = std::string(kEmbedding) + number;
  const ConstTensorView ids = file.Find(ids_name), embedding = file.Find(embedding_name);
  if (ids.shape.rank() != 1 || ids.shape[0] < 1)
    return BadData("[verify] " + file.path() + ": " + ids_name + " is " + ids.shape.ToString() +
                   ", need [text_len]");
  if (!metadata.Has("text_" + number))
    return BadData("[verify] " + file.path() + ": " + ids_name +
                   " has no text, need metadata text_" + number);
  const int text_len = static_cast<int>(ids.shape[0]);
  MRT_ASSIGN_OR_RETURN(
      const std::vector<int32_t> got,
      tokenizer.Encode(CleanPrompt(metadata.Text("text_" + number, "")), text_len));
  judge.CompareExact(file.path(), ids_name, PadTokens(got, text_len), ids);
  if (embedding.empty()) return {};
  MRT_ASSIGN_OR_RETURN(const Tensor rows, encoder.Encode(context, got, text_len));
  judge.Compare(file.path(), embedding_name, rows, embedding, kTensorLimit);
  return {};
}

}  // namespace

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
    for (const auto& [name, tensor] : file.tensors()) {
      const bool ids = name.starts_with(kIds);
      if (!ids && !name.starts_with(kEmbedding)) continue;
      const std::string number = name.substr(ids ? kIds.size() : kEmbedding.size());
      if (number.empty() || number.find_first_not_of("0123456789") != number.npos)
        return BadData("[verify] " + path + ": got tensor " + Printable(name) + ", need a number");
      if (!ids && file.Find(std::string(kIds) + number).empty())
        return BadData("[verify] " + path + ": " + name + " has no ids, need ids_" + number);
      if (ids) MRT_RETURN_IF_ERROR(VerifyCase(file, number, tokenizer, encoder, context, judge));
    }
  }
  return {};
}

}  // namespace mrt::verify
