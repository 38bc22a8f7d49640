//! The marks that Granary has to meet, and whether it does.

use std::fmt::Write as _;

use super::figures::{Figures, RowFigures};
use super::rows::{Link, Unit, names};
use super::systems::SystemName;

/// Most resident memory in any row.
const MEMORY: u64 = 200 << 20;

/// One mark.
#[derive(Debug, Clone, PartialEq)]
struct Mark {
    row: String,
    wanted: String,
    /// What was measured, and whether it is enough; nothing if a figure is missing.
    measured: Option<(String, bool)>,
}

/// The marks beside what was measured, as Markdown.
pub(super) fn table(figures: &Figures) -> String {
    let mut out = String::from("| row | mark | measured | |\n|---|---|---|---|\n");
    for mark in all(figures) {
        let (measured, verdict) = match &mark.measured {
            None => ("not measured", "-"),
            Some((text, true)) => (text.as_str(), "met"),
            Some((text, false)) => (text.as_str(), "MISSED"),
        };
        // Writing to a String cannot fail.
        let _ = writeln!(out, "| {} | {} | {measured} | {verdict} |", mark.row, mark.wanted);
    }
    out
}

fn all(figures: &Figures) -> Vec<Mark> {
    let mut marks = vec![
        native(figures, names::AT_MOUNT, 0.95),
        native(figures, names::SWITCHED, 0.85),
        native(figures, names::RANDOM_4K, 0.9),
        native(figures, names::MANY, 1.0),
        peer(figures, names::COLD_1, 2.0),
        raw(figures, names::COLD_1, 0.45),
        peer(figures, names::COLD_8, 2.0),
        raw(figures, names::COLD_8, 0.45),
        peer(figures, names::SMALL_COLD_8, 4.0),
        peer(figures, names::SMALL_REMOUNT, 5.0),
        peer(figures, names::FIRST_BYTE, 1.0),
    ];
    let slow = figures.rows.iter().filter(|row| row.link == Link::Slow && !row.name.contains("model, copied"));
    marks.extend(slow.map(|row| slow_row(figures, row)));
    marks.push(native(figures, names::EPOCH_2, 0.98));
    marks.extend([cpu(figures, names::COLD_1, 1.2), cpu(figures, names::SMALL_COLD_8, 3.0)]);
    marks.extend([names::FIND, names::LIST, names::STAT].map(|name| native(figures, name, 1.0)));
    marks.push(seconds(figures, names::KNOWN_MOUNT, 1.0));
    marks.push(memory(figures));
    marks.extend(
        figures.rows.iter().filter(|row| row.name.ends_with(names::LIMITED)).map(|row| completed(figures, row)),
    );
    marks
}

fn granary() -> &'static str {
    SystemName::Granary.as_str()
}

/// The best peer with its value; the column's order decides between equals.
fn best_peer<'a>(figures: &'a Figures, row: &RowFigures) -> Option<(&'a str, f64)> {
    use clap::ValueEnum;
    let is_peer =
        |name: &str| SystemName::value_variants().iter().any(|system| system.is_peer() && system.as_str() == name);
    let peers = figures.systems.iter().filter(|name| is_peer(name));
    let values = peers.filter_map(|name| Some((name.as_str(), row.of(name)?.value())));
    values.reduce(|best, other| if row.better(other.1, best.1) > 1.0 { other } else { best })
}

/// A mark on the row `name`; `measure` says what was measured and whether it is enough.
fn mark(
    figures: &Figures,
    name: &str,
    wanted: String,
    measure: impl Fn(&RowFigures) -> Option<(String, bool)>,
) -> Mark {
    Mark { row: name.to_owned(), wanted, measured: figures.row(name).and_then(measure) }
}

fn against(figures: &Figures, name: &str, who: &str, least: f64) -> Mark {
    mark(figures, name, format!("at least {least} of {who}"), |row| {
        let ratio = row.ratio(granary(), who)?;
        Some((format!("{ratio:.2}"), ratio >= least))
    })
}

fn native(figures: &Figures, name: &str, least: f64) -> Mark {
    against(figures, name, SystemName::Native.as_str(), least)
}

fn raw(figures: &Figures, name: &str, least: f64) -> Mark {
    against(figures, name, SystemName::Raw.as_str(), least)
}

fn peer(figures: &Figures, name: &str, least: f64) -> Mark {
    mark(figures, name, format!("at least {least}x the best peer"), |row| {
        let (peer, value) = best_peer(figures, row)?;
        let ratio = row.better(row.of(granary())?.value(), value);
        Some((format!("{ratio:.2}x {peer}"), ratio >= least))
    })
}

