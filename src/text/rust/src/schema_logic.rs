//! Logic on core schemas (see `schema.rs`): the opposite of one, whether several exclude each other, and `oneOf` by these two.
//!
//! Everything here is exact or says that it does not know: `negate` gives the schema of all values that another refuses, or
//! names what has no opposite in the core; `contradict` says true only where it has a proof.

use std::ops::{BitAnd, BitOr};

use llguidance::derivre::{RegexAst, RegexBuilder};
use llguidance::regex_to_lark;
use serde_json::{json, Map, Value};

use crate::schema::Rewriter;

/// A set of JSON's types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Types(u8);

impl Types {
    pub const NULL: Types = Types(1);
    pub const BOOLEAN: Types = Types(2);
    pub const NUMBER: Types = Types(4);
    pub const STRING: Types = Types(8);
    pub const ARRAY: Types = Types(16);
    pub const OBJECT: Types = Types(32);
    pub const NONE: Types = Types(0);
    pub const ALL: Types = Types(63);
    const NAMES: [(&'static str, Types); 6] = [
        ("null", Types::NULL),
        ("boolean", Types::BOOLEAN),
        ("number", Types::NUMBER),
        ("string", Types::STRING),
        ("array", Types::ARRAY),
        ("object", Types::OBJECT),
    ];

    pub fn intersects(self, other: Types) -> bool {
        self.0 & other.0 != 0
    }
    fn without(self, other: Types) -> Types {
        Types(self.0 & !other.0)
    }
    fn of_name(name: &str) -> Option<Types> {
        let name = if name == "integer" { "number" } else { name };
        Types::NAMES.iter().find(|(known, _)| *known == name).map(|(_, types)| *types)
    }
    /// Of the keyword `type`; whole numbers count as numbers.
    pub fn of_keyword(value: &Value) -> Option<Types> {
        match value {
            Value::String(name) => Types::of_name(name),
            Value::Array(names) if !names.is_empty() => names
                .iter()
                .map(|name| name.as_str().and_then(Types::of_name))
                .try_fold(Types::NONE, |all, one| one.map(|one| all | one)),
            _ => None,
        }
    }
    fn of_value(value: &Value) -> Types {
        match value {
            Value::Null => Types::NULL,
            Value::Bool(_) => Types::BOOLEAN,
            Value::Number(_) => Types::NUMBER,
            Value::String(_) => Types::STRING,
            Value::Array(_) => Types::ARRAY,
            Value::Object(_) => Types::OBJECT,
        }
    }
    fn schema(self) -> Value {
        let names: Vec<&str> =
            Types::NAMES.iter().filter(|(_, types)| self.intersects(*types)).map(|(name, _)| *name).collect();
        match names.len() {
            0 => Value::Bool(false),
            6 => Value::Bool(true),
            _ => json!({"type": names}),
        }
    }
}

impl BitAnd for Types {
    type Output = Types;
    fn bitand(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }
}

impl BitOr for Types {
    type Output = Types;
    fn bitor(self, other: Types) -> Types {
        Types(self.0 | other.0)
    }
}

const DEPTH_MAX: usize = 24;
const WORK_MAX: usize = 100_000;
const REGEX_FUEL: u64 = 20_000;
const ALL_BUT_CHARS: usize = 80; // a group in a group for each

// ---- putting schemas together

pub fn any_of(options: Vec<Value>) -> Value {
    let mut options: Vec<Value> =
        options.into_iter().filter(|option| option != &Value::Bool(false)).collect();
    if options.contains(&Value::Bool(true)) {
        return Value::Bool(true);
    }
    match options.len() {
        0 => Value::Bool(false),
        1 => options.remove(0),
        _ => json!({ "anyOf": options }),
    }
}

pub fn all_of(parts: Vec<Value>) -> Value {
    let mut parts: Vec<Value> = parts.into_iter().filter(|part| part != &Value::Bool(true)).collect();
    if parts.contains(&Value::Bool(false)) {
        return Value::Bool(false);
    }
    match parts.len() {
        0 => Value::Bool(true),
        1 => parts.remove(0),
        _ => json!({ "allOf": parts }),
    }
}

/// A core with further schemas that must hold. They come last, so that the order of properties stays that of the core.
pub fn with_all(mut core: Map<String, Value>, extra: Vec<Value>) -> Value {
    match all_of(extra) {
        Value::Bool(true) => Value::Object(core),
        Value::Bool(false) => Value::Bool(false),
        added if core.is_empty() => added,
        added if !core.contains_key("allOf") => {
            let parts = match added {
                Value::Object(mut map) if map.len() == 1 && map.contains_key("allOf") => map["allOf"].take(),
                other => json!([other]),
            };
            core.insert("allOf".into(), parts);
            Value::Object(core)
        }
        added if !core.contains_key("anyOf") => {
            core.insert("anyOf".into(), json!([added]));
            Value::Object(core)
        }
        added => json!({ "allOf": [Value::Object(core), added] }),
    }
}

/// One of the first `most` items of an array holds.
pub fn contains(schema: &Value, most: usize) -> Value {
    any_of((0..most).map(|i| with_item(i, schema.clone())).collect())
}

/// An array whose item `i` is there and holds.
fn with_item(i: usize, schema: Value) -> Value {
    let mut items = vec![Value::Bool(true); i];
    items.push(schema);
    json!({"type": "array", "minItems": i + 1, "prefixItems": items})
}

/// Names as a pattern: Some(None): any name; None: not to be told.
pub fn names_pattern(core: &Value) -> Option<Option<String>> {
    let map = match core {
        Value::Bool(true) => return Some(None),
        Value::Bool(false) => return Some(Some("^[^\\s\\S]$".into())),
        Value::Object(map) => map,
        _ => return None,
    };
    let restricting: Vec<(&String, &Value)> = map
        .iter()
        .filter(|(keyword, value)| match keyword.as_str() {
            "type" => !Types::of_keyword(value).is_some_and(|types| types.intersects(Types::STRING)),
            "pattern" | "enum" | "const" | "minLength" | "maxLength" | "$ref" | "allOf" | "anyOf"
            | "format" => true,
            _ => false, // not about strings
        })
        .collect();
    let number = |name: &str| map.get(name).and_then(Value::as_u64);
    match restricting.as_slice() {
        [] => Some(None),
        [(keyword, value)] if *keyword == "pattern" => Some(Some(value.as_str()?.into())),
        [(keyword, value)] if *keyword == "const" => Some(Some(exactly(&[(*value).clone()]))),
        [(keyword, value)] if *keyword == "enum" => Some(Some(exactly(value.as_array()?))),
        all if all.iter().all(|(keyword, _)| keyword.ends_with("Length")) => {
            let most = number("maxLength").map_or(String::new(), |most| most.to_string());
            Some(Some(format!("^(?s:.){{{},{most}}}$", number("minLength").unwrap_or(0))))
        }
        _ => None,
    }
}

fn exactly(values: &[Value]) -> String {
    let texts: Vec<String> = values.iter().filter_map(Value::as_str).map(escaped).collect();
    match texts.is_empty() {
        true => "^[^\\s\\S]$".into(),
        false => format!("^(?:{})$", texts.join("|")),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if "\\.+*?()|[]{}^$#&-~/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

// ---- the opposite

/// The schema of all values of `types` that `core` refuses. The error is the keyword that has no opposite.
pub fn negate(rewriter: &mut Rewriter, core: &Value, types: Types, depth: usize) -> Result<Value, String> {
    rewriter.work += 1;
    if depth > DEPTH_MAX || rewriter.work > WORK_MAX {
        return Err("a schema so large".into());
    }
    let map = match core {
        Value::Bool(holds) => return Ok(Value::Bool(!holds)),
        Value::Object(map) => map,
        _ => return Err("what is no schema".into()),
    };
    let mut options = Vec::new();
    let mut failure = None;
    for (keyword, value) in map {
        match negate_keyword(rewriter, map, keyword, value, types, depth) {
            Ok(mut found) => options.append(&mut found),
            Err(keyword) => failure = Some(keyword),
        }
    }
    let result = any_of(options);
    match failure {
        Some(keyword) if result != Value::Bool(true) => Err(keyword),
        _ => Ok(result),
    }
}

/// Each of the results refuses the keyword; together they are all values that do.
fn negate_keyword(
    rewriter: &mut Rewriter,
    map: &Map<String, Value>,
    keyword: &str,
    value: &Value,
    types: Types,
    depth: usize,
) -> Result<Vec<Value>, String> {
    let of_type = |name: &str, keyword: &str, value: Value| {
        let applies = Types::of_name(name).is_some_and(|of| types.intersects(of));
        Ok(if applies { vec![json!({"type": name, keyword: value})] } else { vec![] })
    };
    let count = value.as_f64().unwrap_or(0.0) as u64;
    let fewer = |name: &str, keyword: &str| match count {
        0 => Ok(vec![]),
        _ => of_type(name, keyword, json!(count - 1)),
    };
    let no = |of: Types| if types.intersects(of) { Err(format!("\"{keyword}\"")) } else { Ok(vec![]) };
    match keyword {
        "type" => negate_type(value, types).map(|schema| vec![schema]),
        "const" => negate_value(value, types, depth).map(|schema| vec![schema]),
        "enum" => {
            let values = value.as_array().map_or(&[][..], Vec::as_slice);
            let parts: Result<Vec<Value>, String> =
                values.iter().map(|value| negate_value(value, types, depth)).collect();
            Ok(vec![all_of(parts?)])
        }
        "allOf" => {
            let parts = value.as_array().map_or(&[][..], Vec::as_slice);
            parts.iter().map(|part| negate(rewriter, part, types, depth + 1)).collect()
        }
        "anyOf" => {
            let parts = value.as_array().map_or(&[][..], Vec::as_slice);
            let parts: Result<Vec<Value>, String> =
                parts.iter().map(|part| negate(rewriter, part, types, depth + 1)).collect();
            Ok(vec![all_of(parts?)])
        }
        "$ref" => {
            let target = value.as_str().and_then(|name| rewriter.resolve(name));
            let target = target.ok_or("a schema that refers to itself")?;
            Ok(vec![negate(rewriter, &target, types, depth + 1)?])
        }
        "required" => {
            let names = value.as_array().map_or(&[][..], Vec::as_slice);
            let missing =
                |name: &Value| json!({"type": "object", "properties": {name.as_str().unwrap_or(""): false}});
            Ok(if types.intersects(Types::OBJECT) { names.iter().map(missing).collect() } else { vec![] })
        }
        "properties" if types.intersects(Types::OBJECT) => {
            let mut options = Vec::new();
            for (name, schema) in value.as_object().into_iter().flatten() {
                match negate(rewriter, schema, Types::ALL, depth + 1)? {
                    Value::Bool(false) => {}
                    opposite => options.push(
                        json!({"type": "object", "properties": {name.as_str(): opposite}, "required": [name]}),
                    ),
                }
            }
            Ok(options)
        }
        "prefixItems" if types.intersects(Types::ARRAY) => {
            let mut options = Vec::new();
            for (i, schema) in value.as_array().into_iter().flatten().enumerate() {
                match negate(rewriter, schema, Types::ALL, depth + 1)? {
                    Value::Bool(false) => {}
                    opposite => options.push(with_item(i, opposite)),
                }
            }
            Ok(options)
        }
        "items" if value == &Value::Bool(false) => {
            let first = map.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
            of_type("array", "minItems", json!(first + 1))
        }
        "items" | "additionalProperties" if value == &Value::Bool(true) => Ok(vec![]),
        "patternProperties"
            if value.as_object().is_some_and(|m| m.values().all(|v| v == &Value::Bool(true))) =>
        {
            Ok(vec![])
        }
        "items" => no(Types::ARRAY),
        "additionalProperties" | "patternProperties" => no(Types::OBJECT),
        "minProperties" => fewer("object", "maxProperties"),
        "maxProperties" => of_type("object", "minProperties", json!(count + 1)),
        "minItems" => fewer("array", "maxItems"),
        "maxItems" => of_type("array", "minItems", json!(count + 1)),
        "minLength" => fewer("string", "maxLength"),
        "maxLength" => of_type("string", "minLength", json!(count + 1)),
        "minimum" => of_type("number", "exclusiveMaximum", value.clone()),
        "maximum" => of_type("number", "exclusiveMinimum", value.clone()),
        "exclusiveMinimum" => of_type("number", "maximum", value.clone()),
        "exclusiveMaximum" => of_type("number", "minimum", value.clone()),
        "multipleOf" => no(Types::NUMBER),
        "pattern" | "format" => no(Types::STRING),
        _ => Ok(vec![]),
    }
}

fn names_type(value: &Value, name: &str) -> bool {
    value == name || value.as_array().is_some_and(|names| names.iter().any(|one| one == name))
}

fn negate_type(value: &Value, types: Types) -> Result<Value, String> {
    let mine = Types::of_keyword(value).ok_or("\"type\"")?;
    let whole_only = names_type(value, "integer") && !names_type(value, "number");
    if whole_only && types.intersects(Types::NUMBER) {
        return Err("the type integer".into());
    }
    Ok(types.without(mine).schema())
}

/// All values of `types` but one.
fn negate_value(value: &Value, types: Types, depth: usize) -> Result<Value, String> {
    let own = Types::of_value(value);
    let mut options = vec![types.without(own).schema()];
    if !types.intersects(own) {
        return Ok(any_of(options));
    }
    if depth > DEPTH_MAX {
        return Err("a value so deep".into());
    }
    match value {
        Value::Null => {}
        Value::Bool(held) => options.push(json!({ "enum": [!held] })),
        Value::Number(_) => {
            options.push(json!({"type": "number", "exclusiveMaximum": value}));
            options.push(json!({"type": "number", "exclusiveMinimum": value}));
        }
        Value::String(text) if text.chars().count() > ALL_BUT_CHARS => return Err("a text so long".into()),
        Value::String(text) => options.push(json!({"type": "string", "pattern": all_but(text)})),
        Value::Array(items) => {
            if !items.is_empty() {
                options.push(json!({"type": "array", "maxItems": items.len() - 1}));
            }
            options.push(json!({"type": "array", "minItems": items.len() + 1}));
            for (i, item) in items.iter().enumerate() {
                options.push(with_item(i, negate_value(item, Types::ALL, depth + 1)?));
            }
        }
        Value::Object(members) => {
            for (name, member) in members {
                let other = negate_value(member, Types::ALL, depth + 1)?;
                options.push(json!({"type": "object", "properties": {name.as_str(): false}}));
                options.push(
                    json!({"type": "object", "properties": {name.as_str(): other}, "required": [name]}),
                );
            }
            options.push(json!({"type": "object", "minProperties": members.len() + 1}));
        }
    }
    Ok(any_of(options))
}

/// A pattern of all texts but one: those that leave it at one of its characters, end before its end, or go on behind it.
fn all_but(text: &str) -> String {
    let mut pattern = String::from("(?s:.)+");
    for c in text.chars().rev() {
        let c = escaped(&c.to_string());
        pattern = format!("(?:[^{c}](?s:.)*|{c}{pattern})?");
    }
    format!("^{pattern}$")
}

// ---- exclusion

/// The proof that no value of `types` satisfies all of these.
pub fn contradict(rewriter: &mut Rewriter, schemas: &[Value], types: Types, depth: usize) -> bool {
    rewriter.work += 1;
    if depth > DEPTH_MAX || rewriter.work > WORK_MAX {
        return false;
    }
    let mut parts = Vec::new();
    let mut choices = Vec::new();
    for schema in schemas {
        if !flatten(rewriter, schema, &mut parts, &mut choices, 0) {
            return true;
        }
    }
    if parts_contradict(rewriter, &parts, types, depth) {
        return true;
    }
    // A choice contradicts the rest if each of its options does; the first one is enough to try, and then the next.
    for (i, options) in choices.iter().enumerate() {
        let rest: Vec<Value> = parts
            .iter()
            .map(|part| Value::Object(part.clone()))
            .chain(choices.iter().skip(i + 1).map(|options| json!({ "anyOf": options })))
            .collect();
        let all = options.iter().all(|option| {
            let mut with = rest.clone();
            with.push(option.clone());
            contradict(rewriter, &with, types, depth + 1)
        });
        if all {
            return true;
        }
    }
    false
}

/// Into keyword maps without applicators, and choices. False: one of them is false itself.
fn flatten(
    rewriter: &mut Rewriter,
    schema: &Value,
    parts: &mut Vec<Map<String, Value>>,
    choices: &mut Vec<Vec<Value>>,
    depth: usize,
) -> bool {
    let map = match schema {
        Value::Bool(holds) => return *holds,
        Value::Object(map) => map,
        _ => return true,
    };
    if depth > DEPTH_MAX {
        return true; // less is known, which is safe
    }
    let mut part = Map::new();
    for (keyword, value) in map {
        match (keyword.as_str(), value) {
            ("allOf", Value::Array(list)) => {
                for one in list {
                    if !flatten(rewriter, one, parts, choices, depth + 1) {
                        return false;
                    }
                }
            }
            ("anyOf", Value::Array(list)) => choices.push(list.clone()),
            ("$ref", Value::String(name)) => {
                if let Some(target) = rewriter.resolve(name) {
                    if !flatten(rewriter, &target, parts, choices, depth + 1) {
                        return false;
                    }
                }
            }
            _ => _ = part.insert(keyword.clone(), value.clone()),
        }
    }
    if !part.is_empty() {
        parts.push(part);
    }
    true
}

fn parts_contradict(
    rewriter: &mut Rewriter,
    parts: &[Map<String, Value>],
    types: Types,
    depth: usize,
) -> bool {
    let named = |types: Types, part: &Map<String, Value>| match part.get("type").and_then(Types::of_keyword) {
        Some(own) => types & own,
        None => types,
    };
    let types = parts.iter().fold(types, named);
    let candidates = parts.iter().find_map(|part| match (part.get("const"), part.get("enum")) {
        (Some(value), _) => Some(vec![value.clone()]),
        (None, Some(Value::Array(values))) => Some(values.clone()),
        _ => None,
    });
    if let Some(values) = candidates {
        return values.iter().all(|value| {
            !types.intersects(Types::of_value(value))
                || parts.iter().any(|part| refuses(rewriter, part, value, depth))
        });
    }
    let holds = |of: Types| types.intersects(of);
    !(holds(Types::NULL | Types::BOOLEAN)
        || (holds(Types::NUMBER) && !numbers_contradict(parts))
        || (holds(Types::STRING) && !strings_contradict(parts))
        || (holds(Types::ARRAY) && !arrays_contradict(rewriter, parts, depth))
        || (holds(Types::OBJECT) && !objects_contradict(rewriter, parts, depth)))
}

fn most(parts: &[Map<String, Value>], keyword: &str) -> Option<f64> {
    parts
        .iter()
        .filter_map(|part| part.get(keyword)?.as_f64())
        .fold(None, |all, one| Some(all.map_or(one, |all: f64| all.max(one))))
}

fn least(parts: &[Map<String, Value>], keyword: &str) -> Option<f64> {
    parts
        .iter()
        .filter_map(|part| part.get(keyword)?.as_f64())
        .fold(None, |all, one| Some(all.map_or(one, |all: f64| all.min(one))))
}

fn above(low: Option<f64>, high: Option<f64>) -> bool {
    matches!((low, high), (Some(low), Some(high)) if low > high)
}

fn numbers_contradict(parts: &[Map<String, Value>]) -> bool {
    let (low, high) = (most(parts, "minimum"), least(parts, "maximum"));
    let (low_out, high_out) = (most(parts, "exclusiveMinimum"), least(parts, "exclusiveMaximum"));
    let touches = |low: Option<f64>, high: Option<f64>| matches!((low, high), (Some(l), Some(h)) if l >= h);
    above(low, high) || touches(low_out, high) || touches(low, high_out) || touches(low_out, high_out)
}

fn strings_contradict(parts: &[Map<String, Value>]) -> bool {
    if above(most(parts, "minLength"), least(parts, "maxLength")) {
        return true;
    }
    let patterns = parts.iter().filter_map(|part| part.get("pattern")?.as_str());
    let formats = parts.iter().filter_map(|part| superset_of_format(part.get("format")?.as_str()?));
    let all: Vec<&str> = patterns.chain(formats).collect();
    all.len() > 1 && patterns_exclude(&all)
}

/// A pattern that every text of the format has.
fn superset_of_format(name: &str) -> Option<&'static str> {
    Some(match name {
        "date-time" => "^[0-9]{4}-[0-9]{2}-[0-9]{2}[tT][0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.zZ+:\\-]+$",
        "date" => "^[0-9]{4}-[0-9]{2}-[0-9]{2}$",
        "time" => "^[0-9]{2}:[0-9]{2}:[0-9]{2}[0-9.zZ+:\\-]+$",
        "duration" => "^P[0-9A-Z]+$",
        "email" => "^[^@]+@.+$",
        "ipv4" => "^[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+$",
        "ipv6" => "^[0-9a-fA-F:.]+$",
        "uuid" => "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$",
        "hostname" => "^[0-9a-zA-Z.\\-]+$",
        "uri" => "^[a-zA-Z][a-zA-Z0-9+.\\-]*:.*$",
        _ => return None,
    })
}

fn patterns_exclude(patterns: &[&str]) -> bool {
    let mut builder = RegexBuilder::new();
    let mut parts = Vec::new();
    for pattern in patterns {
        match builder.mk_regex_for_serach(&regex_to_lark(pattern, "dw")) {
            Ok(part) => parts.push(RegexAst::ExprRef(part)),
            Err(_) => return false,
        }
    }
    let Ok(both) = builder.mk(&RegexAst::And(parts)) else { return false };
    builder.to_regex_limited(both, REGEX_FUEL).is_ok_and(|mut regex| regex.always_empty())
}

fn matches(pattern: &str, text: &str) -> Option<bool> {
    let mut builder = RegexBuilder::new();
    let expression = builder.mk_regex_for_serach(&regex_to_lark(pattern, "dw")).ok()?;
    Some(builder.to_regex_limited(expression, REGEX_FUEL).ok()?.is_match(text))
}

fn arrays_contradict(rewriter: &mut Rewriter, parts: &[Map<String, Value>], depth: usize) -> bool {
    let shortest = most(parts, "minItems");
    if above(shortest, least(parts, "maxItems")) {
        return true;
    }
    let count = shortest.unwrap_or(0.0).min(32.0) as usize;
    (0..count).any(|i| {
        let schemas: Vec<Value> = parts.iter().map(|part| item_schema(part, i)).collect();
        contradict(rewriter, &schemas, Types::ALL, depth + 1)
    })
}

fn item_schema(part: &Map<String, Value>, i: usize) -> Value {
    let first = part.get("prefixItems").and_then(|items| items.get(i));
    first.or_else(|| part.get("items")).cloned().unwrap_or(Value::Bool(true))
}

fn objects_contradict(rewriter: &mut Rewriter, parts: &[Map<String, Value>], depth: usize) -> bool {
    let mut required: Vec<&str> = parts
        .iter()
        .filter_map(|part| part.get("required")?.as_array())
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    required.sort_unstable();
    required.dedup();
    let fewest = most(parts, "minProperties").unwrap_or(0.0).max(required.len() as f64);
    if above(Some(fewest), least(parts, "maxProperties")) {
        return true;
    }
    required.iter().any(|name| {
        let schemas: Vec<Value> = parts.iter().flat_map(|part| property_schemas(part, name)).collect();
        contradict(rewriter, &schemas, Types::ALL, depth + 1)
    })
}

/// All that a map of keywords says about a property.
fn property_schemas(part: &Map<String, Value>, name: &str) -> Vec<Value> {
    let mut found = Vec::new();
    let mut known = true;
    if let Some(schema) = part.get("properties").and_then(|properties| properties.get(name)) {
        found.push(schema.clone());
    }
    for (pattern, schema) in part.get("patternProperties").and_then(Value::as_object).into_iter().flatten() {
        match matches(pattern, name) {
            Some(true) => found.push(schema.clone()),
            Some(false) => {}
            None => known = false,
        }
    }
    if let (true, true, Some(schema)) = (found.is_empty(), known, part.get("additionalProperties")) {
        found.push(schema.clone());
    }
    found
}

/// The proof that a value does not satisfy a map of keywords without applicators.
fn refuses(rewriter: &mut Rewriter, part: &Map<String, Value>, value: &Value, depth: usize) -> bool {
    if depth > DEPTH_MAX {
        return false;
    }
    part.iter().any(|(keyword, limit)| match (keyword.as_str(), value) {
        ("type", _) => {
            let other =
                !Types::of_keyword(limit).is_some_and(|types| types.intersects(Types::of_value(value)));
            let fraction = value.as_f64().is_some_and(|number| number.fract() != 0.0);
            other || (fraction && names_type(limit, "integer") && !names_type(limit, "number"))
        }
        ("const", _) => !equal(limit, value),
        ("enum", _) => !limit.as_array().is_some_and(|values| values.iter().any(|one| equal(one, value))),
        ("minimum", Value::Number(_)) => above(limit.as_f64(), value.as_f64()),
        ("maximum", Value::Number(_)) => above(value.as_f64(), limit.as_f64()),
        ("exclusiveMinimum", Value::Number(_)) => !above(value.as_f64(), limit.as_f64()),
        ("exclusiveMaximum", Value::Number(_)) => !above(limit.as_f64(), value.as_f64()),
        ("minLength", Value::String(text)) => above(limit.as_f64(), Some(text.chars().count() as f64)),
        ("maxLength", Value::String(text)) => above(Some(text.chars().count() as f64), limit.as_f64()),
        ("pattern", Value::String(text)) => limit.as_str().and_then(|p| matches(p, text)) == Some(false),
        ("format", Value::String(text)) => {
            let pattern = limit.as_str().and_then(superset_of_format);
            pattern.and_then(|pattern| matches(pattern, text)) == Some(false)
        }
        ("minItems", Value::Array(items)) => above(limit.as_f64(), Some(items.len() as f64)),
        ("maxItems", Value::Array(items)) => above(Some(items.len() as f64), limit.as_f64()),
        ("minProperties", Value::Object(members)) => above(limit.as_f64(), Some(members.len() as f64)),
        ("maxProperties", Value::Object(members)) => above(Some(members.len() as f64), limit.as_f64()),
        ("required", Value::Object(members)) => {
            let names = limit.as_array().map_or(&[][..], Vec::as_slice);
            names.iter().any(|name| name.as_str().is_some_and(|name| !members.contains_key(name)))
        }
        ("properties", Value::Object(members)) => {
            limit.as_object().into_iter().flatten().any(|(name, schema)| {
                members.get(name).is_some_and(|member| {
                    contradict(rewriter, &[schema.clone(), json!({ "const": member })], Types::ALL, depth + 1)
                })
            })
        }
        _ => false,
    })
}

/// As JSON Schema has it: 1 and 1.0 are one number.
fn equal(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len()
                && a.iter().all(|(name, value)| b.get(name).is_some_and(|other| equal(value, other)))
        }
        _ => left == right,
    }
}

