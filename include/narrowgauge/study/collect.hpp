// SPDX-License-Identifier: Apache-2.0
//
// From run files to the plain structs that are judged and drawn. Reads finished, running and killed runs; never writes
// one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "narrowgauge/study/run_plan.hpp"
#include "narrowgauge/study/statistics.hpp"

namespace ng {

/// The finished and unfinished runs of a study, with the study's question, prediction, baseline and tolerance.
/// `command`: what made it, for the report. Runs without a readable file are left out and named in the notes.
[[nodiscard]] StudyResult collect(const RunPlan& plan, const std::string& command);

/// Given run files. The first one's arm is the baseline. An arm is a set of files that differ in nothing but the seed;
/// it is called what its recipe is called, with the file's stem where two arms would have one name. UserError for files
/// that are no runs, and when a file is given twice.
[[nodiscard]] StudyResult collect_files(const std::vector<std::filesystem::path>& files, const std::string& command);

/// What is drawn and tabled of a run's records: error, underflow, saturation, double quantization.
[[nodiscard]] const std::vector<std::string>& reported_measures();

/// DIR/report.html and its pictures as DIR/*.svg; makes the folder. Returns the page's path. Throws what judge()
/// throws, UserError or MachineError when something cannot be written.
std::filesystem::path write_report(const StudyResult& study, const std::filesystem::path& folder);

}  // namespace ng
