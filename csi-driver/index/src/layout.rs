//! Where sources appear in the dataset.

use granary_image::is_file_path;

use crate::IndexError;

/// The sources' places.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    /// What comes before each source's keys: "" or a path with a final slash.
    pub(crate) prefixes: Vec<String>,
    /// Indices of the sources in the byte order of their files' paths.
    pub(crate) order: Vec<usize>,
}

/// No prefix begins another, so the sources' files follow each other in the prefixes' order, never mixed.
pub(crate) fn check<'a>(paths: impl Iterator<Item = Option<&'a str>>) -> Result<Layout, IndexError> {
    let prefixes = paths.map(prefix).collect::<Result<Vec<_>, _>>()?;
    let mut order: Vec<usize> = (0..prefixes.len()).collect();
    order.sort_by(|&a, &b| prefixes[a].cmp(&prefixes[b]));
    for pair in order.windows(2) {
        let (first, second) = (&prefixes[pair[0]], &prefixes[pair[1]]);
        if second.starts_with(first.as_str()) {
            let path = |prefix: &str| prefix.trim_end_matches('/').to_owned();
            return Err(IndexError::Overlap(path(first), path(second)));
        }
    }
    Ok(Layout { prefixes, order })
}

fn prefix(path: Option<&str>) -> Result<String, IndexError> {
    match path {
        None | Some("") => Ok(String::new()),
        Some(path) if is_file_path(path) => Ok(format!("{path}/")),
        Some(path) => Err(IndexError::Path(path.to_owned())),
    }
}
