#include "cli/load.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <ctime>

#include "base/checked.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/sha256.h"
#include "chat/answer_syntax.h"
#include "chat/chat_template.h"
#include "chat/tool_prompt.h"
#include "cli/fill_in_tokens.h"
#include "cli/model_papers.h"
#include "cli/profiles.h"
#include "engine/adapter_folder.h"
#include "engine/engine.h"
#include "engine/local_chat_model.h"
#include "engine/local_embedding_model.h"
#include "models/model.h"

namespace neutrino::cli {
namespace {

constexpr int64_t kContextsDefault = 4;                // full contexts that the default KV memory holds
constexpr int64_t kOverheadBytes = int64_t{64} << 20;  // scratch, vocabulary, the program itself

std::optional<std::string> token_text(const tokenizer::Tokenizer& tokenizer, std::optional<int32_t> id) {
  return id ? std::optional<std::string>(tokenizer.bytes(*id)) : std::nullopt;
}

// What the weights take once they stand in a backend's layout: about their size in the file, or 4 bytes each in float32.
int64_t weights_bytes(const weights::WeightFile& file, compute::Arithmetic arithmetic) {
  int64_t bytes = 0;
  for (const weights::TensorEntry& tensor : file.tensors()) {
    const compute::DTypeInfo& info = compute::dtype_info(tensor.dtype);
    bytes += arithmetic == compute::Arithmetic::integer ? tensor.bytes * 17 / 16
                                                        : tensor.bytes / info.block_bytes * info.block * 4;
  }
  return bytes;
}

// Names the weights by their contents without reading all of a large file: every tensor's name, type, size and first bytes.
std::string sampled_digest(const weights::WeightFile& file) {
  Sha256 hash;
  for (const weights::TensorEntry& tensor : file.tensors()) {
    hash.update(fmt::format("{} {} {}\n", tensor.name, compute::dtype_info(tensor.dtype).name, tensor.bytes));
    const weights::TensorData data = file.read(tensor);
    hash.update({data.data, static_cast<size_t>(std::min<int64_t>(tensor.bytes, 4096))});
  }
  return to_hex(hash.finish());
}

// What the cache holds, and what it takes.
struct CacheSize {
  engine::KvPlan plan;
  int64_t state_bytes = 0;  // of one state slot (0: the model keeps no state)
  int64_t sequences = 0;    // with a state each
  int64_t blocks = 0, state_snapshots = 0;
  int64_t states() const { return state_bytes > 0 ? (sequences + state_snapshots) * state_bytes : 0; }
  int64_t draft_bytes = 0;  // keys and values of a draft model, in as many blocks
  int64_t bytes() const { return plan.bytes(blocks) + states() + draft_bytes; }
  std::string text() const;  // "1.2 GiB of KV memory for 4096 tokens, ..."
};

std::string CacheSize::text() const {
  std::string text = fmt::format("{} of KV memory for {} tokens", size_text(plan.bytes(blocks)),
                                 blocks * compute::kBlockPositions);
  if (state_bytes > 0)
    text += fmt::format(", {} for the states of {} sequences and {} snapshots", size_text(states()),
                        sequences, state_snapshots);
  if (draft_bytes > 0) text += fmt::format(", {} for the draft model's", size_text(draft_bytes));
  return text;
}

int64_t draft_bytes(const EngineConfig& config, const models::Model* draft, compute::Arithmetic arithmetic,
                    int64_t blocks) {
  if (draft == nullptr) return 0;
  compute::KvCacheShape shape = draft->kv_cache_shape(1);
  shape.type = parse_kv_type(config.kv_type);
  return blocks * compute::kv_block_bytes(shape, arithmetic);
}

// Snapshots of states, beside a state for each sequence: as many as the engine likes, in at most a part of what is there.
int64_t choose_snapshots(const EngineConfig& config, int64_t state_bytes, int64_t bytes) {
  if (state_bytes == 0 || config.prefix_cache != "on") return 0;
  return std::clamp<int64_t>(bytes / state_bytes, 0, engine::kSnapshotsPerSequence * config.max_sequences);
}

// From the flag, which is for keys, values and states together, or from the memory that was free before the weights came.
// Throws Error with the figures if the model does not fit.
CacheSize choose_cache(const EngineConfig& config, const models::Model& model, const models::Model* draft,
                       compute::Arithmetic arithmetic, const AvailableMemory& available, int64_t weights) {
  CacheSize size{
      .plan = {model,
               parse_kv_type(config.kv_type),
               arithmetic,
               {model.context(), config.max_sequences, config.batch_tokens}},
      .state_bytes = model.config().recurrent ? compute::state_slot_bytes(model.kv_cache_shape(1, 1)) : 0,
      .sequences = config.max_sequences};
  const int64_t one_context = ceil_div(model.context(), compute::kBlockPositions);
  if (config.kv_memory.empty()) {
    size.state_snapshots = choose_snapshots(config, size.state_bytes, available.bytes / 8);
    size.blocks = std::min(std::max(one_context, size.plan.positions_in(available.bytes / 4)),
                           kContextsDefault * one_context);
  } else {
    int64_t rest = parse_size("--kv-memory", config.kv_memory) - size.states();
    size.state_snapshots = choose_snapshots(config, size.state_bytes, rest / 2);
    rest -= size.state_snapshots * size.state_bytes;
    size.blocks = rest > 0 ? size.plan.positions_in(rest) : 0;
    if (size.blocks < 1)
      throw make_error(ErrorCode::invalid_argument,
                       "--kv-memory must hold at least one block of {}{} for this model, got {}",
                       size_text(size.plan.bytes(1)),
                       size.state_bytes > 0 ? fmt::format(" and a state of {} for each of {} sequences",
                                                          size_text(size.state_bytes), config.max_sequences)
                                            : "",
                       config.kv_memory);
  }
  size.draft_bytes = draft_bytes(config, draft, arithmetic, size.blocks);
  require_memory(weights + size.bytes() + kOverheadBytes,
                 fmt::format("the model ({} of weights, {}, {} beside them)", size_text(weights), size.text(),
                             size_text(kOverheadBytes)),
                 available);
  return size;
}

// Throws Error where two models disagree about a token: a guess would mean something else.
void check_same_tokens(const tokenizer::Tokenizer& draft, const tokenizer::Tokenizer& large,
                       const std::string& draft_name, const std::string& large_name) {
  const auto differ = [&](const std::string& how) {
    throw make_error(ErrorCode::invalid_argument, "the draft model {} has other tokens than {}: {}",
                     draft_name, large_name, how);
  };
  if (draft.size() != large.size()) differ(fmt::format("{} of them, and not {}", draft.size(), large.size()));
  for (int32_t id = 0; id < large.size(); ++id)
    if (draft.bytes(id) != large.bytes(id) || draft.kind(id) != large.kind(id))
      differ(fmt::format("token {} is not the same", id));
}

// Absent: by what is measured.
std::optional<double> queue_wait(const EngineConfig& config) {
  if (config.max_queue_wait == "auto") return std::nullopt;
  return std::stod(config.max_queue_wait);  // checked where it was read
}

class LocalModel final : public RunningModel {
 public:
  LocalModel(const std::string& name_or_path, const EngineConfig& config)
      : opened_(open_model(name_or_path)),
        arithmetic_(config.exact ? compute::Arithmetic::float32 : compute::Arithmetic::integer) {
    const int64_t start = clock_.now_ns();
    if (config.exact && config.kv_type != EngineConfig().kv_type)
      throw make_error(ErrorCode::invalid_argument,
                       "--kv-type {} and --exact exclude each other: exact keys and values are float32",
                       config.kv_type);
    const models::ModelConfig facts = models::read_model_config(*opened_.file);
    if (config.context > facts.max_position_embeddings)
      throw make_error(ErrorCode::invalid_argument, "--context must be at most {} for this model, got {}",
                       facts.max_position_embeddings, config.context);
    const bool pools = facts.pooling != models::Pooling::none;
    const int64_t fallback = pools ? limits::kEmbeddingContextDefault : models::kContextDefault;
    const int64_t context =
        std::min(facts.max_position_embeddings, config.context > 0 ? config.context : fallback);
    weights_bytes_ = weights_bytes(*opened_.file, arithmetic_);
    const AvailableMemory available = available_memory();
    require_memory(weights_bytes_ + kOverheadBytes,
                   fmt::format("the model ({} of weights, {} beside them)", size_text(weights_bytes_),
                               size_text(kOverheadBytes)),
                   available);
    if (pools) {
      load_embedding_model(facts, context, config);
      return;
    }
    load(facts, context, config);
    load_draft_model(config, context);
    const CacheSize cache = choose_cache(config, *model_, draft_model_.get(), arithmetic_, available,
                                         weights_bytes_ + draft_weights_bytes_);
    start_engine(config, context, cache);
    spdlog::info("model loaded name={} backend={} threads={} context={} kv_tokens={} ms={}", opened_.name,
                 backend_->name(), backend_->threads(), context, cache.blocks * compute::kBlockPositions,
                 (clock_.now_ns() - start) / 1'000'000);
  }

