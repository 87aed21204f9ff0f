#include "engine/sequence.h"

#include <algorithm>
#include <limits>

#include "base/checked.h"
#include "base/random.h"
#include "chat/answer_syntax.h"
#include "engine/block_manager.h"

namespace neutrino::engine {
namespace {

std::vector<int32_t> all_end_tokens(const chat::SamplingParameters& sampling,
                                    std::span<const int32_t> model_end_tokens) {
  std::vector<int32_t> all = sampling.stop_token_ids;
  if (!sampling.ignore_eos) all.insert(all.end(), model_end_tokens.begin(), model_end_tokens.end());
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

bool has_penalties(const chat::SamplingParameters& p) {
  return p.presence_penalty != 0 || p.frequency_penalty != 0 || p.repetition_penalty != 1;
}

std::optional<ThinkingPhase> make_thinking(const chat::GenerationRequest& request) {
  if (!request.thinking || (!request.grammar && !request.thinking_budget)) return std::nullopt;
  return ThinkingPhase(request.thinking, {.inside = request.answer && request.answer->in_reasoning,
                                          .budget = request.thinking_budget,
                                          .before_grammar = request.grammar != nullptr});
}

// nullptr: nothing is asked of the tokens.
std::unique_ptr<Guide> make_guide(const chat::GenerationRequest& request, const Sequence& sequence,
                                  std::span<const int32_t> model_end_tokens, int64_t vocab_size) {
  std::optional<ThinkingPhase> thinking = make_thinking(request);
  if (!request.grammar && !thinking) return nullptr;
  GuideOptions options{.model_end_tokens = {model_end_tokens.begin(), model_end_tokens.end()},
                       .end_tokens = sequence.end_tokens,
                       .ignore_eos = sequence.sampling.ignore_eos,
                       .vocab_size = vocab_size,
                       .forcing = sequence.sampling.logprobs ? Forcing::one_by_one : Forcing::at_once};
  return std::make_unique<Guide>(request.grammar.get(), std::move(thinking), std::move(options));
}

}  // namespace

Sequence::Sequence(chat::GenerationRequest&& request, std::span<const int32_t> model_end_tokens,
                   const Sha256Digest& root_name, size_t kv_groups, int64_t vocab_size)
    : id(std::move(request.id)),
      sampling(std::move(request.sampling)),
      seed(sampling.seed ? *sampling.seed : system_entropy()),
      prompt_tokens(static_cast<int64_t>(request.prompt.size())),
      end_tokens(all_end_tokens(sampling, model_end_tokens)),
      priority(request.priority),
      timeout_ms(request.timeout_ms),
      report_progress(request.report_progress),
      adapter(std::static_pointer_cast<const LoadedAdapter>(std::move(request.adapter))),
      stream(sampling.max_tokens, sampling.logprobs.value_or(0)),
      tokens(std::move(request.prompt)),
      root(root_name) {
  const int64_t most = prompt_tokens + sampling.max_tokens;
  const size_t blocks = static_cast<size_t>(ceil_div(most, compute::kBlockPositions));
  tokens.reserve(static_cast<size_t>(most));
  for (size_t i = 0; i < kv_groups; ++i) tables[i].blocks.reserve(blocks);
  block_names.reserve(blocks);
  if (has_penalties(sampling)) counts.emplace(tokens, sampling.max_tokens);
  guide = make_guide(request, *this, model_end_tokens, vocab_size);
  if (sampling.prompt_logprobs) {
    prompt_logprobs.resize(static_cast<size_t>(prompt_tokens));
    prompt_logprobs[0] = {tokens[0], std::numeric_limits<float>::quiet_NaN()};
    prompt_tops.resize(static_cast<size_t>((prompt_tokens - 1) * *sampling.prompt_logprobs));
  }
}

bool Sequence::is_end_token(int32_t token) const { return std::ranges::binary_search(end_tokens, token); }

const Sha256Digest& Sequence::block_name(int64_t block, Sha256& hash) {
  while (std::ssize(block_names) <= block) {
    const auto rest = std::span(tokens).subspan(block_names.size() * compute::kBlockPositions);
    const Sha256Digest& prefix = block_names.empty() ? root : block_names.back();
    block_names.push_back(extend_prefix(hash, prefix, rest.first<compute::kBlockPositions>()));
  }
  return block_names[static_cast<size_t>(block)];
}

std::span<chat::TokenLogprob> Sequence::prompt_top(int64_t index) {
  const int64_t count = sampling.prompt_logprobs.value_or(0);
  return std::span(prompt_tops).subspan(static_cast<size_t>(index * count), static_cast<size_t>(count));
}

}  // namespace neutrino::engine
