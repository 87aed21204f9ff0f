#include "cli/nim_variables.h"

namespace neutrino::cli {
namespace {

using enum NimVariable::Meaning;

constexpr NimVariable kVariables[] = {
    {"NIM_MODEL_PATH", value, "MODEL"},
    {"NIM_MODEL_NAME", value, "MODEL"},
    {"NIM_MODEL_PROFILE", value, "profile"},
    {"NIM_SERVED_MODEL_NAME", list, "served-model-name"},
    {"NIM_SERVER_PORT", value, "port"},
    {"NIM_HTTP_API_PORT", value, "port"},
    {"NIM_MAX_MODEL_LEN", value, "context"},
    {"NIM_MAX_NUM_SEQS", value, "max-sequences"},
    {"NIM_LOG_LEVEL", value, "log-level"},
    {"NIM_SSL_CERTS_PATH", value, "tls-cert"},
    {"NIM_SSL_KEY_PATH", value, "tls-key"},
    {"NIM_SSL_CA_CERTS_PATH", value, "tls-client-ca"},
    {"NIM_PEFT_SOURCE", value, "lora-dir"},
    {"NIM_PEFT_REFRESH_INTERVAL", value, "lora-refresh"},
    {"NIM_MAX_GPU_LORAS", value, "max-loras"},
    {"NIM_MAX_LORA_RANK", value, "max-lora-rank"},
    {"NIM_CORS_ALLOW_ORIGINS", list, "allowed-origin"},
    {"NIM_ENABLE_KV_CACHE_REUSE", on_off, "prefix-cache"},
    {"NIM_TOOL_CALL_PARSER", value, "tool-call-parser"},
    {"NIM_DRAFT_MODEL_PATH", value, "draft-model"},
    {"NIM_TENSOR_PARALLEL_SIZE", one_only},
    {"NIM_PIPELINE_PARALLEL_SIZE", one_only},
    {"NIM_NUM_COMPUTE_NODES", one_only},
    {"NIM_CACHE_PATH", noted, {}, "it is used as NEUTRINO_HOME where that is not set"},
    {"NIM_PASSTHROUGH_ARGS", noted, {}, "its words are read as flags"},
    {"NIM_SSL_MODE",
     noted,
     {},
     "TLS follows from NIM_SSL_CERTS_PATH, client certificates from NIM_SSL_CA_CERTS_PATH"},
    {"NIM_JSONL_LOGGING", noted, {}, "the log of requests is JSON lines always"},
    {"NIM_DISABLE_MODEL_DOWNLOAD", noted, {}, "serve never downloads; `neutrino model pull` does"},
    {"NIM_FORCE_DETERMINISTIC", noted, {}, "results never depend on the batch"},
    {"NIM_ENABLE_AUTO_TOOL_CHOICE", noted, {}, "tool_choice auto is always there"},
    {"NIM_DISABLE_CUDA_GRAPH", noted, {}, "there are none"},
    {"NIM_GUIDED_DECODING_BACKEND", noted, {}, "there is one, llguidance"},
    {"NIM_MAX_CPU_LORAS", noted, {}, "adapters are in one memory: NIM_MAX_GPU_LORAS counts them"},
    {"NIM_ENABLE_PROMPT_LOGPROBS", noted, {}, "completions give them with echo and logprobs"},
    {"NIM_PER_REQ_METRICS_ENABLE", noted, {}, "a request asks for timings itself"},
};

}  // namespace

std::span<const NimVariable> nim_variables() { return kVariables; }

}  // namespace neutrino::cli
