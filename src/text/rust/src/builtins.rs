//! What templates can call: filters, tests, functions, and Python's methods. Tables first.

use minijinja::filters as f;
use minijinja::value::{from_args, Kwargs, Rest, Value, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State};
use minijinja_contrib::pycompat;

use crate::guard::{self, check, refuse, room, room_for_items};
use crate::operators;
use crate::python::{self, Json};

/// minijinja's filters, as they are; each is guarded by what it could build (`expect`) and by `check` of its result.
fn plain_filters() -> Vec<(&'static str, Value)> {
    vec![
        ("abs", Value::from_function(f::abs)),
        ("attr", Value::from_function(f::attr)),
        ("batch", Value::from_function(f::batch)),
        ("bool", Value::from_function(f::bool)),
        ("capitalize", Value::from_function(f::capitalize)),
        ("count", Value::from_function(f::length)),
        ("d", Value::from_function(f::default)),
        ("default", Value::from_function(f::default)),
        ("dictsort", Value::from_function(f::dictsort)),
        ("e", Value::from_function(escape)),
        ("escape", Value::from_function(escape)),
        ("first", Value::from_function(f::first)),
        ("float", Value::from_function(float)),
        ("groupby", Value::from_function(f::groupby)),
        ("indent", Value::from_function(indent)),
        ("int", Value::from_function(int)),
        ("items", Value::from_function(f::items)),
        ("last", Value::from_function(f::last)),
        ("length", Value::from_function(f::length)),
        ("list", Value::from_function(f::list)),
        ("lower", Value::from_function(f::lower)),
        ("map", Value::from_function(f::map)),
        ("max", Value::from_function(f::max)),
        ("min", Value::from_function(f::min)),
        ("reject", Value::from_function(f::reject)),
        ("rejectattr", Value::from_function(f::rejectattr)),
        ("replace", Value::from_function(replace)),
        ("reverse", Value::from_function(f::reverse)),
        ("round", Value::from_function(f::round)),
        ("safe", Value::from_function(f::safe)),
        ("select", Value::from_function(f::select)),
        ("selectattr", Value::from_function(f::selectattr)),
        ("slice", Value::from_function(f::slice)),
        ("sort", Value::from_function(f::sort)),
        ("split", Value::from_function(f::split)),
        ("sum", Value::from_function(f::sum)),
        ("title", Value::from_function(f::title)),
        ("trim", Value::from_function(f::trim)),
        ("unique", Value::from_function(f::unique)),
        ("upper", Value::from_function(f::upper)),
    ]
}

pub fn install(env: &mut Environment<'static>) {
    for name in ["chain", "debug", "lines", "pprint", "zip"] {
        env.remove_filter(name); // not Jinja's
    }
    env.remove_global("debug");
    for (name, filter) in plain_filters() {
        env.add_filter(name, move |state: &mut State, args: Rest<ValueOrKwargs>| {
            let args = coerce(name, args.into_values())?;
            expect(name, &args)?;
            check(filter.call(state, &args)?)
        });
    }
    env.add_filter("format", |pattern: &str, args: Rest<ValueOrKwargs>| {
        operators::printf(pattern, &args.into_values())
    });
    env.add_filter("join", join);
    env.add_filter("string", |value: &Value| python::to_str(value));
    env.add_filter("tojson", tojson);

    env.add_test("iterable", is_collection);
    env.add_test("sequence", is_collection);
    env.add_test("sameas", |a: &Value, b: &Value| {
        (a.is_none() && b.is_none()) || minijinja::tests::is_sameas(a, b)
    });
    env.add_test("callable", |v: &Value| {
        v.as_object().is_some_and(|o| o.type_name().ends_with("Macro") || v.kind() == ValueKind::Plain)
    });

    env.add_function("dict", dict);
    env.add_function("range", range);
    env.add_function("raise_exception", |message: &Value| -> Result<Value, Error> {
        Err(guard::raise(python::to_str(message)?))
    });
    env.add_function("strftime_now", |format: &str| python::strftime_now(format));
    env.add_function("guard:tick", || guard::tick().map(|()| Value::from("")));
    env.add_function("guard:check", check);
    env.add_function("guard:stored", guard::check_stored);
    env.add_function("guard:concat", |a: &Value, b: &Value| operators::concat(a, b));
    env.add_function("guard:multiply", |a: &Value, b: &Value| operators::multiply(a, b));
    env.add_function("guard:slice", |v: &Value, start: &Value, stop: &Value, step: &Value| {
        check(operators::slice(v, start, stop, step)?)
    });
    env.add_function("guard:iterable", operators::iterable);
    env.add_function("guard:less", |a: &Value, b: &Value| operators::less(a, b, false));
    env.add_function("guard:less_or_equal", |a: &Value, b: &Value| operators::less(a, b, true));
    env.add_function("guard:remainder", |a: &Value, b: &Value| operators::remainder(a, b));

    env.set_unknown_method_callback(method);
}

