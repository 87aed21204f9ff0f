//! Constraints on answers: llguidance, bounded, behind the bridge.
//!
//! Whatever a client sends becomes one grammar of llguidance: a JSON schema that `schema.rs` has rewritten, or a text in its
//! variant of Lark. Compiling runs on a thread of its own, whose stack holds any nesting that the limits allow.

use std::fmt;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard};

use cxx::UniquePtr;
use llguidance::api::{ParserLimits, TopLevelGrammar};
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    InferenceCapabilities, TokEnv, TokRxInfo, TokTrie, TokenId, TokenizerEnv, INVALID_TOKEN,
};
use llguidance::{regex_to_lark, Logger, ParserFactory};

use crate::bridge::{GrammarKind, GrammarLimits, TokenSource};
use crate::{gbnf, schema, structural_tag};

/// What is wrong with a constraint: a stable word, where, and a sentence.
#[derive(Debug)]
pub struct Problem {
    pub reason: &'static str,
    pub path: String,
    pub message: String,
}

pub const INVALID_GRAMMAR: &str = "invalid_grammar";
pub const INVALID_SCHEMA: &str = "invalid_json_schema";
pub const UNSUPPORTED_KEYWORD: &str = "unsupported_schema_keyword";

impl Problem {
    pub fn new(reason: &'static str, path: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem { reason, path: path.into(), message: message.into() }
    }
    pub fn grammar(message: impl Into<String>) -> Problem {
        Problem::new(INVALID_GRAMMAR, "", message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\x1f{}\x1f{}", self.reason, self.path, self.message)
    }
}

// ---- vocabulary

/// The tokens, and the tokenizer behind the bridge.
struct Tokens {
    trie: TokTrie,
    source: UniquePtr<TokenSource>,
    canonical: bool,
}

// SAFETY: TokenSource::tokenize() may be called from any thread, as its header says.
unsafe impl Send for Tokens {}
unsafe impl Sync for Tokens {}

impl Tokens {
    /// The tokenizer's own tokens of a text; none, if they do not spell that text.
    fn encode(&self, text: &[u8]) -> Option<Vec<TokenId>> {
        let mut tokens = Vec::new();
        self.source.as_ref()?.tokenize(text, &mut tokens).ok()?;
        self.tail_that_spells(text, tokens)
    }

    /// Some tokenizers put a space before every text. Behind a line break it shows where that is, and is cut off.
    fn encode_behind_a_line(&self, text: &[u8]) -> Option<Vec<TokenId>> {
        let mut tokens = Vec::new();
        self.source.as_ref()?.tokenize(&[b"\n", text].concat(), &mut tokens).ok()?;
        self.tail_that_spells(text, tokens)
    }

    fn tail_that_spells(&self, text: &[u8], tokens: Vec<TokenId>) -> Option<Vec<TokenId>> {
        let vocabulary = self.trie.vocab_size() as TokenId;
        let mut left = text.len();
        let mut first = tokens.len();
        while left > 0 && first > 0 {
            let token = tokens[first - 1];
            let bytes = if token < vocabulary { self.trie.token(token) } else { &[] };
            if bytes.is_empty() || !text[..left].ends_with(bytes) {
                return None;
            }
            left -= bytes.len();
            first -= 1;
        }
        (left == 0).then(|| tokens[first..].to_vec())
    }
}

impl TokenizerEnv for Tokens {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }
    fn tokenize_bytes(&self, text: &[u8]) -> Vec<TokenId> {
        self.encode(text)
            .or_else(|| self.encode_behind_a_line(text))
            .unwrap_or_else(|| self.trie.greedy_tokenize(text))
    }
    fn tokenize_is_canonical(&self) -> bool {
        self.canonical
    }
}

pub struct Vocabulary {
    factory: ParserFactory,
    ends: Arc<[TokenId]>,
    limits: GrammarLimits,
    canonical: bool,
}

/// Texts that grammars force again and again. A tokenizer that cannot spell them forces nothing.
const PROBES: [&[u8]; 4] = [b"{\"name\": \"", b"\": ", b" true", b"x"];

impl Vocabulary {
    pub fn new(
        bytes: &[u8],
        lengths: &[u32],
        special: &[u8],
        ends: &[u32],
        source: UniquePtr<TokenSource>,
        limits: GrammarLimits,
    ) -> Result<Vocabulary, String> {
        let words = words(bytes, lengths, special)?;
        let end = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let trie = TokTrie::from(&TokRxInfo::new(words.len() as u32, end), &words);
        let trie = if ends.is_empty() { trie } else { trie.with_eos_tokens(ends) };
        let mut tokens = Tokens { trie, source, canonical: false };
        tokens.canonical = PROBES
            .iter()
            .all(|text| tokens.encode(text).or_else(|| tokens.encode_behind_a_line(text)).is_some());
        let canonical = tokens.canonical;
        let env: TokEnv = Arc::new(tokens);
        let capabilities = InferenceCapabilities { ff_tokens: canonical, ..Default::default() };
        let mut factory = ParserFactory::new(&env, capabilities, &SlicedBiasComputer::general_slices())
            .map_err(|error| error.to_string())?;
        factory.quiet();
        *factory.limits_mut() = parser_limits(&limits);
        Ok(Vocabulary { factory, ends: ends.into(), limits, canonical })
    }

