//! All figures of a run: what the JSON file holds, and what table, plot and marks are made from.

use serde::{Deserialize, Serialize};

use super::origin::Slowness;
use super::rows::{Link, Row, Unit};

/// One measurement.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Cell {
    /// In the row's unit.
    pub(super) value: f64,
    /// Bytes that the reader got.
    pub(super) bytes: u64,
    /// Files, reads or entries.
    pub(super) count: u64,
    pub(super) seconds: f64,
    /// CPU time of the whole machine but the server: kernel threads, interrupts and the reader count.
    pub(super) cpu_seconds: f64,
    /// CPU time of the serving process.
    pub(super) own_cpu_seconds: f64,
    /// Peak resident memory of the serving process in bytes, while it was measured.
    pub(super) peak_memory: u64,
    /// Peak memory of its cgroup, page cache included; only of limited rows.
    pub(super) peak_group: Option<u64>,
    /// Requests that reached the source.
    pub(super) requests: u64,
    /// Bytes that the source sent.
    pub(super) source_bytes: u64,
    /// Processors that had nothing to do with it were busy on average.
    pub(super) others: f64,
    pub(super) disturbed: bool,
    /// The busiest of the others.
    pub(super) busy: Vec<String>,
    /// In which way the mount was served at the end.
    pub(super) layout: Option<String>,
}

/// A row's cells: for each system, one in each round. A system that cannot do the row is not there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct RowFigures {
    pub(super) name: String,
    pub(super) unit: Unit,
    pub(super) link: Link,
    pub(super) cells: Vec<SystemCells>,
}

/// A system's cells in a row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SystemCells {
    pub(super) system: String,
    pub(super) rounds: Vec<Cell>,
    /// Why there is no figure although there should be one.
    pub(super) failed: Option<String>,
}

/// The machine that it was measured on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Machine {
    pub(super) processors: usize,
    pub(super) memory_bytes: u64,
    pub(super) kernel: String,
    pub(super) filesystem: String,
}

/// A whole run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Figures {
    /// The day, as `2026-11-25`.
    pub(super) date: String,
    pub(super) machine: Machine,
    pub(super) rounds: u32,
    pub(super) slowness: Slowness,
    /// Bytes of the memory cgroup of limited rows.
    pub(super) memory_limit: u64,
    /// Systems in the order of the columns.
    pub(super) systems: Vec<String>,
    pub(super) rows: Vec<RowFigures>,
}

impl Figures {
    /// Makes room for rows and systems that are going to be measured; what was there under their names goes.
    pub(super) fn expect(&mut self, rows: &[Row], systems: &[&str], order: &[Row], columns: &[&str]) {
        for row in rows {
            let fresh = RowFigures { name: row.name.clone(), unit: row.unit(), link: row.link, cells: Vec::new() };
            match self.rows.iter_mut().find(|old| old.name == row.name) {
                Some(old) => old.cells.retain(|cells| !systems.contains(&cells.system.as_str())),
                None => self.rows.push(fresh),
            }
        }
        self.systems.extend(systems.iter().map(|name| (*name).to_owned()));
        self.systems.sort_by_key(|name| columns.iter().position(|column| column == name));
        self.systems.dedup();
        self.rows.sort_by_key(|figures| order.iter().position(|row| row.name == figures.name));
    }

    /// Adds a measurement, or why there is none.
    pub(super) fn add(&mut self, row: &str, system: &str, measured: Result<Cell, String>) {
        let Some(figures) = self.rows.iter_mut().find(|figures| figures.name == row) else { return };
        if !figures.cells.iter().any(|cells| cells.system == system) {
            figures.cells.push(SystemCells { system: system.to_owned(), rounds: Vec::new(), failed: None });
        }
        for cells in figures.cells.iter_mut().filter(|cells| cells.system == system) {
            match &measured {
                Ok(cell) => cells.rounds.push(cell.clone()),
                Err(why) => cells.failed = Some(why.clone()),
            }
        }
    }

    /// The row of that name.
    pub(super) fn row(&self, name: &str) -> Option<&RowFigures> {
        self.rows.iter().find(|row| row.name == name)
    }
}

impl RowFigures {
    /// A system's cells, if it has a figure.
    pub(super) fn of(&self, system: &str) -> Option<&SystemCells> {
        self.cells.iter().find(|cells| cells.system == system && !cells.rounds.is_empty())
    }

    /// How good a system is against another: above 1, better; whatever the unit.
    pub(super) fn ratio(&self, system: &str, to: &str) -> Option<f64> {
        Some(self.better(self.of(system)?.value(), self.of(to)?.value()))
    }

    /// How much better `one` is than `other`.
    pub(super) fn better(&self, one: f64, other: f64) -> f64 {
        if self.unit == Unit::Seconds { other / one } else { one / other }
    }
}

impl SystemCells {
    /// The median over the rounds.
    pub(super) fn value(&self) -> f64 {
        self.median(|cell| cell.value)
    }

