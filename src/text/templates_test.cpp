#include "text/templates.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <ctime>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/limits.h"
#include "base/random.h"

namespace neutrino::text {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr int64_t kNoon = 1'767'268'800;  // 2026-01-01 12:00:00 UTC

std::string render(std::string_view source, std::string_view context = "{}") {
  return Template(source).render(context, kNoon);
}

std::string error_of(std::string_view source, std::string_view context = "{}") {
  try {
    return "no error, but: " + render(source, context).substr(0, 100);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    EXPECT_EQ(error.reason(), "template_error");
    return error.message();
  }
}

// What Python's Jinja gives; the long list, made by Python itself, is in tests/golden/templates.
TEST(Template, RendersAsPythonDoes) {
  const std::pair<const char*, const char*> cases[] = {
      {"plain", "plain"},
      {"{{ true }} {{ none }} {{ 1.0 }} {{ 3 // 2 }} {{ 7 / 2 }} {{ -7 % 3 }}", "True None 1.0 1 3.5 2"},
      {"{{ [1, 'a', none, true, 2.5] }}", "[1, 'a', None, True, 2.5]"},
      {"{{ {'k': \"it's\"} }}", "{'k': \"it's\"}"},
      {"{{ ('a',) }} {{ (1, 2) }}", "('a',) (1, 2)"},
      {"{{ 1e16 }} {{ 1e-05 }} {{ 0.1 }} {{ 123456789.0 }}", "1e+16 1e-05 0.1 123456789.0"},
      {"[{{ nothing }}]", "[]"},
      {"{{ 'a' ~ 1 ~ true ~ none ~ nothing }}", "a1TrueNone"},
      {"{{ 'ab' * 3 }}{{ 2 * 3 }}{{ [0] * 2 }}", "ababab6[0, 0]"},
      {"{{ '%s-%d' % ('x', 5) }} {{ '%.2f' % 1.5 }}", "x-5 1.50"},
      {"{{ '<a&\"\\'>' | tojson }}", "\"<a&\\\"'>\""},
      {"{% generation %}x{% endgeneration %}y", "xy"},
      {"{{ strftime_now('%d %B %Y %H:%M') }}", "01 January 2026 12:00"},
      {"{% for c in 'ab' %}{{ c }}.{% endfor %}", "a.b."},
      {"{{ d.items() | list }}", "[]"},
  };
  for (const auto& [source, expected] : cases) EXPECT_EQ(render(source, R"({"d":{}})"), expected) << source;
}

TEST(Template, KeepsTheOrderOfKeys) {
  EXPECT_EQ(render("{{ t | tojson }}", R"({"t":{"zeta":1,"alpha":{"b":[],"a":{}},"mid":"é\u0001"}})"),
            R"({"zeta": 1, "alpha": {"b": [], "a": {}}, "mid": "é\u0001"})");
}

TEST(Template, MethodsWinOverKeysOfTheSameName) {
  EXPECT_EQ(render("{% for k, v in t.items() %}{{ k }}={{ v }};{% endfor %}", R"({"t":{"items":1,"get":2}})"),
            "items=1;get=2;");
}

TEST(Template, PassesOnWhatATemplateRaises) {
  EXPECT_EQ(error_of("{{ raise_exception('Roles must alternate!') }}"), "Roles must alternate!");
  EXPECT_EQ(error_of("{% macro m() %}{{ raise_exception('from ' ~ 'within') }}{% endmacro %}{{ m() }}"),
            "from within");
}

TEST(Template, SaysWhatIsWrongAndWhere) {
  EXPECT_THAT(error_of("a\n{% for %}"), HasSubstr("line 2"));
  EXPECT_THAT(error_of("\n\n{{ x.y.z }}"), HasSubstr("line 3"));
  EXPECT_THAT(error_of("{{ undefined_function() }}"), HasSubstr("undefined_function"));
  EXPECT_THAT(error_of("{% include 'x' %}"), HasSubstr("x"));
  EXPECT_THAT(error_of("\xFF"), HasSubstr("UTF-8"));
  EXPECT_THAT(error_of("x", "{"), HasSubstr("JSON"));
}

int64_t peak_kilobytes() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss;
}

double thread_milliseconds() {
  timespec time{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_nsec) / 1e6;
}

std::string repeat(std::string_view unit, int64_t count) {
  std::string text;
  for (int64_t i = 0; i < count; ++i) text += unit;
  return text;
}

