//! Files read sequentially, one after the other, in samples and in headers.

use super::simulator::*;

/// 20,000 files of about 100 KB.
fn small_files() -> granary_image::ExtentTable {
    let mut dice = Dice(7);
    files((0..20_000).map(|_| 60_000 + dice.below(80_000)))
}

#[test]
fn one_sequential_reader() {
    let table = files([2 * GIB]);
    let mut dice = Dice(1);
    for depth in [1, 8, 32] {
        let reads = in_flight(sequential(0, 2 * GIB, MIB), depth, &mut dice);
        let run = Simulator::new(&table).latency(depth as u64).run(reads).expect(0.9);
        assert!(run.advised < 100, "{} steps", run.advised);
    }
}

#[test]
fn small_sequential_reads() {
    let table = files([GIB]);
    for piece in [4 * KIB, 128 * KIB] {
        Simulator::new(&table).run(sequential(0, GIB, piece)).expect(0.99);
    }
}

#[test]
fn the_window_opens_at_the_start_of_a_large_file() {
    let table = files([2 * GIB]);
    assert_eq!(Simulator::new(&table).run([(0, 128 * KIB)]).prefetched, 2 * MIB);
    assert_eq!(Simulator::new(&table).run([(0, 4 * KIB)]).prefetched, 0);
    let run = Simulator::new(&table).run(sequential(0, 64 * MIB, MIB));
    assert!(run.unread >= 32 * MIB, "{} MiB ahead", run.unread / MIB);
}

#[test]
fn eight_readers_on_eighths() {
    let table = files([2 * GIB]);
    let mut dice = Dice(2);
    let eighths = (0..8).map(|n| in_flight(sequential(n * GIB / 4, (n + 1) * GIB / 4, MIB), 8, &mut dice)).collect();
    let reads = together(eighths, &mut dice);
    Simulator::new(&table).latency(32).run(reads).expect(0.85);
}

#[test]
fn small_files_in_order() {
    let table = small_files();
    let mut dice = Dice(3);
    for workers in [1, 8, 32] {
        let reads = in_flight((0..table.len()).flat_map(|n| whole(&table, n)), workers, &mut dice);
        Simulator::new(&table).latency(workers as u64).run(reads).expect(0.95);
    }
}

#[test]
fn small_files_in_shards() {
    let table = small_files();
    let mut dice = Dice(4);
    for workers in [8, 32] {
        let size = table.len() / workers;
        let shard = |worker| (worker * size..(worker + 1) * size).flat_map(|n| whole(&table, n)).collect();
        let reads = together((0..workers).map(shard).collect(), &mut dice);
        Simulator::new(&table).latency(8).run(reads).expect(0.9);
    }
}

#[test]
fn small_files_in_strides() {
    let table = small_files();
    let mut dice = Dice(5);
    for workers in [8, 32] {
        // Workers of a loader wait for each other: none is more than two batches ahead.
        let shards: Vec<Vec<_>> = (0..workers).map(|k| (k..table.len()).step_by(workers as usize).collect()).collect();
        let turns = (0..shards[0].len()).step_by(2).flat_map(|turn| {
            let batches: Vec<_> = shards
                .iter()
                .map(|shard| shard[turn..shard.len().min(turn + 2)].iter().flat_map(|&n| whole(&table, n)).collect())
                .collect();
            batches.into_iter().collect::<Vec<Reads>>()
        });
        let turns: Vec<Reads> = turns.collect();
        let reads: Reads = turns.chunks(workers as usize).flat_map(|turn| together(turn.to_vec(), &mut dice)).collect();
        Simulator::new(&table).latency(8).run(reads).expect(0.9);
    }
}

#[test]
fn large_files_in_order() {
    let table = files((0..60).map(|n| (20 + n) * MIB + n * 1000));
    let mut dice = Dice(6);
    let reads = in_flight((0..table.len()).flat_map(|n| whole(&table, n)), 8, &mut dice);
    Simulator::new(&table).latency(8).run(reads).expect(0.9);
}

#[test]
fn random_reads_prefetch_nothing() {
    for (table, length) in [
        (files([2 * GIB]), 128 * KIB),
        (files([2 * GIB]), 4 * KIB),
        (files([2 * GIB]), 300 * KIB),
        (files((0..40).map(|_| 100 * MIB)), 128 * KIB),
    ] {
        let mut dice = Dice(8);
        let places = table.blob_bytes() / length;
        let reads = (0..5_000).map(|_| (dice.below(places) / 4 * 4 * length, length));
        let run = Simulator::new(&table).run(reads);
        assert_eq!(run.prefetched, 0, "{length} bytes");
        assert!(run.prefetcher.looks_random());
    }
}

