//! What neutrino takes from Rust, in one static library (two of them in one program would hold std twice).
//!
//! Chat templates: `template.rs`. A constraint engine would be a module and a block of the bridge beside it.
//! A panic never crosses into C++: it comes back as an error like any other.

mod builtins;
mod guard;
mod operators;
mod python;
mod rewrite;
mod template;

use std::panic::{catch_unwind, AssertUnwindSafe};

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
}

use bridge::{Limits, Rendered};

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
