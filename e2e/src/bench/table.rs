//! Figures as Markdown: one table of rates and ratios, one of what they cost.

use std::fmt::Write as _;

use super::figures::{Figures, RowFigures, SystemCells};
use super::rows::Unit;

const NATIVE: &str = "native";

/// Rates, each with its ratio to the disk and its range over the rounds.
pub(super) fn rates(figures: &Figures) -> String {
    table(figures, |row, cells| {
        let (low, high) = cells.range();
        let ratio = row.ratio(&cells.system, NATIVE).map_or("-".into(), |ratio| format!("{ratio:.2}"));
        let range = match cells.rounds.len() {
            0 | 1 => String::new(),
            _ => format!("; {}..{}", human(low, row.unit), human(high, row.unit)),
        };
        let star = if cells.is_disturbed() { " *" } else { "" };
        format!("{} ({ratio}{range}){star}", human(cells.value(), row.unit))
    })
}

/// CPU time, memory, requests and bytes at the source; `-` where there is nothing to tell.
pub(super) fn costs(figures: &Figures) -> String {
    table(figures, |_, cells| {
        let cpu = cells.cpu_per_gib().map_or("-".into(), |cpu| format!("{cpu:.2}"));
        let own = cells.median(|cell| cell.own_cpu_seconds);
        let memory = match cells.peak_memory() {
            0 => "-".into(),
            bytes => format!("{} MiB", bytes >> 20),
        };
        let requests = cells.median(|cell| cell.requests as f64);
        let megabytes = cells.median(|cell| cell.source_bytes as f64 / 1e6);
        let group = cells.rounds.iter().filter_map(|cell| cell.peak_group).max();
        let group = group.map_or(String::new(), |bytes| format!(", cgroup {} MiB", bytes >> 20));
        let layout = cells.rounds.last().and_then(|cell| cell.layout.as_deref());
        let layout = layout.map_or(String::new(), |layout| format!(", {layout}"));
        format!("{cpu}; {own:.1} s; {memory}; {requests:.0}; {megabytes:.0} MB{group}{layout}")
    })
}

fn table(figures: &Figures, text: impl Fn(&RowFigures, &SystemCells) -> String) -> String {
    let mut out = format!("| row | {} |\n|---|{}\n", figures.systems.join(" | "), "---|".repeat(figures.systems.len()));
    // Writing to a String cannot fail.
    for row in &figures.rows {
        let _ = write!(out, "| {} |", row.name);
        for system in &figures.systems {
            let failed = || row.cells.iter().any(|cells| cells.system == *system && cells.failed.is_some());
            let cell = match row.of(system) {
                Some(cells) => text(row, cells),
                None if failed() => "failed".into(),
                None => String::new(),
            };
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    out
}

/// A figure with its unit.
pub(super) fn human(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Bytes => format!("{:.2} GB/s", value / 1e9),
        Unit::Count => format!("{value:.0}/s"),
        Unit::Seconds if value < 1.0 => format!("{:.1} ms", value * 1e3),
        Unit::Seconds => format!("{value:.2} s"),
        Unit::Percent => format!("{value:.1} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::super::rows::Link;
    use super::*;

    #[test]
    fn a_cell_has_the_rate_and_the_ratio_to_the_disk() {
        let mut all = figures(&[("row", Unit::Bytes, Link::Direct, &[("native", 2e9), ("granary", 1.5e9)])]);
        let text = rates(&all);
        assert!(text.contains("| row | 2.00 GB/s (1.00) |  | 1.50 GB/s (0.75) |  |  |"), "{text}");
        let again = all.rows[0].cells[1].rounds[0].clone();
        all.rows[0].cells[1].rounds.push(super::super::figures::Cell { value: 2.5e9, disturbed: true, ..again });
        let text = rates(&all);
        assert!(text.contains("2.00 GB/s (1.00; 1.50 GB/s..2.50 GB/s) *"), "{text}");
    }

    #[test]
    fn costs_tell_cpu_time_for_each_gib() {
        let mut all = figures(&[("row", Unit::Bytes, Link::Direct, &[("granary", 1e9)])]);
        let cell = &mut all.rows[0].cells[0].rounds[0];
        (cell.bytes, cell.cpu_seconds, cell.own_cpu_seconds, cell.peak_memory) = (2 << 30, 3.0, 1.25, 60 << 20);
        (cell.requests, cell.source_bytes) = (256, 2 << 30);
        let text = costs(&all);
        assert!(text.contains("1.50; 1.2 s; 60 MiB; 256; 2147 MB"), "{text}");
    }

    #[test]
    fn a_failure_is_told_from_what_cannot_be() {
        let mut all = figures(&[("row", Unit::Count, Link::Direct, &[("native", 5.0)])]);
        all.add("row", "rclone", Err("it broke".into()));
        assert!(rates(&all).contains("| row | 5/s (1.00) |  |  | failed |  |"), "{}", rates(&all));
    }
}
