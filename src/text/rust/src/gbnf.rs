//! llama.cpp's grammar format GBNF to Lark.
//!
//! GBNF describes an answer character by character; llguidance cuts it into lexemes, each as long as it can be. What does not
//! recur becomes one lexeme; a grammar that recurs becomes rules over lexemes, if greed changes nothing there: no lexeme may
//! contain another one (or itself) together with a character that can follow it. Where that cannot be shown, the grammar is refused.
//! Format: llama.cpp, grammars/README.md.

use std::collections::{BTreeSet, HashMap};

use llguidance::derivre::{RegexAst, RegexBuilder};
use llguidance::regex_to_lark;

use crate::bridge::GrammarLimits;
use crate::constraints::Problem;

const REGEX_BYTES_MAX: usize = 1 << 18;
const PROOF_FUEL: u64 = 1_000_000;
const LEXEMES_MAX: usize = 128;

pub fn to_lark(text: &str, limits: &GrammarLimits) -> Result<String, Problem> {
    let rules = Parser::new(text, limits.depth).rules()?;
    if !rules.names.contains_key("root") {
        return Err(Problem::grammar("a GBNF grammar must have a rule \"root\""));
    }
    Translator::new(&rules).translate()
}

enum Node {
    Text(String),
    /// A regular expression of one character.
    Class(String),
    /// <name> or <[id]>, as Lark has it, too.
    Special(String),
    Rule(usize),
    Sequence(Vec<Node>),
    Choice(Vec<Node>),
    Repeat(Box<Node>, u32, Option<u32>),
}

#[derive(Default)]
struct Rules {
    names: HashMap<String, usize>,
    bodies: Vec<Option<Node>>,
}

