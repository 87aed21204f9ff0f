// An adapter as the backends on the host's processor keep it: for each product whose matrix it changes, what comes before the
// product (h = A x, all tensors of the matrix side by side) and what is added to the result (B h, section by section).
//
// A and B stand in panels of 16 output lanes. In float32 arithmetic they are float32, and a sum runs in four chains of fused
// multiply-adds (term i in chain i % 4), then (0 + 2) + (1 + 3). In integer arithmetic they are int8 with a scale for each lane's
// runs of kLowRankRun terms, and both x and h are 15-bit integers with one scale: a run's sum is exact in any order, and the runs
// are added by fused multiply-adds, from the first on. Either way one order for every batch and every table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compute/adapter.h"
#include "compute/backend.h"
#include "compute/constants.h"

namespace neutrino::compute {

inline constexpr int64_t kLanePanel = 16;  // output lanes of a panel
inline constexpr int64_t kLaneChains = 4;

// lanes x inner weights; `inner` is a multiple of kLaneChains, the padding zero. Terms 2i and 2i+1 of all lanes stand together:
// int8 as [lane][2], float32 as [2][lane]. Behind a panel of integers the scales of its runs, [run][lane].
struct LanePanels {
  const std::byte* data = nullptr;
  int64_t inner = 0, panels = 0;
  bool integers = false;

  int64_t runs() const { return (inner + kLowRankRun - 1) / kLowRankRun; }
  int64_t panel_bytes() const {
    return kLanePanel * (integers ? inner + runs() * static_cast<int64_t>(sizeof(float))
                                  : inner * static_cast<int64_t>(sizeof(float)));
  }
  int64_t bytes() const { return panel_bytes() * panels; }
  const std::byte* panel(int64_t index) const { return data + index * panel_bytes(); }
};

// The definitions: sum over i of w(lane, i) x[i]. x: (inner).
float lane_sum(const LanePanels& weights, int64_t lane, const float* x);
float lane_sum(const LanePanels& weights, int64_t lane, const int16_t* x, float scale);  // of all x

// Where the rows of tensors stand in the matrices that products read: what adapters are matched with.
struct ProductSection {
  std::string tensor;         // empty: no adapter can change it
  int64_t tensor_row = 0;     // the tensor's row that is the section's first
  int64_t row = 0, rows = 0;  // in the matrix
};
struct ProductRows {
  int64_t columns = 0;
  std::vector<ProductSection> sections;
};

class HostAdapter final : public Adapter {
 public:
  struct Up {
    LanePanels b;               // rank to (rows); no panels: the section is not changed
    int64_t hidden = 0;         // where its terms begin in h
    int64_t part = 0;           // whose these are
    int64_t row = 0, rows = 0;  // in the matrix
  };
  struct Part {
    int64_t hidden = 0, terms = 0;  // of h
  };
  struct Product {
    std::vector<Part> parts;  // of h, one a tensor
    LanePanels a;             // (columns) to h: the ranks of all tensors side by side
    std::vector<Up> up;       // one a section
    int64_t hidden = 0;       // floats of h: whole panels
  };

  // Throws Error that names the tensor which no product reads in all of its rows, or which has another shape.
  HostAdapter(std::span<const LowRankUpdate> updates, std::span<const ProductRows> products,
              Arithmetic arithmetic);

  bool is_for(std::span<const ProductRows> products) const { return made_for_ == products.data(); }
  int64_t bytes() const override { return bytes_; }
  int64_t rank() const override { return rank_; }
  // Null: this adapter does not change the matrix.
  const Product* product(int64_t index) const {
    return index < 0 ? nullptr : products_[static_cast<size_t>(index)].get();
  }

 private:
  void lay_out(std::span<const LowRankUpdate> updates, std::span<const ProductRows> products);
  void add(std::span<const LowRankUpdate> updates, const ProductRows& rows, Product& product);
  // weight(lane, i) for all lanes < count and i < inner. Before there is memory, only what it takes is counted.
  template <typename F>
  LanePanels pack(int64_t count, int64_t inner, F weight);

  const ProductRows* made_for_;
  bool integers_;
  int64_t bytes_ = 0, rank_ = 0;
  std::vector<std::unique_ptr<Product>> products_;  // by Matrix::product()
  std::shared_ptr<std::byte> memory_;               // bytes_, in the order in which a step reads them
};

// Rows of one sequence in a step, or of several with the same adapter that follow each other.
struct AdapterRows {
  const HostAdapter* adapter = nullptr;
  int64_t first_row = 0, rows = 0;
};

}  // namespace neutrino::compute
