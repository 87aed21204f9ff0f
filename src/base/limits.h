// Every limit of the product in one table. Code names a limit; it never writes the number. What is tunable by flag says so.
#pragma once

#include <cstddef>
#include <cstdint>

namespace neutrino::limits {

// Model files.
inline constexpr int64_t kGgufTensors = 1 << 16;
inline constexpr int64_t kGgufMetadataEntries = 1 << 16;
inline constexpr int64_t kGgufKeyBytes = 1 << 10;
inline constexpr int64_t kGgufNameBytes = 64;            // of a tensor; the format's own limit
inline constexpr int64_t kGgufStringBytes = 64 << 20;    // the largest real one is a chat template
inline constexpr int64_t kGgufArrayElements = 16 << 20;  // merges of a 256k vocabulary are 0.5 M
inline constexpr int64_t kGgufAlignment = 1 << 20;
inline constexpr int64_t kGgufAlignmentMin = 8;  // float32 and int64 are then read in place
inline constexpr int64_t kTensorDimensions = 4;
inline constexpr int64_t kSafetensorsHeaderBytes = 100'000'000;  // the format's own limit
inline constexpr int64_t kSafetensorsNameBytes = 1 << 10;
inline constexpr int64_t kSafetensorsDimensions = 8;
inline constexpr int64_t kShards = 4096;  // of a split GGUF file or a sharded checkpoint
inline constexpr int64_t kConfigBytes =
    64 << 20;  // of one JSON file beside the weights; the largest are indices
inline constexpr int64_t kVocabularyTokens = 1 << 22;
inline constexpr int64_t kTokenTextBytes = 64 << 10;
inline constexpr int64_t kTokenizerJsonBytes = 256 << 20;
inline constexpr int64_t kTokenizerJsonValues = 16
                                                << 20;  // a vocabulary of 256k has about 2 M with its merges
inline constexpr int64_t kEncodeBytes = 64 << 20;  // one text to tokenize; its prompt comes in a smaller body
inline constexpr int64_t kLayers = 1024;
inline constexpr int64_t kExperts = 1 << 12;  // of one layer
inline constexpr int64_t kContextTokens = 1 << 24;

// HTTP.
inline constexpr int64_t kHeaderBytes = 64 << 10;
inline constexpr int64_t kHeaderFields = 100;
inline constexpr int64_t kBodyBytes = 32 << 20;
inline constexpr int64_t kBodyBytesTotal = 512 << 20;  // of all requests at once
inline constexpr int64_t kReadAheadBytes = 1 << 20;    // of next requests, sent before the answer
inline constexpr int64_t kConnections = 4096;
inline constexpr int64_t kHeaderReadSeconds = 10;
inline constexpr int64_t kBodyReadSeconds = 60;
inline constexpr int64_t kIdleSeconds = 60;
inline constexpr int64_t kWriteStallSeconds = 30;
inline constexpr int64_t kPingSeconds = 15;
inline constexpr int64_t kJsonDepth = 256;
inline constexpr int64_t kJsonValues = 1'000'000;
inline constexpr int64_t kErrorMessageBytes = 2048;
inline constexpr int64_t kRequestIdBytes = 128;

// What is fetched from hubs.
inline constexpr int64_t kFetchRedirects = 10;
inline constexpr long kFetchConnectSeconds = 20;
inline constexpr long kFetchSilenceSeconds = 60;         // without a byte: the connection counts as cut
inline constexpr int64_t kFetchRetryAfterSeconds = 300;  // a longer Retry-After is an error that says so
inline constexpr int64_t kHubListingBytes = 64 << 20;
inline constexpr int64_t kHubListingPages = 1000;
inline constexpr int64_t kModelFiles = 10'000;  // of one model
inline constexpr int64_t kModelFileNameBytes = 512;
inline constexpr int64_t kPartialDays =
    30;  // an unfinished download that nobody resumed is removed after so long

// Requests.
inline constexpr int64_t kMessages = 4096;
inline constexpr int64_t kChoices = 8;             // n
inline constexpr int64_t kCandidates = 32;         // reasoning.n
inline constexpr int64_t kPatternBytes = 1 << 20;  // of a regular expression that a request brings, compiled
inline constexpr int64_t kPromptsPerRequest = 64;  // completions with a list of prompts
inline constexpr int64_t kEmbeddingInputs = 2048;  // texts of one request (OpenAI's)
inline constexpr int64_t kLogprobs = 20;
inline constexpr int64_t kStopStrings = 16;
inline constexpr int64_t kStopStringBytes = 1024;
inline constexpr int64_t kStopTokenIds = 256;
inline constexpr int64_t kLogitBias = 1024;
inline constexpr int64_t kTools = 256;

// Chat templates.
inline constexpr int64_t kTemplateFuel = 1'000'000;  // template engine steps
inline constexpr int64_t kTemplateSourceBytes = 1 << 20;
inline constexpr int64_t kTemplateMemoryBytes = 256 << 20;  // beside the conversation itself
inline constexpr int64_t kTemplateOutputBytes = 16 << 20;
inline constexpr int64_t kTemplateDepth = 100;
inline constexpr int64_t kTemplateMilliseconds = 250;

// Grammars (structured output).
inline constexpr int64_t kGrammarSourceBytes = 1 << 20;
inline constexpr int64_t kGrammarDepth = 64;               // of nested groups, arrays, objects
inline constexpr int64_t kGrammarSchemaNodes = 50'000;     // of a schema, after it was rewritten
inline constexpr int64_t kGrammarSymbols = 500'000;        // in productions
inline constexpr int64_t kGrammarCompileFuel = 1'000'000;  // expressions of the lexer; about 50 a microsecond
inline constexpr int64_t kGrammarMaskFuel = 200'000;       // the same, for one mask; about 14 a microsecond
inline constexpr int64_t kGrammarMaskItems = 50'000;    // parser items for one mask; about 20 a microsecond
inline constexpr int64_t kGrammarRowItems = 2000;       // of these, at one byte
inline constexpr int64_t kGrammarLexerStates = 50'000;  // 1-2 KB each
inline constexpr int64_t kGrammarSharedWork =
    2'000'000;  // expressions in states that a grammar's answers share
inline constexpr int64_t kGrammarStackBytes = 64 << 20;  // of the thread that compiles
inline constexpr int64_t kGrammarCacheEntries = 64;
inline constexpr int64_t kGrammarCacheBytes = 8 << 20;  // of their sources
inline constexpr int64_t kForcedTokens = 64;            // that a grammar puts into a sequence at once

// Engine (defaults; flags of `serve` change them).
inline constexpr int64_t kSequencesDefault = 32;  // --max-sequences
inline constexpr int64_t kSequencesMax = 1024;
inline constexpr int64_t kBatchTokensDefault = 512;  // --batch-tokens
inline constexpr int64_t kBatchTokensMax = 8192;
inline constexpr int64_t kEmbeddingBatchTokens = 1024;  // rows of an embedding model's step
inline constexpr int64_t kQueuedEmbeddings = 8192;      // texts that wait, of all requests
inline constexpr int64_t kEmbeddingContextDefault = 8192;
inline constexpr int64_t kQueuedPerSequence = 4;  // queued requests allowed = 4 x max sequences
// Prompt tokens in the queue per row of a step: about 8 s of prefill at 4,000 tokens a second and 512 rows.
inline constexpr int64_t kQueuedTokensPerBatchToken = 64;
inline constexpr int64_t kShutdownSeconds = 30;
inline constexpr int64_t kHeartbeatSeconds = 10;  // ready -> 503 when the engine made no progress for so long

// Processes.
inline constexpr int64_t kProcessStatBytes = 4 << 10;  // of /proc/PID/stat
inline constexpr int64_t kProcessEnvironmentBytes =
    8 << 20;  // the kernel's own limit is 6 MiB with the arguments
// The cloud's database.
inline constexpr int64_t kStoreQueuedWrites = 4096;  // transactions that wait for the writer
inline constexpr int64_t kStoreGroupWrites = 256;    // of them in one commit
inline constexpr int64_t kStoreRows = 100'000;       // that one statement may give
inline constexpr int64_t kStoreStatements = 256;     // kept prepared, of each connection
inline constexpr int64_t kStoreLogBytes = 64 << 20;  // of SQLite's log after a checkpoint
inline constexpr size_t kStoreShownSqlBytes = 120;   // of a statement, in an error
inline constexpr int64_t kStorePageRows = 1000;      // of a list
inline constexpr int64_t kStoreCursorBytes = 4096;
inline constexpr int64_t kStoreChanges = 100'000;              // kept in the change log
inline constexpr int64_t kStoreChangesPollMilliseconds = 100;  // other processes' changes are seen within it
inline constexpr int64_t kIdempotencyKeyBytes = 255;
inline constexpr int64_t kIdempotencyHours = 24;

// Replicas on this machine.
inline constexpr int64_t kReplicaRecordBytes = 1 << 20;  // of each of its state files
inline constexpr int64_t kReplicaProcesses = 4096;       // and threads, where a control group can count them
inline constexpr int64_t kReplicaStopSeconds = 3600;     // the longest grace
inline constexpr int64_t kLogReadBytes = 1 << 20;        // of one answer

}  // namespace neutrino::limits