// ---- parsing

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth_max: usize,
    rules: Rules,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, depth_max: usize) -> Parser<'a> {
        Parser { text, at: 0, depth_max, rules: Rules::default() }
    }

    fn fail<T>(&self, expected: &str) -> Result<T, Problem> {
        let line = self.text[..self.at.min(self.text.len())].matches('\n').count() + 1;
        Err(Problem::grammar(format!("line {line} of the grammar: {expected}")))
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn take(&mut self, expected: char) -> bool {
        let there = self.peek() == Some(expected);
        self.at += if there { expected.len_utf8() } else { 0 };
        there
    }

    fn skip_space(&mut self) {
        while let Some(c) = self.peek() {
            match c {
                '#' => self.at += self.rest().find('\n').unwrap_or(self.rest().len()),
                ' ' | '\t' | '\r' | '\n' => self.at += 1,
                _ => break,
            }
        }
    }

    fn name(&mut self) -> &'a str {
        let rest = self.rest();
        let end =
            rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '-' && c != '_').unwrap_or(rest.len());
        self.at += end;
        &rest[..end]
    }

    /// A name with ::= behind it.
    fn at_rule(&mut self) -> bool {
        let start = self.at;
        let named = !self.name().is_empty();
        self.skip_space();
        let found = named && self.rest().starts_with("::=");
        self.at = start;
        found
    }

    fn index(&mut self, name: &str) -> usize {
        if let Some(&index) = self.rules.names.get(name) {
            return index;
        }
        let index = self.rules.bodies.len();
        self.rules.names.insert(name.into(), index);
        self.rules.bodies.push(None);
        index
    }

    fn rules(mut self) -> Result<Rules, Problem> {
        self.skip_space();
        while !self.rest().is_empty() {
            if !self.at_rule() {
                return self.fail("expected a rule: a name and ::=");
            }
            let name = self.name();
            let index = self.index(name);
            self.skip_space();
            self.at += "::=".len();
            let body = self.choice(0)?;
            if self.rules.bodies[index].replace(body).is_some() {
                return self.fail(&format!("the rule {name:.60} is there twice"));
            }
        }
        let missing = self.rules.names.iter().find(|(_, &index)| self.rules.bodies[index].is_none());
        match missing.map(|(name, _)| name.clone()) {
            Some(name) => self.fail(&format!("the rule {name:.60} is not defined")),
            None => Ok(self.rules),
        }
    }

    fn choice(&mut self, depth: usize) -> Result<Node, Problem> {
        if depth > self.depth_max {
            return self.fail(&format!("groups must nest at most {} deep", self.depth_max));
        }
        let mut options = vec![self.sequence(depth)?];
        while self.take('|') {
            options.push(self.sequence(depth)?);
        }
        Ok(if options.len() == 1 { options.remove(0) } else { Node::Choice(options) })
    }

    fn sequence(&mut self, depth: usize) -> Result<Node, Problem> {
        let mut parts = Vec::new();
        loop {
            self.skip_space();
            let part = match self.peek() {
                None | Some('|') | Some(')') => break,
                Some('"') => Node::Text(self.literal()?),
                Some('[') => Node::Class(self.class()?),
                Some('.') => {
                    self.at += 1;
                    Node::Class("(?s:.)".into())
                }
                Some('<') => Node::Special(self.special()?),
                Some('(') => {
                    self.at += 1;
                    let inner = self.choice(depth + 1)?;
                    if !self.take(')') {
                        return self.fail("expected )");
                    }
                    inner
                }
                Some(c) if c.is_ascii_alphanumeric() => {
                    if self.at_rule() {
                        break;
                    }
                    let name = self.name();
                    Node::Rule(self.index(name))
                }
                Some(c) => return self.fail(&format!("expected a part of a rule, got {c:?}")),
            };
            parts.push(self.repeated(part)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Node::Sequence(parts) })
    }

    fn repeated(&mut self, mut node: Node) -> Result<Node, Problem> {
        loop {
            let (low, high) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => {
                    let Some(end) = self.rest().find('}') else { return self.fail("expected }") };
                    let inner = &self.rest()[1..end];
                    let Some(range) = range_of(inner) else {
                        return self.fail("expected {m}, {m,} or {m,n}, of at most 100000");
                    };
                    self.at += end;
                    range
                }
                _ => return Ok(node),
            };
            self.at += 1;
            node = Node::Repeat(Box::new(node), low, high);
        }
    }

    /// A character, or an escape.
    fn character(&mut self) -> Result<char, Problem> {
        let Some(c) = self.peek() else { return self.fail("expected a character") };
        self.at += c.len_utf8();
        if c != '\\' {
            return Ok(c);
        }
        let Some(kind) = self.peek() else { return self.fail("expected an escape") };
        self.at += kind.len_utf8();
        let digits = match kind {
            'n' => return Ok('\n'),
            't' => return Ok('\t'),
            'r' => return Ok('\r'),
            '\\' | '"' | '[' | ']' | '-' | '^' | '\'' | '/' | '.' => return Ok(kind),
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => return self.fail(&format!("the escape \\{kind} is not known")),
        };
        let code = self.rest().get(..digits).and_then(|text| u32::from_str_radix(text, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => self.fail("expected the hexadecimal digits of a character"),
        }
    }

    fn literal(&mut self) -> Result<String, Problem> {
        self.at += 1;
        let mut text = String::new();
        while !self.take('"') {
            if matches!(self.peek(), None | Some('\n')) {
                return self.fail("a string must end on its line");
            }
            text.push(self.character()?);
        }
        Ok(text)
    }

    fn class(&mut self) -> Result<String, Problem> {
        self.at += 1;
        let mut class = String::from(if self.take('^') { "[^" } else { "[" });
        let empty = class.len();
        while !self.take(']') {
            let first = self.character()?;
            class.push_str(&format!("\\x{{{:X}}}", first as u32));
            let is_range = self.rest().starts_with('-') && !self.rest().starts_with("-]");
            if is_range {
                self.at += 1;
                let last = self.character()?;
                if last < first {
                    return self.fail("a range of characters must go upwards");
                }
                class.push_str(&format!("-\\x{{{:X}}}", last as u32));
            }
        }
        if class.len() == empty {
            return self.fail("a class must have a character");
        }
        class.push(']');
        Ok(class)
    }

    fn special(&mut self) -> Result<String, Problem> {
        let rest = self.rest();
        match rest.find('>') {
            Some(end) if end > 1 && !rest[..end].contains(char::is_whitespace) => {
                self.at += end + 1;
                Ok(rest[..=end].into())
            }
            _ => self.fail("expected a token: <name> or <[id]>"),
        }
    }
}

