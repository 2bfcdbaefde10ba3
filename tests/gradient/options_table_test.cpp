// SPDX-License-Identifier: Apache-2.0
//
// Claim: every option of the model is varied in the gradient tests. The keys are the program's own
// (ModelConfig::to_json) and the names of a choice those of its error message, so that a new option without a case
// fails here; the table in README.md is what the cases say. Alone: ctest -R options_table
#include <gtest/gtest.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "gradient/option_cases.hpp"
#include "gradient/production.hpp"
#include "narrowgauge/base/error.hpp"
#include "training/torch_golden.hpp"

namespace {

/// What does not change the function that is differentiated.
const std::set<std::string> kNoOptions = {"init_std"};

/// Tests beside the comparisons, by key: "Suite.Name" in tests/gradient.
const std::multimap<std::string, std::string> kProperties = {
    {"balance", "OracleBalance.ASequenceAloneIsABatch"},
    {"balance", "OracleScope.SequencesAddUpUnderCapacityAndSequenceBalance"},
    {"balance", "ModelVsOracleMicroBatches.ChangeNothingWhereTheScopeIsTheSequence"},
    {"bias_rate", "OracleBias.MovesTheChoiceAndNotTheWeight"},
    {"bias_rate", "OptimizerOracle.RouterBiasMovesTowardEvenCounts"},
    {"bias_rate", "RouterBias.FollowsTheLoadOfWholeSteps"},
    {"capacity_factor", "OracleCapacity.ALargeOneDropsNothing"},
    {"capacity_factor", "OracleCapacity.ADroppedSlotIsASilentExpertAndOtherWeightsStay"},
    {"capacity_factor", "OracleScope.SequencesAddUpUnderCapacityAndSequenceBalance"},
    {"dense_layers", "OracleIdentities.EqualExpertsWithRenormalizedWeightsAreADenseLayer"},
    {"drop", "OracleCapacity.ServesTheFirstOrTheBestUpToTheCapacity"},
    {"drop", "OracleCapacity.EqualScoresServeTheFirstTokens"},
    {"gate", "OracleGate.ZeroLogitsGiveOneHalfEach"},
    {"gate", "OracleGate.EqualExpertsAreADenseLayer"},
    {"group_score", "OracleGroups.BestExpertsLieInTheGroupsOfLargestMaximum"},
    {"kv_heads", "OracleIdentities.GroupedHeadsEqualFullHeadsWithRepeatedKeysAndValues"},
    {"mla.kv_rank", "OracleMla.IdentityProjectionsAreMultiQueryAttention"},
    {"mla.q_rank", "OracleMla.AnIdentityRankOfQueriesIsNoRank"},
    {"mla.rope_dim", "OracleMla.OrderOfThePrefixMattersOnlyThroughTheRopePart"},
    {"qk_norm", "OracleQkNorm.SizeOfQueriesAndKeysDoesNotMatter"},
    {"qk_norm", "OracleQkNorm.OneHeadKnowsNoDifference"},
    {"renormalize", "OracleIdentities.RawWeightsOfAllExpertsNeedNoRenormalization"},
    {"rope_theta", "OracleIdentities.RopeDependsOnlyOnTheDistanceAndTurnsPairsHalfAHeadApart"},
    {"route_groups", "OracleGroups.KeepingAllGroupsIsHavingNone"},
    {"route_groups_kept", "OracleGroups.ChosenExpertsShareTheKeptGroups"},
    {"routed_scaling", "OracleGate.EqualExpertsAreADenseLayer"},
    {"shared_experts", "OracleIdentities.SilentExpertsLeaveTheSharedExpertWhichIsADenseLayer"},
    {"tied_head", "OracleIdentities.TiedHeadEqualsUntiedWithACopyAndItsGradientIsTheSum"},
};

/// "mla.kv_rank" to its value; a table that is absent has no keys.
void flatten(const ng::Json& json, const std::string& prefix, std::map<std::string, std::string>& values) {
  for (const auto& [key, value] : json.as_object()) {
    if (value.is_object()) {
      flatten(value, prefix + key + ".", values);
    } else if (!value.is_null()) {
      values[prefix + key] = value.is_string() ? value.as_string() : value.canonical();
    }
  }
}

std::map<std::string, std::string> values_of(const ng::ModelConfig& config) {
  std::map<std::string, std::string> values;
  flatten(config.to_json(), "", values);
  return values;
}

/// Configurations and, by key, how many have each value. "-": a key of a table that a configuration does not have.
struct Census {
  std::vector<std::map<std::string, std::string>> configurations;

