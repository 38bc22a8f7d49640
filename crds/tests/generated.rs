//! What is generated from the types is what the repository holds.

use std::process::Command;

#[test]
fn generated_files_are_current() {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen")).arg("--check").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
