//! Writes the seed corpora: `cargo run --manifest-path fuzz/Cargo.toml --example seeds`. The same seeds each time.

use std::error::Error;
use std::fs;
use std::path::Path;

mod artifacts;
mod texts;

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

fn main() -> Outcome {
    artifacts::write()?;
    texts::write()
}

/// Writes the seed `name` of `target`.
fn seed(target: &str, name: &str, bytes: impl AsRef<[u8]>) -> Outcome {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&dir)?;
    Ok(fs::write(dir.join(name), bytes)?)
}
