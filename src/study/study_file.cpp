// SPDX-License-Identifier: Apache-2.0
//
// Parsing of study.toml.
#include "narrowgauge/study/study_file.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>

#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/nearest_key.hpp"
#include "narrowgauge/base/toml_reader.hpp"
#include "narrowgauge/training/trainer.hpp"

namespace ng {

namespace {

namespace fs = std::filesystem;

// What a name stands for: NAME in `key` is ROOT/folder/NAME.toml.
struct Kind {
  const char* what;
  const char* folder;
};
constexpr Kind kModel{"model", "studies/models"};
constexpr Kind kRecipe{"recipe", "studies/recipes"};
constexpr Kind kData{"data", "data/corpora"};

// The repository that the study is part of: the nearest folder above it that has the folder asked for.
std::optional<fs::path> find_above(const fs::path& start, const char* folder) {
  for (fs::path at = start;; at = at.parent_path()) {
    if (fs::is_directory(at / folder)) return at / folder;
    if (at == at.parent_path()) return std::nullopt;
  }
}

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

fs::path resolve_name(const TomlTable& table, const std::string& key, const std::string& text, const fs::path& study,
                      const Kind& kind) {
  const bool is_path = text.find('/') != std::string::npos || fs::path(text).has_extension();
  if (is_path) {
    const fs::path path = (study / text).lexically_normal();
    if (!fs::exists(path)) table.fail(key, fmt::format("there is no file '{}'", path.string()));
    return path;
  }
  const auto folder = find_above(study, kind.folder);
  if (!folder) {
    table.fail(key, fmt::format("'{}' is a name, but no folder above the study has {}; give a path, such as ./{}.toml",
                                text, kind.folder, text));
  }
  const fs::path path = *folder / (text + ".toml");
  if (!fs::exists(path)) {
    table.fail(key, fmt::format("there is no {} '{}' in {}; {}", kind.what, text, folder->string(),
                                suggestion(text, names_in(*folder))));
  }
  return path;
}

std::string toml_text(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04X}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  return out + "\"";
}

// A number that reads back equal, and as the same type.
std::string real_text(double value) {
  const std::string text = fmt::format("{}", value);
  return text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
}

// Every value below `table` as settings; nested tables become dotted paths.
void flatten(const TomlTable& table, const std::string& prefix, std::vector<Setting>& out) {
  for (const std::string& key : table.keys()) {
    const std::string path = prefix + key;
    switch (table.kind(key).value()) {
      case TomlKind::string:
        out.emplace_back(path, toml_text(table.get_string(key)));
        break;
      case TomlKind::integer:
        out.emplace_back(path, fmt::format("{}", table.get_int(key)));
        break;
      case TomlKind::real:
        out.emplace_back(path, real_text(table.get_double(key)));
        break;
      case TomlKind::boolean:
        out.emplace_back(path, table.get_bool(key) ? "true" : "false");
        break;
      case TomlKind::table:
        flatten(table.get_table(key), path + ".", out);
        break;
      case TomlKind::array:
      case TomlKind::date:
        table.fail(key, "a setting is a string, a number or a boolean");
    }
  }
}

void check_name(const TomlTable& table, const std::string& key, const std::string& name) {
  const auto fits = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (name.empty() || !std::all_of(name.begin(), name.end(), fits)) {
    table.fail(key, fmt::format("'{}' is no name; valid: letters, digits, '_' and '-'", name));
  }
}

std::vector<StudyArm> read_arms(const TomlTable& root, const fs::path& folder) {
  std::vector<StudyArm> arms;
  std::set<std::string> seen;
  const auto add = [&](const TomlTable& table, const std::string& key, StudyArm arm) {
    check_name(table, key, arm.name);
    if (!seen.insert(arm.name).second) table.fail(key, fmt::format("there are two arms called '{}'", arm.name));
    arms.push_back(std::move(arm));
  };
  for (const std::string& text : root.optional_string_list("recipes")) {
    const fs::path recipe = resolve_name(root, "recipes", text, folder, kRecipe);
    add(root, "recipes", {recipe.stem().string(), recipe, {}});
  }
  for (const TomlTable& table : root.optional_table_array("arm")) {
    StudyArm arm;
    arm.name = table.get_string("name");
    arm.recipe = resolve_name(table, "recipe", table.get_string("recipe"), folder, kRecipe);
    if (const auto set = table.optional_table("set")) flatten(*set, "", arm.set);
    for (const auto& [path, value] : arm.set) {
      if (path == "train.steps") table.fail("set", "the steps are the same for all arms of a study");
    }
    add(table, "name", std::move(arm));
  }
  if (arms.empty()) root.fail("recipes", "a study needs arms: recipes = [...] or [[arm]]");
  return arms;
}

std::vector<std::uint32_t> read_seeds(const TomlTable& root) {
  std::vector<std::uint32_t> seeds;
  for (const std::int64_t seed : root.get_int_list("seeds", 0, 0xFFFFFFFFLL)) {
    const auto value = static_cast<std::uint32_t>(seed);
    if (std::find(seeds.begin(), seeds.end(), value) != seeds.end()) {
      root.fail("seeds", fmt::format("seed {} stands there twice", value));
    }
    seeds.push_back(value);
  }
  if (seeds.empty()) root.fail("seeds", "a study needs at least one seed");
  return seeds;
}

}  // namespace

