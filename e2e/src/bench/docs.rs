//! The figures in the documents.

use std::path::Path;

use anyhow::{Context, Result};

use super::figures::Figures;
use super::rows::Link;
use super::{marks, plot, table};
use crate::paths::write_atomically;

const BEGIN: &str = "<!-- figures: written by e2e/bench --write-docs -->";
const END: &str = "<!-- end of figures -->";

/// All that is known of a run, as Markdown.
pub(super) fn report(figures: &Figures) -> String {
    let machine = &figures.machine;
    format!(
        "{} on {}: {} processors, {} GiB, Linux {}, {}. Slow link: {} ms and {} MB/s.\n\n### Marks\n\n{}\n### Rates\n\n{}\n\
         Each cell: the median (its ratio to native, above 1 is better; with several rounds, the range). `*`: others used more than \
         a tenth of a processor meanwhile, also when it was repeated. Empty: it cannot be, or it is not measured.\n\n### Costs\n\n{}\n\
         Each cell: CPU-seconds of the whole machine without the server for each GiB that the reader got; CPU time of the serving \
         process; its peak resident memory; requests at the source; bytes that the source sent.\n",
        if figures.rounds == 1 { "One round".into() } else { format!("Medians of {} rounds", figures.rounds) },
        figures.date,
        machine.processors,
        machine.memory_bytes >> 30,
        machine.kernel,
        machine.filesystem,
        figures.slowness.latency_ms,
        figures.slowness.cap_mb,
        marks::table(figures),
        table::rates(figures),
        table::costs(figures),
    )
}

/// Writes plots, JSON and the figures on the page to `docs`.
pub(super) fn write(figures: &Figures, docs: &Path) -> Result<()> {
    let dir = docs.join("benchmarks");
    write_atomically(&dir.join("figures.json"), serde_json::to_string(&published(figures))? + "\n")?;
    write_atomically(&dir.join("direct.svg"), plot::svg(figures, Link::Direct))?;
    write_atomically(&dir.join("slow.svg"), plot::svg(figures, Link::Slow))?;
    let page = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&page).with_context(|| format!("reading {}", page.display()))?;
    let plots = "![Ratios to the disk, the source on loopback](benchmarks/direct.svg)\n\n\
                 ![Ratios to the disk, the source behind a slow link](benchmarks/slow.svg)\n";
    let new = replace(&text, &format!("{}\n{plots}", report(figures)))
        .with_context(|| format!("{} has no place for figures", page.display()))?;
    write_atomically(&page, new)
}

/// Figures without what is only of this machine: where its files lie, and which other programs run, unless they disturbed.
fn published(figures: &Figures) -> Figures {
    let mut figures = figures.clone();
    for system in figures.rows.iter_mut().flat_map(|row| &mut row.cells) {
        system.failed = system.failed.as_deref().map(without_directories);
        system.rounds.iter_mut().filter(|cell| !cell.disturbed).for_each(|cell| cell.busy.clear());
    }
    figures
}

fn without_directories(text: &str) -> String {
    let is_path = |word: &&str| word.trim_start_matches('`').starts_with('/');
    let short = |word| Some(word).filter(is_path).and_then(|word: &str| Some(word.rsplit_once('/')?.1)).unwrap_or(word);
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// `page` with `figures` between the marks.
fn replace(page: &str, figures: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n\n{figures}\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::super::figures::tests::figures;
    use super::super::rows::Unit;
    use super::*;
    use crate::paths::checkout;

    #[test]
    fn figures_are_replaced_and_the_rest_stays() {
        let page = format!("# Before\n{BEGIN}\nold\n{END}\nafter\n");
        let once = replace(&page, "new").unwrap();
        assert!(
            once.starts_with("# Before")
                && once.ends_with("\nafter\n")
                && once.contains("new")
                && !once.contains("old")
        );
        assert_eq!(replace(&once, "new").unwrap(), once);
        assert_eq!(replace("no marks", "new"), None);
    }

    #[test]
    fn nothing_of_the_machine_is_published() {
        let text = "`/usr/bin/python3 /home/me/loader.py 1` failed: 3 of 4 MB/s";
        assert_eq!(without_directories(text), "python3 loader.py 1` failed: 3 of 4 MB/s");
        let mut figures = figures(&[("a row", Unit::Bytes, Link::Direct, &[("native", 1e9), ("granary", 2e9)])]);
        for (nth, system) in figures.rows[0].cells.iter_mut().enumerate() {
            system.rounds[0].busy = vec!["another program 1 s".into()];
            system.rounds[0].disturbed = nth == 1;
        }
        let systems = &published(&figures).rows[0].cells;
        assert_eq!(systems.iter().map(|system| system.rounds[0].busy.len()).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn the_page_in_the_docs_is_written_anew_from_a_run() {
        let docs = tempfile::tempdir().unwrap();
        std::fs::copy(checkout().join("docs/benchmarks.md"), docs.path().join("benchmarks.md")).unwrap();
        let cells: &[(&str, f64)] = &[("native", 1e9), ("granary", 2e9)];
        write(&figures(&[("a row of a test", Unit::Bytes, Link::Direct, cells)]), docs.path()).unwrap();
        let page = std::fs::read_to_string(docs.path().join("benchmarks.md")).unwrap();
        assert!(page.contains("| a row of a test | 1.00 GB/s (1.00) |"), "{page}");
        for name in ["direct.svg", "slow.svg", "figures.json"] {
            assert!(docs.path().join("benchmarks").join(name).is_file(), "{name}");
        }
    }
}
