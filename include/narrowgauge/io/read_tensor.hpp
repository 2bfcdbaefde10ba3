// SPDX-License-Identifier: Apache-2.0
//
// The one way from "IN" on a command line to an Array: FILE.h5:/dataset, FILE.npy or FILE.safetensors:name.
#pragma once

#include <string>

#include "narrowgauge/io/array.hpp"

namespace ng {

// UserError: no such file, no such dataset or name (lists the ones that are there), unknown kind of file.
Array read_tensor(const std::string& spec);

}  // namespace ng
