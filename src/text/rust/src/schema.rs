//! JSON schemas, made ready for llguidance.
//!
//! llguidance takes a core of JSON Schema. Here a schema is rewritten into that core without changing what it means: references
//! become definitions of one table, `oneOf`, `not`, `if`, `dependencies` and the like become `anyOf` and `allOf` with the help
//! of `schema_logic.rs`. What has no exact form is refused with its place; nothing is approximated, and nothing is dropped but
//! annotations. Formats that JSON Schema does not define are annotations, as the standard has them.
//!
//! A schema after rewriting is called core: true, false, or an object of the keywords in `CORE`.

use std::collections::HashMap;

use serde_json::{json, Map, Value};

use crate::bridge::GrammarLimits;
use crate::constraints::{Problem, INVALID_SCHEMA, UNSUPPORTED_KEYWORD};
use crate::schema_logic::{self as logic, Types};

/// Between the parts of a JSON text: nothing, one space, or one line break and its indentation.
const WHITE_SPACE: &str = r"(?: |\n(?: {1,20}|\t{1,10})?)";

/// Keywords that are copied as they are, with what they hold: a number, a text, or values.
const PLAIN: [&str; 15] = [
    "type",
    "enum",
    "const",
    "required",
    "minProperties",
    "maxProperties",
    "minItems",
    "maxItems",
    "minLength",
    "maxLength",
    "pattern",
    "minimum",
    "maximum",
    "multipleOf",
    "format",
];

/// Keywords of JSON Schema that restrict values and have no exact form here, with the type that they restrict.
const OTHER: [(&str, Types); 7] = [
    ("unevaluatedItems", Types::ARRAY),
    ("unevaluatedProperties", Types::OBJECT),
    ("uniqueItems", Types::ARRAY),
    ("contains", Types::ARRAY),
    ("propertyNames", Types::OBJECT),
    ("$dynamicRef", Types::ALL),
    ("$recursiveRef", Types::ALL),
];

/// Formats that JSON Schema defines; those that llguidance knows, and those that it does not.
const KNOWN_FORMATS: [&str; 10] =
    ["date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri"];
const REFUSED_FORMATS: [&str; 7] =
    ["idn-email", "idn-hostname", "uri-reference", "iri", "iri-reference", "uri-template", "regex"];
static TRUE: Value = Value::Bool(true);
const POINTER: &str = "(?:/(?:[^~/]|~[01])*)*";

pub fn prepare_text(text: &str, limits: &GrammarLimits) -> Result<(Value, Value), Problem> {
    let schema: Value = serde_json::from_str(text)
        .map_err(|error| Problem::new(INVALID_SCHEMA, "", format!("the schema is not JSON: {error}")))?;
    prepare(&schema, limits).map(|core| (schema, core))
}

/// The core of a schema as a whole document, with the white space that is allowed.
pub fn prepare(schema: &Value, limits: &GrammarLimits) -> Result<Value, Problem> {
    let mut rewriter = Rewriter::new(schema, limits);
    let root = rewriter.rewrite(schema, "", Types::ALL, 0)?;
    rewriter.rewrite_definitions()?;
    let mut document = match root {
        Value::Object(map) => map,
        Value::Bool(false) => {
            return Err(Problem::new(INVALID_SCHEMA, "", "no value can satisfy the schema"))
        }
        _ => Map::new(),
    };
    document.insert("$defs".into(), Value::Object(rewriter.definitions()));
    let options = json!({"whitespace_flexible": true, "whitespace_pattern": WHITE_SPACE});
    document.insert("x-guidance".into(), options);
    Ok(Value::Object(document))
}

/// The schemas of `%json {...}` in a grammar, each made ready in its place. Strings, regular expressions and comments are
/// passed over.
pub fn prepare_in_lark(text: &str, limits: &GrammarLimits) -> Result<String, Problem> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(length) = logic::lark_until_json(rest) {
        let (before, json) = rest.split_at(length);
        out.push_str(before);
        let mut values = serde_json::Deserializer::from_str(json).into_iter::<Value>();
        let schema = match values.next() {
            Some(Ok(schema)) => schema,
            _ => return Err(Problem::new(INVALID_SCHEMA, "", "%json must be followed by a schema")),
        };
        rest = &json[values.byte_offset()..];
        out.push_str(&prepare(&schema, limits)?.to_string());
    }
    out.push_str(rest);
    Ok(out)
}

