//! Structural tags to Lark: free text with tags in it, whose contents follow schemas.
//!
//! Both forms are taken: vLLM's first one ({"structures": [{"begin", "schema", "end"}], "triggers": [...]}), and the tree of
//! xgrammar ({"format": {"type": ...}}). Free text goes on until a trigger comes; from there on one of the tags that begin with
//! it must follow. The text up to a trigger is a lazy lexeme: it ends where the trigger first does.

use serde_json::Value;

use crate::bridge::GrammarLimits;
use crate::constraints::{quote, Problem, INVALID_GRAMMAR};
use crate::schema;

pub fn to_lark(text: &str, limits: &GrammarLimits) -> Result<String, Problem> {
    let tag: Value = serde_json::from_str(text)
        .map_err(|error| Problem::grammar(format!("the structural tag is not JSON: {error}")))?;
    let mut writer = Writer { limits, rules: String::new(), count: 0 };
    let start = match (tag.get("format"), tag.get("structures")) {
        (Some(format), None) => writer.format(format, ".format", 0)?,
        (None, Some(structures)) => {
            let tags = writer.tags(structures, ".structures", 0)?;
            let triggers = texts(tag.get("triggers"), ".triggers")?;
            writer.triggered(&tags, &triggers, false, false, "")?
        }
        _ => return Err(wrong("", "hold either a format, or structures and triggers")),
    };
    Ok(format!("start: {start}\n{}TEXT: /(?s:.*)/\n", writer.rules))
}

fn wrong(path: &str, expected: &str) -> Problem {
    let message = format!("the structural tag{path} must {expected}");
    Problem::new(INVALID_GRAMMAR, path, message)
}

fn text<'a>(value: Option<&'a Value>, path: &str) -> Result<&'a str, Problem> {
    value.and_then(Value::as_str).ok_or_else(|| wrong(path, "be a string"))
}

fn texts(value: Option<&Value>, path: &str) -> Result<Vec<String>, Problem> {
    let list = value.and_then(Value::as_array).filter(|list| !list.is_empty());
    let list = list.ok_or_else(|| wrong(path, "be a list of strings"))?;
    let strings: Option<Vec<String>> =
        list.iter().map(|one| one.as_str().filter(|text| !text.is_empty()).map(str::to_string)).collect();
    strings.ok_or_else(|| wrong(path, "be a list of strings that are not empty"))
}

/// `rest`: a rule for what follows a begin.
struct Tag {
    begin: String,
    rest: String,
}

struct Writer<'a> {
    limits: &'a GrammarLimits,
    rules: String,
    count: usize,
}

