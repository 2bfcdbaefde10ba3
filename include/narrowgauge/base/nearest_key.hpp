// SPDX-License-Identifier: Apache-2.0
//
// The nearest valid name to a misspelt one, for error messages.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace ng {

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours, by byte.
[[nodiscard]] int edit_distance(std::string_view a, std::string_view b);

/// The name of `valid` with the smallest distance to `wrong` (the first among equals), if it is near enough to
/// be what was meant: distance at most a third of the longer length, but at least 2 where the lengths allow it.
[[nodiscard]] std::optional<std::string> nearest_key(std::string_view wrong, std::span<const std::string> valid);

/// "did you mean 'x'? valid: a, b, x", without the question when nothing is near. With `valid` empty: "".
[[nodiscard]] std::string suggestion(std::string_view wrong, std::span<const std::string> valid);

}  // namespace ng
