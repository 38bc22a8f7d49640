//! A plot of the ratios to the disk, as SVG: a group of bars for each row, on a logarithmic axis.

use std::fmt::Write as _;

use super::figures::{Figures, RowFigures};
use super::rows::Link;

const WIDTH: f64 = 960.0;
/// Where the bars begin: names are left of it.
const LEFT: f64 = 330.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 9.0;
const GAP: f64 = 10.0;
const TOP: f64 = 64.0;
const NATIVE: &str = "native";
/// Colours that are told apart also without seeing colours well (Okabe and Ito).
const COLOURS: [&str; 7] = ["#000000", "#999999", "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#cc79a7"];

/// Rows that have a ratio to the disk, over one link.
pub(super) fn svg(figures: &Figures, link: Link) -> String {
    let has_ratio =
        |row: &&RowFigures| figures.systems.iter().any(|name| *name != NATIVE && row.ratio(name, NATIVE).is_some());
    let rows: Vec<&RowFigures> = figures.rows.iter().filter(|row| row.link == link).filter(has_ratio).collect();
    let systems: Vec<(&str, &str)> = figures
        .systems
        .iter()
        .map(String::as_str)
        .zip(COLOURS)
        .filter(|(name, _)| *name != NATIVE && rows.iter().any(|row| row.of(name).is_some()))
        .collect();
    let axis = Axis::over(rows.iter().flat_map(|row| systems.iter().filter_map(|(name, _)| row.ratio(name, NATIVE))));
    let (mut bars, mut y) = (String::new(), TOP);
    // Writing to a String cannot fail.
    for row in &rows {
        let shown: Vec<_> =
            systems.iter().filter_map(|(name, colour)| Some((row.ratio(name, NATIVE)?, *colour))).collect();
        let middle = y + shown.len() as f64 * BAR / 2.0 + 4.0;
        let _ = writeln!(bars, "<text x=\"{}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>", LEFT - 8.0, row.name);
        for (ratio, colour) in shown {
            let (from, to) = (axis.x(1.0).min(axis.x(ratio)), axis.x(1.0).max(axis.x(ratio)));
            let _ = writeln!(
                bars,
                "<rect x=\"{from:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"{colour}\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" font-size=\"8\">{ratio:.2}</text>",
                (to - from).max(1.0),
                BAR - 1.0,
                to + 3.0,
                y + BAR - 2.0
            );
            y += BAR;
        }
        y += GAP;
    }
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {:.0}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"20\" font-size=\"14\">Speed against the disk's own filesystem (right of 1: faster), {}</text>\n",
        y + 12.0,
        figures.date
    );
    for (index, (name, colour)) in systems.iter().enumerate() {
        let x = 12.0 + 110.0 * index as f64;
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"30\" width=\"10\" height=\"10\" fill=\"{colour}\"/><text x=\"{}\" y=\"39\">{name}</text>",
            x + 14.0
        );
    }
    for tick in axis.ticks() {
        let x = axis.x(tick);
        let colour = if tick == 1.0 { "#333333" } else { "#dddddd" };
        let _ = writeln!(
            out,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{y:.0}\" stroke=\"{colour}\"/>\
             <text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\" font-size=\"9\">{tick}</text>",
            TOP - 4.0,
            TOP - 8.0
        );
    }
    out + &bars + "</svg>\n"
}

/// A logarithmic axis over whole decades.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    fn over(ratios: impl Iterator<Item = f64>) -> Self {
        let (low, high) = ratios
            .filter(|ratio| *ratio > 0.0)
            .map(f64::log10)
            .fold((0.0, 0.0), |(low, high), log| (f64::min(low, log), f64::max(high, log)));
        Self { low: low.floor() as i32, high: (high.ceil() as i32).max(low.floor() as i32 + 1) }
    }

    fn x(&self, ratio: f64) -> f64 {
        let share = (ratio.max(1e-9).log10() - f64::from(self.low)) / f64::from(self.high - self.low);
        LEFT + share.clamp(0.0, 1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn ticks(&self) -> impl Iterator<Item = f64> {
        // By text, since powers of ten are not exact.
        (self.low..=self.high).filter_map(|exponent| format!("1e{exponent}").parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::super::rows::Unit;
    use super::*;

    #[test]
    fn the_axis_has_whole_decades_and_the_disk_in_it() {
        let axis = Axis::over([0.02, 3.0].into_iter());
        assert_eq!(axis.ticks().collect::<Vec<_>>(), [0.01, 0.1, 1.0, 10.0]);
        assert!(axis.x(0.02) < axis.x(1.0) && axis.x(1.0) < axis.x(3.0));
        assert_eq!(axis.x(0.01), LEFT);
        assert_eq!(Axis::over(std::iter::empty()).ticks().count(), 2);
    }

    #[test]
    fn each_system_with_a_ratio_has_a_bar() {
        let all = figures(&[
            ("a", Unit::Bytes, Link::Direct, &[("native", 1.0), ("granary", 0.5), ("rclone", 0.1)]),
            ("b", Unit::Bytes, Link::Direct, &[("granary", 0.5)]),
            ("c", Unit::Bytes, Link::Slow, &[("native", 1.0), ("granary", 0.5)]),
        ]);
        let direct = svg(&all, Link::Direct);
        assert!(direct.contains(">a<") && !direct.contains(">b<") && !direct.contains(">c<"), "{direct}");
        assert_eq!(direct.matches("height=\"8.0\"").count(), 2);
        assert!(direct.contains(">rclone<") && !direct.contains(">s3fs<"));
        assert!(svg(&all, Link::Slow).contains(">c<"));
    }
}