  chat::ChatModel& chat_model() override { return *chat_model_; }
  Metrics& metrics() override { return metrics_; }

 private:
  void load(const models::ModelConfig& facts, int64_t context, const EngineConfig& config) {
    tokenizer_ = tokenizer::make_tokenizer(opened_.file->vocabulary());
    if (tokenizer_->size() > facts.vocab_size)
      throw make_error(ErrorCode::invalid_argument,
                       "the vocabulary has {} tokens, but the model has logits for {}", tokenizer_->size(),
                       facts.vocab_size);
    if (const auto source = opened_.file->chat_template())
      template_ = std::make_unique<chat::ChatTemplate>(
          *source, token_text(*tokenizer_, tokenizer_->bos()).value_or(""),
          token_text(*tokenizer_, tokenizer_->eos()).value_or(""));
    backend_ = compute::make_cpu_backend(
        {.arithmetic = arithmetic_, .threads = config.threads, .weight_cache = weight_cache(config)});
    model_ = models::load_model(*opened_.file, *backend_, context);
  }

  void load_embedding_model(const models::ModelConfig& facts, int64_t context, const EngineConfig& config) {
    if (!config.loras.empty() || !config.lora_dir.empty())
      throw make_error(ErrorCode::invalid_argument,
                       "--lora and --lora-dir are for models that generate text; {} makes embeddings",
                       opened_.name);
    load(facts, context, config);
    set_fingerprint(config);
    chat::ChatModelInfo info = this->info(config, context);
    info.reranker = facts.pooling == models::Pooling::rank;
    info.embedding_size = info.reranker ? 0 : facts.hidden_size;
    info.metadata["task"] = info.reranker ? "rerank" : "embed";
    auto embedder = std::make_unique<engine::LocalEmbeddingModel>(
        *model_, *backend_, *tokenizer_, std::move(info),
        engine::EmbeddingOptions{.model_name = served_name(config), .pair_prompt = pair_prompt()}, metrics_,
        clock_);
    spdlog::info("embedding model loaded name={} backend={} threads={} context={}", opened_.name,
                 backend_->name(), backend_->threads(), context);
    chat_model_ = std::move(embedder);
  }