StudyFile StudyFile::from_folder(const fs::path& given) {
  constexpr const char* kFile = "study.toml";
  const fs::path path = given.filename() == kFile ? given : given / kFile;
  if (!fs::exists(path)) {
    throw UserError(fmt::format("'{}' is no study: it has no study.toml", given.string()));
  }
  TomlDocument document = TomlDocument::from_file(path);
  const TomlTable root = document.root();
  StudyFile study;
  study.folder = fs::weakly_canonical(fs::absolute(path)).parent_path();
  study.name = root.get_string("name");
  check_name(root, "name", study.name);
  study.title = root.optional_string("title", study.name);
  study.question = root.get_string("question");
  study.prediction = root.get_string("prediction");
  study.model = resolve_name(root, "model", root.get_string("model"), study.folder, kModel);
  study.data = resolve_name(root, "data", root.get_string("data"), study.folder, kData);
  study.record = root.optional_string("record", "");
  if (!study.record.empty() && study.record != "none") {
    const fs::path plan = (study.folder / study.record).lexically_normal();
    if (!fs::exists(plan)) root.fail("record", fmt::format("there is no file '{}'", plan.string()));
    study.record = plan.string();
  }
  study.backend = root.optional_string("backend", "cpu");
  static const std::array<std::string, 2> kArithmetics = {"ieee", "hopper"};
  const std::size_t usual = default_arithmetic(study.backend) == kArithmetics[0] ? 0 : 1;
  study.arithmetic = kArithmetics[root.optional_choice("arithmetic", kArithmetics, usual)];
  study.arms = read_arms(root, study.folder);
  study.baseline = root.get_string("baseline");
  std::vector<std::string> names;
  for (const StudyArm& arm : study.arms) names.push_back(arm.name);
  if (std::find(names.begin(), names.end(), study.baseline) == names.end()) {
    root.fail("baseline", fmt::format("'{}' is no arm; {}", study.baseline, suggestion(study.baseline, names)));
  }
  study.seeds = read_seeds(root);
  study.tolerance = root.get_double("tolerance_nats", 0);
  study.jobs = root.optional_int("jobs", 0, 0, 4096);
  if (const auto train = root.optional_table("train"); train && train->has("steps")) {
    train->fail("steps", "steps stands at the top of study.toml");
  }
  const std::string steps = fmt::format("{}", root.get_int("steps", 1, 1'000'000'000));
  document.set("train.steps", steps, root.where("steps"));
  study.training = TrainingConfig::from_table(root.get_table("train"));
  flatten(root.get_table("train"), "train.", study.train);
  document.finish();
  return study;
}

}  // namespace ng
