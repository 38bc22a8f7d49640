//! What the keeper holds for a successor of this process. Whether there is one, or it comes and goes, changes nothing for who
//! asks: without a keeper nothing is kept, and a new one is given everything.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use granary_keeper::{Client, ClientError};
use parking_lot::Mutex;
use rustix::event::{PollFd, PollFlags};

use crate::takeover;

/// The keeper is another process on this machine, and answers at once if at all.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause between two looks for a keeper that is not there.
const PAUSE: Duration = Duration::from_secs(1);

/// Before the name of what was not kept when its process died.
const CUT_SHORT: &str = "cut-short/";

/// The name of what a predecessor had taken out of the keeper for a moment in which it died.
pub(crate) fn cut_short(left: &str) -> Option<&str> {
    left.strip_prefix(CUT_SHORT)
}

/// What one state directory's processes have kept.
#[derive(Clone)]
pub(crate) struct Keeping {
    /// `None` if there is no keeper and none will come.
    shared: Option<Arc<Shared>>,
    /// Otherwise it is as if the kernel could not ask a successor again.
    has_resend: bool,
}

struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    client: Option<Client>,
    /// What the keeper has of a predecessor, and nobody here has asked for yet.
    left: BTreeMap<String, Vec<OwnedFd>>,
    /// What it has, or shall have, of this process.
    kept: BTreeMap<String, Entry>,
    /// Entries that there have been.
    entries: u64,
    /// The last trouble, which is said once.
    trouble: String,
    /// Everything stays as it is: this process is ending.
    has_left: bool,
}

struct Entry {
    number: u64,
    descriptors: Vec<OwnedFd>,
}

/// Something that is kept until this is dropped, unless its process leaves it to a successor.
pub(crate) struct Kept {
    keeping: Keeping,
    name: String,
    /// The entry that this is for: the name may have another one by now.
    number: u64,
}

impl Keeping {
    /// Asks the keeper that listens at `path` for what it has. Without a path there is none.
    pub(crate) fn start(path: Option<&Path>) -> Self {
        let Some(path) = path else { return Self { shared: None, has_resend: true } };
        let mut state = State::default();
        state.install(Client::connect(path, PATIENCE));
        match state.client.as_ref().map(Client::all) {
            Some(Ok(all)) => state.find(all),
            Some(Err(error)) => state.lose(&error),
            None => {}
        }
        let shared = Arc::new(Shared { path: path.to_owned(), state: Mutex::new(state) });
        let watched = Arc::downgrade(&shared);
        let watcher = std::thread::Builder::new().name("granary-keeping".into()).spawn(move || watch(&watched));
        if let Err(error) = watcher {
            tracing::warn!(%error, "a keeper that is started again will not be noticed");
        }
        Self { shared: Some(shared), has_resend: true }
    }

    /// As [`Self::start`] on a kernel that cannot ask a successor again.
    pub(crate) fn start_without_resend(path: Option<&Path>) -> Self {
        Self { has_resend: false, ..Self::start(path) }
    }

    /// Whether a successor can go on with a connection only if it has a journal.
    pub(crate) fn needs_journals(&self, connection: impl AsFd) -> bool {
        self.shared.is_some() && !(self.has_resend && takeover::ask_again(connection).is_ok())
    }

    /// Gives what a predecessor has had kept under `name`. Who takes it has it kept again, or discards it.
    pub(crate) fn take(&self, name: &str) -> Option<Vec<OwnedFd>> {
        self.shared.as_ref()?.state.lock().left.remove(name)
    }

    /// Has the keeper close what was taken and is of no use.
    pub(crate) fn discard(&self, name: &str) {
        let Some(shared) = &self.shared else { return };
        let mut state = shared.state.lock();
        if !state.has_left && !state.kept.contains_key(name) {
            state.take_back(name);
        }
    }

    /// Has descriptors kept, in place of what has the name.
    pub(crate) fn keep(&self, name: &str, descriptors: Vec<OwnedFd>) -> Kept {
        let mut number = 0;
        if let Some(shared) = &self.shared {
            let mut state = shared.state.lock();
            state.entries += 1;
            number = state.entries;
            state.insert(name, Entry { number, descriptors });
        }
        Kept { keeping: self.clone(), name: name.to_owned(), number }
    }

    /// Has the keeper close what a predecessor had kept and nobody has taken. Gives the names.
    pub(crate) fn discard_left(&self) -> Vec<String> {
        let Some(shared) = &self.shared else { return Vec::new() };
        let mut state = shared.state.lock();
        let left = std::mem::take(&mut state.left);
        for name in left.keys() {
            state.take_back(name);
        }
        left.into_keys().collect()
    }

    /// Leaves everything to a successor: nothing is changed any more. Gives whether a keeper has it.
    pub(crate) fn leave(&self) -> bool {
        let Some(shared) = &self.shared else { return false };
        let mut state = shared.state.lock();
        state.has_left = true;
        state.client.is_some()
    }

