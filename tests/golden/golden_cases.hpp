// SPDX-License-Identifier: Apache-2.0
//
// One comparison per golden file, for any subject. Each fills a tally and reads every dataset of its file.
#pragma once

#include <string>
#include <vector>

#include "golden_file.hpp"
#include "subject.hpp"
#include "tally.hpp"

namespace ng_golden {

void compare_casts(const Subject& subject, GoldenFile& file, Tally& tally);         ///< ml_dtypes_casts.h5
void compare_torchao(const Subject& subject, GoldenFile& file, Tally& tally);       ///< torchao_mx.h5
void compare_te(const Subject& subject, GoldenFile& file, Tally& tally);            ///< te_nvfp4.h5
void compare_microxcaling(const Subject& subject, GoldenFile& file, Tally& tally);  ///< microxcaling_mx.h5

/// "quantity [row, col] input 3f800000: got 3 expected 4; scale got 7f expected 7f; spec"
std::string describe(const std::string& what, std::size_t row, std::size_t col, float input, std::uint32_t got,
                     std::uint32_t expected, std::uint32_t got_scale, std::uint32_t expected_scale,
                     const ng_oracle::BlockSpec& spec);
std::string text_of(const ng_oracle::BlockSpec& spec);

}  // namespace ng_golden
