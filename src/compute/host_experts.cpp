// Mixtures of experts: who computes which row, and the rows' way through their experts.
//
// The rows of one expert stand together for its products; every routed row's result is kept, and each row sums its own in
// the order of its routing. So the bits of a row do not depend on which experts its neighbours use.

#include <cmath>
#include <cstring>
#include <limits>

#include "base/checked.h"
#include "base/error.h"
#include "compute/arithmetic.h"
#include "compute/host_backend.h"

namespace neutrino::compute {
namespace {

constexpr int64_t kGroupsMax = 64;

class HostExperts final : public Experts {
 public:
  int64_t bytes() const override {
    int64_t sum = 0;
    for (const auto* list : {&gate, &up, &down})
      for (const auto& matrix : *list) sum += matrix->bytes();
    return sum + static_cast<int64_t>((gate_bias.size() + up_bias.size() + down_bias.size()) * sizeof(float));
  }

  std::vector<std::unique_ptr<Matrix>> gate, up, down;  // one an expert; gate may be empty
  Function function = Function::silu;
  std::vector<float> gate_bias, up_bias, down_bias;  // (experts, columns), or empty
};

// Row e of a table of biases, or nothing.
std::span<const float> bias_of(const std::vector<float>& biases, int64_t expert, int64_t columns) {
  if (biases.empty()) return {};
  return std::span(biases).subspan(static_cast<size_t>(expert * columns), static_cast<size_t>(columns));
}

void add_values(float* sum, const float* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

// ---- routing

// p = gating(logits) of one row.
void gate_row(Gating gating, const float* logits, int64_t experts, float* p) {
  if (gating == Gating::softmax_of_selected) {
    std::copy_n(logits, experts, p);
    return;
  }
  if (gating == Gating::sigmoid) {
    for (int64_t e = 0; e < experts; ++e) p[e] = sigmoid(logits[e]);
    return;
  }
  float largest = -std::numeric_limits<float>::infinity(), lanes[kLanes] = {};
  for (int64_t e = 0; e < experts; ++e) largest = logits[e] > largest ? logits[e] : largest;
  for (int64_t e = 0; e < experts; ++e) {
    p[e] = exponential(logits[e] - largest);
    lanes[e % kLanes] += p[e];
  }
  const float sum = sum_lanes(lanes);
  for (int64_t e = 0; e < experts; ++e) p[e] /= sum;
}

// The index of the largest of n values for which allowed(i) holds; of equal ones the lowest.
template <typename F>
int64_t best_of(const float* values, int64_t n, F allowed) {
  int64_t best = -1;
  for (int64_t i = 0; i < n; ++i)
    if (allowed(i) && (best < 0 || values[i] > values[best])) best = i;
  check(best >= 0, "a router chooses no more experts than there are");
  return best;
}

template <typename T>
bool contains(const T* list, int64_t n, int64_t value) {
  for (int64_t i = 0; i < n; ++i)
    if (list[i] == value) return true;
  return false;
}

float group_score(const RouterShape& router, const float* choice, int64_t size) {
  float first = -std::numeric_limits<float>::infinity(), second = first;
  for (int64_t i = 0; i < size; ++i) {
    if (choice[i] > first)
      second = first, first = choice[i];
    else if (choice[i] > second)
      second = choice[i];
  }
  return router.group_score == GroupScore::largest || size == 1 ? first : first + second;
}

// The groups that experts may come from.
void choose_groups(const RouterShape& router, const float* choice, int64_t* chosen) {
  const int64_t size = router.experts / router.groups;
  float scores[kGroupsMax];
  for (int64_t g = 0; g < router.groups; ++g) scores[g] = group_score(router, choice + g * size, size);
  for (int64_t i = 0; i < router.groups_used; ++i)
    chosen[i] = best_of(scores, router.groups, [&](int64_t g) { return !contains(chosen, i, g); });
}

void choose_experts(const RouterShape& router, const float* choice, int32_t* experts) {
  int64_t groups[kGroupsMax];
  const bool grouped = router.groups_used < router.groups;
  if (grouped) choose_groups(router, choice, groups);
  const int64_t size = router.experts / router.groups;
  for (int64_t i = 0; i < router.experts_used; ++i)
    experts[i] = static_cast<int32_t>(best_of(choice, router.experts, [&](int64_t e) {
      return !contains(experts, i, e) && (!grouped || contains(groups, router.groups_used, e / size));
    }));
}

void weigh_experts(const RouterShape& router, const float* p, const int32_t* experts, float* weights) {
  const int64_t used = router.experts_used;
  for (int64_t i = 0; i < used; ++i) weights[i] = p[experts[i]];
  if (router.gating == Gating::softmax_of_selected) {
    float largest = weights[0], sum = 0;
    for (int64_t i = 1; i < used; ++i) largest = weights[i] > largest ? weights[i] : largest;
    for (int64_t i = 0; i < used; ++i) sum += weights[i] = exponential(weights[i] - largest);
    for (int64_t i = 0; i < used; ++i) weights[i] /= sum;
  }
  if (router.normalize) {
    float sum = 0;
    for (int64_t i = 0; i < used; ++i) sum += weights[i];
    sum = sum < router.weights_min ? router.weights_min : sum;
    for (int64_t i = 0; i < used; ++i) weights[i] /= sum;
  }
  for (int64_t i = 0; i < used; ++i) weights[i] *= router.scale;
}

// ---- rows by expert

// Indices row * used + i of the routing, sorted by expert: those of expert e at [first[e], first[e + 1]).
struct RowsByExpert {
  int32_t* first;
  int32_t* slots;
};

RowsByExpert sort_rows(const Routing& routing, int64_t experts, Scratch& scratch) {
  const int64_t slots = routing.rows * routing.used, size = static_cast<int64_t>(sizeof(int32_t));
  const RowsByExpert out = {reinterpret_cast<int32_t*>(scratch.take((experts + 2) * size)),
                            reinterpret_cast<int32_t*>(scratch.take(slots * size))};
  std::fill_n(out.first, experts + 2, 0);
  for (int64_t s = 0; s < slots; ++s) {
    check(routing.experts[s] >= 0 && routing.experts[s] < experts,
          "a row is routed to an expert that does not exist");
    ++out.first[routing.experts[s] + 2];
  }
  for (int64_t e = 1; e < experts + 2; ++e) out.first[e] += out.first[e - 1];
  // first[e + 1] is now where expert e's slots begin, and in the end where they end.
  for (int64_t s = 0; s < slots; ++s)
    out.slots[out.first[routing.experts[s] + 1]++] = static_cast<int32_t>(s);
  return out;
}

}  // namespace

std::unique_ptr<Experts> HostBackend::load_experts(const ExpertWeights& weights) {
  auto experts = std::make_unique<HostExperts>();
  const auto load = [&](const std::vector<WeightView>& views, std::vector<std::unique_ptr<Matrix>>& list) {
    for (const WeightView& view : views) list.push_back(load_matrix({&view, 1}));
  };
  const auto copy = [](std::span<const float> from) { return std::vector<float>(from.begin(), from.end()); };
  check(!weights.up.empty() && weights.up.size() == weights.down.size() &&
            (weights.gate.empty() || weights.gate.size() == weights.up.size()),
        "experts have one up, one down and one or no gate each");
  check(!weights.gate.empty() || weights.function != Function::swiglu_oai, "swiglu_oai needs a gate");
  load(weights.gate, experts->gate), load(weights.up, experts->up), load(weights.down, experts->down);
  experts->function = weights.function;
  experts->gate_bias = copy(weights.gate_bias);
  experts->up_bias = copy(weights.up_bias);
  experts->down_bias = copy(weights.down_bias);
  return experts;
}

Routing HostBackend::route(const Tensor& logits, const RouterShape& router) {
  check(logits.columns == router.experts && router.experts_used >= 1 &&
            router.experts_used <= router.experts && router.groups >= 1 && router.groups <= kGroupsMax &&
            router.experts % router.groups == 0 && router.groups_used >= 1 &&
            (router.bias.empty() || static_cast<int64_t>(router.bias.size()) == router.experts),
        "route: one logit an expert, groups of equal size");
  const int64_t used = router.experts_used;
  const Routing out = {.rows = logits.rows,
                       .used = used,
                       .experts = reinterpret_cast<int32_t*>(scratch_.tensor(logits.rows, used).data),
                       .weights = scratch_.tensor(logits.rows, used).data};
  const int64_t mark = scratch_.mark();
  const Tensor p = scratch_.tensor(logits.rows, router.experts),
               choice = scratch_.tensor(logits.rows, router.experts);
  for_rows(logits.rows, [&](int64_t r) {
    gate_row(router.gating, logits.row(r), router.experts, p.row(r));
    for (int64_t e = 0; e < router.experts; ++e)
      choice.row(r)[e] = router.bias.empty() ? p.row(r)[e] : p.row(r)[e] + router.bias[e];
    choose_experts(router, choice.row(r), out.experts + r * used);
    weigh_experts(router, p.row(r), out.experts + r * used, out.weights + r * used);
  });
  scratch_.release(mark);
  return out;
}

void HostBackend::experts_add(Tensor& sum, const Activation& x, const Experts& experts,
                              const Routing& routing) {
  const auto& mixture = static_cast<const HostExperts&>(experts);
  const auto count = static_cast<int64_t>(mixture.up.size());
  const int64_t used = routing.used, hidden = mixture.down[0]->rows();
  check(sum.rows == x.rows && routing.rows == x.rows && sum.columns == hidden,
        "experts_add: sum, activations and routing have the same rows");
  const int64_t mark = scratch_.mark();
  const RowsByExpert by_expert = sort_rows(routing, count, scratch_);
  const Tensor results = scratch_.tensor(x.rows * used, hidden);
  for (int64_t e = 0; e < count; ++e) {
    const int32_t* slots = by_expert.slots + by_expert.first[e];
    const int64_t rows = by_expert.first[e + 1] - by_expert.first[e];
    if (rows > 0) run_expert(mixture, e, x, {slots, static_cast<size_t>(rows)}, used, results);
  }
  for_rows(x.rows, [&](int64_t r) {
    // The row's first result takes the others.
    float* const mixed = results.row(r * used);
    for (int64_t i = 0; i < used; ++i) {
      const float weight = routing.weights[r * used + i];
      const float* const result = results.row(r * used + i);
      for (int64_t c = 0; c < hidden; ++c)
        mixed[c] = i == 0 ? weight * result[c] : mixed[c] + weight * result[c];
    }
    add_values(sum.row(r), mixed, hidden);
  });
  scratch_.release(mark);
}

// One expert's rows: gathered, through its matrices, and each into its place in `results`.
void HostBackend::run_expert(const Experts& experts, int64_t expert, const Activation& x,
                             std::span<const int32_t> slots, int64_t used, const Tensor& results) {
  const auto& mixture = static_cast<const HostExperts&>(experts);
  const int64_t mark = scratch_.mark(), inner = mixture.up[expert]->rows();
  const Activation gathered = make_activation(static_cast<int64_t>(slots.size()), x.columns);
  for_rows(gathered.rows, [&](int64_t r) {
    std::memcpy(gathered.data + r * x.row_bytes, x.data + slots[r] / used * x.row_bytes,
                static_cast<size_t>(x.row_bytes));
  });
  const Tensor up = matmul(gathered, *mixture.up[expert]);
  const Tensor gate = mixture.gate.empty() ? up : matmul(gathered, *mixture.gate[expert]);
  const std::span<const float> up_bias = bias_of(mixture.up_bias, expert, inner),
                               gate_bias = bias_of(mixture.gate_bias, expert, inner);
  const Activation inside = make_activation(gathered.rows, inner);
  for_rows(gathered.rows, [&](int64_t r) {
    float *u = up.row(r), *g = gate.row(r);
    if (!up_bias.empty()) add_values(u, up_bias.data(), inner);
    if (g != u && !gate_bias.empty()) add_values(g, gate_bias.data(), inner);
    g == u ? apply_values(mixture.function, u, inner) : gate_values(mixture.function, g, u, inner, g);
    write_activation(inside, r, g);
  });
  const Tensor down = matmul(inside, *mixture.down[expert]);
  const std::span<const float> down_bias = bias_of(mixture.down_bias, expert, results.columns);
  for_rows(down.rows, [&](int64_t r) {
    float* to = results.row(slots[r]);
    std::copy_n(down.row(r), down.columns, to);
    if (!down_bias.empty()) add_values(to, down_bias.data(), down.columns);
  });
  scratch_.release(mark);
}

}  // namespace neutrino::compute