/// Exactly one of the options holds, beside `base`. The error is what cannot be excluded.
pub fn one_of(
    rewriter: &mut Rewriter,
    options: Vec<Value>,
    base: &Map<String, Value>,
    types: Types,
) -> Result<Value, String> {
    let base = Value::Object(base.clone());
    let mut alternatives = Vec::new();
    for (i, option) in options.iter().enumerate() {
        let mut parts = vec![option.clone()];
        for (j, other) in options.iter().enumerate() {
            let both = [base.clone(), option.clone(), other.clone()];
            if i != j && !contradict(rewriter, &both, types, 0) {
                parts.push(negate(rewriter, other, types, 0)?);
            }
        }
        alternatives.push(all_of(parts));
    }
    Ok(any_of(alternatives))
}

// ---- grammars in Lark

/// How many bytes there are up to the value behind the next %json, outside of strings, regular expressions and comments.
pub fn lark_until_json(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of(bytes, at, b'"'),
            b'/' if bytes.get(at + 1) == Some(&b'/') => at = line_end(bytes, at),
            b'/' => at = end_of(bytes, at, b'/'),
            b'#' => at = line_end(bytes, at),
            b'%' if text[at..].starts_with("%json") => return Some(at + "%json".len()),
            _ => at += 1,
        }
    }
    None
}

fn line_end(bytes: &[u8], from: usize) -> usize {
    bytes[from..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |length| from + length)
}

/// Behind the closing quote, or where the line ends.
fn end_of(bytes: &[u8], from: usize, quote: u8) -> usize {
    let mut at = from + 1;
    while at < bytes.len() && bytes[at] != b'\n' {
        match bytes[at] {
            b'\\' => at += 2,
            byte if byte == quote => return at + 1,
            _ => at += 1,
        }
    }
    at.min(bytes.len())
}
