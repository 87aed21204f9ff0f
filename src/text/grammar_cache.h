// Compiled grammars of one vocabulary, the most recently used ones kept.
//
// Clients send the same schema with each request, and compiling takes milliseconds. A grammar in use lives on when it is
// dropped from here. The vocabulary is made with the first grammar: a model that never meets one pays nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <mutex>

#include "base/limits.h"
#include "text/constraints.h"

namespace neutrino::text {

struct GrammarCacheOptions {
  int64_t entries_max = limits::kGrammarCacheEntries;
  int64_t bytes_max = limits::kGrammarCacheBytes;  // of the sources
};

// Any thread.
class GrammarCache {
 public:
  using MakeTokens = std::function<VocabularyTokens()>;
  explicit GrammarCache(MakeTokens make_tokens, GrammarCacheOptions options = {});

  // Throws as Grammar does; what cannot be compiled is not kept.
  std::shared_ptr<const Grammar> get(const GrammarSpec& spec);
  const GrammarVocabulary& vocabulary();

  struct Counts {
    int64_t hits = 0, misses = 0, entries = 0, bytes = 0;
  };
  Counts counts() const;

 private:
  struct Entry {
    GrammarSpec spec;
    std::shared_ptr<const Grammar> grammar;
  };
  std::shared_ptr<const Grammar> find(const GrammarSpec& spec);
  void add(const GrammarSpec& spec, std::shared_ptr<const Grammar> grammar);

  const MakeTokens make_tokens_;
  const GrammarCacheOptions options_;
  std::once_flag vocabulary_made_;
  std::unique_ptr<const GrammarVocabulary> vocabulary_;
  mutable std::mutex mutex_;  // guards the two below
  std::list<Entry> entries_;  // the one used last in front
  Counts counts_;
};

}  // namespace neutrino::text
