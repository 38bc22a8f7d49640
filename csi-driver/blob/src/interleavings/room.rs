//! More parts than there is room for.

use shuttle::{future, thread};

use super::{Bound, PARTS, PLENTY, ROOM, World, explore, join, one_of, spawn, taken};
use crate::sink::claim;

#[test]
fn nobody_sees_other_bytes_and_the_bound_holds_while_parts_make_room_for_each_other() {
    explore(|| {
        let world = World::new(one_of([Bound::Floor, Bound::Limit]));
        join((0..PARTS).map(|first| {
            spawn(&world, move |world| {
                for part in (0..PARTS).map(|nth| (first + nth) % PARTS) {
                    world.read(part..part + 1).expect("read");
                    assert!(taken(&world.config) <= ROOM);
                }
            })
        }));
        world.settle();
    });
}

#[test]
fn who_waits_for_an_eviction_to_end_is_told() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        world.read(0..1).expect("read");
        // Nobody holds the part any more.
        world.rest();
        let filler = spawn(&world, |world| {
            let (store, part) = (&world.blob.store, world.part(0));
            while !future::block_on(claim(store, &part, &world.pool.evicted)) {
                thread::yield_now();
            }
            assert!(!world.file_has(0..1), "claimed before its bytes were gone");
            store.state(&part).absent();
        });
        let evictor = spawn(&world, |world| world.evict(PLENTY));
        join([filler, evictor]);
        world.settle();
    });
}