  std::string pair_prompt() const {
    return std::string(opened_.file->metadata().text("tokenizer.chat_template.rerank").value_or(""));
  }

  // Named by the model's contents.
  std::filesystem::path weight_cache(const EngineConfig& config) const {
    if (config.weight_cache != "on") return {};
    return neutrino_home() / "cache" / "weights" / (opened_.digest + ".weights");
  }

  std::string served_name(const EngineConfig& config) const {
    return config.served_name.empty() ? opened_.name : config.served_name;
  }

  void set_fingerprint(const EngineConfig& config) {
    const std::string digest =
        opened_.manifest ? opened_.manifest->digest.hex() : sampled_digest(*opened_.file);
    fingerprint_ = "fp_" + to_hex(sha256(fmt::format("{} {} {} {} {}", digest, NEUTRINO_VERSION,
                                                     backend_->name(), config.exact, config.kv_type)))
                               .substr(0, 16);
  }

  // The draft model, if there is to be one, with a backend of its own.
  void load_draft_model(const EngineConfig& config, int64_t context) {
    if (config.draft_model.empty()) {
      if (config.speculate.starts_with("draft-model"))
        throw make_error(ErrorCode::invalid_argument, "--speculate {} needs --draft-model", config.speculate);
      return;
    }
    draft_ = std::make_unique<weights::OpenModel>(open_model(config.draft_model));
    const auto tokenizer = tokenizer::make_tokenizer(draft_->file->vocabulary());
    check_same_tokens(*tokenizer, *tokenizer_, draft_->name, opened_.name);
    draft_weights_bytes_ = weights_bytes(*draft_->file, arithmetic_);
    require_memory(draft_weights_bytes_,
                   fmt::format("the draft model ({} of weights)", size_text(draft_weights_bytes_)),
                   available_memory());
    draft_backend_ = compute::make_cpu_backend({.arithmetic = arithmetic_, .threads = config.threads});
    draft_model_ = models::load_model(*draft_->file, *draft_backend_, context);
  }

