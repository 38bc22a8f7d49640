//! A publish, an unpublish and a start that are interrupted before every one of their steps: the next process repairs it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use granary_e2e::torture::check::check_all;
use granary_e2e::torture::count::{Counter, Counts};
use granary_e2e::torture::lab::{Lab, Version};
use granary_e2e::torture::model::{Model, Pattern, Shape};
use granary_e2e::torture::node::{Node, Outcome, Starting};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::program;

/// How long the background may take.
const PATIENCE: Duration = Duration::from_secs(60);
const POOLS: [(&str, Option<u64>); 1] = [("pool", Some(64 << 20))];

struct Bench {
    lab: Lab,
    starting: Starting,
    counter: Counter,
    model: Model,
    versions: usize,
}

impl Bench {
    fn new() -> Result<Self> {
        let lab = Lab::new(program())?;
        let mut starting = Starting::new(program(), &lab, &POOLS);
        starting.stepwise = true;
        let shape = Shape { files: 4, largest: 10_000, crowd: 0 };
        let model = Model::random(&mut StdRng::seed_from_u64(7), &Pattern::new(1, 1 << 20), shape);
        let counter = Counter::new(&lab)?;
        Ok(Self { lab, starting, counter, model, versions: 0 })
    }

    /// A version that was never published, of a blob that is known.
    fn fresh_version(&mut self) -> Result<Version> {
        self.versions += 1;
        self.lab.version("set", &format!("v{}", self.versions), "pool", self.model.clone(), None)
    }

    /// A process, and what is there when nothing is published.
    fn begin(&mut self) -> Result<(Node, Counts)> {
        let (mut node, version) = (self.starting.start()?, self.fresh_version()?);
        self.publish_and_check(&mut node, "a", &version)?;
        self.unpublish(&mut node, "a")?;
        // In order, so that what is cached is known to the next.
        node.stop()?;
        let node = self.starting.start()?;
        let before = self.counter.take(&node)?;
        Ok((node, before))
    }

    fn publish(&self, node: &mut Node, target: &str, version: &Version) -> Result<Outcome> {
        node.publish(target, &self.lab.target(target), version)
    }

    fn publish_and_check(&self, node: &mut Node, target: &str, version: &Version) -> Result<()> {
        self.publish(node, target, version)?.done()?;
        check_all(&self.lab.target(target), &version.model)
    }

    fn unpublish(&self, node: &mut Node, target: &str) -> Result<()> {
        node.unpublish(target, &self.lab.target(target))?.done()
    }
}

/// Interrupts `call` before every step, and has the next process `repair` and end it. Gives the number of steps.
fn interrupt(
    bench: &mut Bench,
    mut node: Node,
    before: &Counts,
    mut prepare: impl FnMut(&mut Bench, &mut Node) -> Result<Version>,
    mut call: impl FnMut(&Bench, &mut Node, &Version) -> Result<Outcome>,
    mut repair: impl FnMut(&Bench, &mut Node, &Version) -> Result<()>,
) -> Result<u64> {
    for step in 0.. {
        let version = prepare(bench, &mut node)?;
        node.kill_before(Some(step));
        let outcome = call(bench, &mut node, &version)?;
        let was_killed = node.kill_before(None) || matches!(outcome, Outcome::Killed);
        if was_killed {
            node = bench.starting.start()?;
        } else {
            outcome.done()?;
        }
        repair(bench, &mut node, &version).with_context(|| format!("interrupted before step {step}"))?;
        bench.counter.expect(&node, before).with_context(|| format!("interrupted before step {step}"))?;
        if !was_killed {
            bench.starting.check_log()?;
            return Ok(step);
        }
    }
    unreachable!("there are no steps any more at some time")
}

