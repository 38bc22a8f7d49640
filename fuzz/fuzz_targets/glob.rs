//! Patterns of a Dataset, one a line, those to leave out behind a '!'; the first line is the key that they are compared with.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// What a Dataset's schema lets through.
const PATTERNS: usize = 64;
const PATTERN_CHARS: usize = 256;

fuzz_target!(|text: &str| {
    let (key, patterns) = text.split_once('\n').unwrap_or((text, ""));
    let patterns = patterns.lines().filter(|line| line.chars().count() <= PATTERN_CHARS).take(PATTERNS);
    let (exclude, include): (Vec<&str>, Vec<&str>) = patterns.partition(|line| line.starts_with('!'));
    let exclude: Vec<&str> = exclude.iter().map(|line| &line[1..]).collect();
    granary_fetch::fuzz::globs(&include, &exclude, key);
});
