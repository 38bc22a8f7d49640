//! From collected listings to artifacts.

use std::path::Path;

use granary_image::{ExtentTable, ImageBuilder, Object, Pin, TableBuilder, TableError};

use crate::{
    IndexError, Indexed, SourceSummary, artifact::store, collect::Collector, listing_digest::ListingDigest,
    skipped::Account,
};

/// `order` says in which order the sources' files follow each other.
pub(crate) fn build(
    mut sources: Vec<Collector>,
    order: &[usize],
    parent: Option<&ExtentTable>,
    new_blob_id: String,
    out_dir: &Path,
) -> Result<Indexed, IndexError> {
    let mut skipped = Account::default();
    for source in &mut sources {
        source.settle();
        skipped.merge(std::mem::take(&mut source.skipped));
    }
    let summaries: Vec<SourceSummary> = sources.iter().map(Collector::summary).collect();
    let in_order: Vec<&Collector> = order.iter().map(|&index| &sources[index]).collect();
    let (placed, parent) = match parent {
        None => (place(&in_order, TableBuilder::new(new_blob_id.clone()))?, None),
        Some(parent) => match place(&in_order, TableBuilder::extending(parent)) {
            // What earlier versions used stays in a blob for ever; without it the files may fit.
            Err(IndexError::Table(TableError::TooLarge)) => {
                (place(&in_order, TableBuilder::new(new_blob_id.clone()))?, None)
            }
            placed => (placed?, Some(parent)),
        },
    };
    let blob_id = parent.map_or(new_blob_id, |parent| parent.blob_id().to_owned());
    drop(in_order);
    drop(sources);
    let Placed { table, image, listing } = placed;
    let (extents, table) = store(out_dir, "extents", |file| {
        let summary = table.finish(file)?;
        Ok((summary.digest, summary.bytes, summary))
    })?;
    let (image, _) = store(out_dir, "erofs", |file| {
        let summary = image.finish(table.blob_bytes, file)?;
        Ok((summary.digest, summary.bytes, summary))
    })?;
    Ok(Indexed {
        listing_digest: listing.finish(),
        file_count: summaries.iter().map(|source| source.file_count).sum(),
        size_bytes: summaries.iter().map(|source| source.size_bytes).fold(0, u64::saturating_add),
        blob_id,
        blob_bytes: table.blob_bytes,
        parent: parent.map(ExtentTable::digest),
        image,
        extents,
        sources: summaries,
        skipped: skipped.finish(),
    })
}

pub(crate) struct Placed {
    pub(crate) table: TableBuilder,
    pub(crate) image: ImageBuilder,
    listing: ListingDigest,
}

pub(crate) fn place(sources: &[&Collector], mut table: TableBuilder) -> Result<Placed, IndexError> {
    let (mut image, mut listing) = (ImageBuilder::new(), ListingDigest::new());
    let mut path = String::new();
    for source in sources {
        for entry in source.entries() {
            path.clear();
            path.push_str(&source.prefix);
            path.push_str(entry.name);
            listing.add(&path, &entry);
            let offset = if entry.size == 0 {
                0
            } else {
                table.allocate(&Object {
                    source: source.source,
                    key: entry.key.to_owned(),
                    pin: Pin { kind: entry.pin_kind, value: entry.pin.to_owned() },
                    size: entry.size,
                })?
            };
            image.add_file(&path, entry.size, offset)?;
        }
    }
    Ok(Placed { table, image, listing })
}
