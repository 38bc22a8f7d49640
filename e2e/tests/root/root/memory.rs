//! The node process in a cgroup of 256 MiB, with many volumes and many readers of slow sources: what cannot be taken in waits.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use granary_e2e::memory_group::{Group, Held};
use granary_e2e::torture::check::check_all;
use granary_e2e::torture::lab::{Lab, Version};
use granary_e2e::torture::model::{Model, Pattern, Shape};
use granary_e2e::torture::node::Starting;
use granary_e2e::torture::origin::Fault;
use rand::SeedableRng as _;
use rand::rngs::StdRng;

use super::program;

const MIB: u64 = 1 << 20;
const LIMIT: u64 = 256 * MIB;
const VOLUMES: usize = 200;
const READERS: usize = 64;
/// Less than there is to read, so that parts are evicted, too.
const CACHE: u64 = 320 * MIB;

#[test]
#[ignore = "needs root: real mounts"]
fn two_hundred_volumes_and_sixty_four_readers_fit_into_256_mib() -> Result<()> {
    let lab = Lab::new(program())?;
    let mut starting = Starting::new(program(), &lab, &[("pool", Some(CACHE))]);
    starting.group = Some(Group::make(LIMIT)?);
    read_in_little_memory(&lab, &starting).with_context(|| {
        let killed = starting.group.as_ref().and_then(Group::killed);
        format!("killed for memory {killed:?} times; the log ends:\n{}", starting.last_words())
    })
}

fn read_in_little_memory(lab: &Lab, starting: &Starting) -> Result<()> {
    let volumes = volumes(lab)?;
    let mut node = starting.start()?;
    for (target, version) in &volumes {
        node.publish(&version.dataset, target, version)?.done()?;
    }
    let group = starting.group.as_ref().context("it was made above")?;
    let idle = group.held().context("the cgroup does not tell what is held")?;
    // Every request waits: what is asked for meanwhile is to wait, too, and not in this process's memory.
    for (_, version) in &volumes {
        lab.origin.break_down(&version.dataset, Fault::Stall)?;
    }
    let cold = read_all(&volumes, group)?;
    for (_, version) in &volumes {
        lab.origin.heal(&version.dataset)?;
    }
    let warm = read_all(&volumes, group)?;
    let mib = |held: Held| format!("{} + {} MiB", held.anonymous / MIB, held.kernel / MIB);
    println!(
        "of processes + of the kernel: idle {}, cold {}, warm {}; peak with page cache {} of {} MiB",
        mib(idle),
        mib(cold),
        mib(warm),
        group.peak().unwrap_or_default() / MIB,
        LIMIT / MIB
    );
    ensure!(group.killed() == Some(0), "the kernel killed for memory {:?} times", group.killed());
    for (target, version) in &volumes {
        node.unpublish(&version.dataset, target)?.done()?;
    }
    starting.check_log()
}

/// Targets and versions: one large file in some datasets, a few small ones in the others.
fn volumes(lab: &Lab) -> Result<Vec<(PathBuf, Version)>> {
    let (mut rng, pattern) = (StdRng::seed_from_u64(11), Pattern::new(12, 16 << 20));
    let volume = |nth: usize| {
        let is_large = nth.is_multiple_of(3);
        let shape =
            Shape { files: if is_large { 2 } else { 3 }, largest: if is_large { 12 << 20 } else { 300_000 }, crowd: 0 };
        let dataset = format!("set{nth}");
        let version = lab.version(&dataset, "v1", "pool", Model::random(&mut rng, &pattern, shape), None)?;
        Ok((lab.target(&dataset), version))
    };
    (0..VOLUMES).map(volume).collect()
}

/// Reads all volumes, each by one of the readers, and gives the most that was held meanwhile.
fn read_all(volumes: &[(PathBuf, Version)], group: &Group) -> Result<Held> {
    let (next, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                scope.spawn(|| {
                    while let Some((target, version)) = volumes.get(next.fetch_add(1, SeqCst)) {
                        check_all(target, &version.model).with_context(|| version.dataset.clone())?;
                    }
                    anyhow::Ok(())
                })
            })
            .collect();
        let most = scope.spawn(|| {
            let mut most = Held::default();
            while !is_over.load(SeqCst) {
                let held = group.held().unwrap_or_default();
                most.anonymous = most.anonymous.max(held.anonymous);
                most.kernel = most.kernel.max(held.kernel);
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        });
        let read: Result<Vec<()>> =
            readers.into_iter().map(|reader| reader.join().map_err(|_| anyhow!("a reader panicked"))?).collect();
        is_over.store(true, SeqCst);
        let most = most.join().map_err(|_| anyhow!("the one who looks panicked"))?;
        read.map(|_| most)
    })
}
