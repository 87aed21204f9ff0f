//! JSON schemas, made ready for llguidance: what it cannot do exactly is found here, with its place.

use serde_json::{json, Value};

use crate::bridge::GrammarLimits;
use crate::constraints::{Problem, INVALID_SCHEMA, UNSUPPORTED_KEYWORD};

/// Between the parts of a JSON text: nothing, one space, or one line break and its indentation.
const WHITE_SPACE: &str = r"(?: |\n(?: {1,20}|\t{1,10})?)";

pub fn prepare_text(text: &str, limits: &GrammarLimits) -> Result<Value, Problem> {
    let schema: Value = serde_json::from_str(text)
        .map_err(|error| Problem::new(INVALID_SCHEMA, "", format!("the schema is not JSON: {error}")))?;
    prepare(schema, limits)
}

pub fn prepare(mut schema: Value, _limits: &GrammarLimits) -> Result<Value, Problem> {
    if schema == Value::Bool(true) {
        schema = json!({});
    }
    let Some(root) = schema.as_object_mut() else {
        return Err(Problem::new(INVALID_SCHEMA, "", "a schema must be an object or true"));
    };
    root.insert("x-guidance".into(), json!({"whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE}));
    Ok(schema)
}

/// The schemas of `%json {...}` in a grammar.
pub fn prepare_in_lark(text: &str, _limits: &GrammarLimits) -> Result<String, Problem> {
    Ok(text.into())
}

/// What llguidance says about a schema, as a problem of that schema.
pub fn explain(error: &str, _schema: &Value) -> Problem {
    if error.contains("Unimplemented keys") {
        return Problem::new(UNSUPPORTED_KEYWORD, "", error);
    }
    Problem::new(INVALID_SCHEMA, "", format!("the schema cannot be used: {error}"))
}