fn range_of(text: &str) -> Option<(u32, Option<u32>)> {
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|&n| n <= 100_000);
    match text.split_once(',') {
        None => number(text).map(|n| (n, Some(n))),
        Some((low, high)) if high.trim().is_empty() => Some((number(low)?, None)),
        Some((low, high)) => {
            let (low, high) = (if low.trim().is_empty() { 0 } else { number(low)? }, number(high)?);
            (low <= high).then_some((low, Some(high)))
        }
    }
}

// ---- translation

/// A piece of a rule over lexemes.
enum Piece {
    Lexeme(usize),
    Rule(usize),
    Special(String),
    Sequence(Vec<Piece>),
    Choice(Vec<Piece>),
    Repeat(Box<Piece>, u32, Option<u32>),
}

struct Lexeme {
    regex: String,
    /// Classes of the characters that it may begin with, and of all that it may have.
    first: BTreeSet<String>,
    alphabet: BTreeSet<String>,
    nullable: bool,
}

/// What may stand at the beginning of a piece.
#[derive(Clone, Default, PartialEq)]
struct First {
    lexemes: BTreeSet<usize>,
    nullable: bool,
}

struct Translator<'a> {
    rules: &'a Rules,
    regular: Vec<bool>,
    lexemes: Vec<Lexeme>,
    by_regex: HashMap<String, usize>,
}

impl<'a> Translator<'a> {
    fn new(rules: &'a Rules) -> Translator<'a> {
        // A rule is regular if all that it refers to is: the rest, which recurs or refers to what does, never becomes so.
        let mut regular = vec![false; rules.bodies.len()];
        loop {
            let next: Vec<bool> = rules
                .bodies
                .iter()
                .map(|body| body.as_ref().is_some_and(|body| is_regular(body, &regular)))
                .collect();
            if next == regular {
                break;
            }
            regular = next;
        }
        Translator { rules, regular, lexemes: Vec::new(), by_regex: HashMap::new() }
    }

    fn body(&self, rule: usize) -> &'a Node {
        self.rules.bodies[rule].as_ref().expect("every rule was found to be defined")
    }

    fn translate(mut self) -> Result<String, Problem> {
        let root = self.rules.names["root"];
        if self.regular[root] {
            let regex = self.regex(&Node::Rule(root))?;
            return Ok(if regex.is_empty() {
                "start: \"\"".into()
            } else {
                format!("start: {}", lark_regex(&regex))
            });
        }
        let mut pieces = Vec::new();
        for rule in 0..self.rules.bodies.len() {
            pieces.push(if self.regular[rule] { None } else { Some(self.piece(self.body(rule))?) });
        }
        self.prove(&pieces)?;
        let mut lark = format!("start: r{root}\n");
        for (rule, piece) in pieces.iter().enumerate() {
            if let Some(piece) = piece {
                lark.push_str(&format!("r{rule}: {}\n", write_piece(piece)));
            }
        }
        for (i, lexeme) in self.lexemes.iter().enumerate() {
            lark.push_str(&format!("L{i}: {}\n", lark_regex(&lexeme.regex)));
        }
        Ok(lark)
    }

