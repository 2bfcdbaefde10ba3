// SPDX-License-Identifier: Apache-2.0
//
// A study as written in DIR/study.toml: one question, the arms that answer it, the runs that they share. Strictly
// parsed; every name is resolved to a file that exists.
//
//   name = "first_look"                      # letters, digits, '_' and '-'
//   title = "..."
//   question = "..."
//   prediction = "..."                       # written before the runs
//   model = "tiny"                           # a name (studies/models/tiny.toml) or a path from this folder
//   data = "austen"                          # a name (data/corpora/austen.toml) or a path from this folder
//   recipes = ["bf16", "mxfp4"]              # one arm each: a name (studies/recipes/bf16.toml) or a path
//   baseline = "bf16"                        # the arm that the others are compared with
//   seeds = [0, 1]
//   steps = 160
//   tolerance_nats = 0.01                    # differences in held-out loss inside of it do not matter
//   record = "plan.toml"                     # recording plan; "none": nothing; without it the built-in one
//   jobs = 2                                 # runs at the same time; without it the number of cores
//   [train]                                  # settings of training_config.hpp, without steps
//   batch = 8
//   sequence_length = 128
//   [[arm]]                                  # more arms: a recipe with changes
//   name = "mxfp4_ceil"
//   recipe = "mxfp4"
//   set = { recipe.quantizer.block.scale.rule = "ceil" }     # as of --set: recipe.*, model.*, train.*
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "narrowgauge/training/training_config.hpp"

namespace ng {

/// A path of --set and its value as TOML text.
using Setting = std::pair<std::string, std::string>;

struct StudyArm {
  std::string name;
  std::filesystem::path recipe;
  std::vector<Setting> set;
};

struct StudyFile {
  std::filesystem::path folder;  ///< of study.toml, absolute
  std::string name, title, question, prediction;
  std::filesystem::path model, data;
  std::string record;  ///< path of the recording plan, "none", or empty for the built-in one
  std::string backend, arithmetic;
  std::vector<StudyArm> arms;  ///< recipes first, then [[arm]]s, in the order of the file
  std::string baseline;
  std::vector<std::uint32_t> seeds;
  TrainingConfig training;     ///< [train] and steps
  std::vector<Setting> train;  ///< the same as given, for --set: "train.steps" and so on
  double tolerance = 0;        ///< nats
  std::int64_t jobs = 0;       ///< 0: as many as cores

  /// Reads `folder`/study.toml. UserError "file:line:column: key ..." for unknown keys, names without a file, repeated
  /// arms or seeds, a baseline that is no arm; UserError naming the folder when it holds no study.toml.
  [[nodiscard]] static StudyFile from_folder(const std::filesystem::path& folder);

  [[nodiscard]] std::int64_t tokens_per_run() const { return training.steps * training.tokens_per_step(); }
};

}  // namespace ng
