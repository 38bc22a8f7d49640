//! `e2e/bench`: how fast a mounted dataset is, against the disk itself and against peers, in one run.

mod cpu;
mod data;
mod docs;
mod figures;
mod limit;
mod machine;
mod marks;
mod options;
mod origin;
mod plot;
mod quiet;
mod raw;
mod rows;
mod session;
mod systems;
mod table;
mod task;
mod warm;

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum;

use crate::paths::{Paths, checkout, write_atomically};
use crate::{progress, tools};

use data::Dataset;
use figures::Figures;
use origin::{Origin, Slowness};
use rows::Row;
use session::{Bench, Session};
use systems::{System, SystemName};
use task::Loader;

pub use options::Options;
pub use origin::{OriginArguments, serve as serve_origin};

/// Measures what the options say, prints the figures and writes them where they shall be.
pub fn run(paths: &Paths, options: &Options) -> Result<()> {
    let rows = rows::select(rows::all(), &options.rows, &options.links());
    if options.list {
        rows.iter().for_each(|row| println!("{}", row.name));
        return Ok(());
    }
    let dir = paths.cache.join("bench");
    std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
    let mut figures = begin(options, &dir)?;
    let begun = Instant::now();
    let json = options.json.clone().unwrap_or_else(|| dir.join("figures.json"));
    if options.rounds > 0 {
        measure(paths, options, &dir, rows, &mut figures, &json)?;
    }
    println!("{}", docs::report(&figures));
    progress::note(format!("measured in {}; the figures are in {}", progress::human(begun.elapsed()), json.display()));
    if options.write_docs {
        docs::write(&figures, &checkout().join("docs"))?;
    }
    Ok(())
}

/// Figures without rows, or those of an earlier run.
fn begin(options: &Options, dir: &Path) -> Result<Figures> {
    let new = Figures {
        date: machine::today(),
        machine: machine::this(dir),
        rounds: options.rounds,
        slowness: Slowness { latency_ms: options.latency, cap_mb: options.cap },
        memory_limit: limit::of_chart()?,
        systems: Vec::new(),
        rows: Vec::new(),
    };
    let Some(path) = &options.from else { return Ok(new) };
    let text = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let old: Figures = serde_json::from_slice(&text).with_context(|| format!("{} has no figures", path.display()))?;
    Ok(if options.rounds == 0 { old } else { Figures { systems: old.systems, rows: old.rows, ..new } })
}

/// Measures all rows on all systems, `rounds` times, the systems in turn, and writes the figures to `json` as they come.
fn measure(
    paths: &Paths,
    options: &Options,
    dir: &Path,
    mut rows: Vec<Row>,
    figures: &mut Figures,
    json: &Path,
) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "the benchmark needs root: it mounts filesystems and drops the page cache"
    );
    tools::apt::ensure(tools::apt::BENCH)?;
    let _one_at_a_time = tools::lock(&dir.join("lock"), "benchmark")?;
    remove_remains(dir)?;
    if !data::has_room(dir, Dataset::Many)? {
        progress::note("the disk has no room for 50,000 small files twice: that row is left out");
        rows.retain(|row| row.dataset != Dataset::Many);
    }
    if let Some(row) = rows.iter().find(|row| !data::has_room(dir, row.dataset).unwrap_or(true)) {
        bail!("`{}` needs more free space below {}: caches leave a tenth of the disk free", row.name, dir.display());
    }
    let systems = install(paths, options);
    let order = rows::all();
    let columns: Vec<&str> = SystemName::value_variants().iter().map(|name| name.as_str()).collect();
    let names: Vec<&str> = systems.iter().map(|system| system.name()).collect();
    figures.expect(&rows, &names, &order, &columns);
    let mut datasets: Vec<Dataset> = rows.iter().map(|row| row.dataset).collect();
    datasets.sort();
    datasets.dedup();
    let origin = Origin::start(&datasets, figures.slowness)?;
    let loader = Loader::make(dir)?;
    let bench =
        Bench { dir, origin: &origin, loader: &loader, memory_limit: figures.memory_limit, repeats: options.repeats };
    for round in 1..=options.rounds {
        for group in rows.chunk_by(|one, next| one.group() == next.group()) {
            for system in systems.iter().filter(|system| group.iter().any(|row| system.can(row))) {
                progress::note(format!(
                    "round {round} of {}: {}, {}",
                    options.rounds,
                    group[0].dataset.prefix(),
                    system.name()
                ));
                measure_group(&bench, system.as_ref(), group, figures);
                // What was measured is kept although the run may be ended.
                write_atomically(json, serde_json::to_string(figures)? + "\n")?;
            }
        }
    }
    Ok(())
}

/// Measures the rows of one group on one system. A row that fails does not hinder others.
fn measure_group(bench: &Bench, system: &dyn System, group: &[Row], figures: &mut Figures) {
    let mut session: Option<Session> = None;
    for row in group.iter().filter(|row| system.can(row)) {
        let begun = Instant::now();
        let measured = match &mut session {
            Some(session) => session.measure(row),
            None => Session::begin(bench, system, row).and_then(|begun| session.insert(begun).measure(row)),
        };
        let took = progress::human(begun.elapsed());
        match &measured {
            Ok(cell) => progress::note(format!("  {}: {} ({took})", row.name, table::human(cell.value, row.unit()))),
            Err(error) => {
                progress::note(format!("  {}: FAILED: {error:#} ({took})", row.name));
                // What it left is in no known state.
                session = None;
            }
        }
        figures.add(&row.name, system.name(), measured.map_err(|error| format!("{error:#}")));
    }
}

/// Installs the systems that are asked for, all if none is; one that cannot be had is left out.
fn install(paths: &Paths, options: &Options) -> Vec<Box<dyn System>> {
    let all =
        SystemName::value_variants().iter().filter(|name| options.systems.is_empty() || options.systems.contains(name));
    let installed = all.filter_map(|name| match name.install(paths, options.granary.as_deref()) {
        Ok(system) => Some(system),
        Err(error) => {
            progress::note(format!("{} is left out: {error:#}", name.as_str()));
            None
        }
    });
    installed.collect()
}

/// Ends mounts and removes directories of a run that was killed.
fn remove_remains(dir: &Path) -> Result<()> {
    for entry in std::fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))?.flatten() {
        if entry.file_name().to_string_lossy().starts_with("run-") {
            systems::clear(&entry.path());
            std::fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
    }
    Ok(())
}