  engine::SpeculationOptions speculation(const EngineConfig& config) const {
    const bool unsaid = draft_model_ && config.speculate == "off";
    engine::SpeculationOptions options = parse_speculation(unsaid ? "draft-model" : config.speculate);
    options.draft_model = draft_model_.get();
    options.draft_backend = draft_backend_.get();
    return options;
  }

  void start_engine(const EngineConfig& config, int64_t context, const CacheSize& cache) {
    const auto stops = tokenizer_->stop_tokens();
    set_fingerprint(config);
    engine_ = std::make_unique<engine::Engine>(
        *model_, *backend_,
        engine::EngineOptions{
            .max_sequences = config.max_sequences,
            .batch_tokens = config.batch_tokens,
            .context_tokens = context,
            .kv_blocks = cache.blocks,
            .kv_type = parse_kv_type(config.kv_type),
            .prefix_cache = config.prefix_cache == "on" ? engine::PrefixCache::on : engine::PrefixCache::off,
            .speculation = speculation(config),
            .state_snapshots = cache.state_snapshots,
            .queue_wait_seconds_max = queue_wait(config),
            .vocab_size = tokenizer_->size(),
            .end_tokens = {stops.begin(), stops.end()},
            .model_name = served_name(config),
            .fingerprint = fingerprint_,
            .adapter_rank_max = config.max_lora_rank},
        metrics_, clock_);
    adapters_ = std::make_unique<engine::Adapters>(
        *opened_.file, *backend_,
        engine::AdapterOptions{.count_max = config.max_loras,
                               .rank_max = config.max_lora_rank,
                               .bytes_max = parse_size("--lora-memory", config.lora_memory)},
        metrics_);
    chat_model_ = std::make_unique<engine::LocalChatModel>(
        *engine_, *tokenizer_,
        [this](const chat::Conversation& conversation) { return render(conversation); },
        info(config, context), adapters_.get());
    engine_->start();
    serve_adapters(config);
  }

  // Those of the command line must load; those of the folder come and go.
  void serve_adapters(const EngineConfig& config) {
    for (const std::string& lora : config.loras) {
      const size_t equals = lora.find('=');
      if (equals == lora.npos || equals == 0 || equals + 1 == lora.size())
        throw make_error(ErrorCode::invalid_argument, "--lora must be NAME=PATH, got \"{:.200}\"", lora);
      const std::string name = lora.substr(0, equals);
      if (name == served_name(config) || name == opened_.name)
        throw make_error(ErrorCode::invalid_argument, "--lora {}: this is the name of the model itself",
                         name);
      adapters_->load(name, lora.substr(equals + 1), chat::IfLoaded::refuse);
    }
    if (config.lora_dir.empty()) return;
    adapter_folder_ = std::make_unique<engine::AdapterFolder>(*chat_model_, config.lora_dir);
    adapter_folder_->refresh();
    if (config.lora_refresh_seconds > 0)
      adapter_folder_->start(std::chrono::seconds(config.lora_refresh_seconds));
  }

  std::string render(const chat::Conversation& conversation) const {
    if (template_) return chat::render_with_tools(*template_, conversation);
    throw make_error(ErrorCode::invalid_argument, "model {} has no chat template; use /v1/completions",
                     opened_.name)
        .with_reason("template_error");
  }

