// SPDX-License-Identifier: Apache-2.0
//
// Which pictures a study has, and writing them to files.
#include "narrowgauge/study/picture.hpp"

#include <filesystem>
#include <fstream>

#include "narrowgauge/base/error.hpp"

namespace ng {

std::vector<Picture> make_pictures(const StudyResult& study, const Judgement& judgement) {
  std::vector<Picture> out;
  for (auto& picture : {picture_error_by_layer(study), picture_paired_differences(study, judgement),
                        picture_loss_curves(study), picture_matched_differences(study, judgement),
                        picture_error_over_steps(study), picture_scales_over_steps(study), picture_routers(study)}) {
    if (picture) out.push_back(*picture);
  }
  return out;
}

std::vector<std::string> write_pictures(const StudyResult& study, const std::string& folder) {
  std::vector<std::string> paths;
  for (const Picture& picture : make_pictures(study, judge(study))) {
    const std::filesystem::path path = std::filesystem::path(folder) / (picture.name + ".svg");
    std::ofstream file(path, std::ios::binary);
    file << picture.svg;
    file.close();
    if (!file) throw MachineError("cannot write the picture " + path.string());
    paths.push_back(path.string());
  }
  return paths;
}

}  // namespace ng
