//! The operators whose result can be much larger than their operands, or which Python prints in its own way.

use minijinja::formatting::{format, FormatStyle};
use minijinja::value::{Value, ValueKind};
use minijinja::Error;

use crate::guard;
use crate::python;

/// `a ~ b`
pub fn concat(left: &Value, right: &Value) -> Result<Value, Error> {
    let mut text = python::to_str(left)?;
    let right = python::to_str(right)?;
    guard::room(text.len().saturating_add(right.len()))?;
    text.push_str(&right);
    Ok(Value::from(text))
}

fn times(value: &Value) -> Option<usize> {
    match value.kind() {
        ValueKind::Number | ValueKind::Bool => {
            i128::try_from(value.clone()).ok().map(|n| n.max(0).try_into().unwrap_or(usize::MAX))
        }
        _ => None,
    }
}

fn repeat(value: &Value, count: usize) -> Result<Option<Value>, Error> {
    if let Some(text) = value.as_str() {
        guard::room(text.len().saturating_mul(count))?;
        return Ok(Some(Value::from(text.repeat(count))));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Ok(None);
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    guard::room_for_items(items.len().saturating_mul(count))?;
    Ok(Some((0..count).flat_map(|_| items.iter().cloned()).collect()))
}

fn unsupported(operator: &str, left: &Value, right: &Value) -> Error {
    guard::refuse(format!("unsupported operand types for {operator}: {} and {}", left.kind(), right.kind()))
}

fn both_numbers(left: &Value, right: &Value) -> bool {
    let number = |v: &Value| matches!(v.kind(), ValueKind::Number | ValueKind::Bool);
    number(left) && number(right)
}

fn integers(left: &Value, right: &Value) -> Option<(i128, i128)> {
    let whole = |v: &Value| v.is_integer() || v.kind() == ValueKind::Bool;
    if !whole(left) || !whole(right) {
        return None;
    }
    Some((i128::try_from(left.clone()).ok()?, i128::try_from(right.clone()).ok()?))
}

fn float(value: &Value) -> Result<f64, Error> {
    f64::try_from(value.clone())
}

fn integer(value: i128) -> Value {
    i64::try_from(value).map(Value::from).unwrap_or_else(|_| Value::from(value))
}

/// `a * b`: numbers, or a text or list so many times.
pub fn multiply(left: &Value, right: &Value) -> Result<Value, Error> {
    guard::tick()?;
    for (value, count) in [(left, right), (right, left)] {
        let Some(count) = times(count) else { continue };
        if let Some(repeated) = repeat(value, count)? {
            return Ok(repeated);
        }
    }
    if !both_numbers(left, right) {
        return Err(unsupported("*", left, right));
    }
    match integers(left, right) {
        Some((a, b)) => a
            .checked_mul(b)
            .map(integer)
            .ok_or_else(|| guard::refuse("a number of the template is too large")),
        None => Ok(Value::from(float(left)? * float(right)?)),
    }
}

/// `a % b`: the remainder with the sign of b, or a text formatted as C's printf does.
pub fn remainder(left: &Value, right: &Value) -> Result<Value, Error> {
    guard::tick()?;
    if let Some(pattern) = left.as_str() {
        let args: Vec<Value> =
            if right.is_tuple() { right.try_iter()?.collect() } else { vec![right.clone()] };
        return printf(pattern, &args);
    }
    if !both_numbers(left, right) {
        return Err(unsupported("%", left, right));
    }
    if let Some((a, b)) = integers(left, right) {
        let result = a.checked_rem(b).ok_or_else(|| guard::refuse("integer modulo by zero"))?;
        return Ok(integer(if result != 0 && (result < 0) != (b < 0) { result + b } else { result }));
    }
    let (a, b) = (float(left)?, float(right)?);
    if b == 0.0 {
        return Err(guard::refuse("float modulo by zero"));
    }
    let result = a % b;
    Ok(Value::from(if result != 0.0 && (result < 0.0) != (b < 0.0) { result + b } else { result }))
}

/// A width of a format is a request for memory: three digits are enough for every honest one.
fn check_widths(pattern: &str) -> Result<(), Error> {
    let mut digits = 0;
    for byte in pattern.bytes() {
        digits = if byte.is_ascii_digit() { digits + 1 } else { 0 };
        if digits > 3 && (pattern.contains('%') || pattern.contains('{')) {
            return Err(guard::refuse("numbers in a format must have at most three digits"));
        }
    }
    Ok(())
}

fn formatted(style: FormatStyle, pattern: &str, args: &[Value]) -> Result<Value, Error> {
    check_widths(pattern)?;
    let mut shown = Vec::with_capacity(args.len());
    let mut longest = 1000; // a field of a number
    for arg in args {
        // Numbers keep their type for %d and {:.2f}, maps theirs for %(name)s; all else is printed as Python prints it.
        let plain = arg.is_kwargs() || matches!(arg.kind(), ValueKind::Number | ValueKind::Map);
        let value = if plain { arg.clone() } else { Value::from(python::to_str(arg)?) };
        longest = longest.max(value.as_str().map_or(0, str::len));
        shown.push(value);
    }
    let fields = pattern.bytes().filter(|b| matches!(b, b'%' | b'{')).count();
    guard::room(pattern.len().saturating_add(fields.saturating_mul(longest)))?;
    guard::check(Value::from(format(style, pattern, &shown)?))
}

pub fn printf(pattern: &str, args: &[Value]) -> Result<Value, Error> {
    if pattern.contains('*') {
        return Err(guard::refuse("a format must not take its width from an argument"));
    }
    let (pattern, args) = resolve_repr(pattern, args)?;
    formatted(FormatStyle::Printf, &pattern, &args)
}

/// %r becomes %s of the argument's repr().
fn resolve_repr(pattern: &str, args: &[Value]) -> Result<(String, Vec<Value>), Error> {
    let (mut out, mut args) = (String::with_capacity(pattern.len()), args.to_vec());
    let (mut in_field, mut field) = (false, 0);
    for c in pattern.chars() {
        let ends_field = in_field && (c.is_ascii_alphabetic() || c == '%');
        if ends_field && c == 'r' && field < args.len() {
            args[field] = Value::from(python::repr(&args[field])?);
        }
        out.push(if ends_field && c == 'r' { 's' } else { c });
        field += usize::from(ends_field && c != '%');
        in_field = if in_field { !ends_field } else { c == '%' };
    }
    Ok((out, args))
}

pub fn str_format(pattern: &str, args: &[Value]) -> Result<Value, Error> {
    formatted(FormatStyle::StrFormat, pattern, args)
}

/// `a < b`: only what Python can order.
pub fn less(left: &Value, right: &Value, or_equal: bool) -> Result<Value, Error> {
    guard::tick()?;
    let same = |kind: ValueKind| left.kind() == kind && right.kind() == kind;
    if !both_numbers(left, right) && !same(ValueKind::String) && !same(ValueKind::Seq) {
        return Err(unsupported("<", left, right));
    }
    Ok(Value::from(if or_equal { left <= right } else { left < right }))
}

/// What a loop may run over: Python refuses None, and takes an undefined value for an empty list.
pub fn iterable(value: Value) -> Result<Value, Error> {
    if value.is_none() {
        return Err(guard::refuse("'NoneType' object is not iterable"));
    }
    Ok(value)
}

/// `value[start:stop:step]` as Python defines it, of texts (by characters), lists and tuples.
pub fn slice(value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value, Error> {
    guard::tick()?;
    let step = if step.is_none() { 1 } else { i64::try_from(step.clone())? };
    if step == 0 {
        return Err(guard::refuse("slice step cannot be zero"));
    }
    if let Some(text) = value.as_str() {
        let plain = step == 1 && text.is_ascii();
        let length = if plain { text.len() } else { text.chars().count() };
        let places = slice_places(length, start, stop, step)?;
        if plain {
            let first = places.clone().next().unwrap_or(0);
            return Ok(Value::from(&text[first..first + places.count()]));
        }
        guard::room(length.saturating_mul(4))?;
        let chars: Vec<char> = text.chars().collect();
        return Ok(Value::from(places.map(|i| chars[i]).collect::<String>()));
    }
    if !matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable) {
        return Err(guard::refuse(format!("a value of type {} cannot be sliced", value.kind())));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let chosen: Vec<Value> =
        slice_places(items.len(), start, stop, step)?.map(|i| items[i].clone()).collect();
    Ok(if value.is_tuple() {
        Value::from(minijinja::value::Tuple::from(chosen))
    } else {
        Value::from(chosen)
    })
}

fn slice_places(
    length: usize,
    start: &Value,
    stop: &Value,
    step: i64,
) -> Result<impl Iterator<Item = usize> + Clone, Error> {
    let length = length as i64;
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let bound = |value: &Value, absent: i64| -> Result<i64, Error> {
        if value.is_none() {
            return Ok(absent);
        }
        let at = i64::try_from(value.clone())?;
        Ok((if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high))
    };
    let (start, stop) = if step > 0 {
        (bound(start, low)?, bound(stop, high)?)
    } else {
        (bound(start, high)?, bound(stop, low)?)
    };
    let distance = if step > 0 { stop - start } else { start - stop };
    let count = if distance <= 0 { 0 } else { (distance - 1) / step.saturating_abs() + 1 };
    Ok((0..count).map(move |i| (start + i * step) as usize))
}