/// What Python can iterate over: also a text, and Jinja's undefined value, but not None.
fn is_collection(value: &Value) -> bool {
    use ValueKind::*;
    matches!(value.kind(), Seq | Iterable | Map | String | Undefined)
}

/// Moves arguments that were given by Jinja's names for them to their places.
fn place(filter: &str, mut args: Vec<Value>) -> Vec<Value> {
    let names: &[&str] = match filter {
        "default" | "d" => &["default_value", "boolean"],
        "round" => &["precision"],
        "int" => &["default", "base"],
        "float" => &["default"],
        "batch" => &["linecount", "fill_with"],
        "slice" => &["slices", "fill_with"],
        "replace" => &["old", "new", "count"],
        "trim" => &["chars"],
        _ => &[],
    };
    let Some(kwargs) = args.pop_if(|v| v.is_kwargs()) else { return args };
    let mut rest = Vec::new();
    for key in kwargs.try_iter().into_iter().flatten() {
        let value = kwargs.get_item(&key).unwrap_or_default();
        match names.iter().position(|name| key.as_str() == Some(name)) {
            Some(index) => {
                args.resize(args.len().max(index + 2), Value::UNDEFINED);
                args[index + 1] = value;
            }
            None => rest.push((key.to_string(), value)),
        }
    }
    if !rest.is_empty() {
        args.push(Value::from(Kwargs::from_iter(rest)));
    }
    args
}

/// Python's filters of texts take str() of anything; those of lists refuse None, and an undefined value is an empty list.
fn coerce(name: &str, args: Vec<Value>) -> Result<Vec<Value>, Error> {
    let mut args = place(name, args);
    const TEXT: [&str; 6] = ["upper", "lower", "title", "capitalize", "trim", "replace"];
    const LIST: [&str; 14] = [
        "list",
        "first",
        "last",
        "length",
        "count",
        "map",
        "select",
        "reject",
        "selectattr",
        "rejectattr",
        "sort",
        "unique",
        "sum",
        "items",
    ];
    let Some(value) = args.first().cloned() else { return Ok(args) };
    if TEXT.contains(&name) && value.as_str().is_none() {
        args[0] = Value::from(python::to_str(&value)?);
    }
    if LIST.contains(&name) && value.is_none() {
        return Err(refuse("'NoneType' object is not iterable"));
    }
    if LIST.contains(&name) && value.is_undefined() {
        args[0] = if name == "items" {
            Value::from_pairs(Vec::<(Value, Value)>::new())
        } else {
            Value::from(Vec::<Value>::new())
        };
    }
    if matches!(name, "int" | "float") && value.is_undefined() {
        return Err(refuse("the value is undefined"));
    }
    Ok(args)
}

