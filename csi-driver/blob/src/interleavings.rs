//! Presence, the table of fetches, eviction and the budget, in thousands of orders of events that a scheduler makes up:
//!
//! ```sh
//! cargo test -p granary-blob --features shuttle --lib interleavings
//! ```
//!
//! The types are the real ones, on real files; [`sync`](crate::sync) has locks and atomics at which the scheduler may go on
//! with somebody else. What is tokio's (`Notify`) is used as it is, as one step. [`Pool`](crate::Pool) and
//! [`Blob`](crate::Blob) are not here: they would bring a runtime, with threads that no scheduler here knows of.

use std::os::unix::fs::FileExt;
use std::sync::Arc;

use granary_image::{BLOCK_BYTES, Part};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use shuttle::{Config, Runner, future, thread};
use tokio::sync::Notify;

use crate::budget::{Budget, PoolConfig, Space};
use crate::evict::evict;
use crate::flight::{Flights, Hold, Landed};
use crate::presence::Presence;
use crate::sink::claim;
use crate::store::Store;
use crate::tests::support::table;
use crate::turnover::Turnover;

/// Orders that are tried of each test and scheduler.
const ORDERS: usize = 1500;
const PART: u64 = 2 * BLOCK_BYTES;
const PARTS: u64 = 3;

fn explore(test: impl Fn() + Send + Sync + Clone + 'static) {
    run(RandomScheduler::new(ORDERS), test.clone());
    // Few changes at points chosen beforehand find what needs a certain order of a few events.
    run(PctScheduler::new(3, ORDERS), test);
}

fn run(scheduler: impl Scheduler + 'static, test: impl Fn() + Send + Sync + 'static) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    Runner::new(scheduler, config).run(test);
}

/// A store and those who use it.
struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    flights: Flights,
    evicted: Notify,
    turnover: Turnover,
    clock: AtomicU32,
    fills: AtomicU64,
}

impl World {
    fn new() -> Arc<Self> {
        // In memory where it can be: a sync of the disk in each of thousands of orders takes long.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("temporary directory");
        let (store, _) = Store::open(&dir.path().join("b"), "b", false).expect("store");
        let extended = store.extend(table("b", &[("a", PART), ("b", PART), ("c", PART)])).expect("extend");
        assert_eq!(extended, Some(true));
        Arc::new(Self {
            _dir: dir,
            store: Arc::new(store),
            flights: Flights::default(),
            evicted: Notify::new(),
            turnover: Turnover::default(),
            clock: AtomicU32::new(0),
            fills: AtomicU64::new(0),
        })
    }

    fn part(&self, number: u64) -> Part {
        self.store.table().as_ref().expect("table").part(number)
    }

    fn tick(&self) -> u32 {
        self.clock.fetch_add(1, SeqCst)
    }

    /// As a read of the kernel: from the file if the part is there, or by its flight.
    fn read(&self, number: u64) {
        let part = self.part(number);
        let state = self.store.state(&part);
        if state.pin(self.tick()) {
            self.check(&part);
            state.unpin();
            return;
        }
        let (flight, is_new) = self.flights.board(&self.store, &part, self.tick());
        if is_new {
            let landed = self.fill(&part);
            self.flights.landed(&part);
            flight.land(Ok(landed));
        }
        match future::block_on(flight.wait()) {
            Ok(Landed::Stored { .. }) => self.check(&part),
            Ok(Landed::Buffered(_)) | Err(_) => unreachable!("all fills go to the file"),
        }
    }

    fn fill(&self, part: &Part) -> Landed {
        assert!(future::block_on(claim(&self.store, part, &self.evicted)), "nobody else fills it");
        self.turnover.returns(&self.store.state(part).age, PART);
        let bytes = content(part.number);
        let half = bytes.len() / 2;
        self.write(part, &bytes[..half], 0);
        thread::yield_now();
        self.write(part, &bytes[half..], half as u64);
        self.fills.fetch_add(1, SeqCst);
        self.store.filled(part, crc32c::crc32c(&bytes), self.tick(), false);
        Landed::Stored { _hold: Hold::new(self.store.clone(), part) }
    }

    fn write(&self, part: &Part, bytes: &[u8], at: u64) {
        self.store.data.write_all_at(bytes, part.blob_offset + at).expect("write");
    }

    /// Whoever holds a part finds all of its bytes, however long it takes.
    fn check(&self, part: &Part) {
        let mut found = vec![0; PART as usize];
        let half = found.len() / 2;
        self.store.data.read_exact_at(&mut found[..half], part.blob_offset).expect("read");
        thread::yield_now();
        self.store.data.read_exact_at(&mut found[half..], part.blob_offset + half as u64).expect("read");
        assert!(found == content(part.number), "wrong bytes of part {}", part.number);
    }

