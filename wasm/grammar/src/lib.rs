//! llguidance behind a C interface: what web/src/engine/grammar-module.ts calls.
//!
//! The module imports nothing. Pointers are the caller's: what `grammar_alloc` gave goes back by
//! `grammar_free` with the same size; a vocabulary and a matcher live until their `_delete`. What
//! failed gives 0 (a handle) or -1 and leaves a text that `grammar_said` tells. A panic or a failed
//! allocation is a trap: the text stands in memory still, and the instance is to be dropped.

use std::alloc::{alloc, dealloc, Layout};
use std::cell::RefCell;
use std::sync::Arc;

use llguidance::api::TopLevelGrammar;
use llguidance::earley::SlicedBiasComputer;
use llguidance::toktrie::{
    ApproximateTokEnv, InferenceCapabilities, TokEnv, TokRxInfo, TokTrie,
};
use llguidance::{panic_utils, Matcher, ParserFactory};
use serde_json::{json, Value};

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn say(text: String) {
    SAID.with(|said| *said.borrow_mut() = text);
}

/// The clock that llguidance's crate `instant` imports. Its times are statistics that nobody reads,
/// and without a clock a module of the same bytes does the same work.
#[no_mangle]
pub extern "C" fn now() -> f64 {
    0.0
}

#[no_mangle]
pub extern "C" fn grammar_alloc(size: usize) -> *mut u8 {
    unsafe { alloc(Layout::from_size_align_unchecked(size.max(1), 8)) }
}

/// # Safety
/// `at` came from `grammar_alloc(size)`.
#[no_mangle]
pub unsafe extern "C" fn grammar_free(at: *mut u8, size: usize) {
    dealloc(at, Layout::from_size_align_unchecked(size.max(1), 8));
}

/// Where the last text is: UTF-8, `grammar_said_length` bytes.
#[no_mangle]
pub extern "C" fn grammar_said() -> *const u8 {
    SAID.with(|said| said.borrow().as_ptr())
}

#[no_mangle]
pub extern "C" fn grammar_said_length() -> usize {
    SAID.with(|said| said.borrow().len())
}

/// A handle, or 0 and a text.
fn handle_of<T>(made: Result<T, String>) -> *mut T {
    match made {
        Ok(value) => Box::into_raw(Box::new(value)),
        Err(text) => {
            say(text);
            std::ptr::null_mut()
        }
    }
}

/// A vocabulary: the bytes of all tokens one after the other, where each ends [count], and the
/// tokens that end a text [end_count], of which there is at least one. A token without bytes is
/// one that a grammar never allows.
///
/// # Safety
/// The pointers are of that many items; `ends` does not fall and its last is at most what `bytes`
/// has.
#[no_mangle]
pub unsafe extern "C" fn grammar_vocabulary(bytes: *const u8, ends: *const u32, count: usize,
    stops: *const u32, stop_count: usize) -> *mut ParserFactory {
    // llguidance puts a hook of its own in place once; ours comes after it, or a panic has no text.
    let _ = panic_utils::catch_unwind(|| Ok(()));
    std::panic::set_hook(Box::new(|info| say(format!("{info}"))));
    let ends = std::slice::from_raw_parts(ends, count);
    let stops = std::slice::from_raw_parts(stops, stop_count);
    let mut at = 0;
    let words: Vec<Vec<u8>> = ends.iter().map(|&end| {
        let word = std::slice::from_raw_parts(bytes.add(at), end as usize - at).to_vec();
        at = end as usize;
        word
    }).collect();
    let trie = TokTrie::from(&TokRxInfo::new(count as u32, stops[0]), &words)
        .with_eos_tokens(stops);
    let env: TokEnv = Arc::new(ApproximateTokEnv::new(trie));
    // The last two of four precomputed sets of tokens: the first two cost 26 MB and save nothing.
    let slices = SlicedBiasComputer::json_slices()[2..].to_vec();
    handle_of(ParserFactory::new(&env, InferenceCapabilities::default(), &slices)
        .map(|mut factory| {
            factory.quiet();
            factory.limits_mut().verbose_errors = false;
            factory
        })
        .map_err(|error| error.to_string()))
}