/// Refuses, before it runs, a filter or method of this name that would build too much.
fn expect(name: &str, args: &[Value]) -> Result<(), Error> {
    let text = args.first().and_then(Value::as_str);
    let number = |i: usize| args.get(i).and_then(Value::as_i64).unwrap_or(0).unsigned_abs() as usize;
    match (name, text) {
        ("replace", Some(text)) => {
            let old = args.get(1).and_then(Value::as_str).unwrap_or_default();
            let new = args.get(2).and_then(Value::as_str).unwrap_or_default();
            room(text.len().saturating_add(new.len().saturating_mul(text.matches(old).count())))
        }
        ("split" | "splitlines", Some(text)) => {
            let pieces = match args.get(1).and_then(Value::as_str) {
                Some(separator) if !separator.is_empty() => text.matches(separator).count(),
                _ => text.bytes().filter(u8::is_ascii_whitespace).count(),
            };
            room_for_items(pieces)
        }
        ("batch" | "slice", _) => {
            room_for_items(number(1).max(kwarg(args, "linecount")).max(kwarg(args, "slices")))
        }
        ("round", _) => room_for_items(number(1)),
        // Of a text they make a list of its characters.
        ("list" | "sort" | "unique" | "map" | "select" | "reject", Some(text)) => room_for_items(text.len()),
        (_, Some(text)) => room(text.len()),
        _ => guard::tick(),
    }
}

fn kwarg(args: &[Value], name: &str) -> usize {
    let value = args.last().filter(|v| v.is_kwargs()).and_then(|v| v.get_attr(name).ok());
    value.and_then(|v| v.as_i64()).unwrap_or(0).unsigned_abs() as usize
}

/// Python's way to pass arguments: by place or by name. What was not passed, or is None, is absent.
fn arguments<const N: usize>(args: &[Value], names: [&str; N]) -> Result<[Option<Value>; N], Error> {
    let kwargs = args.last().filter(|v| v.is_kwargs()).cloned();
    let positional = &args[..args.len() - kwargs.iter().count()];
    if positional.len() > N {
        return Err(refuse(format!("takes at most {N} arguments, got {}", positional.len())));
    }
    if let Some(kwargs) = &kwargs {
        for name in kwargs.try_iter()? {
            if !names.iter().any(|known| name.as_str() == Some(known)) {
                return Err(refuse(format!("got an unexpected keyword argument '{name}'")));
            }
        }
    }
    let named =
        |name: &str| kwargs.as_ref().and_then(|k| k.get_attr(name).ok()).filter(|v| !v.is_undefined());
    let mut index = 0;
    Ok(names.map(|name| {
        index += 1;
        positional.get(index - 1).cloned().or_else(|| named(name)).filter(|v| !v.is_none())
    }))
}

fn join(state: &mut State, value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [separator, attribute] = arguments(&args.into_values(), ["d", "attribute"])?;
    let separator = separator.map_or(Ok(String::new()), |v| python::to_str(&v))?;
    let Some(attribute) = attribute else { return join_text(&separator, value) };
    let attribute = Value::from(Kwargs::from_iter([("attribute", attribute)]));
    join_text(&separator, &state.apply_filter("map", &[value.clone(), attribute])?)
}

fn escape(value: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    for c in python::to_str(value)?.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    Ok(Value::from(out))
}

/// indent(s, width=4, first=False, blank=False); the width is a number of spaces or the text to put in front.
fn indent(text: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [width, first, blank] = arguments(&args.into_values(), ["width", "first", "blank"])?;
    let text = python::to_str(text)?;
    let prefix = match &width {
        Some(v) if v.as_str().is_some() => v.as_str().unwrap_or_default().to_string(),
        Some(v) => {
            let width = i64::try_from(v.clone())?.max(0) as usize;
            room(text.bytes().filter(|b| *b == b'\n').count().saturating_add(1).saturating_mul(width))?;
            " ".repeat(width)
        }
        None => " ".repeat(4),
    };
    let (first, blank) = (first.is_some_and(|v| v.is_true()), blank.is_some_and(|v| v.is_true()));
    let mut out = String::new();
    for (index, line) in text.split('\n').enumerate() {
        if index > 0 {
            out.push('\n');
        }
        room(out.len().saturating_add(prefix.len()).saturating_add(line.len()))?;
        if (index > 0 || first) && (blank || !line.is_empty() || (index == 0 && first)) {
            out.push_str(&prefix);
        }
        out.push_str(line);
    }
    Ok(Value::from(out))
}

