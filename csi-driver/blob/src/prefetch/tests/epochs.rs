//! Each file once, in random order.

use std::time::Duration;

use super::simulator::*;

/// All files in random order, as several workers read them.
fn epoch(table: &granary_image::ExtentTable, workers: usize, dice: &mut Dice) -> Reads {
    let mut order: Vec<_> = (0..table.len()).collect();
    dice.shuffle(&mut order);
    let share = order.len().div_ceil(workers);
    let shards = order.chunks(share).map(|shard| shard.iter().flat_map(|&n| whole(table, n)).collect()).collect();
    together(shards, dice)
}

#[test]
fn small_files_twice() {
    let mut dice = Dice(21);
    let table = files((0..5_000).map(|_| 60_000 + dice.below(80_000)));
    for workers in [1, 8] {
        let reads = [epoch(&table, workers, &mut dice), epoch(&table, workers, &mut dice)].concat();
        Simulator::new(&table).run(reads).expect(0.6);
    }
}

#[test]
fn large_files() {
    let mut dice = Dice(22);
    let table = files((0..168).map(|_| (10 + dice.below(20)) * MIB));
    Simulator::new(&table).latency(4).run(epoch(&table, 4, &mut dice)).expect(0.8);
}

#[test]
fn only_the_folder_that_is_read() {
    let mut dice = Dice(23);
    let table = files((0..6_000).map(|_| 60_000 + dice.below(80_000)));
    let mut order: Vec<_> = (1_000..5_000).collect();
    dice.shuffle(&mut order);
    let run = Simulator::new(&table).run(order.iter().flat_map(|&n| whole(&table, n)));
    assert!(run.prefetched > run.demand / 2);
    assert_eq!(run.unread, 0);
}

#[test]
fn filling_is_bounded_and_stops_with_the_readers() {
    let mut dice = Dice(24);
    let table = files((0..20_000).map(|_| 60_000 + dice.below(80_000)));
    let mut reads = epoch(&table, 8, &mut dice);
    reads.truncate(1_000);
    let run = Simulator::new(&table).run(reads);
    assert!(run.unread > run.demand / 2 && run.unread <= 4 * run.demand);
    assert!(run.prefetcher.fill(run.now).is_some());
    assert_eq!(run.prefetcher.fill(run.now + Duration::from_secs(3)), None);
}

#[test]
fn useless_filling_ends() {
    let mut dice = Dice(25);
    let table = files((0..5_000).map(|_| 100_000));
    let mut reads = epoch(&table, 8, &mut dice);
    reads.truncate(200);
    let mut run = Simulator::new(&table).run(reads);
    assert!(run.prefetcher.fill(run.now).is_some());
    run.prefetcher.useless(100 * MIB);
    assert_eq!(run.prefetcher.fill(run.now), None);
}

#[test]
fn files_drawn_again_and_again_are_no_epoch() {
    let mut dice = Dice(26);
    let table = files((0..5_000).map(|_| 100_000));
    // A hundred files are read again and again, as without a page cache.
    let reads = (0..5_000).flat_map(|_| whole(&table, dice.below(100) as u32 * 50));
    let run = Simulator::new(&table).run(reads);
    assert_eq!(run.prefetcher.fill(run.now), None);
}

#[test]
fn parts_of_files_are_no_epoch() {
    let mut dice = Dice(27);
    let table = files((0..2_000).map(|_| MIB));
    let mut order: Vec<_> = (0..table.len()).collect();
    dice.shuffle(&mut order);
    let run = Simulator::new(&table).run(order.iter().map(|&n| (table.extent(n).offset, 64 * KIB)));
    assert_eq!(run.prefetched, 0);
}

#[test]
fn small_files_in_several_reads() {
    let mut dice = Dice(28);
    let table = files((0..3_000).map(|_| 60_000 + dice.below(80_000)));
    let mut order: Vec<_> = (0..table.len()).collect();
    dice.shuffle(&mut order);
    // As the kernel's read-ahead begins after a small read.
    let images = order.chunks(375).map(|shard| {
        let image = |&n: &u32| {
            let (start, size) = (table.extent(n).offset, table.extent(n).size.next_multiple_of(4096));
            [(start, 16 * KIB), (start + 16 * KIB, 32 * KIB), (start + 48 * KIB, size - 48 * KIB)]
        };
        shard.iter().flat_map(image).collect()
    });
    let mut run = Simulator::new(&table);
    for read in together(images.collect(), &mut dice) {
        run = run.run([read]);
        assert!(!run.prefetcher.looks_random());
    }
    run.expect(0.6);
}

#[test]
fn a_page_cache_that_hides_reads_of_the_next_epochs() {
    let mut dice = Dice(29);
    let table = files((0..5_000).map(|_| 60_000 + dice.below(80_000)));
    let mut run = Simulator::new(&table).run(epoch(&table, 8, &mut dice));
    for _ in 0..3 {
        let seen: Reads = epoch(&table, 8, &mut dice).into_iter().filter(|_| dice.below(3) == 0).collect();
        run = run.run(seen);
    }
    assert_eq!(run.unread, 0);
}

#[test]
fn a_dataset_may_grow_meanwhile() {
    let sizes = |count| files((0..count).map(|_| 100_000));
    let (first, next) = (sizes(100), sizes(5_000));
    let mut dice = Dice(28);
    let mut prefetcher = Simulator::new(&first).run(epoch(&first, 1, &mut dice)).prefetcher;
    for (offset, len) in epoch(&next, 1, &mut dice) {
        prefetcher.on_read(&next, offset, len, Duration::ZERO);
    }
    assert!(prefetcher.fill(Duration::ZERO).is_some());
}