// T-TPL-01. Each of these must end in an error: soon, and without taking the memory it asks for.
const std::vector<std::string>& hostile_templates() {
  static const std::vector<std::string> templates = {
      "{% for i in range(10**9) %}x{% endfor %}",
      "{% for i in range(100000) %}{% for j in range(100000) %}x{% endfor %}{% endfor %}",
      "{{ 'a'*10**9 }}",
      "{{ 10**9*'a' }}",
      "{{ 'a'*100000000 }}",
      "{{ [0]*10**9 }}",
      "{{ ''.__class__.__mro__[1].__subclasses__() }}",
      "{{ ''['__class__']['__mro__'] }}",
      "{{ self.__init__.__globals__ }}",
      "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
      "{{ messages.__class__.__base__ }}",
      "{{ range.__globals__.x }}",
      "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
      "{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}{{ a() }}{% endmacro %}{{ a() }}",
      "{% for x in [[1]] recursive %}{{ loop([[1]]) }}{% endfor %}",
      "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% "
      "endfor %}",
      "{% set ns = namespace(s=[1,2,3]) %}{% for i in range(64) %}{% set ns.s = ns.s + ns.s %}{% endfor %}{{ "
      "ns.s|length }}",
      "{% set ns = namespace(s=[]) %}{% for i in range(100000) %}{% set ns.s = [ns.s] %}{% endfor %}{{ ns.s "
      "}}",
      "{% set ns = namespace(s={}) %}{% for i in range(100000) %}{% set ns.s = {'k': ns.s} %}{% endfor %}{{ "
      "ns.s }}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = ns.s|batch(1)|list %}{% "
      "endfor %}{{ ns.s }}",
      "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}",
      "{% set ns = namespace() %}{% set ns.me = [{'a': ns}] %}{{ ns == ns }}{{ ns }}",
      "{% set a = 'a'*1000000 %}{{ a|replace('a', a) }}",
      "{% set a = 'a'*1000000 %}{{ a.replace('a', a) }}",
      "{% set a = ['x']*100000 %}{{ a|join('y'*1000000) }}",
      "{% set a = ['x']*100000 %}{{ ('y'*1000000).join(a) }}",
      "{{ '%999999999s' % 'a' }}",
      "{{ '%999999999s'|format('a') }}",
      "{{ '%*s'|format(999999999, 'a') }}",
      "{{ '{:999999999}'.format('a') }}",
      "{{ '{:{}}'.format('a', 999999999) }}",
      "{{ ('{0}'*100000).format('a'*1000000) }}",
      "{{ ('x\n'*10000)|indent(1000000) }}",
      "{{ ('x\n'*10000)|indent(width=1000000) }}",
      "{{ [1]|batch(1000000000, 0)|list }}",
      "{{ [1]|batch(linecount=1000000000, fill_with=0)|list }}",
      "{{ [1]|slice(1000000000)|list }}",
      "{{ [[[1]]]|tojson(indent=1000000000) }}",
      "{{ ('a '*10000000).split() }}",
      "{{ ('a'*16000000)|list|length }}",
      "{{ 10**10**10 }}",
      "{% set a = 'é'*8000000 %}{% for i in range(100000) %}{% set b = a[::-1] %}{% endfor %}",
      "{% set ns = namespace(s=[1]) %}{% for i in range(100000) %}{% set ns.s = ns.s[0:] + ns.s[1:] %}{% "
      "endfor %}{{ ns.s }}{{ 'a'[::0] }}",
      "{% set ns = namespace(d={}) %}{% for i in range(100000) %}{% set ns.d = dict(ns.d, k=ns.d) %}{% "
      "endfor %}",
      "{% set a = 'x\n'*8000000 %}{{ a|indent('y'*100) }}",
      "{% set a = 'ab'*8000000 %}{% for i in range(100000) %}{% if a ~ 'x' == a ~ 'y' %}{% endif %}{% endfor "
      "%}",
      "{% set a = 'ab'*8000000 %}{% for i in range(100000) %}{% if 'x' in a %}{% endif %}{% endfor %}",
      "{% set a = ('ab'*8000000) %}{% for i in range(100000) %}{% set b = a|upper %}{% endfor %}",
      "{% set a = range(100000)|list %}{% for i in a %}{% set b = a|sort|unique|list %}{% endfor %}",
      "{% for i in range(100000) %}" + repeat("y", 1000) + "{% endfor %}",
      "{% set x %}{% for i in range(100000) %}" + repeat("y", 1000) + "{% endfor %}{% endset %}",
      "{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}",
      "{{ " + repeat("not ", 100000) + "1 }}",
      "{{ " + repeat("-", 100000) + "1 }}",
      "{{ a" + repeat("~a", 100000) + " }}",
      "{{ a" + repeat(".a", 100000) + " }}",
      "{{ a" + repeat("|upper", 100000) + " }}",
      "{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}",
      "{% if a %}" + repeat("{% elif a %}", 50000) + "{% endif %}",
      repeat("{% if a %}", 40000) + repeat("{% endif %}", 40000),
      repeat("{% for a in b %}", 30000) + repeat("{% endfor %}", 30000),
      "{{ 'a' if a" + repeat(" else 'a' if a", 50000) + " else 'b' }}",
      repeat("x", limits::kTemplateSourceBytes + 1),
  };
  return templates;
}