/// What llguidance says about a schema, as a problem of one of its keywords.
pub fn explain(error: &str, schema: &Value) -> Problem {
    const SIGNS: [(&str, &[&str]); 9] = [
        ("min/maxProperties", &["minProperties", "maxProperties"]),
        ("patternProperty", &["patternProperties"]),
        ("circular references", &["$ref"]),
        ("intersection stack", &["allOf", "anyOf", "oneOf", "$ref"]),
        ("oneOf", &["oneOf"]),
        ("multipleOf", &["multipleOf"]),
        ("integer range", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
        ("float range", &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]),
        ("regex", &["pattern", "patternProperties"]),
    ];
    for (sign, keywords) in SIGNS {
        if error.contains(sign) {
            if let Some(path) = keywords.iter().find_map(|keyword| place_of(schema, keyword, "")) {
                return Problem::new(UNSUPPORTED_KEYWORD, path, format!("cannot be honoured: {error}"));
            }
        }
    }
    Problem::new(INVALID_SCHEMA, "", format!("the schema cannot be used: {error}"))
}

fn place_of(schema: &Value, keyword: &str, path: &str) -> Option<String> {
    match schema {
        Value::Object(map) if map.contains_key(keyword) => Some(format!("{path}.{keyword}")),
        Value::Object(map) => {
            map.iter().find_map(|(key, value)| place_of(value, keyword, &format!("{path}.{key}")))
        }
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, item)| place_of(item, keyword, &format!("{path}[{i}]")))
        }
        _ => None,
    }
}

/// What a definition's rewriting has come to.
enum Definition {
    Named,
    InWork,
    Done(Value),
}

/// One keyword of a schema. `types`: those that a value can have there.
struct Keyword<'a, 'k> {
    map: &'a Map<String, Value>,
    keyword: &'k str,
    value: &'a Value,
    place: &'k str,
    types: Types,
    depth: usize,
}

/// What a schema becomes: the keywords that stay, and further schemas that must hold as well.
#[derive(Default)]
struct Rewritten {
    core: Map<String, Value>,
    extra: Vec<Value>,
}

pub struct Rewriter<'a> {
    document: &'a Value,
    limits: &'a GrammarLimits,
    draft: u32,
    nodes: usize,
    /// The targets of references by name "r0", "r1", ..., in the order in which they were met.
    targets: Vec<(&'a Value, String, Definition)>,
    names: HashMap<String, usize>,
    anchors: HashMap<String, &'a Value>,
    pub work: usize,
}

