// SPDX-License-Identifier: Apache-2.0
//
// Strict TOML in. Every key that is read is marked; a key that nobody read is an error, so a misspelt one cannot pass.
// All errors are ng::UserError "file:line:column: key 'a.b': what is wrong; what is valid", with the nearest valid name.
//
//   TomlDocument document = TomlDocument::from_file("tiny.toml");
//   document.set("model.layers", "6", "--set model.layers=6");       // overrides, before reading
//   TomlTable model = document.root().get_table("model");
//   config.layers = model.get_int("layers", 1, 512);
//   config.theta = model.optional_double("rope_theta", 10000.0);
//   document.finish();                                               // unknown keys are errors
#pragma once

#include <cstdint>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ng {

enum class TomlKind { string, integer, real, boolean, date, array, table };

struct TomlNode;

/// A table of a document: a cheap handle, valid as long as any handle or the document lives. `get_*` demand the key,
/// `optional_*` take a missing one for the fallback or nullopt. Integers are taken where a double is asked for, nothing
/// else is converted. Bounds are inclusive. Doubles must be finite.
class TomlTable {
 public:
  static constexpr std::int64_t kIntMin = std::numeric_limits<std::int64_t>::min();
  static constexpr std::int64_t kIntMax = std::numeric_limits<std::int64_t>::max();
  static constexpr double kDoubleMax = std::numeric_limits<double>::max();

  [[nodiscard]] bool has(std::string_view key) const;  // also marks `key` as a valid one, for suggestions
  [[nodiscard]] std::vector<std::string> keys() const;  // in the order of the file
  [[nodiscard]] std::optional<TomlKind> kind(std::string_view key) const;
  [[nodiscard]] bool empty() const { return keys().empty(); }

  [[nodiscard]] std::string get_string(std::string_view key) const;
  [[nodiscard]] std::int64_t get_int(std::string_view key, std::int64_t least = kIntMin,
                                     std::int64_t most = kIntMax) const;
  [[nodiscard]] double get_double(std::string_view key, double least = -kDoubleMax, double most = kDoubleMax) const;
  [[nodiscard]] bool get_bool(std::string_view key) const;
  /// Index into `names` of the string found.
  [[nodiscard]] std::size_t get_choice(std::string_view key, std::span<const std::string> names) const;
  [[nodiscard]] std::vector<std::string> get_string_list(std::string_view key) const;
  [[nodiscard]] std::vector<std::int64_t> get_int_list(std::string_view key, std::int64_t least = kIntMin,
                                                       std::int64_t most = kIntMax) const;
  [[nodiscard]] std::vector<double> get_double_list(std::string_view key, double least = -kDoubleMax,
                                                    double most = kDoubleMax) const;
  [[nodiscard]] TomlTable get_table(std::string_view key) const;
  [[nodiscard]] std::vector<TomlTable> get_table_array(std::string_view key) const;

  [[nodiscard]] std::optional<std::string> optional_string(std::string_view key) const;
  [[nodiscard]] std::string optional_string(std::string_view key, std::string_view fallback) const;
  [[nodiscard]] std::optional<std::int64_t> optional_int(std::string_view key) const;
  [[nodiscard]] std::int64_t optional_int(std::string_view key, std::int64_t fallback, std::int64_t least = kIntMin,
                                          std::int64_t most = kIntMax) const;
  [[nodiscard]] std::optional<double> optional_double(std::string_view key) const;
  [[nodiscard]] double optional_double(std::string_view key, double fallback, double least = -kDoubleMax,
                                       double most = kDoubleMax) const;
  [[nodiscard]] bool optional_bool(std::string_view key, bool fallback) const;
  [[nodiscard]] std::size_t optional_choice(std::string_view key, std::span<const std::string> names,
                                            std::size_t fallback) const;
  [[nodiscard]] std::vector<std::string> optional_string_list(std::string_view key) const;  // empty when missing
  [[nodiscard]] std::vector<std::int64_t> optional_int_list(std::string_view key) const;
  [[nodiscard]] std::vector<double> optional_double_list(std::string_view key) const;
  [[nodiscard]] std::optional<TomlTable> optional_table(std::string_view key) const;
  [[nodiscard]] std::vector<TomlTable> optional_table_array(std::string_view key) const;

  /// A valid key that is not read now, so that `finish` accepts it, with all that is in it, and suggestions name it.
  void accept(std::string_view key) const;

  /// "file:line:column" of the key, or of this table when the key is missing.
  [[nodiscard]] std::string where(std::string_view key) const;
  /// "quantizer.act"; "" for the root.
  [[nodiscard]] const std::string& path() const { return path_; }
  /// "<where>: key '<path.key>': <message>".
  [[noreturn]] void fail(std::string_view key, std::string_view message) const;

  /// UserError if this table, or one read from it, has a key that nobody asked for.
  void finish() const;

 private:
  friend class TomlDocument;
  TomlTable(std::shared_ptr<TomlNode> node, std::string path) : node_(std::move(node)), path_(std::move(path)) {}

  [[nodiscard]] std::shared_ptr<TomlNode> find(std::string_view key) const;
  [[nodiscard]] TomlNode& demand(std::string_view key, std::string_view expected) const;
  [[nodiscard]] std::string path_of(std::string_view key) const;
  [[noreturn]] void fail_kind(std::string_view key, const TomlNode& found, std::string_view expected) const;
  void check_unread(std::string_view missing_key) const;

  std::shared_ptr<TomlNode> node_;
  std::string path_;
};

class TomlDocument {
 public:
  /// UserError when the file cannot be read or is not TOML (duplicate keys included).
  [[nodiscard]] static TomlDocument from_file(const std::filesystem::path& path);
  /// `name` is what messages call the text.
  [[nodiscard]] static TomlDocument from_text(std::string name, std::string text);

  /// Sets the value at a dotted path ("rule.0.use" reaches into arrays), making tables on the way. `value` is a TOML
  /// value; a bare word that is none is taken as a string (`rule=floor`). `origin` stands in messages for the place.
  void set(std::string_view path, std::string_view value, std::string_view origin);

  [[nodiscard]] TomlTable root() const { return {root_, ""}; }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] const std::string& text() const { return text_; }  // as given, without overrides
  void finish() const { root().finish(); }

 private:
  TomlDocument() = default;

  std::string name_;
  std::string text_;
  std::shared_ptr<TomlNode> root_;
};

/// Splits "path=value" (of --set) at the first '='. UserError naming `origin` when there is none or the path is empty.
[[nodiscard]] std::pair<std::string, std::string> split_setting(std::string_view setting, std::string_view origin);

}  // namespace ng
