//! Whether something else is busy on this machine.

use std::time::{Duration, Instant};

use anyhow::Result;

use super::cpu::{Snapshot, Spent};

/// Share of one processor that others may use.
const TOLERATED: f64 = 0.10;
/// Share of the processes' own time that the kernel's two ways of counting it may differ by.
const COUNTING_ERROR: f64 = 0.03;
/// How long a quiet moment is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(250);

/// Whether others used so much in `seconds` that what was measured meanwhile is worth little.
pub(super) fn is_disturbed(spent: &Spent, seconds: f64) -> bool {
    spent.others > TOLERATED * seconds + COUNTING_ERROR * spent.machine + 0.02
}

/// Waits for a quiet moment, but not for long.
pub(super) fn wait() -> Result<()> {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let (before, since) = (Snapshot::take()?, Instant::now());
        std::thread::sleep(LOOK);
        if !is_disturbed(&Snapshot::take()?.since(&before, None), since.elapsed().as_secs_f64()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_a_processor_is_tolerated() {
        let spent = |others, machine| Spent { others, machine, ..Spent::default() };
        assert!(!is_disturbed(&spent(0.9, 0.9), 10.0));
        assert!(is_disturbed(&spent(2.0, 2.0), 10.0));
        assert!(!is_disturbed(&spent(1.4, 20.0), 10.0), "the kernel's ways of counting differ");
    }
}
