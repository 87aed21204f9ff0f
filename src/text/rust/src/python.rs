//! Values as Python shows them: str(), repr(), json.dumps(), strftime().
//!
//! Chat templates were written against Python's Jinja, where {{ true }} prints "True", a list prints with single quotes,
//! and tojson leaves <, > and & alone.

use std::ffi::CString;

use minijinja::value::{Value, ValueKind};
use minijinja::Error;

use crate::guard::{self, refuse, room, MAX_NESTING};

/// str(value). An undefined value is empty, as Jinja prints it.
pub fn to_str(value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_string());
    }
    if value.is_undefined() {
        return Ok(String::new());
    }
    repr(value)
}

pub fn repr(value: &Value) -> Result<String, Error> {
    let mut out = String::new();
    write_repr(value, &mut out, 0)?;
    Ok(out)
}

fn write_repr(value: &Value, out: &mut String, level: usize) -> Result<(), Error> {
    if level > MAX_NESTING {
        return Err(refuse("a value is nested too deep to print"));
    }
    room(out.len())?;
    match value.kind() {
        ValueKind::Undefined => out.push_str("Undefined"),
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => repr_text(value.as_str().unwrap_or_default(), out),
        ValueKind::Map => repr_map(value, out, level)?,
        ValueKind::Seq | ValueKind::Iterable => repr_list(value, out, level)?,
        _ => out.push_str(&value.to_string()),
    }
    Ok(())
}

fn repr_list(value: &Value, out: &mut String, level: usize) -> Result<(), Error> {
    let (open, close) = if value.is_tuple() { ('(', ')') } else { ('[', ']') };
    out.push(open);
    let mut count = 0;
    for item in value.try_iter()? {
        if count > 0 {
            out.push_str(", ");
        }
        write_repr(&item, out, level + 1)?;
        count += 1;
    }
    if value.is_tuple() && count == 1 {
        out.push(',');
    }
    out.push(close);
    Ok(())
}

fn repr_map(value: &Value, out: &mut String, level: usize) -> Result<(), Error> {
    out.push('{');
    for (index, key) in value.try_iter()?.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write_repr(&key, out, level + 1)?;
        out.push_str(": ");
        write_repr(&value.get_item(&key)?, out, level + 1)?;
    }
    out.push('}');
    Ok(())
}

fn repr_text(text: &str, out: &mut String) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => {
                out.push('\\');
                out.push(c);
            }
            c if (c as u32) < 0x20 || (0x7F..0xA1).contains(&(c as u32)) || c as u32 == 0xAD => {
                out.push_str(&format!("\\x{:02x}", c as u32))
            }
            c => out.push(c),
        }
    }
    out.push(quote);
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map(float).unwrap_or_else(|_| value.to_string())
}

/// repr(float): the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
fn float(value: f64) -> String {
    if !value.is_finite() {
        return if value.is_nan() {
            "nan".into()
        } else if value > 0.0 {
            "inf".into()
        } else {
            "-inf".into()
        };
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { plain + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// json.dumps(value, ensure_ascii, indent, separators, sort_keys)
pub struct Json {
    pub ensure_ascii: bool,
    pub indent: Option<String>,
    pub item_separator: String,
    pub key_separator: String,
    pub sort_keys: bool,
}

impl Json {
    pub fn dumps(&self, value: &Value) -> Result<String, Error> {
        let mut out = String::new();
        self.write(value, &mut out, 0)?;
        Ok(out)
    }

    fn write(&self, value: &Value, out: &mut String, level: usize) -> Result<(), Error> {
        if level > MAX_NESTING {
            return Err(refuse("a value is nested too deep for tojson"));
        }
        room(out.len())?;
        match value.kind() {
            ValueKind::None => out.push_str("null"),
            ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push_str(&json_number(value)),
            ValueKind::String => self.write_text(value.as_str().unwrap_or_default(), out),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.write_all('[', ']', &items, out, level, |item, out| self.write(item, out, level + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort();
                }
                self.write_all('{', '}', &keys, out, level, |key, out| {
                    self.write_key(key, out)?;
                    out.push_str(&self.key_separator);
                    self.write(&value.get_item(key)?, out, level + 1)
                })?;
            }
            ValueKind::Undefined => return Err(refuse("Object of type Undefined is not JSON serializable")),
            kind => return Err(refuse(format!("Object of type {kind} is not JSON serializable"))),
        }
        Ok(())
    }

    fn write_all(
        &self,
        open: char,
        close: char,
        items: &[Value],
        out: &mut String,
        level: usize,
        write: impl Fn(&Value, &mut String) -> Result<(), Error>,
    ) -> Result<(), Error> {
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            self.new_line(out, level + 1)?;
            write(item, out)?;
        }
        if !items.is_empty() {
            self.new_line(out, level)?;
        }
        out.push(close);
        Ok(())
    }

    fn new_line(&self, out: &mut String, level: usize) -> Result<(), Error> {
        let Some(indent) = &self.indent else { return Ok(()) };
        room(out.len().saturating_add(indent.len().saturating_mul(level)))?;
        out.push('\n');
        (0..level).for_each(|_| out.push_str(indent));
        Ok(())
    }

    fn write_key(&self, key: &Value, out: &mut String) -> Result<(), Error> {
        let text = match key.kind() {
            ValueKind::String => key.as_str().unwrap_or_default().to_string(),
            ValueKind::None => "null".into(),
            ValueKind::Bool => {
                if key.is_true() {
                    "true".into()
                } else {
                    "false".into()
                }
            }
            ValueKind::Number => json_number(key),
            kind => return Err(refuse(format!("keys must be str, int, float, bool or None, not {kind}"))),
        };
        self.write_text(&text, out);
        Ok(())
    }

    fn write_text(&self, text: &str, out: &mut String) {
        out.push('"');
        for c in text.chars() {
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                c if (c as u32) < 0x20 => out.push_str(&format!("\\u{:04x}", c as u32)),
                c if self.ensure_ascii && c as u32 > 0x7E => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

fn json_number(value: &Value) -> String {
    match number(value).as_str() {
        "nan" => "NaN".into(),
        "inf" => "Infinity".into(),
        "-inf" => "-Infinity".into(),
        plain => plain.into(),
    }
}

/// C's `struct tm` on Linux.
#[repr(C)]
struct Tm {
    fields: [i32; 9],
    offset_seconds: i64,
    zone: *const u8,
}

extern "C" {
    fn localtime_r(time: *const i64, out: *mut Tm) -> *mut Tm;
    fn strftime(out: *mut u8, size: usize, format: *const i8, time: *const Tm) -> usize;
}

/// datetime.now().strftime(format), by the same C function that Python calls.
pub fn strftime_now(format: &str) -> Result<String, Error> {
    const LIMIT: usize = 4096;
    if format.len() > LIMIT / 16 || format.is_empty() {
        return if format.is_empty() {
            Ok(String::new())
        } else {
            Err(refuse("the format of strftime_now is too long"))
        };
    }
    let now = guard::now();
    let format =
        CString::new(format.replace("%f", "000000")).map_err(|_| refuse("embedded null character"))?;
    let mut time = Tm { fields: [0; 9], offset_seconds: 0, zone: std::ptr::null() };
    let mut out = vec![0u8; LIMIT];
    // SAFETY: all pointers are to live values of the sizes told; strftime writes at most LIMIT bytes.
    let length = unsafe {
        localtime_r(&now, &mut time);
        strftime(out.as_mut_ptr(), LIMIT, format.as_ptr().cast(), &time)
    };
    out.truncate(length);
    Ok(String::from_utf8_lossy(&out).into_owned())
}
