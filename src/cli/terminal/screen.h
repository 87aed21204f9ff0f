// What a terminal can show: its width, whether it has colours, and text made harmless for it.
//
// Names and messages come from a server, and replicas write what they like into their logs: a control character among them could
// move the cursor or retitle the window, so none reaches a terminal.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace neutrino::cli {

enum class Style : uint8_t { plain, bold, dim, good, warning, bad };

struct Screen {
  bool is_terminal = false;
  bool has_colours = false;
  int64_t columns = 0;  // 0: as wide as need be, nothing is cut
};

// Of standard output, now. Colours only on a terminal, and not with NO_COLOR (https://no-color.org) or TERM=dumb.
Screen standard_screen();

std::string styled(std::string_view text, Style style, const Screen& screen);

// Without control characters (and with line ends, tabs and the rest of a text as they are, where `lines`).
enum class Controls : uint8_t { none, lines };
std::string harmless(std::string_view text, Controls controls = Controls::none);

// In columns: a code point takes one, a combining mark none, a wide character two. Bytes that are no UTF-8 take one each.
int64_t text_width(std::string_view text);
// The text if it is not wider than `columns`, else its beginning and "…".
std::string cut(std::string_view text, int64_t columns);

}  // namespace neutrino::cli
