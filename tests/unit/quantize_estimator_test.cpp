// SPDX-License-Identifier: Apache-2.0
//
// Claim: the table of the gradient estimator gives estimator_factor's bits wherever it gives any, and nearly
// everywhere: all formats that it serves, random magnitudes, and those around grid points, middles and the clip. Alone:
// build/release/bin/unit_quantize_estimator
#include "narrowgauge/quantize/estimator_table.hpp"

#include <gtest/gtest.h>

#include <random>

#include "narrowgauge/numerics/format_catalog.hpp"

namespace ng {
namespace {

struct Tally {
  std::int64_t asked = 0, served = 0, wrong = 0;
};

void compare(const ElementFormat& f, const EstimatorSpec& spec, const EstimatorConstants& constants,
             const EstimatorTable& table, float x, Tally& tally) {
  ++tally.asked;
  float factor = 0;
  if (!estimator_factor_of_table(table, table, x, factor)) return;
  ++tally.served;
  const float expected = estimator_factor(f, spec, constants, x);
  if (bits_of(factor) == bits_of(expected)) return;
  if (++tally.wrong <= 5)
    ADD_FAILURE() << f.mantissa_bits << " mantissa bits, k " << spec.k << ", clip " << spec.clip << ", x " << x
                  << " (0x" << std::hex << bits_of(x) << "): 0x" << bits_of(factor) << ", not 0x" << bits_of(expected);
}

TEST(EstimatorTable, EqualToTheFormula) {
  std::mt19937 random(7);
  int formats = 0;
  Tally total;
  for (std::size_t id = 0; id < kFormatCount; ++id) {
    const ElementFormat f = format_of(static_cast<FormatId>(id));
    for (const float k : {1.0f, 2.0f, 3.25f, 5.0f, 40.0f})
      for (const float clip : {0.15f, 0.75f, 1.0f, 3.0f, 1000.0f})
        for (const EstimatorBeyond beyond :
             {EstimatorBeyond::zero, EstimatorBeyond::last_interval, EstimatorBeyond::one})
          for (const EstimatorMean mean : {EstimatorMean::as_published, EstimatorMean::normalized}) {
            const EstimatorSpec spec{EstimatorKind::differentiable, beyond, mean, k, clip};
            if (!has_estimator_table(f, spec)) continue;
            ++formats;
            const EstimatorConstants constants = estimator_constants(f, spec);
            const EstimatorTable table = estimator_table(f, spec, constants);
            Tally tally;
            for (int i = 0; i < 400; ++i) {
              const float inside = constants.largest * 1.02f * static_cast<float>(random()) * 0x1p-32f;
              compare(f, spec, constants, table, (random() & 1) != 0 ? inside : -inside, tally);
            }
            // Rare is doubt: not where every factor is the clip, and a fiftieth of these lies beyond the last interval.
            const std::int64_t rare = beyond == EstimatorBeyond::last_interval ? tally.asked / 15 : tally.asked / 100;
            const bool always_clip = k == 1.0f && clip == 1.0f;
            EXPECT_GE(tally.served, always_clip ? 0 : tally.asked - rare);
            for (int i = 0; i < 100; ++i) compare(f, spec, constants, table, float_of(random()), tally);
            for (int i = 0; i < 60; ++i) {
              const std::uint32_t code = random() % largest_code(f);
              const float low = decode(f, code);
              const float high = decode(f, code + 1u);
              const std::uint32_t near = static_cast<std::uint32_t>(random() % 9) - 4u;
              for (const float x : {low, high, low + (high - low) * 0.5f, low + (high - low) * 0.5171f})
                compare(f, spec, constants, table, float_of(bits_of(x) + near), tally);
            }
            total.asked += tally.asked;
            total.served += tally.served;
            total.wrong += tally.wrong;
          }
  }
  EXPECT_GT(formats, 500);
  EXPECT_EQ(total.wrong, 0) << "of " << total.served;
}

// What the fast kernel relies on in the published setting: doubt is rare, but it happens.
TEST(EstimatorTable, DoubtIsRare) {
  const ElementFormat f = format_of(FormatId::e2m1);
  const EstimatorSpec spec{EstimatorKind::differentiable, EstimatorBeyond::zero, EstimatorMean::as_published, 5.0f,
                           3.0f};
  const EstimatorConstants constants = estimator_constants(f, spec);
  const EstimatorTable table = estimator_table(f, spec, constants);
  Tally tally;
  for (std::uint32_t bits = 0; bits < bits_of(6.5f); bits += 997)
    compare(f, spec, constants, table, float_of(bits), tally);
  EXPECT_EQ(tally.wrong, 0);
  EXPECT_GT(tally.served, tally.asked - tally.asked / 5000);
}

}  // namespace
}  // namespace ng