impl<'a> Rewriter<'a> {
    fn new(document: &'a Value, limits: &'a GrammarLimits) -> Rewriter<'a> {
        let mut anchors = HashMap::new();
        find_anchors(document, &mut anchors, 0);
        let draft = draft_of(document);
        let (targets, names) = (Vec::new(), HashMap::new());
        Rewriter { document, limits, draft, nodes: 0, targets, names, anchors, work: 0 }
    }

    // ---- definitions

    fn definitions(&self) -> Map<String, Value> {
        let done = |(i, (_, _, definition)): (usize, &(&Value, String, Definition))| match definition {
            Definition::Done(core) => Some((format!("r{i}"), core.clone())),
            _ => None,
        };
        self.targets.iter().enumerate().filter_map(done).collect()
    }

    fn rewrite_definitions(&mut self) -> Result<(), Problem> {
        let mut next = 0;
        while next < self.targets.len() {
            self.define(next)?;
            next += 1;
        }
        Ok(())
    }

    fn define(&mut self, index: usize) -> Result<(), Problem> {
        let (target, path, definition) = &mut self.targets[index];
        if !matches!(definition, Definition::Named) {
            return Ok(());
        }
        let (target, path) = (*target, path.clone());
        *definition = Definition::InWork;
        let core = self.rewrite(target, &path, Types::ALL, 0)?;
        self.targets[index].2 = Definition::Done(core);
        Ok(())
    }

    /// The core behind a reference of a core schema; none while it is being made: it is recursive.
    pub fn resolve(&mut self, reference: &str) -> Option<Value> {
        let index = reference.strip_prefix("#/$defs/r")?.parse().ok()?;
        self.define(index).ok()?;
        match &self.targets.get(index)?.2 {
            Definition::Done(core) => Some(core.clone()),
            _ => None,
        }
    }

    fn reference(&mut self, value: &Value, path: &str) -> Result<Value, Problem> {
        let text = value.as_str().ok_or_else(|| malformed(path, "a string"))?;
        if let Some(&index) = self.names.get(text) {
            return Ok(json!(format!("#/$defs/r{index}")));
        }
        let (target, place) = self.find(text).ok_or_else(|| {
            let message = format!("cannot be honoured: \"{text:.100}\" is not found in the schema itself");
            Problem::new(UNSUPPORTED_KEYWORD, path, message)
        })?;
        let index = self.targets.len();
        self.targets.push((target, place, Definition::Named));
        self.names.insert(text.into(), index);
        Ok(json!(format!("#/$defs/r{index}")))
    }

    fn find(&self, reference: &str) -> Option<(&'a Value, String)> {
        let fragment_at = reference.find('#').unwrap_or(reference.len());
        let (base, fragment) = reference.split_at(fragment_at);
        let fragment = percent_decoded(fragment.strip_prefix('#').unwrap_or(""))?;
        if !fragment.is_empty() && !fragment.starts_with('/') {
            return self.anchors.get(&format!("#{fragment}")).map(|&target| (target, String::new()));
        }
        let root = match base {
            "" => self.document,
            _ => self.anchors.get(base.trim_end_matches('#')).copied()?,
        };
        let mut place = String::new();
        let mut target = root;
        for part in fragment.split('/').skip(1).filter(|_| fragment != "/") {
            let part = part.replace("~1", "/").replace("~0", "~");
            target = match target {
                Value::Object(map) => map.get(&part)?,
                Value::Array(items) => items.get(part.parse::<usize>().ok()?)?,
                _ => return None,
            };
            place.push('.');
            place.push_str(&part);
        }
        (target.is_object() || target.is_boolean()).then_some((target, place))
    }

    // ---- rewriting

    /// The core of a schema at `path`. `types`: those that a value can have there at all.
    fn rewrite(
        &mut self,
        schema: &'a Value,
        path: &str,
        types: Types,
        depth: usize,
    ) -> Result<Value, Problem> {
        self.nodes += 1;
        if self.nodes > self.limits.schema_nodes {
            let message = format!("a schema must have at most {} parts", self.limits.schema_nodes);
            return Err(Problem::new(INVALID_SCHEMA, path, message));
        }
        if depth > self.limits.depth {
            let message = format!("a schema must nest at most {} deep", self.limits.depth);
            return Err(Problem::new(INVALID_SCHEMA, path, message));
        }
        match schema {
            Value::Bool(_) => Ok(schema.clone()),
            Value::Object(map) => self.rewrite_map(map, path, types, depth),
            _ => Err(malformed(path, "a schema: an object, true or false")),
        }
    }

    fn rewrite_map(
        &mut self,
        map: &'a Map<String, Value>,
        path: &str,
        types: Types,
        depth: usize,
    ) -> Result<Value, Problem> {
        let types = types & own_types(map, path)?;
        let mut to = Rewritten::default();
        for (keyword, value) in map {
            let place = format!("{path}.{keyword}");
            self.rewrite_keyword(&Keyword { map, keyword, value, place: &place, types, depth }, &mut to)?;
        }
        let Rewritten { core, mut extra } = to;
        for keyword in ["oneOf", "if", "not"] {
            if let Some(value) = map.get(keyword).filter(|_| self.draft >= 7 || keyword != "if") {
                let place = format!("{path}.{keyword}");
                let added = self.rewrite_logic(map, keyword, value, &place, types, depth, &core)?;
                extra.push(added);
            }
        }
        Ok(logic::with_all(core, extra))
    }

    fn rewrite_keyword(&mut self, at: &Keyword<'a, '_>, to: &mut Rewritten) -> Result<(), Problem> {
        let &Keyword { map, keyword, value, place, types, depth } = at;
        let Rewritten { core, extra } = to;
        match keyword {
            "format" => {
                if let Some((name, value)) = self.format(value, place, types)? {
                    match name {
                        "format" => _ = core.insert(name.into(), value),
                        _ => extra.push(json!({ name: value })),
                    }
                }
            }
            "exclusiveMinimum" | "exclusiveMaximum" => match value {
                Value::Bool(true) => {
                    if let Some(bound) = map.get(&keyword.replace("exclusiveM", "m")) {
                        core.insert(keyword.into(), bound.clone());
                    }
                }
                Value::Bool(false) => {}
                Value::Number(_) => _ = core.insert(keyword.into(), value.clone()),
                _ => return Err(malformed(place, "a number")),
            },
            _ if PLAIN.contains(&keyword) => {
                check_plain(keyword, value, place)?;
                if let (Some(values), "enum") = (value.as_array(), keyword) {
                    self.nodes += values.len();
                }
                core.insert(keyword.into(), value.clone());
            }
            "$ref" => {
                let reference = self.reference(value, place)?;
                core.insert(keyword.into(), reference);
            }
            "allOf" | "anyOf" => {
                let list = self.list(value, place, types, depth)?;
                core.insert(keyword.into(), Value::Array(list));
            }
            "items" if value.is_array() => {
                let list = self.list(value, place, Types::ALL, depth)?;
                core.insert("prefixItems".into(), Value::Array(list));
                if let Some(rest) = map.get("additionalItems") {
                    let at = place.strip_suffix("items").unwrap_or(place).to_string() + "additionalItems";
                    let rest = self.rewrite(rest, &at, Types::ALL, depth + 1)?;
                    core.insert("items".into(), rest);
                }
            }
            "prefixItems" => {
                let list = self.list(value, place, Types::ALL, depth)?;
                core.insert(keyword.into(), Value::Array(list));
            }
            "items" | "additionalProperties" => {
                let schema = self.rewrite(value, place, Types::ALL, depth + 1)?;
                core.insert(keyword.into(), schema);
            }
            "properties" | "patternProperties" => {
                let members = value.as_object().ok_or_else(|| malformed(place, "an object of schemas"))?;
                let mut schemas = Map::new();
                for (name, schema) in members {
                    let at = format!("{place}.{name}");
                    schemas.insert(name.clone(), self.rewrite(schema, &at, Types::ALL, depth + 1)?);
                }
                core.insert(keyword.into(), Value::Object(schemas));
            }
            "dependencies" | "dependentRequired" | "dependentSchemas" => {
                if types.intersects(Types::OBJECT) {
                    self.dependencies(value, place, types, depth, extra)?;
                }
            }
            _ => self.other(at, to)?,
        }
        Ok(())
    }

    fn list(
        &mut self,
        value: &'a Value,
        place: &str,
        types: Types,
        depth: usize,
    ) -> Result<Vec<Value>, Problem> {
        let items = value.as_array().ok_or_else(|| malformed(place, "a list of schemas"))?;
        let mut list = Vec::with_capacity(items.len());
        for (i, item) in items.iter().enumerate() {
            list.push(self.rewrite(item, &format!("{place}[{i}]"), types, depth + 1)?);
        }
        Ok(list)
    }

    /// The keyword that a format becomes.
    fn format(
        &self,
        value: &Value,
        place: &str,
        types: Types,
    ) -> Result<Option<(&'static str, Value)>, Problem> {
        let name = value.as_str().ok_or_else(|| malformed(place, "a string"))?;
        if !types.intersects(Types::STRING) {
            return Ok(None);
        }
        match name {
            _ if KNOWN_FORMATS.contains(&name) => Ok(Some(("format", value.clone()))),
            "json-pointer" => Ok(Some(("pattern", json!(format!("^{POINTER}$"))))),
            "relative-json-pointer" => {
                Ok(Some(("pattern", json!(format!("^(?:0|[1-9][0-9]*)(?:#|{POINTER})$")))))
            }
            _ if REFUSED_FORMATS.contains(&name) => Err(unsupported(place, &format!("the format {name}"))),
            _ => Ok(None),
        }
    }

    /// Where the property is there, others must be, or a schema must hold.
    fn dependencies(
        &mut self,
        value: &'a Value,
        place: &str,
        types: Types,
        depth: usize,
        extra: &mut Vec<Value>,
    ) -> Result<(), Problem> {
        let members = value.as_object().ok_or_else(|| malformed(place, "an object"))?;
        for (name, needed) in members {
            let at = format!("{place}.{name}");
            let then = match needed {
                Value::Array(names) if names.is_empty() => continue,
                Value::Array(_) => {
                    check_plain("required", needed, &at)?;
                    json!({"required": needed})
                }
                _ => self.rewrite(needed, &at, types, depth + 1)?,
            };
            extra.push(logic::any_of(vec![json!({"properties": {name.as_str(): false}}), then]));
        }
        Ok(())
    }

    fn other(&mut self, at: &Keyword<'a, '_>, to: &mut Rewritten) -> Result<(), Problem> {
        let &Keyword { map, keyword, value, place, types, depth } = at;
        let Rewritten { core, extra } = to;
        let Some((_, restricted)) = OTHER.iter().find(|(name, _)| *name == keyword) else {
            return Ok(()); // an annotation, or no keyword of JSON Schema
        };
        let since = if keyword.starts_with("unevaluated") { 8 } else { 6 };
        if !types.intersects(*restricted) || (self.draft < since && keyword != "uniqueItems") {
            return Ok(());
        }
        let at_most = |limit: u64| map.get("maxItems").and_then(Value::as_u64).is_some_and(|n| n <= limit);
        match keyword {
            "uniqueItems" if value == &Value::Bool(false) || at_most(1) => Ok(()),
            "contains" if !map.contains_key("minContains") && !map.contains_key("maxContains") => {
                let schema = self.rewrite(value, place, Types::ALL, depth + 1)?;
                let limit = if schema == Value::Bool(true) { 0 } else { 8 };
                match map.get("maxItems").and_then(Value::as_u64) {
                    _ if limit == 0 => extra.push(json!({"minItems": 1})),
                    Some(most) if most <= limit => extra.push(logic::contains(&schema, most as usize)),
                    _ => return Err(unsupported(place, "an array without a small maxItems")),
                }
                Ok(())
            }
            "propertyNames" => {
                let names = self.rewrite(value, place, Types::STRING, depth + 1)?;
                match logic::names_pattern(&names) {
                    Some(None) => Ok(()),
                    Some(Some(pattern)) => {
                        extra.push(
                            json!({"patternProperties": {pattern: true}, "additionalProperties": false}),
                        );
                        Ok(())
                    }
                    None => Err(unsupported(place, "names that are more than a pattern, a list or a length")),
                }
            }
            "unevaluatedProperties" | "unevaluatedItems" => {
                let into = if keyword.ends_with("Items") { "items" } else { "additionalProperties" };
                let schema = self.rewrite(value, place, Types::ALL, depth + 1)?;
                let in_place =
                    ["allOf", "anyOf", "oneOf", "not", "if", "$ref", "dependentSchemas", "contains"];
                if schema == Value::Bool(true) || map.contains_key(into) {
                    return Ok(());
                }
                if in_place.iter().any(|keyword| map.contains_key(*keyword)) {
                    return Err(unsupported(place, "schemas that are applied in place beside it"));
                }
                core.insert(into.into(), schema);
                Ok(())
            }
            _ => Err(unsupported(place, "it depends on more than a grammar can know")),
        }
    }

    /// `oneOf`, `if` and `not` as a schema that holds beside `base`, the rest of theirs.
    #[allow(clippy::too_many_arguments)]
    fn rewrite_logic(
        &mut self,
        map: &'a Map<String, Value>,
        keyword: &str,
        value: &'a Value,
        place: &str,
        types: Types,
        depth: usize,
        base: &Map<String, Value>,
    ) -> Result<Value, Problem> {
        let cannot = |what: String| unsupported(place, &format!("the opposite of {what}"));
        match keyword {
            "oneOf" => {
                let options = self.list(value, place, types, depth)?;
                logic::one_of(self, options, base, types).map_err(|what| {
                    unsupported(place, &format!("options that may hold together, where one excludes {what}"))
                })
            }
            "if" => {
                let side = |name: &str| map.get(name).unwrap_or(&TRUE);
                let root = place.strip_suffix(".if").unwrap_or(place).to_string();
                let condition = self.rewrite(value, place, types, depth + 1)?;
                let then = self.rewrite(side("then"), &format!("{root}.then"), types, depth + 1)?;
                let otherwise = self.rewrite(side("else"), &format!("{root}.else"), types, depth + 1)?;
                if then == Value::Bool(true) && otherwise == Value::Bool(true) {
                    return Ok(Value::Bool(true));
                }
                let opposite = logic::negate(self, &condition, types, 0).map_err(cannot)?;
                Ok(logic::any_of(vec![
                    logic::all_of(vec![condition, then]),
                    logic::all_of(vec![opposite, otherwise]),
                ]))
            }
            _ => {
                match value.as_object().filter(|inner| inner.len() == 1).and_then(|inner| inner.get("not")) {
                    Some(twice) => self.rewrite(twice, &format!("{place}.not"), types, depth + 1),
                    None => {
                        let inner = self.rewrite(value, place, types, depth + 1)?;
                        logic::negate(self, &inner, types, 0).map_err(cannot)
                    }
                }
            }
        }
    }
}

