//! The limits of a pool, enforced before a fetch by reserving what it will take.

use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::PoolError;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering::SeqCst};

/// A cache must be able to hold this many parts at once to be one: readers of a few files pin that many.
const FEWEST_PARTS: u64 = 4;

/// One pool: a directory and its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The pool's own directory; it is created if the one above it exists.
    pub dir: PathBuf,
    /// Hard limit of the space it takes, in bytes; `None` for no limit but the floor.
    pub max_bytes: Option<u64>,
    /// Percent of the filesystem that stay free (for unprivileged users, as `df` counts).
    pub min_free_percent: u8,
    /// Bytes of the filesystem that stay free. The stricter of the two floors holds.
    pub min_free_bytes: u64,
}

/// What a pool takes and may take, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolUsage {
    /// The hard limit, or the filesystem's size without one.
    pub limit_bytes: u64,
    /// Taken now, with what is reserved for fetches under way.
    pub used_bytes: u64,
    /// What could be added now without evicting: the stricter of limit and floor.
    pub free_bytes: u64,
}

/// A filesystem's size and what is free for unprivileged users, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Space {
    pub(crate) total: u64,
    pub(crate) available: u64,
}

/// Asks for the space of the pool's filesystem; a test's own answers in tests.
pub(crate) type SpaceProbe = Box<dyn Fn() -> io::Result<Space> + Send + Sync>;

/// The space of the filesystem that holds `dir`.
pub(crate) fn filesystem_space(dir: impl AsFd) -> io::Result<Space> {
    let stat = rustix::fs::fstatvfs(dir)?;
    Ok(Space { total: stat.f_blocks * stat.f_frsize, available: stat.f_bavail * stat.f_frsize })
}

/// A filesystem that took no more, whatever it said, is taken to be full for as long: a quota does not show in what is free.
const FULL_TIME: Duration = Duration::from_secs(60);
/// Share of what is taken that is given up then, one in so many bytes: room for what comes next.
const FULL_SHARE: u64 = 64;

#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Of data and maps: a little below the configured limit, for what a filesystem adds for a file's extents.
    max_bytes: u64,
    configured: Option<u64>,
    min_free_percent: u8,
    min_free_bytes: u64,
    /// What the filesystem was found to take, and until when that is believed.
    found: Option<(u64, Instant)>,
}

impl Limits {
    fn new(config: &PoolConfig) -> Self {
        let max = config.max_bytes.unwrap_or(u64::MAX);
        Self {
            max_bytes: max - max / 128,
            configured: config.max_bytes,
            min_free_percent: config.min_free_percent,
            min_free_bytes: config.min_free_bytes,
            found: None,
        }
    }

    /// What may be taken now.
    fn most(&self) -> u64 {
        self.found
            .filter(|(_, until)| Instant::now() < *until)
            .map_or(self.max_bytes, |(most, _)| most.min(self.max_bytes))
    }

    fn floor(&self, space: Space) -> u64 {
        let share = (u128::from(space.total) * u128::from(self.min_free_percent) / 100) as u64;
        share.max(self.min_free_bytes)
    }
}

/// Refuses limits that no cache can live with.
pub(crate) fn check(config: &PoolConfig, space: Space) -> Result<(), PoolError> {
    if config.min_free_percent >= 100 {
        return Err(PoolError::BadFloor(config.min_free_percent));
    }
    let limits = Limits::new(config);
    let bytes = config.max_bytes.unwrap_or(u64::MAX).min(space.total.saturating_sub(limits.floor(space)));
    let needed = FEWEST_PARTS * granary_image::PART_BYTES;
    if bytes < needed {
        return Err(PoolError::TooSmall { dir: config.dir.clone(), bytes, needed });
    }
    Ok(())
}

/// What is missing for a reservation, in bytes: what would have to be evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Short(pub(crate) u64);

/// Counts the bytes that a pool takes.
pub(crate) struct Budget {
    limits: Mutex<Limits>,
    /// Taken or reserved.
    used: AtomicU64,
    /// Reserved, but perhaps not yet taken from the filesystem.
    pending: AtomicU64,
    probe: SpaceProbe,
}

impl Budget {
    pub(crate) fn new(config: &PoolConfig, probe: SpaceProbe) -> Self {
        Self { limits: Mutex::new(Limits::new(config)), used: AtomicU64::new(0), pending: AtomicU64::new(0), probe }
    }

    pub(crate) fn reconfigure(&self, config: &PoolConfig) {
        *self.limits.lock() = Limits::new(config);
    }

    pub(crate) fn space(&self) -> io::Result<Space> {
        (self.probe)()
    }

    pub(crate) fn used(&self) -> u64 {
        self.used.load(SeqCst)
    }

    /// Counts what lies on the disk already.
    pub(crate) fn add(&self, bytes: u64) {
        self.used.fetch_add(bytes, SeqCst);
    }

    /// Counts what was freed.
    pub(crate) fn release(&self, bytes: u64) {
        self.used.fetch_sub(bytes, SeqCst);
    }

