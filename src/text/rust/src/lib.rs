//! What neutrino takes from Rust, in one static library (two of them in one program would hold std twice).
//!
//! Chat templates: `template.rs`. Constraints on answers: `constraints.rs`. Regular expressions: `pattern.rs`.
//! A panic never crosses into C++: it comes back as an error like any other.

mod builtins;
mod constraints;
mod gbnf;
mod guard;
mod operators;
mod pattern;
mod python;
mod rewrite;
mod schema;
mod schema_logic;
mod structural_tag;
mod template;

use std::panic::{catch_unwind, AssertUnwindSafe};

use pattern::Pattern;
use template::Template;

#[cxx::bridge(namespace = "neutrino::text::bridge")]
mod bridge {
    #[derive(Clone, Copy)]
    struct Limits {
        source_bytes: usize,
        fuel: u64,
        output_bytes: usize,
        depth: usize,
        milliseconds: u64,
        memory_bytes: usize,
    }

    /// `error` is empty when all went well. `raised`: the template itself called raise_exception.
    struct Rendered {
        text: String,
        error: String,
        raised: bool,
    }

    extern "Rust" {
        type Template;
        fn compile(source: &str, limits: Limits) -> Result<Box<Template>>;
        /// `context`: a JSON object. `now`: seconds since 1970 that strftime_now tells.
        fn render(compiled: &Template, context: &str, now: i64) -> Rendered;
    }

    #[derive(Clone, Copy)]
    struct GrammarLimits {
        source_bytes: usize,
        depth: usize,
        schema_nodes: usize,
        symbols: usize,
        compile_fuel: u64,
        mask_fuel: u64,
        mask_items: usize,
        row_items: usize,
        lexer_states: usize,
        shared_work: u64,
        stack_bytes: usize,
    }

    enum GrammarKind {
        JsonSchema,
        JsonObject,
        Regex,
        Choice,
        Lark,
        Gbnf,
        StructuralTag,
    }

    unsafe extern "C++" {
        include!("text/token_source.h");
        #[namespace = "neutrino::text"]
        type TokenSource;
        fn tokenize(self: &TokenSource, text: &[u8], tokens: &mut Vec<u32>) -> Result<()>;
    }

    extern "Rust" {
        type Vocabulary;
        type Grammar;
        type Matcher;
        /// `bytes`: of all tokens in a row, `lengths`: of each. `source` may be null.
        fn make_vocabulary(
            bytes: &[u8],
            lengths: &[u32],
            special: &[u8],
            ends: &[u32],
            source: UniquePtr<TokenSource>,
            limits: GrammarLimits,
        ) -> Result<Box<Vocabulary>>;
        fn forces_tokens(vocabulary: &Vocabulary) -> bool;
        /// The error is "reason \x1f JSON path \x1f message".
        fn compile_grammar(vocabulary: &Vocabulary, kind: GrammarKind, text: &str) -> Result<Box<Grammar>>;
        fn start_matcher(grammar: &Grammar) -> Box<Matcher>;
        fn fill_mask(matcher: &mut Matcher, mask: &mut [u64]) -> bool;
        fn consume(matcher: &mut Matcher, token: u32) -> bool;
        fn count_allowed(matcher: &mut Matcher, tokens: &[i32]) -> usize;
        fn take_forced(matcher: &mut Matcher, tokens: &mut [i32]) -> usize;
        fn rollback(matcher: &mut Matcher, tokens: usize) -> bool;
        fn is_accepting(matcher: &mut Matcher) -> bool;
        fn is_complete(matcher: &Matcher) -> bool;
        fn has_failed(matcher: &Matcher) -> bool;
        fn failure(matcher: &Matcher) -> String;
    }

    /// A part of a text, in bytes.
    struct Found {
        is_found: bool,
        begin: usize,
        end: usize,
    }

    extern "Rust" {
        type Pattern;
        fn compile_pattern(source: &str, limit: usize) -> Result<Box<Pattern>>;
        fn find_last(pattern: &Pattern, text: &str) -> Found;
    }
}

use bridge::{Found, GrammarKind, GrammarLimits, Limits, Rendered, TokenSource};
use constraints::{Grammar, Matcher, Vocabulary};

/// A panic is an answer to the caller, not lines on standard error for whoever sends a template that provokes one.
fn silence_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|_| {})));
}

fn compile(source: &str, limits: Limits) -> Result<Box<Template>, String> {
    silence_panics();
    match catch_unwind(|| Template::compile(source, limits)) {
        Ok(result) => result.map(Box::new),
        Err(_) => Err("the template engine failed while compiling".into()),
    }
}

fn render(compiled: &Template, context: &str, now: i64) -> Rendered {
    catch_unwind(AssertUnwindSafe(|| compiled.render(context, now))).unwrap_or_else(|_| {
        guard::end();
        Rendered {
            text: String::new(),
            error: "the template engine failed while rendering".into(),
            raised: false,
        }
    })
}

fn make_vocabulary(
    bytes: &[u8],
    lengths: &[u32],
    special: &[u8],
    ends: &[u32],
    source: cxx::UniquePtr<TokenSource>,
    limits: GrammarLimits,
) -> Result<Box<Vocabulary>, String> {
    silence_panics();
    catch_unwind(AssertUnwindSafe(|| Vocabulary::new(bytes, lengths, special, ends, source, limits)))
        .unwrap_or_else(|_| Err("the constraint engine failed".into()))
        .map(Box::new)
}

fn forces_tokens(vocabulary: &Vocabulary) -> bool {
    vocabulary.forces_tokens()
}

fn compile_grammar(vocabulary: &Vocabulary, kind: GrammarKind, text: &str) -> Result<Box<Grammar>, String> {
    silence_panics();
    Grammar::compile(vocabulary, kind, text).map(Box::new).map_err(|problem| problem.to_string())
}

fn start_matcher(grammar: &Grammar) -> Box<Matcher> {
    Box::new(Matcher::new(grammar))
}

fn fill_mask(matcher: &mut Matcher, mask: &mut [u64]) -> bool {
    matcher.fill_mask(mask)
}

fn consume(matcher: &mut Matcher, token: u32) -> bool {
    matcher.consume(token)
}

fn count_allowed(matcher: &mut Matcher, tokens: &[i32]) -> usize {
    matcher.count_allowed(tokens)
}

fn take_forced(matcher: &mut Matcher, tokens: &mut [i32]) -> usize {
    matcher.take_forced(tokens)
}

fn rollback(matcher: &mut Matcher, tokens: usize) -> bool {
    matcher.rollback(tokens)
}

fn is_accepting(matcher: &mut Matcher) -> bool {
    matcher.is_accepting()
}

fn is_complete(matcher: &Matcher) -> bool {
    matcher.is_complete()
}

fn has_failed(matcher: &Matcher) -> bool {
    matcher.failure().is_some()
}

fn failure(matcher: &Matcher) -> String {
    matcher.failure().unwrap_or_default()
}

fn compile_pattern(source: &str, limit: usize) -> Result<Box<Pattern>, String> {
    silence_panics();
    catch_unwind(|| Pattern::compile(source, limit))
        .unwrap_or_else(|_| Err("the regular expression engine failed".into()))
        .map(Box::new)
}

fn find_last(pattern: &Pattern, text: &str) -> Found {
    match pattern.find_last(text) {
        Some((begin, end)) => Found { is_found: true, begin, end },
        None => Found { is_found: false, begin: 0, end: 0 },
    }
}