  chat::ChatModelInfo info(const EngineConfig& config, int64_t context) const {
    chat::ChatModelInfo info;
    info.name = opened_.name;
    info.fingerprint = fingerprint_;
    info.context_tokens = context;
    info.vocab_size = tokenizer_->size();
    info.created_unix = std::time(nullptr);
    info.has_chat_template = template_ != nullptr;
    info.template_sha256 = opened_.facts.template_sha256;
    if (template_) {
      info.chat_template = template_->source();
      info.answer = chat::choose_answer_style(info.chat_template, *tokenizer_, config.tool_call_parser,
                                              config.reasoning_parser);
    }
    info.metadata = {{"architecture", opened_.facts.architecture},
                     {"quantization", opened_.facts.quantization},
                     {"parameters", opened_.facts.parameters},
                     {"license", opened_.facts.license.id},
                     {"format", std::string(opened_.file->format())},
                     {"backend", std::string(backend_->name())},
                     {"arithmetic", config.exact ? "float32" : "integer"},
                     {"threads", backend_->threads()},
                     {"max_sequences", config.max_sequences},
                     {"batch_tokens", config.batch_tokens},
                     {"kv_type", config.exact ? "f32" : config.kv_type},
                     {"prefix_cache", config.prefix_cache == "on"},
                     {"speculation", config.speculate},
                     {"memory", json::object{{"weights_bytes", weights_bytes_}}}};
    info.fill_in = find_fill_in_tokens(opened_.file->metadata(), *tokenizer_);
    info.metadata["selectedModelProfileId"] = profile_id(opened_.facts, config.exact, config.kv_type);
    info.license = license_json(opened_.facts);
    info.manifest = manifest_json(opened_);
    json::object memory = info.metadata["memory"].as_object();
    if (engine_) memory["kv_bytes"] = engine_->kv_bytes();
    if (draft_model_) {
      info.metadata["draft_model"] = draft_->name;
      memory["draft_weights_bytes"] = draft_weights_bytes_;
      memory["draft_kv_bytes"] = engine_->speculation().model()->kv_bytes();
    }
    if (adapters_) {
      memory["adapters_bytes_max"] = adapters_->options().bytes_max;
      info.metadata["adapter_limits"] = json::object{{"count", adapters_->options().count_max},
                                                     {"rank", adapters_->options().rank_max},
                                                     {"bytes", adapters_->options().bytes_max}};
    }
    info.metadata["memory"] = std::move(memory);
    if (template_) {
      const auto* const reasoning = info.answer.reasoning;
      info.metadata["tool_call_parser"] = info.answer.calls->name;
      info.metadata["reasoning_parser"] = reasoning == nullptr ? "none" : reasoning->name;
    }
    return info;
  }

