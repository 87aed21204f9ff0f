// Limits of the gateway, in the same namespace as base/limits.h. What an endpoint may set differently says so.
#pragma once

#include <cstdint>

#include "base/limits.h"

namespace neutrino::limits {

inline constexpr int64_t kPrefixChunkBytes = 256;       // of a prompt's text, for one hash
inline constexpr int64_t kPrefixChunks = 1024;          // of one prompt: 256 KiB of text
inline constexpr int64_t kPrefixChunkTokens = 64;       // that a chunk stands for, at about 4 bytes a token
inline constexpr int64_t kPrefixIndexChunks = 1 << 16;  // of one replica

inline constexpr int64_t kGatewayAttempts = 3;          // replicas that are tried for one request
inline constexpr int64_t kHeldRequests = 1000;          // of one endpoint; a default, the endpoint may set it
inline constexpr int64_t kHeldRequestsTotal = 10'000;   // of all endpoints
inline constexpr int64_t kWakeSeconds = 120;            // a default, the endpoint may set it
inline constexpr int64_t kWakePingMilliseconds = 5000;  // between SSE comments while an endpoint wakes
inline constexpr int64_t kUsageTailBytes = 256 << 10;   // of an answer without events, kept to find its usage
inline constexpr int64_t kEventBytes = 1 << 20;         // of one server-sent event that is looked into
inline constexpr int64_t kLatencySamples = 512;         // of an endpoint, for its percentiles
inline constexpr int64_t kUsageSegmentBytes = 8 << 20;  // of the usage journal
inline constexpr int64_t kUsageTextBytes = 512;         // of one text in a record: what is longer is cut
inline constexpr int64_t kUsageRowDays = 90;            // a request's row is kept; hours are kept for ever
inline constexpr int64_t kUsageSettleHours = 24;        // an estimate waits for the replica's own log
inline constexpr int64_t kUsageSettleBytes = 8 << 20;   // of one replica's log, read in one call

inline constexpr int64_t kNameBytes = 63;        // of a workspace, a key, a secret
inline constexpr int64_t kKeyModels = 256;       // endpoints that a key is limited to
inline constexpr int64_t kModelNameBytes = 256;  // of one of them
inline constexpr int64_t kSecretKeyFileBytes = 64 << 10;
inline constexpr int64_t kSecretBytes = 64 << 10;  // of one value
inline constexpr int64_t kSessionSeconds = 12 * 3600;
inline constexpr int64_t kOneTimeKeySeconds = 7 * 24 * 3600;  // of the first admin's
inline constexpr int64_t kIdTokenBytes = 64 << 10;
inline constexpr int64_t kOidcBodyBytes = 1 << 20;        // of an answer of an OpenID provider
inline constexpr int64_t kOidcCalls = 4;                  // sign-ins that wait for the provider at once
inline constexpr int64_t kOidcTimeoutSeconds = 10;        // of one question to it
inline constexpr int64_t kOidcRetrySeconds = 5;           // after it was asked in vain
inline constexpr int64_t kOidcDescriptionSeconds = 3600;  // that what it says of itself is believed
inline constexpr int64_t kOidcFlowSeconds = 600;          // from the browser's leaving to its return
inline constexpr int64_t kOidcTextBytes = 4096;           // of a code, a state, an error's description
inline constexpr int64_t kOneTimeCodeSeconds = 120;       // that a browser hands to a terminal

inline constexpr int64_t kEventDays = 30;               // that events are kept
inline constexpr int64_t kLinkBytes = 8 << 20;          // of a gateway's message to the control plane
inline constexpr int64_t kRouteTableBytes = 256 << 20;  // of a table as JSON

inline constexpr int64_t kApiBodyBytes = 1 << 20;        // of one call of /api/v1
inline constexpr int64_t kAuditRows = 1'000'000;         // kept
inline constexpr int64_t kApiWaitMilliseconds = 60'000;  // of a call that waits for news
inline constexpr int64_t kLogChunkBytes = 1 << 20;       // of a replica's log in one answer

inline constexpr int64_t kAmountMax =
    9'007'199'254'740'992;  // of money, tokens: 2^53, which JSON's readers count exactly
inline constexpr int64_t kReplicaMemoryBytes = int64_t{1} << 50;
inline constexpr int64_t kReplicaCores = 4096;
inline constexpr int64_t kAddressRanges = 64;  // of one key or endpoint

inline constexpr int64_t kEndpointDeployments = 16;
inline constexpr int64_t kEndpointNames = 256;      // aliases, and as many adapters
inline constexpr int64_t kEndpointReplicas = 1000;  // of one deployment
inline constexpr int64_t kCommandArguments = 256;
inline constexpr int64_t kEnvironmentVariables = 256;
inline constexpr int64_t kEnvironmentBytes = 32 << 10;  // of one value
inline constexpr int64_t kRevisionsKept = 100;          // of a deployment

}  // namespace neutrino::limits