    /// The median of something over the rounds.
    pub(super) fn median(&self, of: impl Fn(&Cell) -> f64) -> f64 {
        let mut values: Vec<f64> = self.rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        match values.len() {
            0 => f64::NAN,
            n if n % 2 == 0 => f64::midpoint(values[middle - 1], values[middle]),
            _ => values[middle],
        }
    }

    /// Lowest and highest value.
    pub(super) fn range(&self) -> (f64, f64) {
        let values = || self.rounds.iter().map(|cell| cell.value);
        (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max))
    }

    /// CPU-seconds for each GiB that the reader got, of the machine without the server; nothing if it read next to nothing.
    pub(super) fn cpu_per_gib(&self) -> Option<f64> {
        let gib = |cell: &Cell| cell.bytes as f64 / f64::from(1 << 30);
        (self.median(gib) > 0.05).then(|| self.median(|cell| cell.cpu_seconds / gib(cell)))
    }

    /// The most resident memory of all rounds.
    pub(super) fn peak_memory(&self) -> u64 {
        self.rounds.iter().map(|cell| cell.peak_memory).max().unwrap_or(0)
    }

    /// Whether a measurement was disturbed.
    pub(super) fn is_disturbed(&self) -> bool {
        self.rounds.iter().any(|cell| cell.disturbed)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row's name, what it counts, its link, and the value of each system.
    type Row<'a> = (&'a str, Unit, Link, &'a [(&'a str, f64)]);

    /// Figures with one cell for each value.
    pub(in super::super) fn figures(rows: &[Row<'_>]) -> Figures {
        let cell = |value| Cell { value, ..empty() };
        let of = |(system, value): &(&str, f64)| SystemCells {
            system: (*system).to_owned(),
            rounds: vec![cell(*value)],
            failed: None,
        };
        Figures {
            date: "2026-01-01".into(),
            machine: Machine {
                processors: 2,
                memory_bytes: 24 << 30,
                kernel: "6.18".into(),
                filesystem: "ext4".into(),
            },
            rounds: 1,
            slowness: Slowness { latency_ms: 20, cap_mb: 125 },
            memory_limit: 200 << 20,
            systems: ["native", "raw client", "granary", "rclone", "s3fs"].map(str::to_owned).to_vec(),
            rows: rows
                .iter()
                .map(|(name, unit, link, cells)| RowFigures {
                    name: (*name).to_owned(),
                    unit: *unit,
                    link: *link,
                    cells: cells.iter().map(of).collect(),
                })
                .collect(),
        }
    }

    /// A cell of nothing.
    pub(in super::super) fn empty() -> Cell {
        serde_json::from_value(serde_json::json!({
            "value": 0.0, "bytes": 0, "count": 0, "seconds": 1.0, "cpu_seconds": 0.0, "own_cpu_seconds": 0.0, "peak_memory": 0,
            "peak_group": null, "requests": 0, "source_bytes": 0, "others": 0.0, "disturbed": false, "busy": [], "layout": null
        }))
        .unwrap()
    }

    #[test]
    fn a_ratio_above_one_is_better_whatever_the_unit() {
        let cells: &[(&str, f64)] = &[("native", 2.0), ("granary", 4.0)];
        let all = figures(&[("rate", Unit::Bytes, Link::Direct, cells), ("time", Unit::Seconds, Link::Direct, cells)]);
        assert_eq!(all.rows[0].ratio("granary", "native"), Some(2.0));
        assert_eq!(all.rows[1].ratio("granary", "native"), Some(0.5));
        assert_eq!(all.rows[0].ratio("granary", "rclone"), None);
    }

    #[test]
    fn the_median_is_the_middle_one_or_between_two() {
        let cells = |values: &[f64]| SystemCells {
            system: "x".into(),
            rounds: values.iter().map(|value| Cell { value: *value, ..empty() }).collect(),
            failed: None,
        };
        assert_eq!(cells(&[9.0, 1.0, 2.0]).value(), 2.0);
        assert_eq!(cells(&[1.0, 2.0]).value(), 1.5);
        assert_eq!(cells(&[9.0, 1.0, 2.0]).range(), (1.0, 9.0));
        assert!(cells(&[]).value().is_nan());
    }

    #[test]
    fn what_is_measured_anew_replaces_what_was_there() {
        let order = crate::bench::rows::all();
        let row = &order[0];
        let old: &[(&str, f64)] = &[("native", 1.0), ("granary", 1.0)];
        let mut all = figures(&[(&row.name, Unit::Bytes, Link::Direct, old)]);
        all.expect(&order[..2], &["granary"], &order, &["native", "raw client", "granary", "rclone", "s3fs"]);
        all.add(&row.name, "granary", Ok(Cell { value: 5.0, ..empty() }));
        all.add(&row.name, "granary", Ok(Cell { value: 7.0, ..empty() }));
        all.add(&order[1].name, "granary", Err("it broke".into()));
        assert_eq!(all.rows[0].of("granary").unwrap().value(), 6.0);
        assert_eq!(all.rows[0].of("native").unwrap().value(), 1.0);
        assert!(all.rows[1].of("granary").is_none() && all.rows[1].cells[0].failed.is_some());
        assert_eq!(all.systems.len(), 5);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Figures>(&text).unwrap().rows.len(), 2);
    }
}
