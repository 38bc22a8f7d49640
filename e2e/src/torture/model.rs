//! The reference model of a mounted version: what every path and every byte must be.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

/// Sizes at and around the borders of blocks, of pages of read-ahead, and of parts.
const BORDERS: [usize; 16] = [
    0,
    1,
    4095,
    4096,
    4097,
    8192,
    65_535,
    65_537,
    131_072,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    (1 << 20) + 4096,
    (2 << 20) + 5000,
    3 << 20,
    777,
];

/// Parts of names that programs stumble over; each is used with a number, so that a file is never where a directory is.
const NAMES: [&str; 8] = ["plain", "with blank", "ünïcödé", ".hidden", "-r", "new\nline", "back\\slash", "\u{1F4E6}"];

/// The one buffer that all contents are taken from, from different places: so they cost nothing, and can be told apart.
#[derive(Clone)]
pub struct Pattern(Bytes);

impl Pattern {
    /// A pattern of `bytes` bytes.
    pub fn new(seed: u64, bytes: usize) -> Self {
        let mut pattern = vec![0; bytes];
        StdRng::seed_from_u64(seed).fill_bytes(&mut pattern);
        Self(pattern.into())
    }

    /// Any `len` bytes of it.
    fn take(&self, rng: &mut StdRng, len: usize) -> Bytes {
        let start = rng.random_range(0..=self.0.len() - len);
        self.0.slice(start..start + len)
    }
}

/// One file.
#[derive(Clone)]
pub struct File {
    /// Its content.
    pub bytes: Bytes,
    /// The object that it is, unique in its dataset: another content is another object.
    pub object: u64,
}

/// How large a random model is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Number of files.
    pub files: usize,
    /// Largest file, in bytes.
    pub largest: usize,
    /// How many of the files lie in one directory, which then has several blocks.
    pub crowd: usize,
}

/// All files of one version of a dataset, by their paths.
#[derive(Clone, Default)]
pub struct Model {
    files: BTreeMap<String, File>,
    /// The names in each directory with whether they are directories; the root is "".
    directories: BTreeMap<String, BTreeSet<(String, bool)>>,
    next_object: u64,
}

impl Model {
    /// A model of that shape.
    pub fn random(rng: &mut StdRng, pattern: &Pattern, shape: Shape) -> Self {
        let mut model = Self::default();
        for nth in 0..shape.files {
            let path = if nth < shape.crowd { format!("crowd/{nth:05}") } else { path(rng, nth) };
            let largest = if nth < shape.crowd { 300 } else { shape.largest };
            model.add(rng, pattern, path, largest);
        }
        model.index();
        model
    }

    /// What may come of it in the next version: some files are gone, some have other bytes, some are new.
    pub fn successor(&self, rng: &mut StdRng, pattern: &Pattern, shape: Shape) -> Self {
        let mut model = Self { next_object: self.next_object, ..Self::default() };
        for (nth, (path, file)) in self.files.iter().enumerate() {
            match rng.random_range(0..10) {
                0 | 1 => {}
                2 | 3 => model.add(rng, pattern, path.clone(), shape.largest),
                4 => model.add(rng, pattern, format!("more/{nth}"), shape.largest),
                _ => _ = model.files.insert(path.clone(), file.clone()),
            }
        }
        model.index();
        model
    }

    fn add(&mut self, rng: &mut StdRng, pattern: &Pattern, path: String, largest: usize) {
        let border = BORDERS[rng.random_range(0..BORDERS.len())];
        let size = if border <= largest && rng.random_bool(0.5) { border } else { rng.random_range(0..=largest) };
        let file = File { bytes: pattern.take(rng, size), object: self.next_object };
        self.next_object += 1;
        self.files.insert(path, file);
    }

    fn index(&mut self) {
        self.directories = BTreeMap::from([(String::new(), BTreeSet::new())]);
        for path in self.files.keys() {
            let (mut rest, mut is_directory) = (path.as_str(), false);
            loop {
                let (parent, name) = rest.rsplit_once('/').unwrap_or(("", rest));
                let names = self.directories.entry(parent.to_owned()).or_default();
                if !names.insert((name.to_owned(), is_directory)) || parent.is_empty() {
                    break;
                }
                (rest, is_directory) = (parent, true);
            }
        }
    }

    /// Number of files.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no file.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// All files in byte order of their paths.
    pub fn files(&self) -> impl Iterator<Item = (&str, &File)> {
        self.files.iter().map(|(path, file)| (path.as_str(), file))
    }

    /// The file at a share of all files; `None` if there are none.
    pub fn pick(&self, share: f64) -> Option<(&str, &File)> {
        self.files().nth((share * self.len() as f64) as usize)
    }

    /// The file of that path.
    pub fn file(&self, path: &str) -> Option<&File> {
        self.files.get(path)
    }

    /// All directories with the names in them, each with whether it is a directory.
    pub fn directories(&self) -> impl Iterator<Item = (&str, &BTreeSet<(String, bool)>)> {
        self.directories.iter().map(|(path, names)| (path.as_str(), names))
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.values().map(|file| file.bytes.len() as u64).sum()
    }
}

/// A path whose directories many files have, and whose name is its own.
fn path(rng: &mut StdRng, nth: usize) -> String {
    let mut path = String::new();
    for _ in 0..rng.random_range(0..4) {
        let name = NAMES[rng.random_range(0..NAMES.len())];
        path += &format!("{name} d{}/", rng.random_range(0..3));
    }
    let name = NAMES[rng.random_range(0..NAMES.len())];
    match rng.random_range(0..20) {
        // The longest name that there can be.
        0 => path + &format!("{nth:_>255}"),
        _ => path + &format!("{name} f{nth}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: Shape = Shape { files: 60, largest: 1 << 20, crowd: 20 };

    #[test]
    fn a_seed_is_one_model_and_its_directories_are_those_of_its_files() {
        let model = || {
            let (mut rng, pattern) = (StdRng::seed_from_u64(3), Pattern::new(4, 4 << 20));
            let first = Model::random(&mut rng, &pattern, SHAPE);
            let second = first.successor(&mut rng, &pattern, SHAPE);
            (first, second)
        };
        let (first, second) = model();
        let paths = |model: &Model| model.files().map(|(path, file)| (path.to_owned(), file.bytes.clone())).collect();
        let (a, b): (Vec<_>, Vec<_>) = (paths(&first), paths(&model().0));
        assert_eq!(a, b);
        assert!(second.len() > 20 && paths(&second) != a);
        for model in [first, second] {
            let mut files = 0;
            for (path, names) in model.directories() {
                for (name, is_directory) in names {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}/{name}") };
                    assert_eq!(
                        (model.file(&path).is_none(), model.directories.contains_key(&path)),
                        (*is_directory, *is_directory)
                    );
                    files += usize::from(!is_directory);
                }
            }
            assert_eq!(files, model.len());
        }
    }
}
