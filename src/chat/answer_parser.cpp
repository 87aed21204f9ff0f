#include "chat/answer_parser.h"

namespace neutrino::chat {

AnswerParser::AnswerParser(std::shared_ptr<const AnswerSyntax> syntax, std::string id)
    : syntax_(std::move(syntax)), reading_(syntax_->tools, std::move(id)), reader_(read(reading_, *syntax_)) {
  reader_.start();
}

Reader<> AnswerParser::read(Reading& r, const AnswerSyntax& syntax) {
  if (syntax.reasoning != nullptr && is_harmony(*syntax.reasoning)) {
    co_await read_harmony(r, syntax.calls != nullptr);
    co_return;
  }
  if (syntax.reasoning != nullptr) co_await read_reasoning(r, *syntax.reasoning, syntax.in_reasoning);
  co_await read_content(r, syntax.calls);
}

void AnswerParser::push(std::string_view text) { reading_.push(text); }

void AnswerParser::finish() {
  reading_.finish();
  reading_.end();
}

std::vector<std::string_view> answer_markers(const AnswerSyntax& syntax) {
  std::vector<std::string_view> markers;
  const auto add = [&](std::string_view text) {
    if (!text.empty()) markers.push_back(text);
  };
  if (syntax.reasoning != nullptr) {
    add(syntax.reasoning->open);
    add(syntax.reasoning->close);
    if (is_harmony(*syntax.reasoning))
      for (const std::string_view text : kHarmonySyntax.markers) add(text);
  }
  if (syntax.calls != nullptr)
    for (const std::string_view text : syntax.calls->markers) add(text);
  return markers;
}

}  // namespace neutrino::chat
