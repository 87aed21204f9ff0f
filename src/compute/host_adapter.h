// An adapter as the backends on the host's processor keep it: for each product whose matrix it changes, what comes before the
// product (h = A x, all tensors of the matrix side by side) and what is added to the result (B h, section by section).
//
// A and B stand in panels of 16 output lanes: bfloat16 in integer arithmetic, float32 in float32 arithmetic. A sum runs in four
// chains of fused multiply-adds (term i in chain i % 4), then (0 + 2) + (1 + 3): one order for every batch and every table.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "compute/adapter.h"
#include "compute/backend.h"

namespace neutrino::compute {

inline constexpr int64_t kLanePanel = 16;  // output lanes of a panel
inline constexpr int64_t kLaneChains = 4;

// lanes x inner weights; `inner` is a multiple of kLaneChains, the padding zero. Terms 2i and 2i+1 of all lanes stand together:
// bfloat16 as [lane][2], float32 as [2][lane].
struct LanePanels {
  const std::byte* data = nullptr;
  int64_t inner = 0, panels = 0;
  bool bf16 = false;

  int64_t panel_bytes() const { return inner * kLanePanel * (bf16 ? 2 : 4); }
  const std::byte* panel(int64_t index) const { return data + index * panel_bytes(); }
  float at(int64_t lane, int64_t i) const;
};

// The definition: sum over i of w(lane, i) x[i]. x: (inner).
float lane_sum(const LanePanels& weights, int64_t lane, const float* x);

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
  struct Down {
    LanePanels a;        // (columns) to rank, in whole panels
    int64_t hidden = 0;  // where its values begin in h
  };
  struct Up {
    LanePanels b;  // rank to (rows); no panels: the section is not changed
    int64_t hidden = 0;
    int64_t row = 0, rows = 0;  // in the matrix
  };
  struct Product {
    std::vector<Down> down;
    std::vector<Up> up;  // one a section
    int64_t hidden = 0;  // floats of h
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
  struct Free {
    void operator()(std::byte* data) const { std::free(data); }
  };

  void add(const LowRankUpdate& update, std::span<const ProductRows> products);
  // weight(lane, i) for all lanes < count and i < inner.
  template <typename F>
  LanePanels pack(int64_t count, int64_t inner, F weight);

  const ProductRows* made_for_;
  bool bf16_;
  int64_t bytes_ = 0, rank_ = 0;
  std::vector<std::unique_ptr<Product>> products_;  // by Matrix::product()
  std::vector<std::unique_ptr<std::byte, Free>> memory_;
};

// Rows of one sequence in a step, or of several with the same adapter that follow each other.
struct AdapterRows {
  const HostAdapter* adapter = nullptr;
  int64_t first_row = 0, rows = 0;
};

}  // namespace neutrino::compute
