//! Reservations at once, without files.

use std::sync::Arc;

use shuttle::sync::atomic::{AtomicU64, Ordering::SeqCst};
use shuttle::thread;

use super::{explore, join};
use crate::PoolConfig;
use crate::budget::{Budget, Space};

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
