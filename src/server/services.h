// What a route's handler may use: references to objects that cli/ made and that outlive the server.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "base/metrics.h"
#include "chat/chat_model.h"
#include "net/server.h"
#include "net/workers.h"
#include "server/active_requests.h"
#include "server/board_metrics.h"
#include "server/inference_request.h"

namespace neutrino::server {

struct Services {
  chat::ChatModel& chat_model;
  Metrics& metrics;
  net::HttpServer& http;
  net::Workers& workers;
  net::Wakeups& wakeups;
  ActiveRequests& active;
  BoardMetrics& board;
  std::vector<std::string> served_names;  // the first is the default one
  std::chrono::milliseconds ping;         // of event streams
  std::string openapi;                    // the document

  ModelView view() const { return {chat_model.info(), served_names, &chat_model}; }
};

}  // namespace neutrino::server