    /// Sets `bytes` aside, or says what is missing.
    pub(crate) fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Short> {
        let limits = *self.limits.lock();
        let used = self.used.fetch_add(bytes, SeqCst) + bytes;
        // Counted before the question, so that of two reservations at once each sees the other.
        let pending = self.pending.fetch_add(bytes, SeqCst) + bytes;
        let reservation = Reservation { budget: self.clone(), bytes };
        let over = used.saturating_sub(limits.most());
        if over > 0 {
            return Err(Short(over));
        }
        match self.space() {
            Ok(space) => {
                let under = (limits.floor(space) + pending).saturating_sub(space.available);
                if under > 0 { Err(Short(under)) } else { Ok(reservation) }
            }
            // A filesystem that does not say what is free is given nothing more.
            Err(_) => Err(Short(bytes)),
        }
    }

    /// A write found the filesystem, or a quota on it, full: for a while no more is taken than now, less a little. False if
    /// that is how it was already.
    pub(crate) fn found_full(&self) -> bool {
        let taken = self.used().saturating_sub(self.pending.load(SeqCst));
        let mut limits = self.limits.lock();
        let was_full = limits.most() < limits.max_bytes;
        limits.found = Some((taken - taken / FULL_SHARE, Instant::now() + FULL_TIME));
        !was_full
    }

    /// What would have to be evicted for limit and floor to hold now, in bytes.
    pub(crate) fn excess(&self) -> u64 {
        let limits = *self.limits.lock();
        let over = self.used().saturating_sub(limits.most());
        let under = self.space().map_or(0, |space| limits.floor(space).saturating_sub(space.available));
        over.max(under)
    }

    pub(crate) fn usage(&self) -> PoolUsage {
        let limits = *self.limits.lock();
        let used = self.used();
        let space = self.space().unwrap_or(Space { total: 0, available: 0 });
        let above_floor = space.available.saturating_sub(limits.floor(space));
        PoolUsage {
            limit_bytes: limits.configured.unwrap_or(space.total),
            used_bytes: used,
            free_bytes: above_floor.min(limits.most().saturating_sub(used)),
        }
    }
}

/// Space set aside; given back when dropped, unless it was used.
pub(crate) struct Reservation {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Reservation {
    /// The space is taken: what frees it later says so itself.
    pub(crate) fn taken(mut self) {
        self.budget.pending.fetch_sub(self.bytes, SeqCst);
        self.bytes = 0;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.pending.fetch_sub(self.bytes, SeqCst);
        self.budget.used.fetch_sub(self.bytes, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(max_bytes: Option<u64>, min_free_percent: u8, min_free_bytes: u64) -> PoolConfig {
        PoolConfig { dir: "/cache".into(), max_bytes, min_free_percent, min_free_bytes }
    }

    fn budget(config: &PoolConfig, total: u64, available: u64) -> Arc<Budget> {
        Arc::new(Budget::new(config, Box::new(move || Ok(Space { total, available }))))
    }

    #[test]
    fn the_limit_holds_with_reservations() {
        let budget = budget(&config(Some(12800), 0, 0), 1 << 40, 1 << 40);
        budget.add(10000);
        let first = budget.reserve(2000).expect("fits");
        assert_eq!(budget.reserve(1000).err(), Some(Short(300)));
        drop(first);
        budget.reserve(2000).expect("given back").taken();
        assert_eq!(budget.used(), 12000);
        budget.release(2000);
        assert_eq!(budget.used(), 10000);
    }

    #[test]
    fn the_stricter_floor_holds() {
        assert_eq!(budget(&config(None, 20, 100), 1000, 210).reserve(11).err(), Some(Short(1)));
        assert_eq!(budget(&config(None, 20, 205), 1000, 210).reserve(11).err(), Some(Short(6)));
        let budget = budget(&config(None, 20, 0), 1000, 210);
        let held = budget.reserve(6).expect("fits");
        assert_eq!(budget.reserve(6).err(), Some(Short(2)));
        drop(held);
        assert_eq!(budget.usage().free_bytes, 10);
        assert_eq!(budget.excess(), 0);
    }

    #[test]
    fn a_filesystem_that_is_found_full_is_given_no_more_for_a_while() {
        let budget = budget(&config(None, 0, 0), 1 << 40, 1 << 40);
        budget.add(6400);
        let under_way = budget.reserve(1000).expect("fits");
        assert!(budget.found_full() && !budget.found_full(), "the second time is no news");
        drop(under_way);
        assert_eq!((budget.excess(), budget.reserve(10).err()), (100, Some(Short(110))));
        assert_eq!(budget.usage().free_bytes, 0);
        budget.release(200);
        budget.reserve(10).expect("evicted as much");
        budget.limits.lock().found.as_mut().expect("found").1 = Instant::now();
        budget.reserve(1 << 20).expect("tried again later");
    }

    #[test]
    fn unreasonable_limits_are_refused() {
        let space = Space { total: 1 << 30, available: 1 << 30 };
        assert!(matches!(check(&config(Some(1 << 20), 0, 0), space), Err(PoolError::TooSmall { .. })));
        assert!(matches!(check(&config(None, 0, 1 << 30), space), Err(PoolError::TooSmall { .. })));
        assert!(matches!(check(&config(None, 100, 0), space), Err(PoolError::BadFloor(100))));
        check(&config(Some(4 << 20), 20, 0), space).expect("fits");
    }
}