/// dict(pairs or mapping, key=value, ...)
fn dict(args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let mut pairs: Vec<(Value, Value)> = Vec::new();
    for source in args.into_values() {
        for item in source.try_iter()? {
            pairs.push(if source.kind() == ValueKind::Map {
                let value = source.get_item(&item)?;
                (item, value)
            } else {
                (item.get_item_by_index(0)?, item.get_item_by_index(1)?)
            });
        }
    }
    check(Value::from_pairs(pairs))
}

/// Jinja's int: what cannot be read as a number becomes the default.
fn int(value: &Value, default: Option<Value>, base: Option<u32>) -> Value {
    let whole = |f: f64| (f.is_finite() && f.abs() < 1e18).then(|| Value::from(f.trunc() as i64));
    let read = match value.kind() {
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(whole),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default().trim();
            parse_int(text, base.unwrap_or(10)).or_else(|| text.parse().ok().and_then(whole))
        }
        _ => None,
    };
    read.or(default).unwrap_or_else(|| Value::from(0))
}

fn parse_int(text: &str, base: u32) -> Option<Value> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let prefix = match base {
        2 => "0b",
        8 => "0o",
        16 => "0x",
        _ => "",
    };
    let digits = digits.to_ascii_lowercase();
    let digits = digits.strip_prefix(prefix).unwrap_or(&digits);
    if !(2..=36).contains(&base) || digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i64::from_str_radix(digits, base).ok()?;
    Some(Value::from(if negative { -value } else { value }))
}

/// Jinja's float, with a default likewise.
fn float(value: &Value, default: Option<Value>) -> Value {
    let read = match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None if value.kind() == ValueKind::Bool => Some(f64::from(u8::from(value.is_true()))),
        None => f64::try_from(value.clone()).ok(),
    };
    read.map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0))
}

fn replace(text: &Value, old: &Value, new: &Value, count: Option<usize>) -> Result<String, Error> {
    let (text, old, new) = (python::to_str(text)?, python::to_str(old)?, python::to_str(new)?);
    room(text.len().saturating_add(new.len().saturating_mul(text.matches(&old).count())))?;
    Ok(text.replacen(&old, &new, count.unwrap_or(usize::MAX)))
}

fn join_text(separator: &str, value: &Value) -> Result<Value, Error> {
    let mut out = String::new();
    if value.is_undefined() {
        return Ok(Value::from(out));
    }
    operators::iterable(value.clone())?;
    for (index, item) in value.try_iter()?.enumerate() {
        let text = python::to_str(&item)?;
        room(out.len().saturating_add(separator.len()).saturating_add(text.len()))?;
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(&text);
    }
    Ok(Value::from(out))
}

/// As transformers defines it: tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False).
fn tojson(value: &Value, args: Rest<ValueOrKwargs>) -> Result<Value, Error> {
    let [ensure_ascii, indent, separators, sort_keys] =
        arguments(&args.into_values(), ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let truth = |v: Option<Value>| v.is_some_and(|v| v.is_true());
    let indent = match indent {
        None => None,
        Some(v) if v.as_str().is_some() => v.as_str().map(str::to_string),
        Some(v) => {
            let width = i64::try_from(v)?.max(0) as usize;
            room_for_items(width)?;
            Some(" ".repeat(width))
        }
    };
    let (item_separator, key_separator) = match separators {
        Some(pair) => {
            (python::to_str(&pair.get_item_by_index(0)?)?, python::to_str(&pair.get_item_by_index(1)?)?)
        }
        None => (if indent.is_some() { ",".into() } else { ", ".into() }, ": ".into()),
    };
    let (ensure_ascii, sort_keys) = (truth(ensure_ascii), truth(sort_keys));
    let text = Json { ensure_ascii, indent, item_separator, key_separator, sort_keys }.dumps(value)?;
    Ok(Value::from(text))
}

fn range(first: i64, stop: Option<i64>, step: Option<i64>) -> Result<Value, Error> {
    let (start, stop) = stop.map_or((0, first), |stop| (first, stop));
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(refuse("range() arg 3 must not be zero"));
    }
    let distance = if step > 0 { stop as i128 - start as i128 } else { start as i128 - stop as i128 };
    let size = distance.max(0).unsigned_abs().div_ceil(step.unsigned_abs().into());
    room_for_items(usize::try_from(size).unwrap_or(usize::MAX))?;
    Ok((0..size as i64).map(|i| Value::from(start + i * step)).collect())
}