pub fn unsupported(path: &str, what: &str) -> Problem {
    let keyword = path.rsplit('.').next().unwrap_or(path);
    Problem::new(UNSUPPORTED_KEYWORD, path, format!("\"{keyword:.60}\" cannot be honoured exactly: {what}"))
}

fn malformed(path: &str, expected: &str) -> Problem {
    Problem::new(INVALID_SCHEMA, path, format!("{} must be {expected}", path.trim_start_matches('.')))
}

fn own_types(map: &Map<String, Value>, path: &str) -> Result<Types, Problem> {
    let Some(value) = map.get("type") else { return Ok(Types::ALL) };
    Types::of_keyword(value)
        .ok_or_else(|| malformed(&format!("{path}.type"), "the name of a type, or several"))
}

fn check_plain(keyword: &str, value: &Value, place: &str) -> Result<(), Problem> {
    let strings = |value: &Value| value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
    let (right, expected) = match keyword {
        "required" => (strings(value), "a list of strings"),
        "enum" => (value.as_array().is_some_and(|items| !items.is_empty()), "a list with a value"),
        "pattern" => (value.is_string(), "a string"),
        "minimum" | "maximum" => (value.is_number(), "a number"),
        "multipleOf" => (value.as_f64().is_some_and(|n| n > 0.0), "a number above 0"),
        "type" | "const" | "format" => (true, ""),
        _ => (value.as_f64().is_some_and(|n| n >= 0.0 && n.fract() == 0.0), "a whole number, 0 or more"),
    };
    if right {
        Ok(())
    } else {
        Err(malformed(place, expected))
    }
}

