// SPDX-License-Identifier: Apache-2.0
//
// silicon_gpu probes TABLE                        the probes of every instruction and of cuBLASLt, with the model's
// answers silicon_gpu random REPORT.json DIFFERENCES N    N random products of each kind against the model; exit 1 when
// any differs
//             [--revision TEXT] [--driver TEXT]
// Before the command, --cublaslt PATH: the library, else libcublasLt.so.13. Needs it and an H100; exit 3 without.
#include <chrono>
#include <ctime>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "library_probes.hpp"
#include "narrowgauge/base/canonical_json.hpp"
#include "narrowgauge/base/error.hpp"
#include "narrowgauge/base/version.hpp"
#include "narrowgauge/numerics/decode.hpp"
#include "narrowgauge/numerics/encode.hpp"
#include "probes.hpp"
#include "random_products.hpp"
#include "runtime/device.hpp"
#include "subject_model.hpp"
#include "subjects/conversions.hpp"
#include "subjects/library_products.hpp"

namespace ng_silicon {
namespace {

using namespace ng;

std::ofstream opened(const std::string& path) {
  std::ofstream out(path, std::ios::binary);
  if (!out) throw MachineError("cannot write " + path);
  return out;
}

/// The hardware's FP8 conversions against decode and encode; number of differences.
std::uint64_t compare_conversions(std::ostream& out) {
  std::uint64_t different = 0;
  CastChoices choices;
  choices.nan = NanChoice::cuda;
  for (const FormatId id : {FormatId::e4m3, FormatId::e5m2}) {
    const std::vector<std::uint32_t> halves = cuda::hardware_decodes(id);
    for (std::uint32_t code = 0; code < halves.size(); ++code) {
      const std::uint32_t ours = accumulator_bits(StepResult::fp16_nearest_even, decode(format_of(id), code));
      if (ours == halves[code]) continue;
      ++different;
      out << "decode\t" << name_of(id) << "\t" << std::hex << code << "\t" << halves[code] << "\t" << ours << std::dec
          << "\tDIFFERENT\n";
    }
    const std::vector<std::uint32_t> codes = cuda::hardware_encodes_fp16(id);
    std::uint64_t of_encode = 0;
    for (std::uint32_t half = 0; half < codes.size(); ++half) {
      const std::uint32_t ours = encode(format_of(id), choices, decode(format_of(FormatId::fp16), half));
      if (ours == codes[half]) continue;
      if (++of_encode <= 8)
        out << "encode\t" << name_of(id) << "\t" << std::hex << half << "\t" << codes[half] << "\t" << ours << std::dec
            << "\tDIFFERENT\n";
    }
    different += of_encode;
    out << "conversions\t" << name_of(id) << "\t256 codes to FP16, 65536 FP16 to codes\t" << of_encode
        << " encodes differ\n";
  }
  return different;
}

/// Every probe of an instruction in a tile of its own, at row 0 and column 0.
std::uint64_t run_probes(std::size_t number, std::ostream& out) {
  const cuda::Instruction& i = cuda::instructions()[number];
  const int size = cuda::operand_bytes(i.a);
  std::uint64_t different = 0;
  for (const int chain : {1, 2}) {
    std::vector<Probe> probes;
    for (Probe& probe : probes_of(i))
      if (probe.chain == chain) probes.push_back(std::move(probe));
    const std::size_t k = static_cast<std::size_t>(chain * i.k), m = static_cast<std::size_t>(i.m),
                      n = static_cast<std::size_t>(i.n);
    std::vector<std::uint8_t> a(probes.size() * m * k * static_cast<std::size_t>(size));
    std::vector<std::uint8_t> b(probes.size() * n * k * static_cast<std::size_t>(size));
    std::vector<std::uint32_t> c(probes.size() * m * n);
    for (std::size_t t = 0; t < probes.size(); ++t) {
      for (const ProbeTerm& term : probes[t].terms) {
        put_code(a, t * m * k + static_cast<std::size_t>(term.k), size, term.a);
        put_code(b, t * n * k + static_cast<std::size_t>(term.k), size, term.b);
      }
      c[t * m * n] = probes[t].c;
    }
    const std::vector<std::uint32_t> d =
        cuda::run_instruction(number, static_cast<std::int64_t>(probes.size()), chain, a, b, c);
    for (std::size_t t = 0; t < probes.size(); ++t) {
      std::vector<std::uint32_t> x(k, 0), y(k, 0);
      for (const ProbeTerm& term : probes[t].terms) {
        x[static_cast<std::size_t>(term.k)] = term.a;
        y[static_cast<std::size_t>(term.k)] = term.b;
      }
      const std::uint32_t model = model_answer(i, x, y, probes[t].c);
      const std::uint32_t subject = d[t * m * n];
      different += subject != model ? 1 : 0;
      out << "instruction\t" << i.name << "\t" << chain << "\t" << probes[t].name << "\t" << std::hex;
      for (const ProbeTerm& term : probes[t].terms)
        out << std::dec << term.k << ":" << std::hex << term.a << "*" << term.b << " ";
      out << "\t" << probes[t].c << "\t" << subject << "\t" << model << std::dec << "\t"
          << (subject == model ? "same" : "DIFFERENT") << "\n";
    }
  }
  return different;
}

int probe(const std::string& path) {
  std::ofstream out = opened(path);
  out << "device\t" << cuda::device_info().name << "\tcuBLASLt " << cuda::library_version() << "\n";
  std::cout << "conversions: " << compare_conversions(out) << " different\n";
  for (std::size_t number = 0; number < cuda::instructions().size(); ++number)
    std::cout << cuda::instructions()[number].name << ": " << run_probes(number, out)
              << " probes differ from the model\n";
  probe_chains(out);
  probe_library_specials(out);
  probe_alpha_beta(out);
  if (!out.flush()) throw MachineError("cannot write " + path);
  return 0;
}

int random_products(const std::vector<std::string>& arguments) {
  std::string revision(git_revision()), driver = "unknown";
  for (std::size_t i = 4; i + 1 < arguments.size(); i += 2) {
    if (arguments[i] == "--revision")
      revision = arguments[i + 1];
    else if (arguments[i] == "--driver")
      driver = arguments[i + 1];
    else
      throw UserError("unknown option " + arguments[i] + "; there are --revision --driver");
  }
  const std::int64_t products = std::stoll(arguments[3]);
  std::ofstream differences = opened(arguments[2]);
  const cuda::DeviceInfo device = cuda::device_info();
  std::cout << device.name << ", driver " << driver << ", cuBLASLt " << cuda::library_version() << "\nrevision "
            << revision << "\nsources " << source_digest() << "\n";
  char date[32] = {};
  const std::time_t now = std::time(nullptr);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", std::gmtime(&now));
  const auto start = std::chrono::steady_clock::now();
  Comparison total;
  const std::uint64_t conversions = compare_conversions(differences);
  Json report =
      Json::object({{"device", device.name},
                    {"driver", driver},
                    {"cuda_of_driver", device.driver},
                    {"cublaslt", cuda::library_version()},
                    {"made", std::string(date)},
                    {"revision", revision},
                    {"sources", std::string(source_digest())},
                    {"conversions", Json::object({{"compared", 2 * (256 + 65536)}, {"different", conversions}})}});
  report["instructions"] = random_instruction_products(products, differences, total);
  std::int64_t size = 16;
  while (size * size < products) size += 16;
  report["cublaslt_products"] = random_library_products(size, differences, total);
  report["total"] = total.json();
  report["seconds"] = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::ofstream out = opened(arguments[1]);
  out << report.pretty() << "\n";
  if (!out.flush() || !differences.flush()) throw MachineError("cannot write " + arguments[1]);
  std::cout << "in all: " << total.text() << "\n";
  return total.different == 0 && conversions == 0 ? 0 : 1;
}

int fit(const std::string& path) {
  std::ofstream out = opened(path);
  out << cuda::device_info().name << ", cuBLASLt " << cuda::library_version() << "\n";
  fit_library(out);
  if (!out.flush()) throw MachineError("cannot write " + path);
  return 0;
}

int run(const std::vector<std::string>& arguments) {
  if (arguments.size() == 2 && arguments[0] == "fit") return fit(arguments[1]);
  if (arguments.size() == 2 && arguments[0] == "probes") return probe(arguments[1]);
  if (arguments.size() >= 4 && arguments[0] == "random") return random_products(arguments);
  throw UserError(
      "silicon_gpu probes TABLE, silicon_gpu fit TABLE, or silicon_gpu random REPORT.json DIFFERENCES N [--revision "
      "TEXT] [--driver TEXT]");
}

}  // namespace
}  // namespace ng_silicon

int main(int argc, char** argv) {
  try {
    std::vector<std::string> arguments(argv + 1, argv + argc);
    if (arguments.size() >= 2 && arguments[0] == "--cublaslt") {
      ng::cuda::use_library(arguments[1]);
      arguments.erase(arguments.begin(), arguments.begin() + 2);
    }
    return ng_silicon::run(arguments);
  } catch (const std::exception& error) {
    std::cerr << ng::message_of(error) << "\n";
    return ng::exit_code_of(error);
  }
}
