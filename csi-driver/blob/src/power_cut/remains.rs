//! What a disk has after a power cut.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};

use granary_image::BLOCK_BYTES;

use crate::disk::record::{Change, Inode};
use crate::disk::{CacheFile, make_dir, sync_dir};
use crate::parts_map::PartsMap;

/// A disk writes so many bytes in full or not at all.
const SECTOR: u64 = 512;

/// Random numbers of a seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}

/// What becomes of changes that were not synced.
trait Fate {
    fn has_name(&mut self, at: usize) -> bool;
    fn of_sector(&mut self) -> Sector;
}

enum Sector {
    /// As it was written.
    New,
    /// As it was before.
    Old,
    /// Where nothing was, what was there before that.
    Garbage(u8),
}

/// All of them are on the disk, or none.
struct Every(bool);

impl Fate for Every {
    fn has_name(&mut self, _: usize) -> bool {
        self.0
    }

    fn of_sector(&mut self) -> Sector {
        if self.0 { Sector::New } else { Sector::Old }
    }
}

/// Some of them are.
struct Any<'a> {
    dice: &'a mut Dice,
    /// Percent of them.
    share: u64,
    /// Percent of the others that are garbage, where nothing was before.
    garbage: u64,
    /// Names are changed in order, up to here; `None`: in any order.
    names: Option<usize>,
}

