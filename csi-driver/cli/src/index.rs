//! `granary index`: what a version would contain.

use std::io::{self, Write};

use anyhow::Context as _;
use granary_image::{ImageReader, PinKind};
use granary_index::Indexed;
use serde::Serialize;

use crate::args::{IndexArgs, Output};
use crate::size::show_size;
use crate::{indexing, sources};

/// What is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    listing_digest: String,
    image_digest: String,
    image_bytes: u64,
    file_count: u64,
    size_bytes: u64,
    sources: Vec<SourceLine>,
    skipped: Vec<SkippedLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    files: Option<Vec<FileLine>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SourceLine {
    uri: String,
    file_count: u64,
    size_bytes: u64,
    pinned_by: &'static str,
}

#[derive(Serialize)]
struct SkippedLine {
    reason: &'static str,
    count: u64,
    examples: Vec<String>,
}

#[derive(Serialize)]
struct FileLine {
    path: String,
    size: u64,
}

/// Indexes into a temporary directory and prints the result.
pub async fn run(args: IndexArgs) -> anyhow::Result<()> {
    let secret = sources::secret(sources::environment);
    let configs = sources::configs(&args.uris, &args.source, &secret, sources::environment)?;
    let out_dir = tempfile::tempdir().context("cannot make a temporary directory")?;
    let indexed = indexing::run(&configs, &secret, None, out_dir.path()).await?;
    let mut summary = summarise(&args.uris, &indexed);
    if args.files {
        let image = ImageReader::open(&indexed.image.path)?;
        let files: Result<Vec<_>, _> = image.files().collect();
        summary.files = Some(files?.into_iter().map(|file| FileLine { path: file.path, size: file.size }).collect());
    }
    let mut out = io::BufWriter::new(io::stdout().lock());
    let written = match args.output {
        Output::Text => print(&summary, &mut out),
        Output::Json => {
            serde_json::to_writer_pretty(&mut out, &summary).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
    };
    match written.and_then(|()| out.flush()) {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print"),
    }
}

fn summarise(uris: &[String], indexed: &Indexed) -> Summary {
    let source = |(uri, source): (&String, &granary_index::SourceSummary)| SourceLine {
        uri: uri.clone(),
        file_count: source.file_count,
        size_bytes: source.size_bytes,
        pinned_by: pin_name(source.pinned_by),
    };
    let skipped = |skipped: &granary_index::Skipped| SkippedLine {
        reason: skipped.reason.as_str(),
        count: skipped.count,
        examples: skipped.examples.clone(),
    };
    Summary {
        listing_digest: indexed.listing_digest.to_string(),
        image_digest: indexed.image.digest.to_string(),
        image_bytes: indexed.image.bytes,
        file_count: indexed.file_count,
        size_bytes: indexed.size_bytes,
        sources: uris.iter().zip(&indexed.sources).map(source).collect(),
        skipped: indexed.skipped.iter().map(skipped).collect(),
        files: None,
    }
}

fn pin_name(kind: PinKind) -> &'static str {
    match kind {
        PinKind::VersionId => "VersionID",
        PinKind::ETag => "ETag",
        PinKind::ModificationTime => "ModificationTime",
        PinKind::SizeOnly => "Size",
    }
}

fn print(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "files:    {} ({})", summary.file_count, show_size(summary.size_bytes))?;
    writeln!(out, "listing:  {}", summary.listing_digest)?;
    writeln!(out, "image:    {} ({})", summary.image_digest, show_size(summary.image_bytes))?;
    for source in &summary.sources {
        let size = show_size(source.size_bytes);
        writeln!(
            out,
            "source:   {}: {} files ({size}), pinned by {}",
            source.uri, source.file_count, source.pinned_by
        )?;
    }
    for skipped in &summary.skipped {
        writeln!(out, "left out: {} {}, such as {:?}", skipped.count, skipped.reason, skipped.examples)?;
    }
    for file in summary.files.iter().flatten() {
        writeln!(out, "{:>14} {}", file.size, file.path)?;
    }
    Ok(())
}
