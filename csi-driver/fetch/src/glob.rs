//! Which keys of a source belong to the dataset.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::{SourceConfig, SourceError};

/// The `include` and `exclude` patterns of a source.
#[derive(Debug)]
pub(crate) struct KeyFilter {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl KeyFilter {
    pub(crate) fn new(config: &SourceConfig) -> Result<Self, SourceError> {
        let set = |field: &str, patterns: &[String]| {
            compile(patterns).map_err(|error| {
                SourceError::invalid(&config.uri, format!("'{field}' has a pattern that is no glob: {error}"))
            })
        };
        let include = if config.include.is_empty() { None } else { Some(set("include", &config.include)?) };
        Ok(Self { include, exclude: set("exclude", &config.exclude)? })
    }

    /// `exclude` wins; without `include` everything else belongs to it. `?` stands for one byte: for an ASCII character.
    pub(crate) fn lets_through(&self, key: &str) -> bool {
        self.include.as_ref().is_none_or(|set| set.is_match(key)) && !self.exclude.is_match(key)
    }
}

fn compile(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &[&str], exclude: &[&str]) -> KeyFilter {
        let owned = |patterns: &[&str]| patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        let config = SourceConfig { include: owned(include), exclude: owned(exclude), ..Default::default() };
        KeyFilter::new(&config).unwrap()
    }

    #[test]
    fn patterns_mean_what_the_reference_says() {
        for (pattern, matching, others) in [
            ("**/*.flac", &["a.flac", "x/y/a.flac"][..], &["a.wav", "a.flac/b"][..]),
            ("*", &["a", "a b"], &["x/a"]),
            ("x/**", &["x/a", "x/y/z"], &["x", "y/a"]),
            ("?.txt", &["a.txt", "b.txt"], &["ab.txt", "/.txt"]),
            ("*.{jpg,png}", &["a.jpg", "a.png"], &["a.gif", "x/a.jpg"]),
        ] {
            let filter = filter(&[pattern], &[]);
            assert!(matching.iter().all(|key| filter.lets_through(key)), "{pattern}");
            assert!(!others.iter().any(|key| filter.lets_through(key)), "{pattern}");
        }
    }

    #[test]
    fn exclude_wins() {
        let filter = filter(&["train/**"], &["**/*.tmp"]);
        assert!(
            filter.lets_through("train/a") && !filter.lets_through("train/a.tmp") && !filter.lets_through("test/a")
        );
        assert!(self::filter(&[], &["x"]).lets_through("y"));
    }

    #[test]
    fn a_broken_pattern_is_named() {
        let config = SourceConfig { uri: "s3://b/".to_owned(), exclude: vec!["a[".to_owned()], ..Default::default() };
        let error = KeyFilter::new(&config).unwrap_err();
        assert!(error.to_string().contains("'exclude'") && error.to_string().contains("a["), "{error}");
    }
}