    fn evict(&self, bytes: u64) {
        evict(std::slice::from_ref(&self.store), &self.turnover, self.tick(), bytes);
        self.evicted.notify_waiters();
    }

    fn present(&self) -> Vec<u64> {
        (0..PARTS).filter(|&n| self.store.state(&self.part(n)).presence() == Presence::Present).collect()
    }

    /// What holds when everybody is done.
    fn settle(&self) {
        let present = self.present();
        assert_eq!(self.store.cached_bytes(), present.len() as u64 * PART);
        assert!((0..PARTS).all(|n| !self.flights.has(&self.part(n))));
        present.iter().for_each(|&n| self.check(&self.part(n)));
        self.evict(u64::MAX);
        assert_eq!((self.present(), self.store.cached_bytes()), (Vec::new(), 0), "a hold was not given back");
    }
}

fn content(part: u64) -> Vec<u8> {
    vec![part as u8 + 1; PART as usize]
}

fn spawn(world: &Arc<World>, work: impl FnOnce(&World) + Send + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    // All of them are started before the first is waited for.
    let threads: Vec<_> = threads.into_iter().collect();
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
}

#[test]
fn a_part_is_fetched_once_however_many_read_it() {
    explore(|| {
        let world = World::new();
        join((0..3).map(|n| {
            spawn(&world, move |world| {
                world.read(n % 2);
                world.read(1);
            })
        }));
        assert_eq!(world.fills.load(SeqCst), 2);
        world.settle();
    });
}

#[test]
fn nobody_sees_other_bytes_while_parts_are_evicted_and_made_durable() {
    explore(|| {
        let world = World::new();
        let readers = (0..2).map(|n| {
            spawn(&world, move |world| {
                world.read(n);
                world.read(2);
                world.read(n);
            })
        });
        let mut threads: Vec<_> = readers.collect();
        threads.push(spawn(&world, |world| {
            world.evict(PART);
            world.evict(3 * PART);
        }));
        threads.push(spawn(&world, |world| {
            for _ in 0..2 {
                world.store.flush().map_err(|(error, _)| error).expect("flush");
            }
        }));
        join(threads);
        // What the map on the disk says is there survives a crash: it is there.
        let (left, _) = Store::open(&world.store.dir, "b", false).expect("open");
        let durable: Vec<u64> = left.parts.iter().filter(|(_, part)| part.blocks() > 0).map(|(n, _)| n).collect();
        assert!(durable.iter().all(|n| world.present().contains(n)), "{durable:?} of {:?}", world.present());
        durable.iter().for_each(|&n| world.check(&world.part(n)));
        world.settle();
    });
}

#[test]
fn limit_and_floor_hold_while_parts_are_reserved_written_and_freed() {
    const LIMIT: u64 = 100;
    const FLOOR: u64 = 1000;
    explore(|| {
        // The filesystem has 80 above the floor, which is stricter than the limit at first.
        let available = Arc::new(AtomicU64::new(FLOOR + 80));
        let probe = {
            let available = available.clone();
            move || Ok(Space { total: 10_000, available: available.load(SeqCst) })
        };
        let config =
            PoolConfig { dir: "/cache".into(), max_bytes: Some(LIMIT), min_free_percent: 0, min_free_bytes: FLOOR };
        let budget = Arc::new(Budget::new(&config, Box::new(probe)));
        let granted = Arc::new(AtomicU64::new(0));
        join((0..3).map(|n| {
            let (budget, granted, available) = (budget.clone(), granted.clone(), available.clone());
            thread::spawn(move || {
                for round in 0..3 {
                    let Ok(reservation) = budget.reserve(30) else { continue };
                    assert!(granted.fetch_add(30, SeqCst) + 30 <= LIMIT);
                    if (n + round) % 3 == 0 {
                        // It did not come.
                        granted.fetch_sub(30, SeqCst);
                        drop(reservation);
                        continue;
                    }
                    assert!(available.fetch_sub(30, SeqCst) - 30 >= FLOOR);
                    reservation.taken();
                    thread::yield_now();
                    // Evicted again.
                    available.fetch_add(30, SeqCst);
                    granted.fetch_sub(30, SeqCst);
                    budget.release(30);
                }
            })
        }));
        assert_eq!((budget.used(), available.load(SeqCst)), (0, FLOOR + 80));
    });
}
