//! Fetches that fail or are given up: all who wait hear of it, and the next reader fetches anew.

use shuttle::future;

use super::{Bound, KEYS, PART, PLENTY, World, explore, join, one_of, spawn};
use crate::ReadError;
use crate::fill::fetch;
use crate::gate::Turn;
use crate::tests::support::Fault;
use crate::walk::next_run;

#[test]
fn a_fetch_that_fails_is_told_to_all_who_wait_and_forgotten() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        world.origin.fault(KEYS[0], Some(one_of([Fault::Unavailable, Fault::Breaks])));
        let reader = |world: &World| {
            if let Err(error) = world.read(0..1) {
                assert!(matches!(error, ReadError::Origin { .. }), "{error}");
            }
        };
        let readers = [spawn(&world, reader), spawn(&world, reader)];
        let other = spawn(&world, |world| world.read(1..2).expect("read"));
        let healer = spawn(&world, |world| {
            world.evict(PLENTY);
            world.origin.fault(KEYS[0], None);
        });
        join(readers.into_iter().chain([other, healer]));
        world.rest();
        world.read(0..1).expect("read");
        world.settle();
    });
}

#[test]
fn a_fetch_that_is_given_up_is_told_to_all_who_wait() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        let blob = world.blob.clone();
        let fetching = future::spawn(async move {
            let place = blob.gate.enter(Turn::Ahead).await;
            if let Some(run) = next_run(&blob, &mut (0..1), PART, false) {
                fetch(run, place).await;
            }
        });
        let reader = |world: &World| {
            while let Err(error) = world.read(0..1) {
                assert!(matches!(error, ReadError::Stopped), "{error}");
            }
        };
        let readers = [spawn(&world, reader), spawn(&world, reader)];
        let aborter = spawn(&world, move |_| fetching.abort());
        join(readers.into_iter().chain([aborter]));
        world.settle();
    });
}

#[test]
fn a_reader_that_leaves_takes_no_bytes_from_others() {
    explore(|| {
        let world = World::new(Bound::Nothing);
        let blob = world.blob.clone();
        let leaving = future::spawn(async move {
            let mut buf = vec![0; 2 * PART as usize];
            blob.read(0, &mut buf).await.is_ok()
        });
        let reader = spawn(&world, |world| world.read(0..2).expect("read"));
        let evictor = spawn(&world, |world| world.evict(PLENTY));
        let leaver = spawn(&world, move |_| leaving.abort());
        join([reader, evictor, leaver]);
        world.settle();
    });
}