    pub fn forces_tokens(&self) -> bool {
        self.canonical
    }
}

/// A special token stands in the trie behind a byte that no text has, so that no text spells it.
fn words(bytes: &[u8], lengths: &[u32], special: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;
    let mut rest = bytes;
    let mut words = Vec::with_capacity(lengths.len());
    for (&length, &is_special) in lengths.iter().zip(special) {
        let (word, tail) = rest.split_at_checked(length as usize).ok_or("the lengths do not add up")?;
        rest = tail;
        words.push(match (word, is_special != 0) {
            (b"", _) => Vec::new(),
            (_, false) if word.contains(&MARKER) => Vec::new(), // not UTF-8: no grammar allows it
            (_, false) => word.to_vec(),
            ([b'<', .., b'>'], true) => [&[MARKER], word].concat(),
            (_, true) => [&[MARKER, b'<'], word, b">"].concat(),
        });
    }
    Ok(words)
}

fn parser_limits(limits: &GrammarLimits) -> ParserLimits {
    ParserLimits {
        max_items_in_row: limits.row_items,
        initial_lexer_fuel: limits.compile_fuel,
        step_lexer_fuel: limits.mask_fuel,
        step_max_items: limits.mask_items,
        max_lexer_states: limits.lexer_states,
        max_grammar_size: limits.symbols,
        precompute_large_lexemes: true,
        verbose_errors: false,
    }
}

// ---- grammar

pub struct Grammar {
    start: Arc<Start>,
    ends: Arc<[TokenId]>,
}

/// The beginning of every generation. The states of the lexer are found as masks need them, which is most of a mask's cost, so all
/// generations of a grammar share those that were found. One of them may fill them up or break them: then new generations get
/// fresh ones, and whoever was hit by it goes through its tokens again with states of its own.
struct Start {
    /// Never used itself: what it was after compilation.
    fresh: Mutex<llguidance::Matcher>,
    shared: Mutex<SharedStates>,
    work_max: u64,
}

struct SharedStates {
    matcher: llguidance::Matcher,
    generation: u64,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Start {
    fn new(matcher: llguidance::Matcher, work_max: u64) -> Start {
        let shared = SharedStates { matcher: matcher.deep_clone(), generation: 0 };
        Start { fresh: Mutex::new(matcher), shared: Mutex::new(shared), work_max }
    }

    fn with_shared_states(&self) -> (llguidance::Matcher, u64) {
        let shared = locked(&self.shared);
        (shared.matcher.clone(), shared.generation)
    }

    fn with_own_states(&self) -> llguidance::Matcher {
        locked(&self.fresh).deep_clone()
    }

    fn give_up(&self, generation: u64) {
        let mut shared = locked(&self.shared);
        if shared.generation == generation {
            *shared = SharedStates { matcher: self.with_own_states(), generation: generation + 1 };
        }
    }
}

impl Grammar {
    pub fn compile(vocabulary: &Vocabulary, kind: GrammarKind, text: &str) -> Result<Grammar, Problem> {
        let limits = &vocabulary.limits;
        if text.len() > limits.source_bytes {
            let message =
                format!("a grammar must have at most {} bytes, got {}", limits.source_bytes, text.len());
            return Err(Problem::grammar(message));
        }
        let compile = || {
            catch_unwind(AssertUnwindSafe(|| Self::compile_here(vocabulary, kind, text)))
                .unwrap_or_else(|_| Err(Problem::grammar("the constraint engine failed on this grammar")))
        };
        std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(limits.stack_bytes)
                .spawn_scoped(scope, compile)
                .map_err(|_| Problem::grammar("no thread could be started to compile the grammar"))?
                .join()
                .unwrap_or_else(|_| Err(Problem::grammar("the constraint engine failed on this grammar")))
        })
    }

    fn compile_here(vocabulary: &Vocabulary, kind: GrammarKind, text: &str) -> Result<Grammar, Problem> {
        let limits = &vocabulary.limits;
        let (grammar, schema) = match kind {
            GrammarKind::JsonSchema => {
                let (schema, core) = schema::prepare_text(text, limits)?;
                (TopLevelGrammar::from_json_schema(core), Some(schema))
            }
            GrammarKind::JsonObject => {
                let schema = serde_json::json!({"type": "object"});
                (TopLevelGrammar::from_json_schema(schema::prepare(&schema, limits)?), Some(schema))
            }
            GrammarKind::Regex => (lark(&regex_grammar(text), limits)?, None),
            GrammarKind::Choice => (lark(&choice_grammar(text)?, limits)?, None),
            GrammarKind::Lark => (lark(&schema::prepare_in_lark(text, limits)?, limits)?, None),
            GrammarKind::Gbnf => (lark(&gbnf::to_lark(text, limits)?, limits)?, None),
            GrammarKind::StructuralTag => (lark(&structural_tag::to_lark(text, limits)?, limits)?, None),
            _ => return Err(Problem::grammar("a grammar of unknown kind")),
        };
        let parser = vocabulary
            .factory
            .create_parser_from_init_ext(
                llguidance::api::GrammarInit::Serialized(grammar),
                Logger::new(0, 0),
                InferenceCapabilities { ff_tokens: vocabulary.canonical, ..Default::default() },
                vocabulary.factory.limits().clone(),
            )
            .map_err(|error| match &schema {
                Some(schema) => schema::explain(&clean(&format!("{error:#}")), schema),
                None => {
                    Problem::grammar(format!("the grammar cannot be used: {}", clean(&error.to_string())))
                }
            })?;
        let mut start = llguidance::Matcher::new(Ok(parser));
        // The first mask says whether there is an answer at all, and its states are there for every generation.
        if !start.is_stopped() && start.compute_mask().is_err() {
            return Err(Problem::grammar(
                "no answer can satisfy the grammar, or its first token takes too much work",
            ));
        }
        Ok(Grammar { start: Arc::new(Start::new(start, limits.shared_work)), ends: vocabulary.ends.clone() })
    }
}

