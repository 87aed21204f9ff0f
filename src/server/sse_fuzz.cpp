// Event streams: pieces of any text become events from which a reader that follows the specification (WHATWG HTML, 9.2.6) gets
// back exactly these pieces.
#include "base/json.h"
#include "base/testing/fuzz.h"
#include "net/sse.h"
#include "server/answer_json.h"

using namespace neutrino;

namespace {

// Lines end with CR, LF or both; an empty one dispatches; of "data: x" the x counts; a colon in front makes a comment.
std::vector<std::string> read_events(std::string_view stream) {
  std::vector<std::string> events;
  std::string data;
  bool has_data = false;
  while (!stream.empty()) {
    const size_t end = stream.find_first_of("\r\n");
    check(end != std::string_view::npos, "a line without an end");
    const std::string_view line = stream.substr(0, end);
    stream.remove_prefix(stream.substr(end).starts_with("\r\n") ? end + 2 : end + 1);
    if (line.empty()) {
      if (has_data) events.push_back(std::move(data));
      data.clear(), has_data = false;
    } else if (line.starts_with("data:")) {
      data += has_data ? "\n" : "";
      data += line.substr(line.starts_with("data: ") ? 6 : 5);
      has_data = true;
    } else {
      check(line.starts_with(":") || line == "event: piece", "a field that nobody wrote");
    }
  }
  return events;
}

}  // namespace

NEUTRINO_FUZZ(sse) {
  std::vector<std::string> pieces;
  std::string stream;
  while (!data.empty()) {
    const size_t wanted = take_byte(data) % 32;  // before what is left is counted
    const size_t size = std::min(wanted, data.size());
    const std::string piece = server::valid_utf8(as_text(data.first(size)));
    data = data.subspan(size);
    if (size % 5 == 0) stream += ": ping\n\n";
    stream += net::event_bytes(to_text(json::object{{"content", piece}}), size % 3 == 0 ? "piece" : "");
    pieces.push_back(piece);
  }
  const std::vector<std::string> events = read_events(stream);
  check(events.size() == pieces.size(), "an event was lost or made up");
  for (size_t i = 0; i < events.size(); ++i)
    check(parse_json(events[i]).at("content").get_string() == pieces[i], "a piece was changed");
}
