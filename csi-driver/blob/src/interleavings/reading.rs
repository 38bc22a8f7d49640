//! Readers, evictions, flushes and holds at once.

use std::collections::HashSet;
use std::iter;
use std::sync::Arc;

use granary_image::PartRanges;
use shuttle::future;

use super::{Bound, PART, PARTS, PLENTY, World, explore, join, one_of, spawn};
use crate::disk::CacheFile;
use crate::parts_map::PartsMap;
use crate::sync::step;

/// Parts that a crash of the machine would leave now: those in the map on the disk. Their bytes are there, too.
fn durable(world: &World) -> Vec<u64> {
    let file = CacheFile::open(&world.blob.store.dir.join("parts")).expect("open");
    let mut parts = Vec::new();
    let damaged = PartsMap::open(file, "b").expect("map").load(|part, _| parts.push(part)).expect("map");
    assert!(damaged.is_empty(), "{damaged:?}");
    assert!(parts.iter().all(|&part| world.file_has(part..part + 1)), "a crash would leave holes in {parts:?}");
    parts
}

#[test]
fn a_part_is_fetched_once_however_many_read_it() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        join([0..2, 1..2, 1..3].map(|parts| {
            spawn(&world, move |world| {
                world.read(parts.clone()).expect("read");
                world.read(parts).expect("read");
            })
        }));
        {
            let requests = world.origin.requests.lock();
            let keys: HashSet<_> = requests.iter().map(|(key, _)| key).collect();
            assert_eq!((requests.len(), keys.len() as u64), (PARTS as usize, PARTS));
        }
        world.settle();
    });
}

#[test]
fn nobody_sees_other_bytes_while_parts_are_evicted_and_made_durable() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        // There is something to evict from the start.
        world.read(0..PARTS).expect("read");
        let readers = (0..2).map(|part| {
            spawn(&world, move |world| {
                world.read(part..part + 1).expect("read");
                world.read(0..PARTS).expect("read");
            })
        });
        let evictor = spawn(&world, |world| (1..3).for_each(|parts| world.evict(parts * PART)));
        let flusher = spawn(&world, |world| (0..2).for_each(|_| future::block_on(world.blob.flush())));
        let crash = spawn(&world, |world| {
            for _ in 0..5 {
                durable(world);
                step();
            }
        });
        join(readers.chain([evictor, flusher, crash]));
        // And what is held to be durable is in the map.
        let durable = durable(&world);
        let mut said = world.present().into_iter().filter(|&part| world.blob.store.parts.get(part).is_durable());
        assert!(said.all(|part| durable.contains(&part)), "{durable:?} is not all");
        world.settle();
    });
}

#[test]
fn a_part_that_leaves_while_it_is_made_durable_leaves_no_trace_in_the_map() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        world.read(0..1).expect("read");
        world.rest();
        let flusher = spawn(&world, |world| future::block_on(world.blob.flush()));
        let evictor = spawn(&world, |world| world.evict(PLENTY));
        join([flusher, evictor]);
        assert_eq!((durable(&world), world.present()), (Vec::new(), Vec::new()));
    });
}

#[test]
fn what_is_held_stays_and_survives_a_crash() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        world.read(0..1).expect("read");
        let holder = spawn(&world, |world| {
            let parts: Arc<PartRanges> = Arc::new(iter::once(0..2).collect());
            for _ in 0..2 {
                world.read(0..2).expect("read");
                if one_of([true, false]) {
                    future::block_on(world.blob.flush());
                }
                let Ok(_held) = world.blob.hold(&parts) else { continue };
                for _ in 0..3 {
                    assert!(world.file_has(0..2), "a held part is gone");
                    step();
                }
                assert!([0, 1].iter().all(|part| durable(world).contains(part)), "a crash would lose a held part");
            }
        });
        let evictor = spawn(&world, |world| (0..3).for_each(|_| world.evict(PLENTY)));
        join([holder, evictor]);
        world.settle();
    });
}