impl Writer<'_> {
    fn rule(&mut self, attributes: &str, body: &str) -> String {
        self.count += 1;
        let name = format!("s{}", self.count);
        self.rules.push_str(&format!("{name}{attributes}: {body}\n"));
        name
    }

    fn schema(&mut self, value: &Value, path: &str) -> Result<String, Problem> {
        let core = schema::prepare(value, self.limits)
            .map_err(|problem| Problem { path: format!("{path}{}", problem.path), ..problem })?;
        Ok(self.rule("", &format!("%json {core}")))
    }

    fn tags(&mut self, value: &Value, path: &str, depth: usize) -> Result<Vec<Tag>, Problem> {
        let list = value.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| wrong(path, "be a list of tags"))?;
        list.iter().enumerate().map(|(i, tag)| self.tag(tag, &format!("{path}[{i}]"), depth)).collect()
    }

    fn tag(&mut self, tag: &Value, path: &str, depth: usize) -> Result<Tag, Problem> {
        let begin = text(tag.get("begin"), &format!("{path}.begin"))?.to_string();
        let end = text(tag.get("end"), &format!("{path}.end"))?;
        let rest = match (tag.get("schema"), tag.get("content")) {
            (Some(schema), None) => {
                let inner = self.schema(schema, &format!("{path}.schema"))?;
                self.rule("", &with_end(&inner, end))
            }
            (None, Some(content)) if is_any_text(content) && !end.is_empty() => {
                self.rule("[lazy]", &format!("TEXT {}", quote(end)))
            }
            (None, Some(content)) => {
                let inner = self.format(content, &format!("{path}.content"), depth + 1)?;
                self.rule("", &with_end(&inner, end))
            }
            _ => return Err(wrong(path, "hold a schema or a content")),
        };
        Ok(Tag { begin, rest })
    }

    fn whole(&mut self, tag: &Tag) -> String {
        match tag.begin.is_empty() {
            true => tag.rest.clone(),
            false => self.rule("", &format!("{} {}", quote(&tag.begin), tag.rest)),
        }
    }

    /// Free text with tags; each trigger is followed by one of the tags that begin with it.
    fn triggered(
        &mut self,
        tags: &[Tag],
        triggers: &[String],
        at_least_one: bool,
        only_one: bool,
        path: &str,
    ) -> Result<String, Problem> {
        let mut calls = Vec::new();
        for trigger in triggers {
            let begun: Vec<String> = tags
                .iter()
                .filter(|tag| tag.begin.starts_with(trigger.as_str()))
                .map(|tag| match &tag.begin[trigger.len()..] {
                    "" => tag.rest.clone(),
                    rest => format!("{} {}", quote(rest), tag.rest),
                })
                .collect();
            if begun.is_empty() {
                return Err(wrong(
                    path,
                    &format!("have a tag that begins with each trigger; none does with {trigger:?}"),
                ));
            }
            let head = self.rule("[lazy]", &format!("TEXT {}", quote(trigger)));
            calls.push(self.rule("", &format!("{head} ( {} )", begun.join(" | "))));
        }
        let lost =
            tags.iter().find(|tag| !triggers.iter().any(|trigger| tag.begin.starts_with(trigger.as_str())));
        if let Some(tag) = lost {
            return Err(wrong(path, &format!("have a trigger for each tag; none begins {:?}", tag.begin)));
        }
        let call = self.rule("", &calls.join(" | "));
        // Behind the last tag there is text without a trigger: a lexeme that holds one would have ended as a lazy one.
        let tail = self.rule("", "TEXT");
        Ok(match (at_least_one, only_one) {
            (false, false) => self.rule("", &format!("{call}* {tail}")),
            (true, false) => self.rule("", &format!("{call}+ {tail}")),
            (false, true) => self.rule("", &format!("{call} | {tail}")),
            (true, true) => call,
        })
    }

    fn format(&mut self, format: &Value, path: &str, depth: usize) -> Result<String, Problem> {
        if depth > self.limits.depth {
            return Err(wrong(path, &format!("nest at most {} deep", self.limits.depth)));
        }
        let flag = |name: &str| format.get(name).and_then(Value::as_bool).unwrap_or(false);
        match format.get("type").and_then(Value::as_str).unwrap_or("") {
            "const_string" => {
                let body = quote(text(format.get("value"), &format!("{path}.value"))?);
                Ok(self.rule("", &body))
            }
            "json_schema" => {
                let at = format!("{path}.json_schema");
                let value = format.get("json_schema").ok_or_else(|| wrong(&at, "be there"))?;
                self.schema(value, &at)
            }
            "regex" => {
                let pattern = text(format.get("pattern"), &format!("{path}.pattern"))?;
                Ok(self.rule("", &format!("/{}/", llguidance::regex_to_lark(pattern, "dw"))))
            }
            "any_text" => Ok(self.rule("", "TEXT")),
            "tag" => {
                let tag = self.tag(format, path, depth)?;
                Ok(self.whole(&tag))
            }
            kind @ ("sequence" | "or") => {
                let at = format!("{path}.elements");
                let list = format.get("elements").and_then(Value::as_array).filter(|list| !list.is_empty());
                let list = list.ok_or_else(|| wrong(&at, "be a list of formats"))?;
                let mut parts = Vec::new();
                for (i, element) in list.iter().enumerate() {
                    if kind == "sequence" && i + 1 < list.len() && is_any_text(element) {
                        return Err(wrong(&format!("{at}[{i}]"), "not be free text before something else"));
                    }
                    parts.push(self.format(element, &format!("{at}[{i}]"), depth + 1)?);
                }
                Ok(self.rule("", &parts.join(if kind == "or" { " | " } else { " " })))
            }
            "triggered_tags" => {
                let triggers = texts(format.get("triggers"), &format!("{path}.triggers"))?;
                let tags =
                    self.tags(format.get("tags").unwrap_or(&Value::Null), &format!("{path}.tags"), depth)?;
                self.triggered(&tags, &triggers, flag("at_least_one"), flag("stop_after_first"), path)
            }
            "tags_with_separator" => {
                let tags =
                    self.tags(format.get("tags").unwrap_or(&Value::Null), &format!("{path}.tags"), depth)?;
                let separator = text(format.get("separator"), &format!("{path}.separator"))?;
                let wholes: Vec<String> = tags.iter().map(|tag| self.whole(tag)).collect();
                let one = self.rule("", &wholes.join(" | "));
                let more = match (flag("stop_after_first"), separator) {
                    (true, _) => one,
                    (false, "") => format!("{one}+"),
                    (false, _) => format!("{one} ( {} {one} )*", quote(separator)),
                };
                Ok(self.rule("", &if flag("at_least_one") { more } else { format!("( {more} )?") }))
            }
            other => {
                Err(wrong(&format!("{path}.type"), &format!("be a type that is known, got \"{other:.60}\"")))
            }
        }
    }
}

fn is_any_text(format: &Value) -> bool {
    format.get("type").and_then(Value::as_str) == Some("any_text")
}

fn with_end(inner: &str, end: &str) -> String {
    if end.is_empty() {
        inner.into()
    } else {
        format!("{inner} {}", quote(end))
    }
}
