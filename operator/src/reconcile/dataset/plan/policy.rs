//! Whether the class allows what a Dataset wants to read.

use granary_crds::DataStorageClass;
use granary_crds::dataset::{Source, SourceIdentity};
use kube::ResourceExt;

use super::super::observe::Observed;

/// Prefix of the URI of a source on the machine itself.
const FILE: &str = "file://";

/// Whether a Dataset reads host paths.
pub fn reads_files(sources: &[Source]) -> bool {
    sources.iter().any(|source| source.uri.starts_with(FILE))
}

/// Why the class forbids the sources; none if it does not. `file_roots`: those that the chart names.
pub fn denial(seen: &Observed, class: &DataStorageClass, file_roots: &[String]) -> Option<String> {
    let policy = &class.spec.source_policy;
    let name = class.name_any();
    let spec = &seen.dataset.spec;
    // The Job of a file:// Dataset runs in the release's namespace, where the Secret is not.
    if reads_files(&spec.sources) && spec.credentials.is_some() {
        return Some("file:// sources cannot be combined with spec.credentials: make two Datasets".to_owned());
    }
    seen.dataset.spec.sources.iter().find_map(|source| {
        let uri = &source.uri;
        if let Some(path) = uri.strip_prefix(FILE) {
            if !policy.file_sources.is_allowed() {
                return Some(format!(
                    "'{uri}': the class '{name}' forbids file:// sources; choose another class, or ask its administrator to set \
                     spec.sourcePolicy.fileSources: Allow"
                ));
            }
            if !file_roots.iter().any(|root| is_below(path, root)) {
                return Some(format!(
                    "'{uri}': not below a directory that the chart's value fileSources.roots names; ask the administrator to add it"
                ));
            }
        }
        match source.identity {
            Some(SourceIdentity::Ambient) if !policy.ambient_identity.is_allowed() => Some(format!(
                "'{uri}': the class '{name}' forbids identity: Ambient; name a Secret in spec.credentials.secretRef, or ask its \
                 administrator to set spec.sourcePolicy.ambientIdentity: Allow"
            )),
            Some(SourceIdentity::Unknown) => {
                Some(format!("'{uri}': this release does not know its identity; write Anonymous or Ambient"))
            }
            _ => None,
        }
    })
}

fn is_below(path: &str, root: &str) -> bool {
    let root = root.trim_end_matches('/');
    let escapes = path.split('/').any(|part| part == "..");
    !escapes && path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::is_below;

    #[test]
    fn below_a_root_means_whole_components() {
        for (path, below) in [
            ("/data", true),
            ("/data/", true),
            ("/data/x", true),
            ("/database", false),
            ("/data/../etc", false),
            ("/other", false),
        ] {
            assert_eq!(is_below(path, "/data"), below, "{path}");
            assert_eq!(is_below(path, "/data/"), below, "{path}");
        }
    }
}
