// Weights in the kernels' panels (kernels.h), made once at load.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "compute/backend.h"
#include "compute/cpu/kernels.h"
#include "compute/cpu/thread_team.h"
#include "compute/cpu/weight_cache.h"
#include "compute/cpu/weight_memory.h"

namespace neutrino::compute::cpu {

// Of what pack_panel() writes: raise it with every change of a layout or of the integers in it, or files of WeightCache give
// wrong results.
constexpr uint64_t kLayoutVersion = 2;

using PanelProduct = void (*)(const PanelTask&);

// One part of a stacked matrix: its own type, its own panels (the last one padded with zero rows).
struct Section {
  WeightView file;        // its data and owner only with KeepFile::yes, for embed()
  int64_t first_row = 0;  // in the stacked matrix
  int64_t panels = 0;
  int64_t panel_bytes = 0;
  const uint8_t* data = nullptr;
  const float* scales = nullptr;     // (panels * 16); null in float32 arithmetic
  const int8_t* codebook = nullptr;  // of the type, if it has one
  PanelProduct product = nullptr;

  int64_t panel_rows(int64_t panel) const { return std::min(kPanelRows, file.rows - panel * kPanelRows); }
};

enum class KeepFile : uint8_t { no, yes };

class PanelMatrix final : public Matrix {
 public:
  PanelMatrix(std::span<const WeightView> parts, KeepFile keep, Arithmetic arithmetic, const Kernels& kernels,
              ThreadTeam& team, WeightMemory& memory, WeightCache& cache);

  int64_t bytes() const override { return bytes_; }
  int64_t blocks() const { return blocks_; }  // of 32 columns
  const std::vector<Section>& sections() const { return sections_; }

 private:
  uint64_t signature(Arithmetic arithmetic) const;
  void pack(Arithmetic arithmetic, const Kernels& kernels, ThreadTeam& team);

  std::vector<Section> sections_;
  int64_t blocks_;
  int64_t bytes_ = 0;
  std::shared_ptr<uint8_t> data_;
};

}  // namespace neutrino::compute::cpu
