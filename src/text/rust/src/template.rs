//! A compiled template: Hugging Face's dialect of Jinja, guarded.

use std::borrow::Cow;
use std::collections::BTreeMap;

use minijinja::machinery::{self, CodeGenerator, Instructions};
use minijinja::syntax::SyntaxConfig;
use minijinja::{AutoEscape, Environment, Error, UndefinedBehavior, Value};

use crate::bridge::{Limits, Rendered};
use crate::{builtins, guard, python, rewrite};

pub struct Template {
    // Fields are dropped in this order; the first two borrow from the last.
    instructions: Instructions<'static>,
    blocks: BTreeMap<&'static str, Instructions<'static>>,
    env: Environment<'static>,
    limits: Limits,
    _source: Box<str>,
}

impl Template {
    pub fn compile(source: &str, limits: Limits) -> Result<Template, String> {
        if source.len() > limits.source_bytes {
            return Err(format!(
                "the template must have at most {} bytes, got {}",
                limits.source_bytes,
                source.len()
            ));
        }
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|e| e.to_string())?;
        // Jinja reads every kind of line end as \n.
        let source = source.replace("\r\n", "\n").replace('\r', "\n");
        let owned: Box<str> = without_generation_tags(&source).into();
        // SAFETY: the text lives on the heap, is never changed, and is dropped after all that borrows from it.
        let text: &'static str = unsafe { &*(owned.as_ref() as *const str) };
        rewrite::check_shape(text, &syntax)?;
        let tree = machinery::parse(text, "chat_template", syntax).map_err(describe)?;
        let mut generator = CodeGenerator::new("chat_template", text);
        generator.compile_stmt(&rewrite::statement(&tree));
        let (instructions, blocks) = generator.finish();
        Ok(Template { instructions, blocks, env: environment(&limits), limits, _source: owned })
    }

    pub fn render(&self, context: &str, now: i64) -> Rendered {
        let context: Value = match serde_json::from_str(context) {
            Ok(value) => value,
            Err(error) => return failed(format!("the template's context is not JSON: {error}"), false),
        };
        guard::begin(self.limits, now);
        let mut text = String::new();
        let mut output = machinery::make_string_output(&mut text);
        let result = machinery::eval(
            &self.env,
            &self.instructions,
            context,
            &self.blocks,
            &mut output,
            AutoEscape::None,
        )
        .map(|_| ());
        match (result, guard::end()) {
            (_, Some(message)) => failed(message, true),
            (Err(error), None) => failed(describe(error), false),
            (Ok(()), None) if text.len() > self.limits.output_bytes => {
                failed(format!("the template wrote more than {} bytes", self.limits.output_bytes), false)
            }
            (Ok(()), None) => Rendered { text, error: String::new(), raised: false },
        }
    }
}

fn failed(error: String, raised: bool) -> Rendered {
    Rendered { text: String::new(), error, raised }
}

fn environment(limits: &Limits) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_fuel(Some(limits.fuel));
    env.set_recursion_limit(limits.depth * 4); // minijinja counts a macro call as four
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_formatter(|out, _state, value| {
        let text = match value.as_str() {
            Some(text) => Cow::Borrowed(text),
            None => Cow::Owned(python::to_str(value)?),
        };
        guard::write(text.len())?;
        out.write_str(&text).map_err(Error::from)
    });
    builtins::install(&mut env);
    env
}

/// What failed, and the line in the template.
fn describe(error: Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_string);
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}

/// transformers marks the assistant's part with {% generation %} for training. For rendering the tag does nothing, so it
/// is read as a condition that always holds.
fn without_generation_tags(source: &str) -> Cow<'_, str> {
    if !source.contains("generation") {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(at) = rest.find("{%") {
        let (before, tag) = rest.split_at(at + 2);
        out.push_str(before);
        let inner = tag.find("%}").map_or("", |end| &tag[..end]);
        match inner.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&inner.replace("generation", "if true")),
            "endgeneration" => out.push_str(&inner.replace("endgeneration", "endif")),
            _ => out.push_str(inner),
        }
        rest = &tag[inner.len()..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}