#[test]
fn dense_random_reads_prefetch_nothing() {
    let table = files([2 * GIB]);
    let mut dice = Dice(9);
    let mut reads = sequential(0, 2 * GIB, 128 * KIB);
    dice.shuffle(&mut reads);
    let run = Simulator::new(&table).run(reads);
    assert_eq!(run.prefetched, 0);
    assert!(run.prefetcher.looks_random());
}

#[test]
fn sequential_reading_never_looks_random() {
    let table = files([2 * GIB]);
    let mut run = Simulator::new(&table);
    for read in sequential(0, GIB, 128 * KIB) {
        run = run.run([read]);
        assert!(!run.prefetcher.looks_random());
    }
}

#[test]
fn samples_of_several_reads_have_a_known_length() {
    let table = files([4 * GIB]);
    let mut dice = Dice(10);
    let reads = (0..2_000).flat_map(|_| {
        let at = dice.below(1000) * 4 * MIB;
        sequential(at, at + 2 * MIB, 256 * KIB)
    });
    let run = Simulator::new(&table).run(reads);
    assert!(run.unread < run.demand / 50, "{} MiB unused", run.unread / MIB);
}

#[test]
fn headers_of_many_files() {
    let mut dice = Dice(11);
    let table = files((0..300).map(|_| (38 + dice.below(5)) * MIB));
    let tenth = |n| {
        let extent = table.extent(n);
        sequential(extent.offset, extent.offset + extent.size / 10 / 4096 * 4096, 256 * KIB)
    };
    Simulator::new(&table).run((0..table.len()).flat_map(tenth)).frugal();
    let mut order: Vec<_> = (0..table.len()).collect();
    dice.shuffle(&mut order);
    Simulator::new(&table).run(order.into_iter().flat_map(tenth)).frugal();
}

#[test]
fn a_scan_that_stops_wastes_one_window() {
    let table = files([4 * GIB]);
    for stop in [3 * MIB, 40 * MIB, GIB] {
        let run = Simulator::new(&table).run(sequential(0, stop, MIB));
        let window = (64 * MIB).min(2 * stop);
        assert!(run.unread <= window, "{} MiB unused", run.unread / MIB);
    }
}

#[test]
fn scans_that_keep_stopping_open_narrower_windows() {
    let table = files((0..200).map(|_| 400 * MIB));
    let mut dice = Dice(12);
    let scans = (0..table.len()).flat_map(|n| {
        let start = table.extent(n).offset;
        sequential(start, start + (1 + dice.below(100)) * MIB, MIB)
    });
    let run = Simulator::new(&table).run(scans);
    assert!(run.unread < run.demand / 10, "{} of {} MiB unused", run.unread / MIB, run.demand / MIB);
}

#[test]
fn a_mapped_model() {
    let table = files([2 * GIB]);
    let mut dice = Dice(13);
    let header = [(0, 4 * KIB), (4 * KIB, 124 * KIB)];
    // Each fault reads 8 MiB around, in pieces that arrive in any order.
    let faults = (0..255).flat_map(|n| {
        let from = 128 * KIB + n * 8 * MIB;
        in_flight(sequential(from, from + 8 * MIB, MIB), 8, &mut dice)
    });
    Simulator::new(&table).latency(8).run(header.into_iter().chain(faults)).expect(0.9);
}

#[test]
fn every_other_tensor_of_a_model() {
    let table = files([2 * GIB]);
    let tensors = (0..128).flat_map(|n| sequential(n * 16 * MIB, n * 16 * MIB + 8 * MIB, MIB));
    let run = Simulator::new(&table).run(tensors);
    assert!(run.unread < run.demand / 20, "{} of {} MiB unused", run.unread / MIB, run.demand / MIB);
}

#[test]
fn useless_prefetch_ends_and_is_tried_again() {
    let table = files([8 * GIB]);
    let mut run = Simulator::new(&table).run(sequential(0, 64 * MIB, MIB));
    run.prefetcher.useless(64 * MIB);
    let before = run.prefetched;
    run = run.run(sequential(64 * MIB, 120 * MIB, MIB));
    assert_eq!(run.prefetched, before);
    run = run.run(sequential(120 * MIB, 200 * MIB, MIB));
    assert!(run.prefetched > before);
}

#[test]
fn a_sequential_reader_among_random_reads() {
    let table = files([2 * GIB, 2 * GIB]);
    let mut dice = Dice(14);
    let places = (0..8_000).map(|_| (2 * GIB + dice.below(GIB / (64 * KIB)) * 128 * KIB, 128 * KIB)).collect();
    let reads = together(vec![sequential(0, 2 * GIB, 256 * KIB), places], &mut dice);
    let run = Simulator::new(&table).run(reads).frugal();
    assert!(run.found > 19 * 2 * GIB / 20, "{} MiB found", run.found / MIB);
    assert!(run.prefetched <= 2 * GIB, "{} MiB too many", (run.prefetched - 2 * GIB) / MIB);
}
