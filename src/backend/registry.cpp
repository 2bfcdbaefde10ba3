// SPDX-License-Identifier: Apache-2.0
//
// Which backends there are. Its own library, ng_backends, since it needs the backends and they need the interface.
#include "narrowgauge/backend/registry.hpp"

#include "narrowgauge/base/error.hpp"

namespace ng {

std::unique_ptr<Backend> make_backend(const std::string& name, const BackendOptions& options) {
  if (name == "cpu") return make_cpu_backend(options);
  if (name == "cuda") return make_cuda_backend(options);
  if (name.starts_with("checked:")) {
    const std::size_t slash = name.find('/');
    const std::string first = name.substr(8, slash - 8);
    const std::string second = slash == std::string::npos ? "" : name.substr(slash + 1);
    if ((first == "cpu" || first == "cuda") && (second == "cpu" || second == "cuda"))
      return make_checked_backend(make_backend(first, options), make_backend(second, options));
  }
  const std::string reason = cuda_absent_reason();
  throw UserError("unknown backend '" + name + "'; there are cpu, cuda and checked:cuda/cpu" +
                  (reason.empty() ? std::string() : " (cuda is absent here: " + reason + ")"));
}

}  // namespace ng
