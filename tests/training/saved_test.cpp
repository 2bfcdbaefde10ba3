// SPDX-License-Identifier: Apache-2.0
//
// Claims about what is kept for the backward pass: stored as BF16 codes, which hold a BF16 tensor exactly, a saved
// attention output and a recomputed SwiGLU change no byte of a run (so codes are read wherever the original was);
// stored as E5M6 and E4M3 they change the weights; /memory reports the bytes of those codes. Alone: ctest -R
// training_saved
#include <gtest/gtest.h>

#include "training/small_run.hpp"

namespace {

using ng_test::differing;
using ng_test::End;

ng::RunRequest request_with(const std::string& saved, const std::string& from, const std::string& quantizers) {
  ng::RunRequest request = ng_test::small_request("mxfp4_sr_all", {{"train.steps", "3"}});
  std::string& text = request.recipe_text;
  const auto put_before = [&](const std::string& mark, const std::string& what) { text.insert(text.find(mark), what); };
  put_before("  { use = \"block\" },",
             "  { linear = \"attn_out\", operand = \"activation\", gemm = \"wgrad\", " + from + "use = \"block\" },\n");
  put_before("[quantizer]\n", saved);
  text.insert(text.find("[quantizer]\n") + 12, quantizers);
  return request;
}

End trained(const ng_test::Folder& folder, const std::string& name, const ng::RunRequest& request) {
  ng::train_run(ng::plan_run(request), folder.file(name), {});
  return ng_test::end_of(folder.file(name));
}

std::map<std::string, std::int64_t> memory(const std::string& file) {
  const ng::RunReader reader(file);
  const std::vector<std::string> kinds = reader.memory_kinds();
  const ng::MemoryRow last = reader.memory().back();
  std::map<std::string, std::int64_t> bytes;
  for (std::size_t i = 0; i < kinds.size(); ++i) bytes[kinds[i]] = last.bytes[i];
  return bytes;
}

const char* const kSaved =
    "saved = [ { linear = \"attn_out\", use = \"kept\" }, { linear = \"*fc2\", recompute_from = \"fc1_output\", use = "
    "\"gate\" } ]\n";
const char* const kFrom = "from = \"saved\", via = \"requantize\", ";

TEST(Saved, Bf16CodesChangeNothingAndNarrowOnesDo) {
  const ng_test::Folder folder("saved");
  const End plain = trained(folder, "plain.h5", request_with("", "layers = \"first:100%\", ", ""));
  const End exact =
      trained(folder, "exact.h5",
              request_with(kSaved, kFrom, "kept = { element = \"bf16\" }\ngate = { element = \"bf16\" }\n"));
  EXPECT_EQ(differing(plain, exact), std::vector<std::string>{});
  EXPECT_EQ(plain.losses, exact.losses);

  const End narrow =
      trained(folder, "narrow.h5",
              request_with(kSaved, kFrom,
                           "kept = { like = \"fp8_1x128\", element = \"e5m6\" }\ngate = { like = \"fp8_1x128\" }\n"));
  EXPECT_EQ(plain.losses.front(), narrow.losses.front()) << "the forward pass reads the originals";
  EXPECT_FALSE(differing(plain, narrow).empty());

  // 256 tokens; two heads of 32: E5M6 codes take two bytes, and one FP32 scale stands for 128 columns (here: for all).
  const auto wide = memory(folder.file("plain.h5")), small = memory(folder.file("narrow.h5"));
  EXPECT_EQ(small.at("saved_e5m6"), 2 * 256 * (64 * 2 + 4));
  EXPECT_EQ(wide.count("saved_e5m6"), 0u);
  EXPECT_GT(small.at("saved_e4m3"), 0);
  EXPECT_LT(small.at("saved_bf16"), wide.at("saved_bf16"));
  EXPECT_GT(wide.at("saved_e2m1"), small.at("saved_e2m1")) << "wgrad forms that the backward pass makes are not kept";
}

}  // namespace