TEST(Template, RefusesToUseUpTheMachine) {
  const int64_t peak_before = peak_kilobytes();
  for (const std::string& source : hostile_templates()) {
    const double start = thread_milliseconds();
    const std::string error = error_of(source, R"({"messages":[]})");
    const double ms = thread_milliseconds() - start;
    EXPECT_FALSE(error.starts_with("no error")) << source.substr(0, 120) << " -> " << error;
    // The limit is looked at between operations, and the last one may be long.
    EXPECT_LT(ms, 6.0 * limits::kTemplateMilliseconds) << source.substr(0, 120);
  }
  const int64_t megabytes = (peak_kilobytes() - peak_before) / 1024;
  RecordProperty("peak_megabytes", std::to_string(megabytes));
  // Twice the limit; in debug builds more, because the sanitizer keeps freed memory for a while.
  EXPECT_LT(megabytes, (kFaultsCompiled ? 4 : 2) * limits::kTemplateMemoryBytes >> 20);
}

// The negative control: what is limited does work below its limit.
TEST(Template, AllowsTheSameBelowTheLimits) {
  EXPECT_EQ(render("{% for i in range(9999) %}x{% endfor %}").size(), 9999u);
  EXPECT_EQ(render("{{ 'a'*1000000 }}").size(), 1'000'000u);
  EXPECT_EQ(render("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% else %}.{% endif %}{% endmacro %}{{ m(20) }}"),
            ".");
  EXPECT_EQ(render("{% set ns = namespace(s='a') %}{% for i in range(20) %}{% set ns.s = ns.s ~ ns.s %}{% "
                   "endfor %}{{ ns.s }}")
                .size(),
            size_t{1} << 20);
  EXPECT_EQ(render("{% set ns = namespace(s=[]) %}{% for i in range(100) %}{% set ns.s = ns.s + [i] %}{% "
                   "endfor %}{{ ns.s|length }}"),
            "100");
  EXPECT_EQ(render("{{ ('x\ny'*2)|indent(2) }}"), "x\n  yx\n  y");
}

std::vector<std::string> words_of_templates() {
  std::vector<std::string> words;
  for (const char* name : {"snippets.txt", "macros.jinja", "loops.jinja", "instructions.jinja"}) {
    const std::string text =
        read_file(std::string(NEUTRINO_SOURCE_DIR "/tests/golden/templates/") + name, 1 << 20);
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(' ', at), text.size() - 1) + 1;
      words.push_back(text.substr(at, end - at));
      at = end;
    }
  }
  return words;
}

// Whatever is put together from the words of templates renders or is an Error: no crash, no panic on the way.
TEST(Template, SurvivesRandomTemplates) {
  const std::vector<std::string> words = words_of_templates();
  Random random(5);
  int64_t rendered = 0, refused = 0;
  for (int round = 0; round < 4000; ++round) {
    std::string source;
    size_t at = static_cast<size_t>(random.below(static_cast<int64_t>(words.size())));
    for (int64_t left = random.between(1, 30); left > 0; --left) {
      if (random.chance(0.2)) at = static_cast<size_t>(random.below(static_cast<int64_t>(words.size())));
      source += words[at++ % words.size()];
    }
    try {
      render(source, R"({"messages":[{"role":"user","content":"hi"}],"tools":null})");
      ++rendered;
    } catch (const Error& error) {
      EXPECT_THAT(error.message(), Not(HasSubstr("the template engine failed"))) << source;
      ++refused;
    }
  }
  EXPECT_GT(rendered, 100);
  EXPECT_GT(refused, 100);
}

TEST(Template, IsSharedByThreads) {
  const Template shared("{% for m in messages %}{{ m.role }}:{{ m.content|trim }};{% endfor %}");
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 200; ++round)
        EXPECT_EQ(shared.render(R"({"messages":[{"role":"user","content":" hi "}]})", kNoon), "user:hi;");
    });
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace neutrino::text
