#include "compute/host_adapter.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>

#include "base/checked.h"
#include "base/error.h"
#include "compute/dtype.h"

namespace neutrino::compute {
namespace {

Error refuse_update(const LowRankUpdate& update, std::string_view why) {
  return make_error(ErrorCode::invalid_argument, "adapter: {} {}", update.tensor, why);
}

// Elements before weight (lane, i) in a panel.
int64_t place(bool integers, int64_t lane, int64_t i) {
  return i / 2 * 2 * kLanePanel + (integers ? lane * 2 + i % 2 : i % 2 * kLanePanel + lane);
}

// A run of one lane's weights as integers in [-127, 127] times the scale that is returned. What is not finite makes that a NaN.
float quantize_run(std::span<const float> weights, int8_t* out, int64_t stride) {
  float largest = 0;
  bool finite = true;
  for (const float w : weights) largest = std::max(largest, std::abs(w)), finite = finite && std::isfinite(w);
  if (!finite || largest < kActivationTiny) return finite ? 0.0f : std::numeric_limits<float>::quiet_NaN();
  for (size_t i = 0; i < weights.size(); ++i)
    out[static_cast<int64_t>(i) / 2 * stride + static_cast<int64_t>(i) % 2] =
        static_cast<int8_t>(std::lrintf(weights[i] / largest * 127.0f));
  return largest / 127.0f;
}

// All rows of the tensor are read by products.
bool is_covered(const LowRankUpdate& update, std::span<const ProductRows> products) {
  std::vector<std::pair<int64_t, int64_t>> ranges;
  for (const ProductRows& product : products)
    for (const ProductSection& section : product.sections)
      if (section.tensor == update.tensor)
        ranges.emplace_back(section.tensor_row, section.tensor_row + section.rows);
  std::ranges::sort(ranges);
  int64_t end = 0;
  for (const auto& [first, last] : ranges) {
    if (first > end) return false;
    end = std::max(end, last);
  }
  return end == update.rows;
}

void write_lane(const LanePanels& panels, std::byte* panel, int64_t lane, std::span<const float> row) {
  const int64_t inner = std::ssize(row);
  if (!panels.integers) {
    for (int64_t i = 0; i < inner; ++i)
      reinterpret_cast<float*>(panel)[place(false, lane, i)] = row[static_cast<size_t>(i)];
    return;
  }
  auto* scales = reinterpret_cast<float*>(panel + panels.inner * kLanePanel);
  for (int64_t first = 0; first < inner; first += kLowRankRun)
    scales[first / kLowRankRun * kLanePanel + lane] = quantize_run(
        row.subspan(static_cast<size_t>(first), static_cast<size_t>(std::min(kLowRankRun, inner - first))),
        reinterpret_cast<int8_t*>(panel) + place(true, lane, first), 2 * kLanePanel);
}

bool reads(const ProductRows& product, const std::string& tensor) {
  return std::ranges::find(product.sections, tensor, &ProductSection::tensor) != product.sections.end();
}

void check_update(const LowRankUpdate& update, std::span<const ProductRows> products) {
  check(std::ssize(update.a) == update.rank * update.columns &&
            std::ssize(update.b) == update.rows * update.rank,
        "an update's A is (rank, columns), its B (rows, rank)");
  if (update.rank < 1) throw refuse_update(update, "must have a rank of at least 1, got 0");
  if (!is_covered(update, products))
    throw refuse_update(
        update,
        "cannot be changed while serving, as no product over all rows of a batch reads it "
        "(embeddings, heads, routers and experts are of this kind): merge the adapter instead");
  for (const ProductRows& product : products)
    if (reads(product, update.tensor) && product.columns != update.columns)
      throw refuse_update(update, fmt::format("has {} columns in the model, but {} in the adapter",
                                              product.columns, update.columns));
}

// Zeroed, and on huge pages: a step reads all of it once, and with 4 KB pages the addresses' translation takes longer than the data.
std::shared_ptr<std::byte> map(int64_t bytes) {
  constexpr int64_t kHugePage = 2 << 20;
  const auto size = static_cast<size_t>(ceil_div(bytes, kHugePage) * kHugePage + kHugePage);
  void* const memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  const std::shared_ptr<void> mapping(memory, [size](void* address) { munmap(address, size); });
  const uintptr_t start = (reinterpret_cast<uintptr_t>(memory) + kHugePage - 1) / kHugePage * kHugePage;
  madvise(reinterpret_cast<void*>(start), size - kHugePage, MADV_HUGEPAGE);
  return {mapping, reinterpret_cast<std::byte*>(start)};
}

}  // namespace

float lane_sum(const LanePanels& weights, int64_t lane, const float* x) {
  const auto* panel = reinterpret_cast<const float*>(weights.panel(lane / kLanePanel));
  float chains[kLaneChains] = {};
  for (int64_t i = 0; i < weights.inner; ++i) {
    float& chain = chains[i % kLaneChains];
    chain = std::fma(panel[place(false, lane % kLanePanel, i)], x[i], chain);
  }
  return (chains[0] + chains[2]) + (chains[1] + chains[3]);
}

float lane_sum(const LanePanels& weights, int64_t lane, const int16_t* x, float scale) {
  const std::byte* const panel = weights.panel(lane / kLanePanel);
  const auto* q = reinterpret_cast<const int8_t*>(panel);
  const auto* scales = reinterpret_cast<const float*>(panel + weights.inner * kLanePanel);
  float total = 0;
  for (int64_t run = 0; run < weights.runs(); ++run) {
    int32_t sum = 0;  // at most 128 * 127 * 16256
    const int64_t end = std::min(weights.inner, (run + 1) * kLowRankRun);
    for (int64_t i = run * kLowRankRun; i < end; ++i) sum += q[place(true, lane % kLanePanel, i)] * x[i];
    total = std::fma(static_cast<float>(sum), scales[run * kLanePanel + lane % kLanePanel], total);
  }
  return total * scale;
}

HostAdapter::HostAdapter(std::span<const LowRankUpdate> updates, std::span<const ProductRows> products,
                         Arithmetic arithmetic)
    : made_for_(products.data()), integers_(arithmetic == Arithmetic::integer), products_(products.size()) {
  for (const LowRankUpdate& update : updates) {
    check_update(update, products);
    rank_ = std::max(rank_, update.rank);
  }
  lay_out(updates, products);  // counts
  memory_ = map(bytes_);
  bytes_ = 0;
  lay_out(updates, products);
}

void HostAdapter::lay_out(std::span<const LowRankUpdate> updates, std::span<const ProductRows> products) {
  for (size_t p = 0; p < products.size(); ++p) {
    std::vector<LowRankUpdate> changes;
    for (const LowRankUpdate& update : updates)
      if (reads(products[p], update.tensor)) changes.push_back(update);
    if (changes.empty()) continue;
    products_[p] = std::make_unique<Product>(
        Product{.parts = {}, .a = {}, .up = std::vector<Up>(products[p].sections.size()), .hidden = 0});
    add(changes, products[p], *products_[p]);
  }
}

// h has the terms of one tensor behind those of the other, each from a multiple of kLaneChains on.
void HostAdapter::add(std::span<const LowRankUpdate> updates, const ProductRows& rows, Product& product) {
  std::vector<const float*> lanes;  // of A; null: padding
  for (const LowRankUpdate& update : updates) {
    product.parts.push_back({std::ssize(lanes), ceil_div(update.rank, kLaneChains) * kLaneChains});
    for (int64_t lane = 0; lane < product.parts.back().terms; ++lane)
      lanes.push_back(lane < update.rank ? update.a.data() + lane * update.columns : nullptr);
  }
  product.a = pack(std::ssize(lanes), rows.columns, [&](int64_t lane, int64_t i) {
    const float* row = lanes[static_cast<size_t>(lane)];
    return row ? row[i] : 0.0f;
  });
  product.hidden = product.a.panels * kLanePanel;
  for (size_t s = 0; s < rows.sections.size(); ++s)
    for (size_t u = 0; u < updates.size(); ++u) {
      const ProductSection& section = rows.sections[s];
      const LowRankUpdate& update = updates[u];
      if (section.tensor != update.tensor) continue;
      const float* b = update.b.data() + section.tensor_row * update.rank;
      product.up[s] = {
          pack(section.rows, update.rank, [&](int64_t lane, int64_t i) { return b[lane * update.rank + i]; }),
          product.parts[u].hidden, static_cast<int64_t>(u), section.row, section.rows};
    }
}

template <typename F>
LanePanels HostAdapter::pack(int64_t count, int64_t inner, F weight) {
  LanePanels panels{.inner = ceil_div(inner, kLaneChains) * kLaneChains,
                    .panels = ceil_div(count, kLanePanel),
                    .integers = integers_};
  std::byte* const data = memory_ ? memory_.get() + bytes_ : nullptr;
  bytes_ += ceil_div(panels.bytes(), 64) * 64;
  if (data == nullptr) return panels;
  panels.data = data;
  std::vector<float> row(static_cast<size_t>(inner));
  for (int64_t lane = 0; lane < count; ++lane) {
    for (int64_t i = 0; i < inner; ++i) row[static_cast<size_t>(i)] = weight(lane, i);
    write_lane(panels, data + lane / kLanePanel * panels.panel_bytes(), lane % kLanePanel, row);
  }
  return panels;
}

}  // namespace neutrino::compute