    /// Takes an entry out, here and from the keeper, if it is still there.
    fn remove(&self, name: &str, number: u64) -> Option<Entry> {
        let mut state = self.shared.as_ref()?.state.lock();
        if state.has_left || state.kept.get(name)?.number != number {
            return None;
        }
        state.take_back(name);
        state.kept.remove(name)
    }
}

impl Kept {
    /// Calls `work` while it is not kept. If this process dies meanwhile, what its successor has left has a name that
    /// [`cut_short`] understands.
    pub(crate) fn without<T>(&self, work: impl FnOnce() -> T) -> T {
        // Any descriptor will do. Without the mark nothing is wrong, only less is known.
        let null = File::open("/dev/null").ok();
        let _mark = null.map(|null| self.keeping.keep(&format!("{CUT_SHORT}{}", self.name), vec![null.into()]));
        let entry = self.keeping.remove(&self.name, self.number);
        let result = work();
        if let (Some(shared), Some(entry)) = (&self.keeping.shared, entry) {
            shared.state.lock().insert(&self.name, entry);
        }
        result
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeping.remove(&self.name, self.number));
    }
}

impl State {
    /// Takes in what the keeper has.
    fn find(&mut self, all: BTreeMap<String, Vec<OwnedFd>>) {
        self.left = all;
        // What is there again was not cut short: its mark only has not gone yet.
        let is_stale = |name: &&String| cut_short(name).is_some_and(|name| self.left.contains_key(name));
        let stale: Vec<String> = self.left.keys().filter(is_stale).cloned().collect();
        for mark in stale {
            self.left.remove(&mark);
            self.take_back(&mark);
        }
    }

    fn install(&mut self, client: Result<Client, ClientError>) {
        match client {
            Ok(client) => {
                self.client = Some(client);
                self.trouble.clear();
                tracing::info!("a keeper holds what a successor of this process needs");
            }
            Err(error) => self.lose(&error),
        }
    }

    fn lose(&mut self, error: &ClientError) {
        self.client = None;
        let trouble = error.to_string();
        if self.trouble != trouble {
            tracing::warn!(%error, "going on without a keeper: if this process dies, reads fail until it is back");
            self.trouble = trouble;
        }
    }

    fn insert(&mut self, name: &str, entry: Entry) {
        if !self.has_left {
            self.left.remove(name);
            self.kept.insert(name.to_owned(), entry);
            self.give(name);
        }
    }

    fn give(&mut self, name: &str) {
        let (Some(client), Some(entry)) = (&self.client, self.kept.get(name)) else { return };
        let descriptors: Vec<_> = entry.descriptors.iter().map(|descriptor| descriptor.as_fd()).collect();
        if let Err(error) = client.keep(name, &descriptors) {
            self.lose(&error);
        }
    }

    fn take_back(&mut self, name: &str) {
        if let Some(client) = &self.client
            && let Err(error) = client.forget(name)
        {
            self.lose(&error);
        }
    }

    /// Gives a keeper that has just come, or come again, what it shall have, and nothing else.
    fn give_all(&mut self) {
        let Some(client) = &self.client else { return };
        let of_others = match client.all() {
            Ok(all) => all.into_keys().filter(|name| !self.kept.contains_key(name) && !self.left.contains_key(name)),
            Err(error) => return self.lose(&error),
        };
        for name in of_others.collect::<Vec<_>>() {
            self.take_back(&name);
        }
        for name in self.kept.keys().cloned().collect::<Vec<_>>() {
            self.give(&name);
        }
    }
}