/// An error's own words, without the state, the grammar or the stack that llguidance adds.
pub fn clean(error: &str) -> String {
    let end =
        ["\n<", "<non-verbose/>"].iter().filter_map(|mark| error.find(mark)).min().unwrap_or(error.len());
    let text = error[..end].trim();
    if text.starts_with("panic") {
        return "the constraint engine failed".into();
    }
    match text.char_indices().nth(500) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.into(),
    }
}

/// Nesting is looked at before the text is parsed, because the parser of grammars recurses.
fn lark(text: &str, limits: &GrammarLimits) -> Result<TopLevelGrammar, Problem> {
    let mut depth = 0usize;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'\n' => {}
            _ => {}
        }
        if depth > limits.depth * 8 {
            return Err(Problem::grammar(format!("a grammar must nest at most {} deep", limits.depth * 8)));
        }
    }
    Ok(TopLevelGrammar::from_lark(text.to_string()))
}

/// The whole answer matches: anchors at both ends say what holds anyway.
fn regex_grammar(regex: &str) -> String {
    let inner = regex.strip_prefix('^').unwrap_or(regex);
    let escaped_end = inner.ends_with("\\$");
    let inner = if escaped_end { inner } else { inner.strip_suffix('$').unwrap_or(inner) };
    // Where an alternative stands at the top, the anchors belonged to one of its sides only.
    let inner = if inner.len() < regex.len() && has_top_level_choice(inner) { regex } else { inner };
    if inner.is_empty() {
        return "start: \"\"".into();
    }
    format!("start: /{}/", regex_to_lark(inner, "dw"))
}

fn has_top_level_choice(regex: &str) -> bool {
    let (mut depth, mut escaped, mut in_class) = (0usize, false, false);
    for c in regex.chars() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}

fn choice_grammar(text: &str) -> Result<String, Problem> {
    let choices: Vec<String> = serde_json::from_str(text)
        .map_err(|_| Problem::grammar("the choices must be a JSON array of strings"))?;
    if choices.is_empty() {
        return Err(Problem::grammar("there must be at least one choice"));
    }
    let quoted: Vec<String> = choices.iter().map(|choice| quote(choice)).collect();
    Ok(format!("start: {}", quoted.join(" | ")))
}

/// A string of Lark, which is one of JSON.
pub fn quote(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\x7f', "\\u007f")
}

// ---- matcher

pub struct Matcher {
    inner: llguidance::Matcher,
    start: Arc<Start>,
    /// Of the states that `inner` shares; none: they are its own.
    shared: Option<u64>,
    /// Work that went into the shared states, as llguidance counts it.
    work: u64,
    /// All that `inner` took.
    tokens: Vec<TokenId>,
    ends: Arc<[TokenId]>,
    /// End tokens that came when the grammar was complete already; llguidance does not take these.
    after_end: usize,
    failure: Option<String>,
}