/// # Safety
/// From `grammar_vocabulary`, once, after all of its matchers.
#[no_mangle]
pub unsafe extern "C" fn grammar_vocabulary_delete(factory: *mut ParserFactory) {
    drop(Box::from_raw(factory));
}

/// One blank after commas and colons, as most text has it: free white space would let a small
/// model write blanks without end. Printable characters may be written as \uXXXX.
fn with_style(schema: Value) -> Result<Value, String> {
    let mut schema = match schema {
        Value::Bool(true) => json!({}),
        other => other,
    };
    let object = schema.as_object_mut().ok_or("the schema allows nothing")?;
    object.insert("x-guidance".to_string(), json!({
        "whitespace_flexible": false, "item_separator": ", ", "key_separator": ": ",
        "json_allow_general_unicode_escapes": true,
    }));
    Ok(schema)
}

fn compile(factory: &ParserFactory, kind: u32, text: &str) -> Result<Matcher, String> {
    let grammar = match kind {
        0 => TopLevelGrammar::from_json_schema(
            with_style(serde_json::from_str(text).map_err(|error| error.to_string())?)?),
        1 => TopLevelGrammar::from_regex(text),
        _ => TopLevelGrammar::from_lark(text.to_string()),
    };
    let parser = factory.create_parser(grammar).map_err(|error| format!("{error:#}"))?;
    let mut matcher = Matcher::new(Ok(parser));
    // What cannot start, or is too large to go on with, is found here.
    let mask = matcher.compute_mask_or_eos().map_err(|error| error.to_string())?;
    if mask.is_zero() {
        return Err("no token of the vocabulary can begin it".to_string());
    }
    Ok(matcher)
}

/// kind: 0 a JSON schema, 1 a regular expression of the whole text, 2 a Lark grammar.
///
/// # Safety
/// `text` has `length` bytes.
#[no_mangle]
pub unsafe extern "C" fn grammar_compile(factory: *const ParserFactory, kind: u32,
    text: *const u8, length: usize) -> *mut Matcher {
    let bytes = std::slice::from_raw_parts(text, length);
    handle_of(match std::str::from_utf8(bytes) {
        Ok(text) => compile(&*factory, kind, text),
        Err(error) => Err(error.to_string()),
    })
}

/// An independent matcher at the same place.
///
/// # Safety
/// A matcher that lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_clone(matcher: *const Matcher) -> *mut Matcher {
    Box::into_raw(Box::new((*matcher).deep_clone()))
}

/// # Safety
/// A matcher that lives; it does not afterwards.
#[no_mangle]
pub unsafe extern "C" fn grammar_delete(matcher: *mut Matcher) {
    drop(Box::from_raw(matcher));
}

/// Which tokens may come next: bit t % 32 of word t / 32 [words]. 0, or -1 and a text.
///
/// # Safety
/// A matcher that lives, and room for the words.
#[no_mangle]
pub unsafe extern "C" fn grammar_mask(matcher: *mut Matcher, out: *mut u32,
    words: usize) -> i32 {
    match (*matcher).compute_mask_or_eos() {
        Ok(mask) => {
            let out = std::slice::from_raw_parts_mut(out, words);
            out.fill(0);
            let mask = mask.as_slice();
            let count = words.min(mask.len());
            out[..count].copy_from_slice(&mask[..count]);
            0
        }
        Err(error) => {
            say(error.to_string());
            -1
        }
    }
}

/// Goes on by a token. 1: it was allowed, and the text can go on; 2: it was allowed, and only an
/// end can follow; 0: it is not allowed, and nothing changed; -1 and a text.
///
/// # Safety
/// A matcher that lives.
#[no_mangle]
pub unsafe extern "C" fn grammar_accept(matcher: *mut Matcher, token: u32) -> i32 {
    match (*matcher).try_consume_tokens(&[token]) {
        Ok(0) => 0,
        Ok(_) => if (*matcher).is_stopped() { 2 } else { 1 },
        Err(error) => {
            say(error.to_string());
            -1
        }
    }
}
