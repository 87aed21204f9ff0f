// tokenizer.json files: an Error, or a tokenizer whose ids are its own and whose text is what it was given, where it says so.
#include "base/testing/fuzz.h"
#include "tokenizer/tokenizer.h"
#include "tokenizer/tokenizer_json.h"

using namespace neutrino;
using namespace neutrino::tokenizer;

NEUTRINO_FUZZ(tokenizer_json) {
  static constexpr std::string_view kConfig =
      R"({"bos_token":"<s>","eos_token":"</s>","unk_token":"<unk>","add_bos_token":true})";
  static constexpr std::string_view kText =
      "Hello, w\xC3\xB6rld!  \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\n\t12345 <s>a</s>'ll";
  try {
    const auto tokenizer = make_tokenizer(read_tokenizer_json(as_text(data), kConfig, {}, {}));
    for (const Special special : {Special::parse, Special::as_text}) {
      const std::vector<int32_t> ids = encode_document(*tokenizer, kText, special);
      for (const int32_t id : ids)
        check(id >= 0 && id < tokenizer->size(), "an id that the tokenizer has not");
      decode(*tokenizer, ids, true);
    }
  } catch (const Error&) {
  }
}
