//! The URI of a source, as anybody who may write a Dataset gives it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| granary_fetch::fuzz::uri(text));
