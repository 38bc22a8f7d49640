//! What a reader does, drawn from its seed: shares of what there is, so that the draws depend on nothing else.

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::ways::Way;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operation {
    /// Which target.
    pub(super) target: usize,
    /// Which file, as a share of all.
    pub(super) file: f64,
    pub(super) what: What,
}

/// What is done with the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Some bytes are read: from a share of its length on.
    Read(Way, f64, usize),
    /// The same, by a file that was opened for an earlier operation, if there is one; it is kept for a later one.
    Again(Way, f64, usize),
    /// All of it is read.
    Whole(Way),
    /// Its size and kind are asked for.
    Stat,
    /// All names below the target are listed.
    Walk,
    /// A path is opened that is not there.
    Absent,
    /// The page cache gives up what it has of the file.
    Forget,
}

impl Operation {
    pub(super) fn draw(rng: &mut StdRng, targets: usize) -> Self {
        let way = Way::ALL[rng.random_range(0..Way::ALL.len())];
        let (at, len) = (rng.random_range(0.0..1.0), length(rng));
        let what = match rng.random_range(0..100) {
            0..45 => What::Read(way, at, len),
            45..60 => What::Again(way, at, len),
            60..70 => What::Whole(way),
            70..76 => What::Stat,
            76..78 => What::Walk,
            78..80 => What::Absent,
            _ => What::Forget,
        };
        Self { target: rng.random_range(0..targets), file: rng.random_range(0.0..1.0), what }
    }
}

fn length(rng: &mut StdRng) -> usize {
    match rng.random_range(0..4) {
        0 => rng.random_range(1..5000),
        1 => 4096,
        2 => rng.random_range(1..200_000),
        _ => rng.random_range(1..2 << 20),
    }
}