impl Matcher {
    pub fn new(grammar: &Grammar) -> Matcher {
        let start = grammar.start.clone();
        let (inner, generation) = start.with_shared_states();
        Matcher {
            inner,
            start,
            shared: Some(generation),
            work: 0,
            tokens: Vec::new(),
            ends: grammar.ends.clone(),
            after_end: 0,
            failure: None,
        }
    }

    /// Does something that may fail because of the shared states; if it does, once more with states of its own.
    fn attempt<T, E>(
        &mut self,
        mut act: impl FnMut(&mut llguidance::Matcher) -> Result<T, E>,
    ) -> Result<T, E> {
        match (act(&mut self.inner), self.shared) {
            (Err(error), Some(generation)) => {
                self.shared = None;
                self.start.give_up(generation);
                let mut own = self.start.with_own_states();
                if own.consume_tokens(&self.tokens).is_err() {
                    return Err(error);
                }
                self.inner = own;
                act(&mut self.inner)
            }
            (result, _) => result,
        }
    }

    fn count_work(&mut self) {
        let Some(generation) = self.shared else { return };
        self.work += self.inner.last_step_stats().map_or(0, |stats| stats.lexer_cost);
        if self.work > self.start.work_max {
            self.start.give_up(generation);
        }
    }

    pub fn failure(&self) -> Option<String> {
        self.failure.clone().or_else(|| self.inner.get_error().map(|error| clean(&error)))
    }

    pub fn is_complete(&self) -> bool {
        self.failure.is_none() && !self.inner.is_error() && self.inner.is_stopped()
    }

    pub fn is_accepting(&mut self) -> bool {
        self.is_complete()
            || (self.failure.is_none() && self.attempt(|inner| inner.is_accepting()).unwrap_or(false))
    }

    pub fn fill_mask(&mut self, mask: &mut [u64]) -> bool {
        mask.fill(0);
        if self.failure.is_some() {
            return false;
        }
        if self.is_complete() {
            return self.ends.first().is_some_and(|&end| {
                mask[end as usize / 64] |= 1 << (end % 64);
                true
            });
        }
        let Ok(allowed) = self.attempt(|inner| inner.compute_mask()) else { return false };
        self.count_work();
        for (word, pair) in mask.iter_mut().zip(allowed.as_slice().chunks(2)) {
            *word = u64::from(pair[0]) | pair.get(1).map_or(0, |&high| u64::from(high) << 32);
        }
        true
    }

    pub fn consume(&mut self, token: u32) -> bool {
        if self.is_complete() {
            if !self.ends.contains(&token) {
                self.failure = Some(format!("token {token} came behind the end of the grammar"));
                return false;
            }
            self.after_end += 1;
            return true;
        }
        let taken = self.failure.is_none() && self.attempt(|inner| inner.consume_token(token)).is_ok();
        if taken {
            self.tokens.push(token);
        }
        taken
    }

    pub fn count_allowed(&mut self, tokens: &[i32]) -> usize {
        if self.failure.is_some() {
            return 0;
        }
        let tokens: Vec<TokenId> = tokens.iter().map(|&token| token as TokenId).collect();
        self.attempt(|inner| inner.validate_tokens(&tokens)).unwrap_or(0)
    }

    pub fn take_forced(&mut self, tokens: &mut [i32]) -> usize {
        let mut taken = 0;
        while taken < tokens.len() && self.failure.is_none() && !self.inner.is_stopped() {
            let forced = self.forced();
            if forced.is_empty() {
                break;
            }
            for &token in forced.iter().take(tokens.len() - taken) {
                if !self.consume(token) {
                    return taken;
                }
                tokens[taken] = token as i32;
                taken += 1;
            }
        }
        if taken < tokens.len() && self.after_end == 0 && self.is_complete() && !self.ended() {
            if let Some(&end) = self.ends.first() {
                self.after_end = 1;
                tokens[taken] = end as i32;
                taken += 1;
            }
        }
        taken
    }

    fn forced(&mut self) -> Vec<TokenId> {
        let found = self.attempt(|inner| {
            let forced = inner.compute_ff_tokens();
            if inner.is_error() {
                Err(())
            } else {
                Ok(forced)
            }
        });
        found.unwrap_or_default()
    }

    /// The grammar's own end came as a token.
    fn ended(&self) -> bool {
        self.inner.stop_reason() == llguidance::api::StopReason::EndOfSentence
    }

    pub fn rollback(&mut self, tokens: usize) -> bool {
        if self.failure.is_some() {
            return false;
        }
        let behind = tokens.min(self.after_end);
        self.after_end -= behind;
        let back = tokens - behind;
        let done = self.attempt(|inner| inner.rollback(back)).is_ok();
        self.tokens.truncate(self.tokens.len().saturating_sub(back));
        done
    }
}
