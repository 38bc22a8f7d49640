//! What a source answers: bytes off a connection, up to listings and pins. The first byte says what was asked for.
#![no_main]

use granary_fetch::fuzz::{Question, ask};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: rustls::crypto::ring::default_provider().install_default().expect("nobody has chosen another one"),
    |data: &[u8]| {
        if let Some((Some(question), answer)) = data.split_first().map(|(first, rest)| (question(*first), rest)) {
            ask(question, answer);
        }
    }
);

fn question(letter: u8) -> Option<Question> {
    match letter {
        b'L' => Some(Question::List),
        b'V' => Some(Question::ListVersions),
        b'S' => Some(Question::Stat),
        b'H' => Some(Question::Head),
        b'T' => Some(Question::ReadTagged),
        b'I' => Some(Question::ReadVersion),
        b'M' => Some(Question::ReadModified),
        b'W' => Some(Question::ReadWhole),
        _ => None,
    }
}