/// Over the slow link: twice the best peer, or nearly all that the link gives.
fn slow_row(figures: &Figures, row: &RowFigures) -> Mark {
    mark(figures, &row.name, "at least 2x the best peer, or 0.9 of the cap".into(), |row| {
        let cells = row.of(granary())?;
        let ratio = best_peer(figures, row).map(|(peer, value)| (row.better(cells.value(), value), peer));
        let of_cap =
            cells.median(|cell| cell.source_bytes as f64 / cell.seconds) / (figures.slowness.cap_mb as f64 * 1e6);
        // What is loaded in vain reaches the cap, too; only rows that read whole objects may count it.
        let counts =
            row.unit != Unit::Percent && cells.median(|cell| cell.bytes as f64 / cell.source_bytes.max(1) as f64) > 0.9;
        let text = ratio.map_or("no peer".into(), |(ratio, peer)| format!("{ratio:.2}x {peer}"));
        let met = ratio.is_some_and(|(ratio, _)| ratio >= 2.0) || (counts && of_cap >= 0.9);
        Some((format!("{text}, {of_cap:.2} of the cap"), met))
    })
}

fn cpu(figures: &Figures, name: &str, most: f64) -> Mark {
    mark(figures, name, format!("at most {most} CPU-seconds for each GiB"), |row| {
        let cpu = row.of(granary())?.cpu_per_gib()?;
        Some((format!("{cpu:.2}"), cpu <= most))
    })
}

fn seconds(figures: &Figures, name: &str, most: f64) -> Mark {
    mark(figures, name, format!("under {most} s"), |row| {
        let value = row.of(granary())?.value();
        Some((format!("{value:.2} s"), value < most))
    })
}

fn memory(figures: &Figures) -> Mark {
    let peaks = figures.rows.iter().filter_map(|row| Some((row.of(granary())?.peak_memory(), row.name.as_str())));
    let most = peaks.filter(|(bytes, _)| *bytes > 0).max();
    let measured = most.map(|(bytes, name)| (format!("{} MiB ({name})", bytes >> 20), bytes < MEMORY));
    Mark { row: "every row".into(), wanted: "resident memory under 200 MiB".into(), measured }
}

fn completed(figures: &Figures, row: &RowFigures) -> Mark {
    let limit = figures.memory_limit >> 20;
    mark(figures, &row.name, format!("it ends in {limit} MiB, page cache included"), |row| {
        let cells = row.cells.iter().find(|cells| cells.system == granary())?;
        match (&cells.failed, row.of(granary())) {
            (Some(why), _) => Some((why.clone(), false)),
            (None, cells) => Some((super::table::human(cells?.value(), row.unit), true)),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::*;

    fn find(marks: &[Mark], row: &str, part: &str) -> Option<(String, bool)> {
        marks.iter().find(|mark| mark.row == row && mark.wanted.contains(part)).unwrap().measured.clone()
    }

    #[test]
    fn marks_are_computed_from_the_cells() {
        let slow = format!("{}{}", names::COLD_1, names::SLOW);
        let mut all_figures = figures(&[
            (
                names::COLD_1,
                Unit::Bytes,
                Link::Direct,
                &[("native", 1e9), ("raw client", 4e9), ("granary", 2e9), ("rclone", 0.5e9), ("s3fs", 0.8e9)],
            ),
            (
                names::FIRST_BYTE,
                Unit::Seconds,
                Link::Direct,
                &[("native", 0.001), ("granary", 0.008), ("rclone", 0.02), ("s3fs", 0.007)],
            ),
            (&slow, Unit::Bytes, Link::Slow, &[("native", 1e9), ("granary", 0.12e9), ("rclone", 0.1e9)]),
            (names::AT_MOUNT, Unit::Bytes, Link::Direct, &[("native", 1e9), ("granary", 0.96e9)]),
        ]);
        let slow_cell = &mut all_figures.rows[2].cells[1].rounds[0];
        (slow_cell.bytes, slow_cell.source_bytes, slow_cell.seconds) = (1_200_000_000, 1_200_000_000, 10.0);
        all_figures.rows[0].cells[2].rounds[0].peak_memory = 250 << 20;
        let marks = all(&all_figures);
        assert_eq!(find(&marks, names::COLD_1, "peer"), Some(("2.50x s3fs".into(), true)));
        assert_eq!(find(&marks, names::COLD_1, "raw"), Some(("0.50".into(), true)));
        assert_eq!(find(&marks, names::FIRST_BYTE, "peer"), Some(("0.88x s3fs".into(), false)));
        assert_eq!(find(&marks, &slow, "cap"), Some(("1.20x rclone, 0.96 of the cap".into(), true)));
        assert_eq!(find(&marks, names::AT_MOUNT, "native"), Some(("0.96".into(), true)));
        assert_eq!(find(&marks, names::SWITCHED, "native"), None);
        assert!(!find(&marks, "every row", "memory").unwrap().1);
        let text = table(&all_figures);
        assert!(
            text.contains("| MISSED |") && text.contains("| not measured | - |") && text.contains("| met |"),
            "{text}"
        );
    }

    #[test]
    fn a_limited_row_that_failed_misses_its_mark() {
        let name = format!("{}{}", names::COLD_1, names::LIMITED);
        let mut all_figures = figures(&[(&name, Unit::Bytes, Link::Direct, &[])]);
        all_figures.add(&name, granary(), Err("killed".into()));
        assert_eq!(find(&all(&all_figures), &name, "page cache"), Some(("killed".into(), false)));
    }
}
