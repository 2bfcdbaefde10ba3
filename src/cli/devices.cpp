// SPDX-License-Identifier: Apache-2.0
//
// `devices`: what a run could run on, and why not on the rest.
#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "commands.hpp"
#include "narrowgauge/backend/registry.hpp"
#include "narrowgauge/base/error.hpp"
#include "output.hpp"

namespace ng::cli {
namespace {

int run(const Arguments&) {
  BackendOptions options;
  options.threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  write_stdout(fmt::format("cpu   {}\n", make_backend("cpu", options)->device()));
  const std::string reason = cuda_absent_reason();
  if (!reason.empty()) {
    write_stdout(fmt::format("cuda  absent: {}\n", reason));
    return kExitDone;
  }
  try {
    write_stdout(fmt::format("cuda  {}\n", make_backend("cuda", options)->device()));
  } catch (const std::exception& error) {  // built in, but not usable on this machine
    write_stdout(fmt::format("cuda  absent: {}\n", error.what()));
  }
  return kExitDone;
}

}  // namespace

Command devices_command() {
  return {"devices", "what runs can run on here, and why not on the rest", {}, {}, run};
}

}  // namespace ng::cli
