//! Random operations under random faults: seeds that are always the same, and a fresh one.

use granary_e2e::torture::round::{self, Size};

use super::program;

fn run(seed: u64) {
    let size = Size { operations: 5000, readers: 8 };
    let Size { operations, readers } = size;
    let again = format!("again: e2e/torture --seed {seed} --operations {operations} --readers {readers}");
    // With a keeper, so that readers must not notice that the node process is killed.
    match round::run(program(), seed, size, true) {
        Ok(summary) => println!("seed {seed}: {summary:?}"),
        Err(error) => panic!("seed {seed}: {error:#}\n{again}"),
    }
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_known_seed() {
    run(1);
}

#[test]
#[ignore = "needs root: real mounts"]
fn another_known_seed() {
    run(2);
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_fresh_seed() {
    run(u64::from(rand::random::<u32>()));
}
