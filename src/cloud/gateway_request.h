// The life of one request in the gateway. For gateway*.cpp alone.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cloud/answer_meter.h"
#include "cloud/gateway_state.h"
#include "cloud/request_body.h"
#include "net/request.h"
#include "net/response.h"

namespace neutrino::cloud {

namespace asio = boost::asio;

class GatewayRequest {
 public:
  GatewayRequest(GatewayState& state, const net::Request& request, net::Response& response);
  ~GatewayRequest();  // gives everything back
  GatewayRequest(const GatewayRequest&) = delete;
  GatewayRequest& operator=(const GatewayRequest&) = delete;

  // `endpoint`: named by the path, else empty: by the body's `model`. `path`: at the replica. Throws what refuses the request.
  asio::awaitable<void> run(std::string endpoint, std::string path);
  void check_key();  // after a new table, and now and then: an open request ends with its key

 private:
  // What it holds of limits and budgets; in order of run().
  void find_endpoint(const std::string& name);
  void read_needs();
  void take_limits();
  void take_concurrency();
  void take_tokens();
  void take_budgets();
  void prepare();

  asio::awaitable<Pick> find_replica();
  asio::awaitable<Pick> hold();
  void refuse_to_hold();
  asio::awaitable<void> say_waking(int64_t& said_ns);
  asio::awaitable<bool> attempt(const Pick& pick);
  asio::awaitable<bool> converse(const Pick& pick, net::ClientExchange& upstream);
  bool is_elsewhere(const net::ClientExchange& upstream);
  asio::awaitable<void> relay(net::ClientExchange& upstream);
  asio::awaitable<void> relay_stream(net::ClientExchange& upstream, AnswerMeter& meter,
                                     std::string_view type);
  void set_answer_headers(const net::ClientExchange& upstream);
  void start_shadow();

  net::ClientRequest upstream_request(const DeploymentRoute& deployment, std::string& body) const;
  PickRequest pick_request() const;
  void throw_if_ended();
  bool is_repeatable() const;
  void started(const Pick& pick);
  void finished(const Pick& pick);
  void note_first_token();
  void note_replica_time();
  void settle();

  GatewayState& state_;
  const net::Request& request_;
  net::Response& response_;
  std::shared_ptr<const RouteIndex> index_;  // what the request began with
  const KeyRoute* key_ = nullptr;
  std::shared_ptr<KeyState> key_state_;
  std::shared_ptr<EndpointState> endpoint_;
  std::string path_;
  bool is_adapter_ = false, is_json_ = false, generates_ = false;
  bool wants_events_ = false, adds_usage_ = false, adds_limit_ = false;
  std::optional<RequestBody> body_;
  std::vector<uint64_t> prefix_;
  std::string sticky_;
  int64_t prompt_tokens_ = 0, output_tokens_ = 0, output_max_ = 0;  // estimated, expected, at most

  std::list<GatewayRequest*>::iterator place_;
  bool key_counted_ = false, endpoint_counted_ = false;
  int64_t key_tokens_ = 0, endpoint_tokens_ = 0;  // reserved of the limits per minute
  Charge reserved_;
  bool budgets_reserved_ = false;

  std::vector<std::shared_ptr<ReplicaLoad>> tried_;
  net::ClientExchange* upstream_ = nullptr;  // while there is one
  bool revoked_ = false, stream_begun_ = false, was_held_ = false;
  int64_t held_until_ns_ = 0;
  int64_t began_ns_ = 0, sent_ns_ = 0, first_event_ns_ = 0, last_event_ns_ = 0;
  int64_t events_ = 0;
  bool begun_record_ = false;
  UsageRecord record_;
};

}  // namespace neutrino::cloud