  std::set<std::string> keys() const {
    std::set<std::string> keys;
    for (const auto& values : configurations)
      for (const auto& [key, value] : values) keys.insert(key);
    return keys;
  }
  std::map<std::string, int> counts(const std::string& key) const {
    std::map<std::string, int> counts;
    for (const auto& values : configurations) ++counts[values.contains(key) ? values.at(key) : "-"];
    return counts;
  }
};

Census gradient_census() {
  Census census;
  for (const auto& cases : {ng_test::option_cases(), ng_test::all_cases()})
    for (const ng_test::Case& c : cases) census.configurations.push_back(values_of(ng_test::program_config(c.config)));
  return census;
}

Census torch_census() {
  Census census;
  for (const std::string& name : ng_test::torch_golden_names())
    census.configurations.push_back(
        values_of(ng::ModelConfig::from_text(name, ng_test::read_torch_golden(name).metadata.at("model"))));
  return census;
}

std::string cell(const std::map<std::string, int>& counts) {
  std::string text;
  for (const auto& [value, count] : counts)
    text += (text.empty() ? "" : ", ") + value + " (" + std::to_string(count) + ")";
  return text;
}

std::string table() {
  const Census gradients = gradient_census(), torch = torch_census();
  std::string text = "| key | values in gradient cases | values in PyTorch's steps | properties |\n|---|---|---|---|\n";
  for (const std::string& key : gradients.keys()) {
    if (kNoOptions.contains(key)) continue;
    std::string properties;
    const auto [first, last] = kProperties.equal_range(key);
    for (auto p = first; p != last; ++p) properties += (properties.empty() ? "`" : ", `") + p->second + "`";
    text += "| `" + key + "` | " + cell(gradients.counts(key)) + " | " + cell(torch.counts(key)) + " | " + properties +
            " |\n";
  }
  return text;
}

std::filesystem::path folder() {
  return std::filesystem::path(NG_SOURCE_DIR) / "tests/gradient";
}

std::string text_of(const std::filesystem::path& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(OptionsTable, EveryKeyOfTheModelIsVaried) {
  const Census census = gradient_census();
  for (const std::string& key : census.keys()) {
    if (kNoOptions.contains(key)) continue;
    EXPECT_GE(census.counts(key).size(), 2u)
        << "no gradient test varies the model's key " << key << ": add a level to option_factors()";
  }
}

/// The names that a key takes, from the error for another one; empty if the key takes no names.
std::set<std::string> names_of_choice(const std::string& key, const std::string& present) {
  const ng_oracle::ModelConfig config = ng_test::base_case().config;
  try {
    ng::ModelConfig::from_text("test", key + " = \"?\"\n" + ng_test::model_file_text(config));
  } catch (const ng::UserError& error) {
    const std::string message = error.what();
    const std::size_t valid = message.find("valid: ");
    EXPECT_NE(valid, std::string::npos) << message;
    std::istringstream names(message.substr(valid + 7));
    std::set<std::string> result;
    for (std::string name; std::getline(names >> std::ws, name, ',');) result.insert(name);
    EXPECT_TRUE(result.contains(present)) << message;
    return result;
  }
  ADD_FAILURE() << key << " = \"?\" was taken";
  return {};
}

TEST(OptionsTable, EveryNameOfAChoiceIsTried) {
  const Census census = gradient_census();
  int choices = 0;
  for (const auto& [key, value] : census.configurations.front()) {
    if (value.find_first_not_of("abcdefghijklmnopqrstuvwxyz_0123456789") != std::string::npos ||
        std::isdigit(static_cast<unsigned char>(value.front())) || value == "true" || value == "false")
      continue;
    ++choices;
    const std::map<std::string, int> counts = census.counts(key);
    for (const std::string& name : names_of_choice(key, value))
      EXPECT_TRUE(counts.contains(name)) << "no gradient test sets " << key << " = \"" << name << "\"";
  }
  EXPECT_GE(choices, 5);  // qk_norm, gate, group_score, drop, balance
}

TEST(OptionsTable, PropertiesAreTests) {
  std::string sources;
  for (const auto& entry : std::filesystem::directory_iterator(folder()))
    if (entry.path().extension() == ".cpp") sources += text_of(entry.path());
  const std::set<std::string> keys = gradient_census().keys();
  for (const auto& [key, test] : kProperties) {
    EXPECT_TRUE(keys.contains(key)) << "the model has no key " << key;
    const std::size_t dot = test.find('.');
    EXPECT_NE(sources.find("TEST(" + test.substr(0, dot) + ", " + test.substr(dot + 1) + ")"), std::string::npos)
        << "there is no test " << test;
  }
}

TEST(OptionsTable, ReadmeShowsIt) {
  EXPECT_NE(text_of(folder() / "README.md").find(table()), std::string::npos)
      << "put this table into tests/gradient/README.md:\n"
      << table();
}

}  // namespace