    fn piece(&mut self, node: &'a Node) -> Result<Piece, Problem> {
        if is_regular(node, &self.regular) {
            return match self.regex(node)? {
                regex if regex.is_empty() => Ok(Piece::Sequence(Vec::new())),
                regex => self.lexeme(node, regex),
            };
        }
        let all = |this: &mut Self, nodes: &'a [Node]| {
            nodes.iter().map(|node| this.piece(node)).collect::<Result<Vec<Piece>, Problem>>()
        };
        Ok(match node {
            Node::Rule(rule) => Piece::Rule(*rule),
            Node::Special(name) => Piece::Special(name.clone()),
            Node::Sequence(parts) => Piece::Sequence(all(self, parts)?),
            Node::Choice(options) => Piece::Choice(all(self, options)?),
            Node::Repeat(inner, low, high) => Piece::Repeat(Box::new(self.piece(inner)?), *low, *high),
            Node::Text(_) | Node::Class(_) => unreachable!("texts and classes are regular"),
        })
    }

    fn lexeme(&mut self, node: &Node, regex: String) -> Result<Piece, Problem> {
        if let Some(&index) = self.by_regex.get(&regex) {
            return Ok(Piece::Lexeme(index));
        }
        let index = self.lexemes.len();
        if index == LEXEMES_MAX {
            return Err(Problem::grammar(format!(
                "a GBNF grammar that recurs must have at most {LEXEMES_MAX} parts"
            )));
        }
        let mut first = BTreeSet::new();
        let nullable = self.first_characters(node, &mut first);
        let mut alphabet = BTreeSet::new();
        self.all_characters(node, &mut alphabet);
        self.by_regex.insert(regex.clone(), index);
        self.lexemes.push(Lexeme { regex, first, alphabet, nullable });
        Ok(Piece::Lexeme(index))
    }

    /// True: the node may be empty.
    fn first_characters(&self, node: &Node, first: &mut BTreeSet<String>) -> bool {
        match node {
            Node::Text(text) => match text.chars().next() {
                Some(c) => {
                    first.insert(character_class(c));
                    false
                }
                None => true,
            },
            Node::Class(class) => {
                first.insert(class.clone());
                false
            }
            Node::Special(_) => false,
            Node::Rule(rule) => self.first_characters(self.body(*rule), first),
            Node::Sequence(parts) => parts.iter().all(|part| self.first_characters(part, first)),
            Node::Choice(options) => options
                .iter()
                .fold(false, |nullable, option| self.first_characters(option, first) || nullable),
            Node::Repeat(inner, low, _) => self.first_characters(inner, first) || *low == 0,
        }
    }

    fn all_characters(&self, node: &Node, all: &mut BTreeSet<String>) {
        match node {
            Node::Text(text) => all.extend(text.chars().map(character_class)),
            Node::Class(class) => _ = all.insert(class.clone()),
            Node::Special(_) => {}
            Node::Rule(rule) => self.all_characters(self.body(*rule), all),
            Node::Sequence(parts) | Node::Choice(parts) => {
                parts.iter().for_each(|part| self.all_characters(part, all));
            }
            Node::Repeat(inner, _, _) => self.all_characters(inner, all),
        }
    }

    fn regex(&self, node: &Node) -> Result<String, Problem> {
        let regex = match node {
            Node::Text(text) => text.chars().map(character_class).collect(),
            Node::Class(class) => class.clone(),
            Node::Rule(rule) => self.regex(self.body(*rule))?,
            Node::Special(name) => return Err(Problem::grammar(format!("{name} cannot stand here"))),
            Node::Sequence(parts) => {
                parts.iter().map(|part| self.regex(part)).collect::<Result<Vec<String>, Problem>>()?.concat()
            }
            Node::Choice(options) => {
                let options = options
                    .iter()
                    .map(|option| self.regex(option))
                    .collect::<Result<Vec<String>, Problem>>()?;
                format!("(?:{})", options.join("|"))
            }
            Node::Repeat(inner, low, high) => {
                let high = high.map_or(String::new(), |high| high.to_string());
                format!("(?:{}){{{low},{high}}}", self.regex(inner)?)
            }
        };
        if regex.len() > REGEX_BYTES_MAX {
            return Err(Problem::grammar("a part of the GBNF grammar is too large"));
        }
        Ok(regex)
    }

    // ---- is a greedy lexer exact?

    fn prove(&self, pieces: &[Option<Piece>]) -> Result<(), Problem> {
        let mut firsts = vec![First::default(); pieces.len()];
        while {
            let next: Vec<First> = pieces
                .iter()
                .map(|piece| piece.as_ref().map_or(First::default(), |piece| self.first(piece, &firsts)))
                .collect();
            let changed = next != firsts;
            firsts = next;
            changed
        } {}
        let mut after_rules = vec![BTreeSet::new(); pieces.len()];
        let mut after = vec![BTreeSet::new(); self.lexemes.len()];
        loop {
            let before = (after_rules.clone(), after.clone());
            for (rule, piece) in pieces.iter().enumerate() {
                if let Some(piece) = piece {
                    let behind = after_rules[rule].clone();
                    self.follow(piece, &behind, &firsts, &mut after_rules, &mut after);
                }
            }
            if before == (after_rules.clone(), after.clone()) {
                break;
            }
        }
        for (i, followers) in after.iter().enumerate() {
            let classes: BTreeSet<&String> =
                followers.iter().flat_map(|&next: &usize| &self.lexemes[next].first).collect();
            for other in &self.lexemes {
                if !classes.is_empty() && !self.is_separate(&self.lexemes[i], &classes, other) {
                    return Err(Problem::grammar(format!(
                        "this GBNF grammar cannot be cut into lexemes: what /{:.60}/ matches may go on as what follows it; write it \
                         without recursion, or in Lark",
                        self.lexemes[i].regex
                    )));
                }
            }
        }
        Ok(())
    }

    fn first(&self, piece: &Piece, firsts: &[First]) -> First {
        match piece {
            Piece::Lexeme(i) => First { lexemes: BTreeSet::from([*i]), nullable: self.lexemes[*i].nullable },
            Piece::Rule(rule) => firsts[*rule].clone(),
            Piece::Special(_) => First::default(),
            Piece::Sequence(parts) => {
                let mut all = First { nullable: true, ..First::default() };
                for part in parts {
                    let one = self.first(part, firsts);
                    all.lexemes.extend(&one.lexemes);
                    if !one.nullable {
                        all.nullable = false;
                        break;
                    }
                }
                all
            }
            Piece::Choice(options) => {
                let mut all = First::default();
                for option in options {
                    let one = self.first(option, firsts);
                    all.lexemes.extend(&one.lexemes);
                    all.nullable |= one.nullable;
                }
                all
            }
            Piece::Repeat(inner, low, _) => {
                let one = self.first(inner, firsts);
                First { nullable: one.nullable || *low == 0, ..one }
            }
        }
    }

    fn follow(
        &self,
        piece: &Piece,
        behind: &BTreeSet<usize>,
        firsts: &[First],
        after_rules: &mut [BTreeSet<usize>],
        after: &mut [BTreeSet<usize>],
    ) {
        match piece {
            Piece::Lexeme(i) => after[*i].extend(behind),
            Piece::Rule(rule) => after_rules[*rule].extend(behind),
            Piece::Special(_) => {}
            Piece::Sequence(parts) => {
                let mut behind = behind.clone();
                for part in parts.iter().rev() {
                    self.follow(part, &behind, firsts, after_rules, after);
                    let first = self.first(part, firsts);
                    if !first.nullable {
                        behind.clear();
                    }
                    behind.extend(&first.lexemes);
                }
            }
            Piece::Choice(options) => {
                options.iter().for_each(|option| self.follow(option, behind, firsts, after_rules, after));
            }
            Piece::Repeat(inner, _, high) => {
                let mut behind = behind.clone();
                if *high != Some(1) {
                    behind.extend(&self.first(inner, firsts).lexemes);
                }
                self.follow(inner, &behind, firsts, after_rules, after);
            }
        }
    }

    /// No word of `other` goes on, behind a word of `one`, with a character that may follow that word.
    fn is_separate(&self, one: &Lexeme, followers: &BTreeSet<&String>, other: &Lexeme) -> bool {
        // Mostly the characters tell: `other` has none that may follow, or does not begin as `one` does.
        if are_disjoint(followers.iter().copied(), other.alphabet.iter())
            || are_disjoint(one.alphabet.iter(), other.first.iter())
        {
            return true;
        }
        let mut builder = RegexBuilder::new();
        let followers: Vec<&str> = followers.iter().map(|class| class.as_str()).collect();
        let behind = format!("(?:{})(?s:.*)", followers.join("|"));
        let begun = match one.nullable {
            false => RegexAst::Regex(format!("(?:{}){behind}", one.regex)),
            // A word that is empty is no lexeme.
            true => {
                let word = vec![RegexAst::Regex(one.regex.clone()), RegexAst::Regex("(?s:.)(?s:.*)".into())];
                RegexAst::Concat(vec![RegexAst::And(word), RegexAst::Regex(behind)])
            }
        };
        let parts = RegexAst::And(vec![begun, RegexAst::Regex(other.regex.clone())]);
        let Ok(both) = builder.mk(&parts) else { return false };
        builder.to_regex_limited(both, PROOF_FUEL).is_ok_and(|mut regex| regex.always_empty())
    }
}