/// 4, 6, 7; 8 for 2019-09, 9 for 2020-12, which a schema has unless it says otherwise.
fn draft_of(document: &Value) -> u32 {
    let name = document.get("$schema").and_then(Value::as_str).unwrap_or("");
    let drafts = [("draft-04", 4), ("draft-06", 6), ("draft-07", 7), ("2019-09", 8)];
    drafts.iter().find(|(part, _)| name.contains(part)).map_or(9, |(_, draft)| *draft)
}

/// What `$anchor` and `$id` name.
fn find_anchors<'a>(schema: &'a Value, anchors: &mut HashMap<String, &'a Value>, depth: usize) {
    if depth > 128 {
        return;
    }
    match schema {
        Value::Object(map) => {
            for (keyword, value) in map {
                match (keyword.as_str(), value.as_str()) {
                    ("$anchor", Some(name)) => _ = anchors.insert(format!("#{name}"), schema),
                    ("$id" | "id", Some(name)) => {
                        _ = anchors.insert(name.trim_end_matches('#').into(), schema)
                    }
                    ("enum" | "const" | "default" | "examples", _) => {}
                    _ => find_anchors(value, anchors, depth + 1),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_anchors(item, anchors, depth + 1)),
        _ => {}
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'%' => {
                out.push(u8::from_str_radix(text.get(at + 1..at + 3)?, 16).ok()?);
                at += 3;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8(out).ok()
}
