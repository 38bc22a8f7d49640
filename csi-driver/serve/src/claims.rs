//! What the kernel reads natively though no live version here answers for it: left by a killed process, or kept alive by
//! somebody after it was unmounted. Its parts are held until it is adopted or gone.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use granary_blob::{Claim, PartsHold, Pool, PoolConfig, PoolError, Shares};
use parking_lot::Mutex;

use crate::state_dir::{StateDir, read_json, remove_file};
use crate::survey::Survey;
use crate::{ServeError, VersionManifest, artifacts, superblocks};

/// Holds without a live version, by the version's key.
pub(crate) struct Claims {
    /// Of pools that were not opened yet.
    waiting: Mutex<Vec<Use>>,
    parked: Mutex<HashMap<String, Vec<PartsHold>>>,
    /// One for all pools: they have one network, and one memory.
    shares: Shares,
}

struct Use {
    key: String,
    /// `None` if the manifest is lost: it may be any.
    pool: Option<String>,
    claim: Claim,
}

impl Claims {
    /// Asks kernel and state directory for what a predecessor left.
    pub(crate) fn find(state: &StateDir, survey: &Survey) -> Result<Self, ServeError> {
        let owned = |(key, blob_id): (&str, &str)| (key.to_owned(), blob_id.to_owned());
        // A mount is seen once for each of its targets.
        let mut found: BTreeSet<(String, String)> = survey.native().map(owned).collect();
        for key in state.version_keys()? {
            let dir = state.version(&key);
            // Not to be seen here any more, but alive.
            if superblocks::may_live(&dir)
                && let Ok(manifest) = read_json::<VersionManifest>(&dir.manifest())
            {
                found.insert((key, manifest.blob_id));
            }
        }
        let waiting = found.iter().map(|(key, blob_id)| a_use(state, key, blob_id)).collect();
        Ok(Self { waiting: Mutex::new(waiting), parked: Mutex::default(), shares: Shares::default() })
    }

    /// Opens the pool `name`, and holds what is read of it natively before anything of it can be freed.
    pub(crate) fn open_pool(&self, name: &str, config: PoolConfig) -> Result<Arc<Pool>, PoolError> {
        let mut waiting = self.waiting.lock();
        let of_it = |one: &Use| one.pool.as_deref().is_none_or(|pool| pool == name);
        let claims: Vec<Claim> = waiting.iter().filter(|one| of_it(one)).map(|one| one.claim.clone()).collect();
        let (pool, holds) = Pool::open_claimed(config, &claims, self.shares.clone())?;
        let keys: Vec<String> = waiting.iter().filter(|one| of_it(one)).map(|one| one.key.clone()).collect();
        waiting.retain(|one| one.pool.as_deref() != Some(name));
        for (key, hold) in keys.into_iter().zip(holds) {
            if let Some(hold) = hold {
                self.park(&key, hold);
            }
        }
        Ok(pool)
    }

    /// Keeps a hold for what may go on reading.
    pub(crate) fn park(&self, key: &str, hold: PartsHold) {
        self.parked.lock().entry(key.to_owned()).or_default().push(hold);
    }

    /// Gives the hold of a version that is adopted.
    pub(crate) fn take(&self, key: &str) -> Option<PartsHold> {
        let mut parked = self.parked.lock();
        let hold = parked.get_mut(key).and_then(Vec::pop);
        parked.retain(|_, holds| !holds.is_empty());
        hold
    }

    /// Whether somebody may read a version that is not live.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.parked.lock().contains_key(key)
    }

    /// Drops the holds of what nobody reads any more. Gives whether there was one.
    pub(crate) fn sweep(&self, state: &StateDir, survey: &Survey) -> bool {
        let mut parked = self.parked.lock();
        let before = parked.len();
        parked.retain(|key, _| {
            let dir = state.version(key);
            let is_read = survey.native().any(|(native, _)| native == key) || superblocks::may_live(&dir);
            if !is_read {
                // A name may be another superblock's later.
                let _ = remove_file(&dir.superblocks());
            }
            is_read
        });
        parked.len() < before
    }
}

fn a_use(state: &StateDir, key: &str, blob_id: &str) -> Use {
    let dir = state.version(key);
    let manifest = read_json::<VersionManifest>(&dir.manifest()).ok();
    let parts = artifacts::open(&dir).map(|(_, parts)| parts).inspect_err(|error| {
        tracing::error!(version = key, %error, "cannot tell which parts a mounted version needs: its blob is left to it as it is");
    });
    let known = manifest.as_ref().is_some_and(|manifest| manifest.blob_id == blob_id);
    let parts = parts.ok().filter(|_| known).map(Arc::new);
    let claim = Claim { blob_id: blob_id.to_owned(), parts };
    Use { key: key.to_owned(), pool: manifest.map(|manifest| manifest.pool), claim }
}