/// No character is in one of the first classes and in one of the others.
fn are_disjoint<'a>(
    some: impl Iterator<Item = &'a String>,
    others: impl Iterator<Item = &'a String>,
) -> bool {
    let mut builder = RegexBuilder::new();
    let some: Vec<&str> = some.map(String::as_str).collect();
    let others: Vec<&str> = others.map(String::as_str).collect();
    if some.is_empty() || others.is_empty() {
        return true;
    }
    let parts = vec![RegexAst::Regex(some.join("|")), RegexAst::Regex(others.join("|"))];
    let Ok(both) = builder.mk(&RegexAst::And(parts)) else { return false };
    builder.to_regex_limited(both, PROOF_FUEL).is_ok_and(|mut regex| regex.always_empty())
}

fn is_regular(node: &Node, regular: &[bool]) -> bool {
    match node {
        Node::Text(_) | Node::Class(_) => true,
        Node::Special(_) => false,
        Node::Rule(rule) => regular[*rule],
        Node::Sequence(parts) | Node::Choice(parts) => parts.iter().all(|part| is_regular(part, regular)),
        Node::Repeat(inner, _, _) => is_regular(inner, regular),
    }
}

fn character_class(c: char) -> String {
    format!("\\x{{{:X}}}", c as u32)
}

