//! The figures of all rounds, as one table of medians and ratios.

use std::fmt;

/// One measurement.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate {
    /// Bytes or files a second.
    pub(super) per_second: f64,
    /// Requests that reached the server.
    pub(super) requests: u64,
    /// Peak resident memory of the serving process so far.
    pub(super) memory_bytes: u64,
    /// CPU time of the serving process since it started.
    pub(super) cpu_seconds: f64,
}

/// Rows and columns of measurements.
pub(super) struct Table {
    rows: Vec<&'static str>,
    columns: Vec<&'static str>,
    cells: Vec<Vec<Vec<Rate>>>,
}

impl Table {
    pub(super) fn new(rows: Vec<&'static str>, columns: Vec<&'static str>) -> Self {
        let cells = vec![vec![Vec::new(); columns.len()]; rows.len()];
        Self { rows, columns, cells }
    }

    pub(super) fn add(&mut self, row: usize, column: usize, rate: Rate) {
        self.cells[row][column].push(rate);
    }
}

/// Markdown: the median rate, its ratio to the first column in the same run, and the range over the rounds.
impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| row | {} |", self.columns.join(" | "))?;
        writeln!(f, "|---|{}", "---|".repeat(self.columns.len()))?;
        for (name, cells) in self.rows.iter().zip(&self.cells) {
            write!(f, "| {name} |")?;
            let native = cells.first().map_or(f64::NAN, |rates| median(rates, |r| r.per_second));
            for rates in cells {
                let rate = median(rates, |r| r.per_second);
                let (low, high) = range(rates);
                write!(f, " {} ({:.2}; {}-{})", human(rate), rate / native, human(low), human(high))?;
                let requests = median(rates, |r| r.requests as f64);
                let memory = rates.iter().map(|r| r.memory_bytes).max().unwrap_or(0) >> 20;
                let cpu = median(rates, |r| r.cpu_seconds);
                if memory > 0 {
                    write!(f, ", {requests:.0} requests, {memory} MiB, {cpu:.1} CPU s")?;
                }
                write!(f, " |")?;
            }
            writeln!(f)?;
        }
        write!(
            f,
            "\nEach cell: median a second (ratio to native; range over the rounds), requests at the server, peak resident memory and CPU time of the serving process since its mount."
        )
    }
}

fn median(rates: &[Rate], value: impl Fn(&Rate) -> f64) -> f64 {
    let mut values: Vec<f64> = rates.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn range(rates: &[Rate]) -> (f64, f64) {
    rates.iter().fold((f64::INFINITY, 0.0), |(low, high), r| (low.min(r.per_second), f64::max(high, r.per_second)))
}

/// `3.1 GB` for bytes, `4200` for files: the unit is told by the size.
fn human(rate: f64) -> String {
    if rate >= 1e6 { format!("{:.2} GB", rate / 1e9) } else { format!("{rate:.0}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_has_the_median_and_the_ratio_to_the_first_column() {
        let mut table = Table::new(vec!["row"], vec!["native", "other"]);
        for (native, other) in [(2e9, 1e9), (2e9, 9e9), (2e9, 1.5e9)] {
            let rate = |per_second| Rate { per_second, requests: 0, memory_bytes: 0, cpu_seconds: 0.0 };
            table.add(0, 0, rate(native));
            table.add(0, 1, rate(other));
        }
        assert!(table.to_string().contains("1.50 GB (0.75; 1.00 GB-9.00 GB)"), "{table}");
    }
}
