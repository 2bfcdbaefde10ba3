// SPDX-License-Identifier: Apache-2.0
//
// A product and a sum that a compiler would like to fuse, built as the hot files are: for every instruction set.
#pragma once

namespace ng::hygiene {
namespace baseline {
float product_plus(float a, float b, float c);
}
namespace x86_64_v3 {
float product_plus(float a, float b, float c);
}
}  // namespace ng::hygiene
