// SPDX-License-Identifier: Apache-2.0
//
// The compiled part of toml++, once for the whole program.
#define TOML_IMPLEMENTATION
#include <toml++/toml.h>
