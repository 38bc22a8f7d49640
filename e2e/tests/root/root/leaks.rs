//! A thousand publishes with kills at random steps: afterwards there is as much of everything as before.

use std::path::Path;

use anyhow::{Result, ensure};
use granary_e2e::torture::check::check_all;
use granary_e2e::torture::count::{Counter, entries};
use granary_e2e::torture::lab::{Lab, Version};
use granary_e2e::torture::model::{Model, Pattern, Shape};
use granary_e2e::torture::node::{Node, Outcome, Starting};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::program;

const CALLS: usize = 2000;
const DATASETS: usize = 3;
const TARGETS: usize = 4;
/// One call in so many is interrupted.
const KILLED: u32 = 12;
/// A call has about as many steps.
const STEPS: u64 = 40;

struct Cycles<'a> {
    starting: &'a Starting,
    rng: StdRng,
    kills: usize,
    node: Node,
}

impl Cycles<'_> {
    /// Makes a call as the kubelet does: again, until it succeeds.
    fn until_done(&mut self, mut call: impl FnMut(&mut Node) -> Result<Outcome>) -> Result<()> {
        let step = (self.rng.random_range(0..KILLED) == 0).then(|| self.rng.random_range(0..STEPS));
        self.node.kill_before(step);
        while let Outcome::Killed = match call(&mut self.node)? {
            Outcome::Failed(message) => anyhow::bail!("a call failed: {message}"),
            outcome => outcome,
        } {
            self.kills += 1;
            self.node = self.successor()?;
        }
        // What goes on in the background has steps, too.
        if self.node.kill_before(None) {
            self.kills += 1;
            self.node = self.successor()?;
        }
        Ok(())
    }

    /// The next process, which may itself be killed while it starts.
    fn successor(&mut self) -> Result<Node> {
        while self.rng.random_range(0..4) == 0 {
            let step = self.rng.random_range(0..2 * STEPS);
            match self.starting.start_until(Some(step))? {
                Some(node) if !node.kill_before(None) => return Ok(node),
                _ => self.kills += 1,
            }
        }
        self.starting.start()
    }
}

#[test]
#[ignore = "needs root: real mounts"]
fn a_thousand_publishes_with_kills_at_random_steps_leave_nothing() {
    let seed = u64::from(rand::random::<u32>());
    println!("seed {seed}");
    cycles(seed).unwrap_or_else(|error| panic!("seed {seed}: {error:#}"));
}

fn cycles(seed: u64) -> Result<()> {
    let lab = Lab::new(program())?;
    let mut starting = Starting::new(program(), &lab, &[("a", Some(64 << 20)), ("b", Some(6 << 20))]);
    starting.stepwise = true;
    let mut rng = StdRng::seed_from_u64(seed);
    let versions = versions(&lab, &mut rng)?;
    let targets: Vec<_> = (0..TARGETS).map(|nth| lab.target(&nth.to_string())).collect();
    // Caches keep files open for each blob that they know, so all are known before anything is counted.
    let mut node = starting.start()?;
    for version in &versions {
        node.publish("first", &targets[0], version)?.done()?;
        check_all(&targets[0], &version.model)?;
        node.unpublish("first", &targets[0])?.done()?;
    }
    node.stop()?;
    let counter = Counter::new(&lab)?;
    let mut cycles = Cycles { node: starting.start()?, starting: &starting, rng, kills: 0 };
    let before = counter.take(&cycles.node)?;
    let mut published: Vec<Option<usize>> = vec![None; TARGETS];
    let mut publishes = 0;
    for _ in 0..CALLS {
        let target = cycles.rng.random_range(0..TARGETS);
        let (volume, place): (_, &Path) = (format!("volume-{target}"), &targets[target]);
        match published[target].take() {
            Some(_) => cycles.until_done(|node| node.unpublish(&volume, place))?,
            None => {
                let version = cycles.rng.random_range(0..versions.len());
                cycles.until_done(|node| node.publish(&volume, place, &versions[version]))?;
                check_all(place, &versions[version].model)?;
                (published[target], publishes) = (Some(version), publishes + 1);
            }
        }
    }
    for (target, place) in targets.iter().enumerate() {
        cycles.until_done(|node| node.unpublish(&format!("volume-{target}"), place))?;
    }
    counter.expect(&cycles.node, &before)?;
    let blobs = entries(&lab.dir().join("cache-a/blobs"))? + entries(&lab.dir().join("cache-b/blobs"))?;
    ensure!(blobs <= DATASETS, "{blobs} blobs have directories");
    let kept = entries(&lab.dir().join("state/versions"))?;
    ensure!(kept <= 8, "{kept} versions have directories, though none is used");
    starting.check_log()?;
    println!("{publishes} publishes, {} kills: {:?} as before", cycles.kills, before);
    ensure!(
        publishes >= CALLS / 2 - TARGETS && cycles.kills > CALLS / 40,
        "{publishes} publishes, {} kills",
        cycles.kills
    );
    Ok(())
}

/// Two versions of each dataset.
fn versions(lab: &Lab, rng: &mut StdRng) -> Result<Vec<Version>> {
    let (pattern, shape) = (Pattern::new(1, 1 << 20), Shape { files: 5, largest: 20_000, crowd: 0 });
    let mut versions = Vec::new();
    for nth in 0..DATASETS {
        let (dataset, pool) = (format!("set{nth}"), if nth == 0 { "b" } else { "a" });
        let model = Model::random(rng, &pattern, shape);
        let next = model.successor(rng, &pattern, shape);
        let first = lab.version(&dataset, "v1", pool, model, None)?;
        versions.push(lab.version(&dataset, "v2", pool, next, Some(&first))?);
        versions.push(first);
    }
    Ok(versions)
}