/// Methods of Python's str, dict and list: pycompat's, some more, and none that changes its object.
fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let mut all = vec![value.clone()];
    all.extend_from_slice(args);
    expect(name, &all)?;
    if let Some(text) = value.as_str() {
        if let Some(result) = text_method(text, name, args)? {
            return check(result);
        }
    }
    if matches!(
        name,
        "append" | "extend" | "insert" | "pop" | "remove" | "update" | "clear" | "setdefault" | "popitem"
    ) {
        return Err(Error::new(
            ErrorKind::UnknownMethod,
            format!("access to method '{name}' is not allowed: it changes the object"),
        ));
    }
    check(pycompat::unknown_method_callback(state, value, name, args)?)
}

fn text_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let one = || from_args::<(&str,)>(args).map(|(a,)| a);
    Ok(Some(match name {
        "format" => operators::str_format(text, args)?,
        "join" => {
            let (list,): (&Value,) = from_args(args)?;
            if let Some(odd) = list.try_iter()?.find(|item| item.as_str().is_none()) {
                return Err(refuse(format!("join: expected a list of strings, found {}", odd.kind())));
            }
            join_text(text, list)?
        }
        "title" => Value::from(title(text)),
        "splitlines" if args.is_empty() => split_lines(text),
        "removeprefix" => Value::from(text.strip_prefix(one()?).unwrap_or(text)),
        "removesuffix" => Value::from(text.strip_suffix(one()?).unwrap_or(text)),
        "partition" | "rpartition" => partition(text, one()?, name == "partition"),
        "rsplit" => rsplit(text, args)?,
        "index" => match text.find(one()?) {
            Some(at) => Value::from(text[..at].chars().count()),
            None => return Err(refuse("substring not found")),
        },
        "encode" | "decode" | "translate" | "maketrans" | "center" | "ljust" | "rjust" | "zfill"
        | "expandtabs" => {
            return Err(Error::new(
                ErrorKind::UnknownMethod,
                format!("string has no method named {name} here"),
            ))
        }
        _ => return Ok(None),
    }))
}

/// str.title: a letter after anything but a letter is a capital.
fn title(text: &str) -> String {
    let mut after_letter = false;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if after_letter {
            out.extend(c.to_lowercase())
        } else {
            out.extend(c.to_uppercase())
        }
        after_letter = c.is_alphabetic();
    }
    out
}

fn split_lines(text: &str) -> Value {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let text = text.strip_suffix('\n').map_or(text.as_str(), |t| t).to_string();
    if text.is_empty() {
        return Value::from(Vec::<Value>::new());
    }
    text.split('\n').map(Value::from).collect()
}

fn partition(text: &str, separator: &str, first: bool) -> Value {
    let split = if first { text.split_once(separator) } else { text.rsplit_once(separator) };
    let parts = match split {
        Some((before, after)) => [before, separator, after],
        None if first => [text, "", ""],
        None => ["", "", text],
    };
    Value::from(minijinja::value::Tuple::from(parts.map(Value::from)))
}

fn rsplit(text: &str, args: &[Value]) -> Result<Value, Error> {
    let (separator, count): (Option<&str>, Option<i64>) = from_args(args)?;
    let limit = count.filter(|n| *n >= 0).map_or(usize::MAX, |n| (n as usize).saturating_add(1));
    let mut parts: Vec<Value> = match separator {
        Some(separator) => text.rsplitn(limit, separator).map(Value::from).collect(),
        None => text.rsplitn(limit, char::is_whitespace).filter(|p| !p.is_empty()).map(Value::from).collect(),
    };
    parts.reverse();
    Ok(Value::from(parts))
}
