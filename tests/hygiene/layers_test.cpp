// SPDX-License-Identifier: Apache-2.0
//
// Claim: every layer includes only the layers that its row of layers.hpp names, the numerics include the standard
// library alone, and each library of others stays where it belongs.
// Alone: build/release/bin/hygiene_sources --gtest_filter='Layers.*'
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "hygiene/layers.hpp"
#include "hygiene/source_tree.hpp"

namespace ng::hygiene {
namespace {

const LayerRow* row_of(const std::string& layer) {
  const auto& table = layer_table();
  const auto row = std::find_if(table.begin(), table.end(), [&](const LayerRow& r) { return r.name == layer; });
  return row == table.end() ? nullptr : &*row;
}

bool may_include(const LayerRow& row, const std::string& layer) {
  return layer == row.name || std::find(row.may_use.begin(), row.may_use.end(), layer) != row.may_use.end();
}

// "narrowgauge/<layer>/x.hpp" -> layer; "" for other includes.
std::string included_layer(const std::string& target) {
  constexpr std::string_view kRoot = "narrowgauge/";
  if (!target.starts_with(kRoot)) return "";
  return target.substr(kRoot.size(), target.find('/', kRoot.size()) - kRoot.size());
}

// Whether an angle include can be the standard library: one lower-case word without a suffix.
bool looks_standard(const std::string& target) {
  return !target.empty() && std::all_of(target.begin(), target.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

TEST(Layers, TheTableIsOrdered) {
  std::set<std::string_view> seen;
  for (const LayerRow& row : layer_table()) {
    for (const std::string_view used : row.may_use) {
      EXPECT_TRUE(seen.contains(used)) << row.name << " may use " << used << ", which stands below it or nowhere";
    }
    seen.insert(row.name);
  }
}

TEST(Layers, IncludesFollowTheTable) {
  std::size_t checked = 0;
  for (const SourceFile& file : source_files({"include", "src", "cuda"})) {
    if (!file.is_cxx()) continue;
    const LayerRow* row = row_of(layer_of(file.path));
    ASSERT_NE(row, nullptr) << file.path << " belongs to no layer of tests/hygiene/layers.hpp";
    for (const Include& include : includes_of(file)) {
      EXPECT_EQ(include.target.find("../"), std::string::npos) << file.path << ":" << include.line << " climbs folders";
      const std::string layer = included_layer(include.target);
      if (layer.empty()) continue;
      ++checked;
      EXPECT_NE(row_of(layer), nullptr) << file.path << ":" << include.line << " includes unknown layer " << layer;
      EXPECT_TRUE(may_include(*row, layer))
          << file.path << ":" << include.line << ": layer " << row->name << " may not include " << include.target;
    }
  }
  EXPECT_GT(checked, 10u);
}

TEST(Layers, NumericsIncludeTheStandardLibraryOnly) {
  std::size_t checked = 0;
  for (const SourceFile& file : source_files({"include/narrowgauge/numerics"})) {
    for (const Include& include : includes_of(file)) {
      ++checked;
      EXPECT_TRUE(include.quoted ? included_layer(include.target) == "numerics" : looks_standard(include.target))
          << file.path << ":" << include.line << " includes " << include.target;
    }
  }
  EXPECT_GT(checked, 0u);
}

TEST(Layers, TheOracleSharesNothingWithTheProgram) {
  std::size_t checked = 0;
  for (const SourceFile& file : source_files({"tests/oracle"})) {
    for (const Include& include : includes_of(file)) {
      ++checked;
      EXPECT_TRUE(include.quoted ? !include.target.starts_with("narrowgauge/") : looks_standard(include.target))
          << file.path << ":" << include.line << " includes " << include.target;
    }
  }
  EXPECT_GT(checked, 0u);
}

TEST(Layers, LibrariesOfOthersStayWhereTheyBelong) {
  struct Home {
    std::string_view include;                    // prefix of the include
    std::vector<std::string_view> folders;       // prefixes of paths that may use it
  };
  const std::vector<Home> homes = {
      {"hdf5", {"src/io/"}},
      {"H5", {"src/io/"}},
      {"toml++", {"src/base/"}},
      {"nlohmann/", {"src/base/", "src/io/"}},
      {"boost/program_options", {"src/cli/"}},
      {"Eigen/", {}},
      {"cuda", {"cuda/"}},
      {"cublas", {"cuda/"}},
  };
  for (const SourceFile& file : source_files({"include", "src", "cuda"})) {
    if (!file.is_cxx()) continue;
    const bool is_source = file.extension() == ".cpp";
    for (const Include& include : includes_of(file)) {
      EXPECT_FALSE(include.target.starts_with("fmt/") && !is_source)
          << file.path << ":" << include.line << ": fmt belongs in .cpp files (nvcc cannot compile it)";
      for (const Home& home : homes) {
        if (!include.target.starts_with(home.include) || include.quoted) continue;
        EXPECT_TRUE(std::any_of(home.folders.begin(), home.folders.end(),
                                [&](std::string_view folder) { return file.path.starts_with(folder); }))
            << file.path << ":" << include.line << " includes <" << include.target << ">, which belongs elsewhere";
      }
    }
  }
}

}  // namespace
}  // namespace ng::hygiene
