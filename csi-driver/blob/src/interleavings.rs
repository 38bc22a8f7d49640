//! Presence, the table of fetches, eviction, holds and the limits, in thousands of orders of events that a scheduler makes up:
//!
//! ```sh
//! cargo test -p granary-blob --features shuttle --lib interleavings
//! ```
//!
//! Pools and blobs are the real ones, on real files, and read as others read them; [`sync`](crate::sync) has locks, atomics
//! and tasks at which the scheduler may go on with somebody else. A test that fails prints its order of events, which
//! `shuttle::replay` repeats.
//!
//! What is not tried: weaker orders of memory than the one that everybody sees alike; what happens inside of a call of
//! tokio's (`Notify`, `oneshot`) or of the system, each of which is one step; what waits for time to pass, as the scrub does; and
//! parts that an earlier process left.

mod budget;
mod failing;
mod reading;
mod room;

use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use granary_image::{BLOCK_BYTES, Object, Part};
use shuttle::rand::{self, Rng};
use shuttle::scheduler::{PctScheduler, RandomScheduler, Scheduler};
use shuttle::{Config, Runner, future, thread};

use crate::budget::Space;
use crate::layout::Layout;
use crate::presence::Presence;
use crate::sync::step;
use crate::tests::support::*;
use crate::{Blob, Origin, OriginError, Pool, PoolConfig, ReadError, Shares};

/// Orders that are tried of each test and scheduler.
const ORDERS: usize = 1000;
/// Bytes of a part. Each is an object of its own.
const PART: u64 = 2 * BLOCK_BYTES;
const KEYS: [&str; 3] = ["a", "b", "c"];
const PARTS: u64 = KEYS.len() as u64;
/// Room for two of them.
const ROOM: u64 = 2 * PART;
/// What is free of a filesystem where room is no matter.
const PLENTY: u64 = 1 << 30;

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

/// One that the scheduler's seed chooses.
fn one_of<T>(choices: [T; 2]) -> T {
    let [first, second] = choices;
    if rand::thread_rng().r#gen() { first } else { second }
}

/// What bounds a pool.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bound {
    Nothing,
    /// Others leave [`ROOM`] on the filesystem.
    Floor,
    /// The limit leaves as much.
    Limit,
}

/// A pool with one blob, and its origin.
struct World {
    blob: Arc<Blob>,
    pool: Arc<Pool>,
    origin: Arc<TestOrigin>,
    config: PoolConfig,
    /// Bytes that are counted when no part is there.
    empty: u64,
    _dir: tempfile::TempDir,
}

impl World {
    fn new(bound: Bound) -> Arc<Self> {
        // In memory where it can be: a sync of the disk in each of thousands of orders takes long.
        let dir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("temporary directory");
        let config = config(dir.path(), (bound == Bound::Limit).then_some(8 * MIB));
        let layout = Layout::open(&config.dir).expect("layout");
        let probe = {
            let config = config.clone();
            move || {
                let available = if bound == Bound::Floor { ROOM - taken(&config) } else { PLENTY };
                Ok(Space { total: PLENTY, available })
            }
        };
        let pool = Pool::open_with(config.clone(), layout, Box::new(probe), Shares::default()).expect("open");
        let origin = TestOrigin::new();
        origin.chunk.store(PART as usize / 2, std::sync::atomic::Ordering::SeqCst);
        let watched = Watched { origin: origin.clone(), config: config.clone(), bound };
        let blob = pool.blob(tag(), table("b", &KEYS.map(|key| (key, PART))), Arc::new(watched)).expect("blob");
        if bound == Bound::Limit {
            pool.budget.add(pool.usage().free_bytes - ROOM);
        }
        let empty = pool.budget.used();
        Arc::new(Self { blob, pool, origin, config, empty, _dir: dir })
    }

    fn part(&self, number: u64) -> Part {
        self.blob.table().part(number)
    }

    /// Reads whole parts as the kernel has them read, and compares.
    fn read(&self, parts: Range<u64>) -> Result<(), ReadError> {
        let (offset, len) = (parts.start * PART, (parts.end - parts.start) * PART);
        let mut buf = vec![0xAA; len as usize];
        if !self.blob.read_cached(offset, &mut buf)? {
            future::block_on(self.blob.read(offset, &mut buf))?;
        }
        assert!(buf == self.bytes(parts.clone()), "wrong bytes of parts {parts:?}");
        Ok(())
    }

    fn bytes(&self, parts: Range<u64>) -> Vec<u8> {
        expected(&self.blob.table(), parts.start * PART, ((parts.end - parts.start) * PART) as usize)
    }

    /// Whether the data file has all bytes of the parts, as who reads natively finds it.
    fn file_has(&self, parts: Range<u64>) -> bool {
        let mut found = vec![0; ((parts.end - parts.start) * PART) as usize];
        self.blob.data_file().read_exact_at(&mut found, parts.start * PART).expect("read");
        found == self.bytes(parts)
    }

    fn evict(&self, bytes: u64) {
        future::block_on(self.pool.evict(bytes));
    }

    fn present(&self) -> Vec<u64> {
        let is_present = |&part: &u64| self.blob.store.parts.get(part).presence() == Presence::Present;
        (0..PARTS).filter(is_present).collect()
    }

    /// Waits for everybody to be done, and checks what holds then.
    fn rest(&self) {
        // What was begun for readers ends a little later than they do.
        while Arc::strong_count(&self.blob) > 1 || Arc::strong_count(&self.pool) > 2 {
            thread::yield_now();
        }
        let present = self.present();
        let cached = present.len() as u64 * PART;
        assert_eq!((self.blob.cached_bytes(), taken(&self.config)), (cached, cached), "of parts {present:?}");
        assert_eq!(self.pool.budget.used(), self.empty + cached);
        assert!(present.iter().all(|&part| self.file_has(part..part + 1)));
    }

    /// As [`Self::rest`]; then everything leaves, and nothing may be left of it.
    fn settle(&self) {
        self.rest();
        self.evict(PLENTY);
        assert_eq!((self.present(), taken(&self.config)), (Vec::new(), 0), "a hold was not given back");
        assert_eq!(self.pool.budget.used(), self.empty);
        let free = self.pool.usage().free_bytes;
        assert!(self.pool.budget.reserve(free).is_ok(), "something is reserved for nobody");
        for part in (0..PARTS).map(|part| self.part(part)) {
            assert!(self.blob.board(&part).1, "somebody is said to fetch part {}", part.number);
        }
    }
}

/// Bytes that the data file takes on the disk.
fn taken(config: &PoolConfig) -> u64 {
    std::fs::metadata(config.dir.join("blobs/b/data")).map_or(0, |data| data.blocks() * 512)
}

/// Others come between the pieces of an answer, and see the pool within its bound.
struct Watched {
    origin: Arc<TestOrigin>,
    config: PoolConfig,
    bound: Bound,
}

#[async_trait]
impl Origin for Watched {
    async fn read(
        &self,
        object: &Object,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, OriginError>>, OriginError> {
        let answer = self.origin.read(object, range).await?;
        let (config, bound) = (self.config.clone(), self.bound);
        let piece = move |piece| {
            let taken = taken(&config);
            assert!(bound == Bound::Nothing || taken <= ROOM, "{taken} bytes are taken");
            step();
            std::future::ready(piece)
        };
        Ok(answer.then(piece).boxed())
    }
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