impl Fate for Any<'_> {
    fn has_name(&mut self, at: usize) -> bool {
        self.names.map_or_else(|| self.dice.below(100) < self.share, |end| at < end)
    }

    fn of_sector(&mut self) -> Sector {
        if self.dice.below(100) < self.share {
            Sector::New
        } else if self.dice.below(100) < self.garbage {
            Sector::Garbage(self.dice.roll() as u8)
        } else {
            Sector::Old
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Node {
    File(Inode),
    Dir,
}

/// All that was changed below a directory.
pub(super) struct Past {
    pub(super) root: PathBuf,
    pub(super) changes: Vec<Change>,
}

impl Past {
    /// What is there if the power goes after so many changes.
    pub(super) fn cut(&self, after: usize, dice: &mut Dice) -> Remains {
        let share = [0, 30, 50, 90, 100][dice.below(5) as usize];
        let garbage = [0, 50][dice.below(2) as usize];
        let in_order = dice.below(2) == 0;
        let names = in_order.then(|| dice.below(after as u64 + 1) as usize);
        let mut fate = Any { dice, share, garbage, names };
        let (names, mut contents) = self.replay(after, &mut fate);
        let mut remains = Remains::default();
        for (path, node) in names {
            let path = path.strip_prefix(&self.root).expect("below the root").to_path_buf();
            match node {
                Node::Dir => drop(remains.dirs.insert(path)),
                Node::File(inode) => drop(remains.files.insert(path, contents.remove(&inode).unwrap_or_default())),
            }
        }
        remains
    }

    /// Parts of the blob with this map that no cut here can take away.
    pub(super) fn durable_parts(&self, after: usize, map: &Path) -> BTreeSet<u64> {
        let (names, now) = self.replay(after, &mut Every(true));
        let (_, synced) = self.replay(after, &mut Every(false));
        let Some(&Node::File(inode)) = names.get(map) else { return BTreeSet::new() };
        let parts = |contents: &HashMap<Inode, Vec<u8>>| contents.get(&inode).map(|map| parts(map)).unwrap_or_default();
        parts(&now).intersection(&parts(&synced)).copied().collect()
    }

    fn replay(&self, after: usize, fate: &mut dyn Fate) -> (BTreeMap<PathBuf, Node>, HashMap<Inode, Vec<u8>>) {
        let changes = &self.changes[..after];
        let (mut files, mut dirs) = (HashMap::new(), HashMap::new());
        for change in changes {
            match change {
                Change::Sync { inode, upto } => drop(files.insert(*inode, *upto)),
                Change::SyncDir { dir, upto } => drop(dirs.insert(dir.as_path(), *upto)),
                _ => {}
            }
        }
        let (mut names, mut contents) = (BTreeMap::new(), HashMap::<Inode, Vec<u8>>::new());
        for (at, change) in changes.iter().enumerate() {
            match change {
                Change::Create { path, .. }
                | Change::MakeDir { path }
                | Change::Remove { path }
                | Change::Rename { from: path, .. } => {
                    let parent = path.parent().expect("below the root");
                    let is_durable = dirs.get(parent).is_some_and(|upto| at < *upto);
                    let has_parent = parent == self.root || names.contains_key(parent);
                    if has_parent && (is_durable || fate.has_name(at)) {
                        rename(&mut names, change);
                    }
                }
                Change::Write { inode, .. } | Change::SetLen { inode, .. } | Change::Punch { inode, .. } => {
                    let is_durable = files.get(inode).is_some_and(|upto| at < *upto);
                    let content = contents.entry(*inode).or_default();
                    if is_durable { write(content, change, &mut Every(true)) } else { write(content, change, fate) }
                }
                Change::Sync { .. } | Change::SyncDir { .. } => {}
            }
        }
        (names, contents)
    }
}

fn rename(names: &mut BTreeMap<PathBuf, Node>, change: &Change) {
    match change {
        Change::Create { path, inode } => drop(names.insert(path.clone(), Node::File(*inode))),
        Change::MakeDir { path } => drop(names.insert(path.clone(), Node::Dir)),
        Change::Remove { path } => names.retain(|name, _| !name.starts_with(path)),
        Change::Rename { from, to } => {
            if let Some(node) = names.remove(from) {
                names.insert(to.clone(), node);
            }
        }
        _ => unreachable!("no change of a name"),
    }
}

fn write(content: &mut Vec<u8>, change: &Change, fate: &mut dyn Fate) {
    match change {
        Change::Write { offset, bytes, .. } => {
            let (mut at, end) = (*offset, offset + bytes.len() as u64);
            while at < end {
                let stop = end.min((at + 1).next_multiple_of(SECTOR));
                let new = &bytes[(at - offset) as usize..(stop - offset) as usize];
                let range = at as usize..stop as usize;
                at = stop;
                let was_empty = content
                    .get(range.start..range.end.min(content.len()))
                    .is_none_or(|old| old.iter().all(|&b| b == 0));
                let sector = match fate.of_sector() {
                    Sector::New => new.to_vec(),
                    Sector::Garbage(byte) if was_empty => vec![byte; new.len()],
                    Sector::Garbage(_) | Sector::Old => continue,
                };
                if content.len() < range.end {
                    content.resize(range.end, 0);
                }
                content[range].copy_from_slice(&sector);
            }
        }
        Change::SetLen { len, .. } => {
            if matches!(fate.of_sector(), Sector::New) {
                content.resize(*len as usize, 0);
            }
        }
        Change::Punch { offset, len, .. } => {
            for at in (*offset..offset + len).step_by(BLOCK_BYTES as usize) {
                let end = content.len();
                let range = (at as usize).min(end)..((at + BLOCK_BYTES) as usize).min(end);
                if matches!(fate.of_sector(), Sector::New) {
                    content[range].fill(0);
                }
            }
        }
        _ => unreachable!("no change of a file"),
    }
}

/// The parts that a map has.
fn parts(map: &[u8]) -> BTreeSet<u64> {
    let mut file = tempfile::tempfile().expect("temporary file");
    file.write_all(map).expect("write");
    let mut found = BTreeSet::new();
    if let Ok(map) = PartsMap::open(file.into(), "b") {
        map.load(|part, _| {
            found.insert(part);
        })
        .expect("load");
    }
    found
}

/// What is on the disk when the power comes back, below a directory.
#[derive(Default)]
pub(super) struct Remains {
    dirs: BTreeSet<PathBuf>,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Remains {
    /// Writes it below `root`, durably.
    pub(super) fn write(&self, root: &Path) {
        for dir in &self.dirs {
            make_dir(&root.join(dir)).expect("make");
        }
        for (path, content) in &self.files {
            let file = CacheFile::open(&root.join(path)).expect("open");
            file.write_all_at(content, 0).expect("write");
            file.sync_data().expect("sync");
        }
        for dir in self.dirs.iter().map(|dir| root.join(dir)).chain([root.to_path_buf()]) {
            sync_dir(&dir).expect("sync");
        }
    }
}