fn repaired_publish(bench: &Bench, node: &mut Node, version: &Version) -> Result<()> {
    bench.publish_and_check(node, "a", version)?;
    bench.unpublish(node, "a")
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_publish_is_repaired() -> Result<()> {
    let mut bench = Bench::new()?;
    let (node, before) = bench.begin()?;
    let publish = |bench: &Bench, node: &mut Node, version: &Version| bench.publish(node, "a", version);
    let fresh = |bench: &mut Bench, _: &mut Node| bench.fresh_version();
    let steps = interrupt(&mut bench, node, &before, fresh, publish, repaired_publish)?;
    println!("{steps} steps of a publish");
    ensure!(steps > 15, "only {steps} steps were seen");
    Ok(())
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_publish_of_a_version_that_was_unpublished_before_is_repaired() -> Result<()> {
    let mut bench = Bench::new()?;
    let (node, before) = bench.begin()?;
    let publish = |bench: &Bench, node: &mut Node, version: &Version| bench.publish(node, "a", version);
    let kept = |bench: &mut Bench, node: &mut Node| {
        let version = bench.fresh_version()?;
        bench.publish_and_check(node, "a", &version)?;
        bench.unpublish(node, "a")?;
        Ok(version)
    };
    let steps = interrupt(&mut bench, node, &before, kept, publish, repaired_publish)?;
    println!("{steps} steps of a publish of what was kept");
    ensure!(steps > 8, "only {steps} steps were seen");
    Ok(())
}

/// A version that is complete is mounted without devices.
#[test]
#[ignore = "needs root: real mounts"]
fn a_publish_of_a_complete_version_is_repaired() -> Result<()> {
    let mut bench = Bench::new()?;
    let (node, before) = bench.begin()?;
    let publish = |bench: &Bench, node: &mut Node, version: &Version| bench.publish(node, "a", version);
    let complete = |bench: &mut Bench, node: &mut Node| {
        let version = bench.fresh_version()?;
        bench.publish_and_check(node, "a", &version)?;
        let begun = Instant::now();
        while node.layouts()?.iter().any(|(_, layout)| layout == "EROFSLoopFUSE") {
            ensure!(begun.elapsed() < PATIENCE, "it is not read natively");
            std::thread::sleep(Duration::from_millis(2));
        }
        bench.unpublish(node, "a")?;
        Ok(version)
    };
    let steps = interrupt(&mut bench, node, &before, complete, publish, repaired_publish)?;
    println!("{steps} steps of a publish of what is complete");
    ensure!(steps > 8, "only {steps} steps were seen");
    Ok(())
}

#[test]
#[ignore = "needs root: real mounts"]
fn an_unpublish_is_repaired() -> Result<()> {
    let mut bench = Bench::new()?;
    let (node, before) = bench.begin()?;
    let published = |bench: &mut Bench, node: &mut Node| {
        let version = bench.fresh_version()?;
        bench.publish_and_check(node, "a", &version)?;
        Ok(version)
    };
    let unpublish = |bench: &Bench, node: &mut Node, _: &Version| node.unpublish("a", &bench.lab.target("a"));
    let again = |bench: &Bench, node: &mut Node, _: &Version| bench.unpublish(node, "a");
    let steps = interrupt(&mut bench, node, &before, published, unpublish, again)?;
    println!("{steps} steps of an unpublish");
    ensure!(steps > 4, "only {steps} steps were seen");
    Ok(())
}

/// The successor of a killed process is killed while it adopts what is mounted.
#[test]
#[ignore = "needs root: real mounts"]
fn a_start_is_repaired() -> Result<()> {
    let mut bench = Bench::new()?;
    let (mut node, before) = bench.begin()?;
    for step in 0.. {
        let (one, other) = (bench.fresh_version()?, bench.fresh_version()?);
        bench.publish_and_check(&mut node, "a", &one)?;
        bench.publish(&mut node, "b", &other)?.done()?;
        node.kill()?;
        let started = bench.starting.start_until(Some(step))?;
        let started = started.filter(|node| !node.kill_before(None));
        let is_over = started.is_some();
        node = match started {
            Some(node) => node,
            None => bench.starting.start()?,
        };
        let repair = |node: &mut Node| {
            check_all(&bench.lab.target("a"), &one.model)?;
            check_all(&bench.lab.target("b"), &other.model)?;
            bench.unpublish(node, "a")?;
            bench.unpublish(node, "b")?;
            bench.counter.expect(node, &before)
        };
        repair(&mut node).with_context(|| format!("interrupted before step {step}"))?;
        if is_over {
            println!("{step} steps of a start");
            ensure!(step > 8, "only {step} steps were seen");
            return bench.starting.check_log();
        }
    }
    unreachable!("there are no steps any more at some time")
}

#[test]
#[ignore = "needs root: real mounts"]
fn the_very_first_start_is_repaired() -> Result<()> {
    for step in 0.. {
        let bench = Bench::new()?;
        if bench.starting.start_until(Some(step))?.is_some() {
            println!("{step} steps of the first start");
            ensure!(step > 8, "only {step} steps were seen");
            return Ok(());
        }
        let version = bench.lab.version("set", "v1", "pool", bench.model.clone(), None)?;
        let mut node = bench.starting.start()?;
        repaired_publish(&bench, &mut node, &version).with_context(|| format!("interrupted before step {step}"))?;
    }
    unreachable!("there are no steps any more at some time")
}
