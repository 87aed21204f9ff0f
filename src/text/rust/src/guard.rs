//! What a template may use up: time, memory, output. A template comes with a model file and is nobody's friend.
//!
//! minijinja counts instructions (fuel) and depth itself. The rest is counted here, in a budget that belongs to the thread
//! while it renders: rewrite.rs puts calls of `tick` and `check` wherever a template can do much with little.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::time::Instant;

use minijinja::value::{ObjectRepr, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use crate::bridge::Limits;

/// Items of a list that a template may build, and jinja2's own limit for range().
pub const MAX_ITEMS: usize = 100_000;
/// Lists in lists in lists: what recursion over a value (printing, comparing, dropping) can bear.
pub const MAX_NESTING: usize = 300;

/// Counts what each thread holds, so that a render knows its own memory.
struct CountingAllocator;

thread_local! {
    static HELD: Cell<i64> = const { Cell::new(0) };
    static BUDGET: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

fn count(bytes: i64) {
    let _ = HELD.try_with(|held| held.set(held.get() + bytes));
}

// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        System.alloc(layout)
    }
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        System.alloc_zeroed(layout)
    }
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        System.dealloc(pointer, layout)
    }
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        System.realloc(pointer, layout, size)
    }
}

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

struct Budget {
    limits: Limits,
    started: Instant,
    started_cpu_ns: i64,
    held_before: i64,
    written: usize,
    raised: Option<String>,
    now: i64,
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

extern "C" {
    fn clock_gettime(clock: i32, time: *mut Timespec) -> i32;
}

fn thread_cpu_ns() -> i64 {
    const CLOCK_THREAD_CPUTIME_ID: i32 = 3;
    let mut time = Timespec { seconds: 0, nanoseconds: 0 };
    // SAFETY: `time` is what the function fills.
    unsafe { clock_gettime(CLOCK_THREAD_CPUTIME_ID, &mut time) };
    time.seconds * 1_000_000_000 + time.nanoseconds
}

pub fn begin(limits: Limits, now: i64) {
    let budget = Budget {
        limits,
        started: Instant::now(),
        started_cpu_ns: thread_cpu_ns(),
        held_before: HELD.with(Cell::get),
        written: 0,
        raised: None,
        now,
    };
    BUDGET.with(|cell| *cell.borrow_mut() = Some(budget));
}

/// Returns the message of raise_exception, if the template called it.
pub fn end() -> Option<String> {
    BUDGET.with(|cell| cell.borrow_mut().take()).and_then(|budget| budget.raised)
}

fn with<R>(f: impl FnOnce(&mut Budget) -> R) -> R {
    BUDGET.with(|cell| f(cell.borrow_mut().as_mut().expect("rendering has begun")))
}

pub fn refuse(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

pub fn raise(message: String) -> Error {
    let error = refuse(message.clone());
    with(|budget| budget.raised = Some(message));
    error
}

pub fn now() -> i64 {
    with(|budget| budget.now)
}

/// Time and memory, looked at often. CPU time is what counts; it costs a system call, so the wall clock is asked first.
pub fn tick() -> Result<(), Error> {
    with(|budget| {
        let limits = &budget.limits;
        if budget.started.elapsed().as_millis() as u64 >= limits.milliseconds
            && (thread_cpu_ns() - budget.started_cpu_ns) as u64 >= limits.milliseconds * 1_000_000
        {
            return Err(refuse(format!("the template took longer than {} ms", limits.milliseconds)));
        }
        if HELD.with(Cell::get) - budget.held_before > limits.memory_bytes as i64 {
            return Err(refuse(format!(
                "the template used more than {} bytes of memory",
                limits.memory_bytes
            )));
        }
        Ok(())
    })
}

/// Asked before a string of so many bytes is built.
pub fn room(bytes: usize) -> Result<(), Error> {
    tick()?;
    let limit = with(|budget| budget.limits.output_bytes);
    if bytes > limit {
        return Err(refuse(format!("the template built a text of more than {limit} bytes")));
    }
    Ok(())
}

/// Asked before a list of so many items is built.
pub fn room_for_items(items: usize) -> Result<(), Error> {
    if items > MAX_ITEMS {
        return Err(refuse(format!("the template built a list of more than {MAX_ITEMS} items")));
    }
    tick()
}

/// Asked before output is written, also into the text of a macro or a set block: those count twice, so twice the limit is
/// allowed here, and the whole text is measured at the end.
pub fn write(bytes: usize) -> Result<(), Error> {
    tick()?;
    with(|budget| {
        budget.written = budget.written.saturating_add(bytes);
        if budget.written > budget.limits.output_bytes.saturating_mul(2) {
            return Err(refuse(format!("the template wrote more than {} bytes", budget.limits.output_bytes)));
        }
        Ok(())
    })
}

fn nesting(value: &Value, level: usize) -> Result<(), Error> {
    if level > MAX_NESTING {
        return Err(refuse(format!("the template nested values deeper than {MAX_NESTING}")));
    }
    let Some(object) = value.as_object() else { return Ok(()) };
    match object.repr() {
        ObjectRepr::Plain => Ok(()),
        ObjectRepr::Map => {
            // A namespace is the one value that can change, so also the one that could hold itself.
            if level > 0 && object.type_name().ends_with("Namespace") {
                return Err(refuse("a namespace cannot be put into another value"));
            }
            for (_, item) in object.try_iter_pairs().into_iter().flatten() {
                nesting(&item, level + 1)?;
            }
            Ok(())
        }
        _ => {
            for item in object.try_iter().into_iter().flatten() {
                nesting(&item, level + 1)?;
            }
            Ok(())
        }
    }
}

/// Lets a value pass if it is of bearable size and depth. Lazy sequences become lists: a chain of them would be walked
/// recursively, and Python's are lists anyway.
pub fn check(value: Value) -> Result<Value, Error> {
    tick()?;
    if let Some(text) = value.as_str() {
        room(text.len())?;
    }
    match value.kind() {
        ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                room_for_items(items.len() + 1)?;
                items.push(item);
            }
            let list = Value::from(items);
            nesting(&list, 0)?;
            Ok(list)
        }
        ValueKind::Seq | ValueKind::Map => {
            nesting(&value, 0)?;
            Ok(value)
        }
        _ => Ok(value),
    }
}

/// What may be stored in an attribute of a namespace.
pub fn check_stored(value: Value) -> Result<Value, Error> {
    nesting(&value, 1)?;
    check(value)
}
