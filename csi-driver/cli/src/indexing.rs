//! Indexing with a line that shows how far it is.

use std::path::Path;
use std::time::Duration;

use granary_fetch::{SecretKeys, SourceConfig};
use granary_image::ExtentTable;
use granary_index::{IndexRequest, Indexed, index};
use indicatif::{ProgressBar, ProgressStyle};

use crate::sources;

/// Lists the sources and writes image and extent table to `out_dir`. On a terminal, a line shows the number of objects.
pub async fn run(
    configs: &[SourceConfig],
    secret: &SecretKeys,
    parent: Option<ExtentTable>,
    out_dir: &Path,
) -> anyhow::Result<Indexed> {
    let sources = sources::open(configs, secret)?;
    let new_blob_id = uuid::Uuid::new_v4().to_string();
    let request = IndexRequest { sources, parent, new_blob_id, out_dir: out_dir.to_owned() };
    let line = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} listing: {human_pos} objects, {elapsed}") {
        line.set_style(style);
    }
    line.enable_steady_tick(Duration::from_millis(200));
    let result = index(request, &|count| line.set_position(count)).await;
    line.finish_and_clear();
    Ok(result?)
}