fn lark_regex(regex: &str) -> String {
    format!("/{}/", regex_to_lark(regex, ""))
}

fn write_piece(piece: &Piece) -> String {
    let all = |pieces: &[Piece], separator: &str| {
        pieces.iter().map(write_piece).collect::<Vec<String>>().join(separator)
    };
    match piece {
        Piece::Lexeme(i) => format!("L{i}"),
        Piece::Rule(rule) => format!("r{rule}"),
        Piece::Special(name) => name.clone(),
        Piece::Sequence(parts) if parts.is_empty() => "\"\"".into(),
        Piece::Sequence(parts) => format!("( {} )", all(parts, " ")),
        Piece::Choice(options) => format!("( {} )", all(options, " | ")),
        Piece::Repeat(inner, 0, None) => format!("( {} )*", write_piece(inner)),
        Piece::Repeat(inner, 1, None) => format!("( {} )+", write_piece(inner)),
        Piece::Repeat(inner, 0, Some(1)) => format!("( {} )?", write_piece(inner)),
        Piece::Repeat(inner, low, None) => format!("( ( {0} ){{{low}}} ( {0} )* )", write_piece(inner)),
        Piece::Repeat(inner, low, Some(high)) => format!("( {} ){{{low},{high}}}", write_piece(inner)),
    }
}