/// Connects again when the keeper has gone, until nobody needs it.
fn watch(shared: &Weak<Shared>) {
    loop {
        let Some(strong) = shared.upgrade() else { return };
        let watched = strong.state.lock().client.as_ref().and_then(|client| client.watch().ok());
        let path = strong.path.clone();
        drop(strong);
        match watched {
            Some(watched) => {
                // Hangs up with the keeper, or with the last who needs it.
                let _ = rustix::event::poll(&mut [PollFd::new(&watched, PollFlags::empty())], None);
            }
            None => std::thread::sleep(PAUSE),
        }
        if shared.upgrade().is_none_or(|shared| shared.state.lock().has_left) {
            return;
        }
        // Without the lock: nobody shall wait for a keeper that does not answer.
        let client = Client::connect(&path, PATIENCE);
        let Some(strong) = shared.upgrade() else { return };
        let mut state = strong.state.lock();
        state.install(client);
        state.give_all();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use granary_keeper::Keeper;
    use granary_keeper::wire::Versions;

    use super::*;

    /// Where a keeper can be.
    struct Place {
        path: PathBuf,
        _dir: tempfile::TempDir,
    }

    fn place() -> Place {
        let dir = tempfile::tempdir().unwrap();
        Place { path: dir.path().join("keeper.sock"), _dir: dir }
    }

    fn lasting(path: &Path) {
        let keeper = Keeper::listen(path).unwrap();
        std::thread::spawn(move || keeper.run(None));
    }

    fn descriptor() -> OwnedFd {
        tempfile::tempfile().unwrap().into()
    }

    fn names(path: &Path) -> Vec<String> {
        Client::connect(path, PATIENCE).unwrap().all().unwrap().into_keys().collect()
    }

    #[test]
    fn a_successor_takes_what_it_needs_and_the_rest_is_closed() {
        let place = place();
        lasting(&place.path);
        let first = Keeping::start(Some(&place.path));
        let [a, _b, c] = ["a", "b", "c"].map(|name| first.keep(name, vec![descriptor()]));
        drop(c);
        assert!(first.take("a").is_none(), "a process has nothing of its own left");
        assert_eq!(names(&place.path), ["a", "b"]);
        // As a process that ends: what it drops from now on changes nothing.
        assert!(first.leave());
        drop((a, first));

        let second = Keeping::start(Some(&place.path));
        let taken = second.take("a").unwrap();
        assert_eq!(taken.len(), 1);
        assert!(second.take("a").is_none() && second.take("c").is_none());
        let a = second.keep("a", taken);
        assert_eq!(second.discard_left(), ["b"]);
        second.discard("a");
        assert_eq!(names(&place.path), ["a"]);
        drop(a);
        assert_eq!(names(&place.path), [""; 0]);
    }

    #[test]
    fn what_was_taken_out_for_a_moment_is_missed_if_that_is_the_last() {
        let place = place();
        lasting(&place.path);
        let first = Keeping::start(Some(&place.path));
        let a = first.keep("a", vec![descriptor()]);
        a.without(|| {
            let second = Keeping::start(Some(&place.path));
            let left = second.discard_left();
            assert_eq!(left.iter().filter_map(|name| cut_short(name)).collect::<Vec<_>>(), ["a"]);
            assert!(second.take("a").is_none());
        });
        assert_eq!(names(&place.path), ["a"]);
    }

    #[test]
    fn a_mark_beside_what_it_is_of_says_nothing() {
        let place = place();
        lasting(&place.path);
        let first = Keeping::start(Some(&place.path));
        let _both = ["a", "cut-short/a"].map(|name| first.keep(name, vec![descriptor()]));
        let second = Keeping::start(Some(&place.path));
        assert!(second.take("a").is_some());
        assert_eq!(second.discard_left(), [""; 0]);
        assert_eq!(names(&place.path), ["a"]);
    }

    #[test]
    fn an_entry_goes_with_its_own_and_not_with_an_earlier_one() {
        let place = place();
        lasting(&place.path);
        let keeping = Keeping::start(Some(&place.path));
        let early = keeping.keep("a", vec![descriptor()]);
        let late = keeping.keep("a", vec![descriptor(), descriptor()]);
        drop(early);
        assert_eq!(names(&place.path), ["a"]);
        late.without(|| assert_eq!(names(&place.path), ["cut-short/a"]));
        assert_eq!(names(&place.path), ["a"]);
        drop(late);
        assert_eq!(names(&place.path), [""; 0]);
    }

    #[test]
    fn what_was_taken_and_is_of_no_use_is_discarded() {
        let place = place();
        lasting(&place.path);
        let first = Keeping::start(Some(&place.path));
        let _a = first.keep("a", vec![descriptor()]);
        first.leave();
        let second = Keeping::start(Some(&place.path));
        drop(second.take("a"));
        second.discard("a");
        assert_eq!(names(&place.path), [""; 0]);
    }

    #[test]
    fn without_a_keeper_nothing_is_kept_and_nothing_fails() {
        let dir = tempfile::tempdir().unwrap();
        for path in [None, Some(dir.path().join("none"))] {
            let keeping = Keeping::start(path.as_deref());
            let kept = keeping.keep("a", vec![descriptor()]);
            assert_eq!(kept.without(|| 7), 7);
            drop(kept);
            assert!(keeping.take("a").is_none());
            assert!(keeping.discard_left().is_empty() && !keeping.leave());
        }
    }

    #[test]
    fn a_keeper_that_comes_later_or_again_gets_everything() {
        let place = place();
        let keeping = Keeping::start(Some(&place.path));
        let _a = keeping.keep("a", vec![descriptor(), descriptor()]);
        lasting(&place.path);
        let start = Instant::now();
        while names(&place.path) != ["a"] {
            assert!(start.elapsed() < Duration::from_secs(60), "waited too long");
            std::thread::yield_now();
        }
    }

    #[test]
    fn one_of_another_version_is_as_good_as_none() {
        let place = place();
        let keeper = Keeper::listen(&place.path).unwrap().speaking(Versions { least: 7, most: 9 });
        std::thread::spawn(move || keeper.run(None));
        let keeping = Keeping::start(Some(&place.path));
        let _a = keeping.keep("a", vec![descriptor()]);
        assert!(keeping.take("a").is_none() && !keeping.leave());
    }
}