  // In the order of use: the last is destroyed first.
  SystemClock clock_;
  Metrics metrics_;
  weights::OpenModel opened_;
  compute::Arithmetic arithmetic_;
  int64_t weights_bytes_ = 0, draft_weights_bytes_ = 0;
  std::unique_ptr<tokenizer::Tokenizer> tokenizer_;
  std::unique_ptr<chat::ChatTemplate> template_;
  std::unique_ptr<compute::Backend> backend_;
  std::unique_ptr<models::Model> model_;
  std::unique_ptr<weights::OpenModel> draft_;
  std::unique_ptr<compute::Backend> draft_backend_;
  std::unique_ptr<models::Model> draft_model_;
  std::string fingerprint_;
  std::unique_ptr<engine::Adapters> adapters_;
  std::unique_ptr<engine::Engine> engine_;
  std::unique_ptr<chat::ChatModel> chat_model_;
  std::unique_ptr<engine::AdapterFolder> adapter_folder_;
};

}  // namespace

weights::OpenModel open_model(const std::string& name_or_path) {
  return weights::resolve_model(weights::Store(weights::store_folder()), name_or_path);
}

void add_engine_options(CLI::App& app, EngineConfig& config) {
  const auto count = [&](const char* name, int64_t& value, int64_t most, const char* help) {
    return app.add_option(name, value, help)->check(CLI::Range(int64_t{1}, most));
  };
  count("--threads", config.threads, 1024, "compute threads (default: one per core)");
  count("--max-sequences", config.max_sequences, limits::kSequencesMax, "sequences that run side by side")
      ->capture_default_str();
  count("--context", config.context, limits::kContextTokens,
        "tokens a sequence may have (default: as trained)");
  count("--batch-tokens", config.batch_tokens, limits::kBatchTokensMax, "tokens of one engine step")
      ->capture_default_str();
  app.add_option(
      "--kv-memory", config.kv_memory,
      "memory for keys, values and recurrent states, as 512M or 2G (default: four contexts, at most a "
      "quarter of the free memory)");
  app.add_option("--kv-type", config.kv_type,
                 "how keys and values are kept: bf16, f16 (finer) or q8_0 (about half the memory)")
      ->check(CLI::IsMember(kv_type_names()))
      ->capture_default_str();
  app.add_option("--prefix-cache", config.prefix_cache,
                 "share the keys and values of common prefixes: on or off")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option(
         "--speculate", config.speculate,
         "guess tokens and check several in one step, with the same answers: off, prompt-lookup (tokens "
         "that followed before), draft-model; with :K at most K guesses a step (8 and 4 if not said)")
      ->capture_default_str();
  app.add_option(
      "--draft-model", config.draft_model,
      "a smaller model with the same tokens that guesses (--speculate draft-model if nothing else is said)");
  app.add_option("--weight-cache", config.weight_cache,
                 "keep repacked weights in $NEUTRINO_HOME/cache/weights, for faster starts: on or off")
      ->check(CLI::IsMember({"on", "off"}))
      ->capture_default_str();
  app.add_option("--tool-call-parser", config.tool_call_parser,
                 "syntax of the model's tool calls: hermes, qwen3_coder, llama3_json, pythonic, mistral, ... "
                 "(default: as its chat template shows)");
  app.add_option("--reasoning-parser", config.reasoning_parser,
                 "tags of the model's reasoning: think, mistral, seed, harmony or none (default: as its chat "
                 "template shows)");
  app.add_option(
         "--max-queue-wait", config.max_queue_wait,
         "refuse with 429 what would have to wait longer: seconds, 0 (any wait, while the queue has room), "
         "or auto (as long as a first token takes, for a burst as long as a generation takes)")
      ->check(CLI::Range(0.0, 86400.0) | CLI::IsMember({"auto"}))
      ->capture_default_str();
  app.add_flag("--exact", config.exact, "float32 arithmetic in the reference order (slower)");
}

void add_adapter_options(CLI::App& app, EngineConfig& config) {
  app.add_option("--lora", config.loras,
                 "serve an adapter (a PEFT folder or a GGUF file), as NAME=PATH (repeatable)");
  app.add_option("--lora-dir", config.lora_dir,
                 "serve every adapter in this folder under its name there, and follow what changes");
  app.add_option("--lora-refresh", config.lora_refresh_seconds,
                 "seconds between two looks at --lora-dir; 0: only at the start")
      ->check(CLI::Range(0, 86400))
      ->capture_default_str();
  app.add_option("--max-loras", config.max_loras, "adapters that are served at once")
      ->check(CLI::Range(int64_t{1}, limits::kAdaptersMax))
      ->capture_default_str();
  app.add_option("--max-lora-rank", config.max_lora_rank, "largest rank of an adapter")
      ->check(CLI::Range(int64_t{1}, limits::kAdapterRankMax))
      ->capture_default_str();
  app.add_option("--lora-memory", config.lora_memory, "memory of all adapters together, as 512M or 2G")
      ->capture_default_str();
}

std::unique_ptr<RunningModel> start_model(const std::string& name_or_path, const EngineConfig& config) {
  return std::make_unique<LocalModel>(name_or_path, config);
}

std::vector<std::string> kv_type_names() {
  return {std::begin(compute::kKvTypeNames), std::end(compute::kKvTypeNames)};
}

compute::KvType parse_kv_type(std::string_view name) {
  const auto found = std::ranges::find(compute::kKvTypeNames, name);
  if (found == std::end(compute::kKvTypeNames))
    throw make_error(ErrorCode::invalid_argument, "--kv-type must be bf16, f16 or q8_0, got \"{}\"", name);
  return static_cast<compute::KvType>(found - std::begin(compute::kKvTypeNames));
}

engine::SpeculationOptions parse_speculation(std::string_view text) {
  if (text == "off") return {};
  const size_t colon = text.find(':');
  const std::string_view way = text.substr(0, colon);
  const bool lookup = way == "prompt-lookup";
  int64_t most = lookup ? engine::kDraftTokensDefault : engine::kModelDraftTokensDefault;
  bool good = lookup || way == "draft-model";
  if (good && colon != std::string_view::npos) {
    const char* const end = text.data() + text.size();
    const auto [stop, failure] = std::from_chars(text.data() + colon + 1, end, most);
    good = failure == std::errc{} && stop == end && most >= 1 && most <= engine::kDraftTokensMax;
  }
  if (!good)
    throw make_error(
        ErrorCode::invalid_argument,
        "--speculate must be off, prompt-lookup, draft-model, or one of these with :K, K from 1 to {}, "
        "got \"{}\"",
        engine::kDraftTokensMax, text);
  return {.draft_tokens = most, .prompt_lookup = lookup};
}

int64_t parse_size(std::string_view what, std::string_view text) {
  int64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view unit(end, text.data() + text.size() - end);
  const int64_t factor = unit.empty()                 ? 1
                         : unit == "K" || unit == "k" ? int64_t{1} << 10
                         : unit == "M" || unit == "m" ? int64_t{1} << 20
                         : unit == "G" || unit == "g" ? int64_t{1} << 30
                                                      : 0;
  const auto bytes = checked_mul(value, factor);
  if (failure != std::errc{} || value < 1 || factor == 0 || !bytes)
    throw make_error(ErrorCode::invalid_argument, "{} must be a size such as 512M or 2G, got \"{}\"", what,
                     text);
  return *bytes;
}

}  // namespace neutrino::cli
