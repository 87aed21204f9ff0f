#include "text/grammar_cache.h"

#include <algorithm>
#include <utility>

#include "base/fault.h"

namespace neutrino::text {

GrammarCache::GrammarCache(MakeTokens make_tokens, GrammarCacheOptions options)
    : make_tokens_(std::move(make_tokens)), options_(options) {}

const GrammarVocabulary& GrammarCache::vocabulary() {
  std::call_once(vocabulary_made_,
                 [this] { vocabulary_ = std::make_unique<const GrammarVocabulary>(make_tokens_()); });
  return *vocabulary_;
}

std::shared_ptr<const Grammar> GrammarCache::get(const GrammarSpec& spec) {
  if (auto known = find(spec)) return known;
  fault_point("grammar_compile");
  auto grammar = std::make_shared<const Grammar>(vocabulary(), spec);  // without the lock: it takes time
  add(spec, grammar);
  return grammar;
}

std::shared_ptr<const Grammar> GrammarCache::find(const GrammarSpec& spec) {
  const std::lock_guard lock(mutex_);
  const auto found =
      std::ranges::find_if(entries_, [&](const Entry& entry) { return entry.spec.same_grammar(spec); });
  ++(found == entries_.end() ? counts_.misses : counts_.hits);
  if (found == entries_.end()) return nullptr;
  entries_.splice(entries_.begin(), entries_, found);
  return entries_.front().grammar;
}

void GrammarCache::add(const GrammarSpec& spec, std::shared_ptr<const Grammar> grammar) {
  const auto size = std::ssize(spec.text);
  if (size > options_.bytes_max) return;
  const std::lock_guard lock(mutex_);
  entries_.push_front({spec, std::move(grammar)});
  counts_.bytes += size;
  while (std::ssize(entries_) > options_.entries_max || counts_.bytes > options_.bytes_max) {
    counts_.bytes -= std::ssize(entries_.back().spec.text);
    entries_.pop_back();
  }
}

GrammarCache::Counts GrammarCache::counts() const {
  const std::lock_guard lock(mutex_);
  Counts counts = counts_;
  counts.entries = std::ssize(entries_);
  return counts;
}

}  // namespace neutrino::text
