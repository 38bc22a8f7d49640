//! The faults of a run, drawn from its seed.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::origin::Fault;

/// What happens to the node process, its caches, its source or its machine.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Act {
    /// The process is killed, and started again after this many operations more, or when all readers wait.
    Kill(u64),
    /// The process and the keeper are killed, and started again.
    KillBoth,
    /// The process ends in order, and is started again at once.
    Restart,
    /// A cache's limit becomes so many MiB: parts are evicted, and versions are moved.
    Limit(usize, u64),
    /// The machine's page cache is dropped.
    DropPages,
    /// The page cache of the node process's cgroup is taken back.
    Reclaim,
    /// So many requests for a dataset meet a fault that passes.
    Disturb(usize, Fault, u32),
    /// All requests for a dataset meet a fault that does not pass.
    BreakDown(usize, Fault),
    /// The dataset's source is itself again.
    Heal(usize),
    /// A target has another version from now on: a share of all, or none.
    Swap(usize, Option<f64>),
    /// The disk of the tiny cache is filled, so much of what is left in percent.
    Fill(u64),
    /// It is emptied again.
    Free,
}

/// What there is to be disturbed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) datasets: usize,
    pub(super) pools: usize,
    pub(super) targets: usize,
    pub(super) operations: u64,
}

/// Operations between two acts, on average.
const PERIOD: u64 = 250;
/// How long a source stays broken, in operations.
const BROKEN: u64 = 150;

/// Acts with the counts of operations at which they happen, in ascending order.
pub(super) fn draw(rng: &mut StdRng, scene: Scene) -> Vec<(u64, Act)> {
    let mut acts = Vec::new();
    // When each dataset's source is itself again.
    let mut healed = vec![0; scene.datasets];
    let mut at = rng.random_range(0..PERIOD);
    while at < scene.operations {
        let act = act(rng, scene);
        if let Act::BreakDown(dataset, _) = act {
            if at <= healed[dataset] {
                continue;
            }
            healed[dataset] = at + BROKEN;
            acts.push((at + BROKEN, Act::Heal(dataset)));
        }
        if let Act::Fill(_) = act {
            acts.push((at + 3 * PERIOD, Act::Free));
        }
        acts.push((at, act));
        at += rng.random_range(PERIOD / 4..2 * PERIOD);
    }
    acts.sort_by_key(|(at, _)| *at);
    acts
}

fn act(rng: &mut StdRng, scene: Scene) -> Act {
    let dataset = rng.random_range(0..scene.datasets);
    match rng.random_range(0..20) {
        0..4 => Act::Kill(rng.random_range(0..200)),
        18 => Act::KillBoth,
        4 => Act::Restart,
        5..8 => Act::Limit(rng.random_range(0..scene.pools), rng.random_range(5..40)),
        8 => Act::DropPages,
        9 => Act::Reclaim,
        10..13 => Act::Disturb(dataset, passing(rng), rng.random_range(1..5)),
        13 => Act::BreakDown(dataset, if rng.random_bool(0.5) { Fault::Gone } else { Fault::Changed }),
        14..18 => {
            let version = rng.random_bool(0.75).then(|| rng.random_range(0.0..1.0));
            Act::Swap(rng.random_range(0..scene.targets), version)
        }
        _ => Act::Fill(rng.random_range(50..=100)),
    }
}

fn passing(rng: &mut StdRng) -> Fault {
    const FAULTS: [Fault; 6] =
        [Fault::Status(503), Fault::Status(500), Fault::Status(429), Fault::Reset, Fault::Slow, Fault::Stall];
    FAULTS[rng.random_range(0..FAULTS.len())]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn a_seed_is_one_plan_and_what_breaks_down_is_healed() {
        let scene = Scene { datasets: 3, pools: 3, targets: 4, operations: 200_000 };
        let acts = draw(&mut StdRng::seed_from_u64(5), scene);
        assert_eq!(acts, draw(&mut StdRng::seed_from_u64(5), scene));
        assert!(acts.is_sorted_by_key(|(at, _)| *at));
        for dataset in 0..3 {
            let of_it = acts.iter().filter_map(|(_, act)| match act {
                Act::BreakDown(of, _) if *of == dataset => Some(true),
                Act::Heal(of) if *of == dataset => Some(false),
                _ => None,
            });
            let in_turn: Vec<bool> = of_it.collect();
            assert!(!in_turn.is_empty() && in_turn.len().is_multiple_of(2));
            assert!(in_turn.iter().enumerate().all(|(nth, broken)| *broken == nth.is_multiple_of(2)));
        }
        assert!(acts.iter().any(|(_, act)| matches!(act, Act::Kill(_))));
    }
}
