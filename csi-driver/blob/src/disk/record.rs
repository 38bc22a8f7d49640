//! Records changes of directories that a test names, in an order in which they can have happened.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A file, whatever its name.
pub(crate) type Inode = usize;

/// One change. Of a directory and the names in it, or of what is in a file.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Create {
        path: PathBuf,
        inode: Inode,
    },
    MakeDir {
        path: PathBuf,
    },
    /// Of a file or a directory.
    Remove {
        path: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Write {
        inode: Inode,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        inode: Inode,
        len: u64,
    },
    Punch {
        inode: Inode,
        offset: u64,
        len: u64,
    },
    /// What was changed in the file before the change `upto` is durable.
    Sync {
        inode: Inode,
        upto: usize,
    },
    /// What was changed of the directory's names before the change `upto` is durable.
    SyncDir {
        dir: PathBuf,
        upto: usize,
    },
}

/// All changes below one directory, as long as this lives. Nothing below it may be there before.
pub(crate) struct Recorder {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    changes: Vec<Change>,
    names: HashMap<PathBuf, Inode>,
    inodes: usize,
}

static RECORDERS: Mutex<Vec<Weak<Recorder>>> = Mutex::new(Vec::new());

impl Recorder {
    /// Records from now on. What is recorded is not synced: the test does not depend on a disk.
    pub(crate) fn start(root: &Path) -> Arc<Self> {
        let recorder = Arc::new(Self { root: root.to_path_buf(), state: Mutex::default() });
        let mut recorders = RECORDERS.lock();
        recorders.retain(|recorder| recorder.strong_count() > 0);
        recorders.push(Arc::downgrade(&recorder));
        recorder
    }

    fn of(path: &Path) -> Option<Arc<Self>> {
        RECORDERS.lock().iter().filter_map(Weak::upgrade).find(|recorder| path.starts_with(&recorder.root))
    }

    /// Changes so far.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().changes.len()
    }

    /// All changes so far.
    pub(crate) fn changes(&self) -> Vec<Change> {
        self.state.lock().changes.clone()
    }
}

/// A file below a recorder.
pub(super) struct Recorded {
    recorder: Arc<Recorder>,
    inode: Inode,
}

impl Recorded {
    pub(super) fn push(&self, change: impl FnOnce(Inode) -> Change) {
        let change = change(self.inode);
        self.recorder.state.lock().changes.push(change);
    }

    /// Whatever is recorded by now was written before, so it is durable after this.
    pub(super) fn sync(&self) {
        let mut state = self.recorder.state.lock();
        let upto = state.changes.len();
        state.changes.push(Change::Sync { inode: self.inode, upto });
    }
}

pub(super) fn opened(path: &Path) -> Option<Recorded> {
    let recorder = Recorder::of(path)?;
    let inode = {
        let mut state = recorder.state.lock();
        match state.names.get(path) {
            Some(inode) => *inode,
            None => {
                let inode = state.inodes;
                state.inodes += 1;
                state.names.insert(path.to_path_buf(), inode);
                state.changes.push(Change::Create { path: path.to_path_buf(), inode });
                inode
            }
        }
    };
    Some(Recorded { recorder, inode })
}

/// A name was changed.
pub(super) fn changed(path: &Path, change: impl FnOnce(PathBuf) -> Change) {
    let Some(recorder) = Recorder::of(path) else { return };
    let mut state = recorder.state.lock();
    let inode = state.names.remove(path);
    let change = change(path.to_path_buf());
    if let (Change::Rename { to, .. }, Some(inode)) = (&change, inode) {
        state.names.insert(to.clone(), inode);
    }
    state.changes.push(change);
}

/// A directory was synced. False if it is none that is recorded.
pub(super) fn synced(dir: &Path) -> bool {
    let Some(recorder) = Recorder::of(dir) else { return false };
    let mut state = recorder.state.lock();
    let upto = state.changes.len();
    state.changes.push(Change::SyncDir { dir: dir.to_path_buf(), upto });
    true
}
