// SPDX-License-Identifier: Apache-2.0
//
// A study as something to read: one HTML page that needs nothing else, and a table for the terminal.
#pragma once

#include <string>

#include "narrowgauge/study/statistics.hpp"

namespace ng {

/// One self-contained HTML page: question, prediction, verdicts, pictures with captions, errors, FLOPs by
/// format, runs, how it was made. No script, no external reference; readable on a phone and on paper.
/// Throws what judge() throws.
[[nodiscard]] std::string html_report(const StudyResult& study);

/// Verdicts, differences and what can't be told as plain text, at most 100 columns where names allow it.
/// Throws what judge() throws.
[[nodiscard]] std::string text_table(const StudyResult& study);

}  // namespace ng
