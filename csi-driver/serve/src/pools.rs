//! The open pools, by the name of their class, and their settings on disk: a successor must serve mounts before anybody
//! tells it the classes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use granary_blob::{Pool, PoolConfig, SCRUB_RATE};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::ServeError;
use crate::claims::Claims;
use crate::state_dir::{read_json, write_json};

/// [`PoolConfig`] as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Settings {
    dir: PathBuf,
    max_bytes: Option<u64>,
    min_free_percent: u8,
    min_free_bytes: u64,
}

impl From<&PoolConfig> for Settings {
    fn from(config: &PoolConfig) -> Self {
        let PoolConfig { dir, max_bytes, min_free_percent, min_free_bytes } = config.clone();
        Self { dir, max_bytes, min_free_percent, min_free_bytes }
    }
}

impl From<&Settings> for PoolConfig {
    fn from(settings: &Settings) -> Self {
        let Settings { dir, max_bytes, min_free_percent, min_free_bytes } = settings.clone();
        Self { dir, max_bytes, min_free_percent, min_free_bytes }
    }
}

/// Where the pool `name` lies, by the settings in `file`.
pub(crate) fn dir_of(file: &Path, name: &str) -> Option<PathBuf> {
    read_json::<BTreeMap<String, Settings>>(file).ok()?.remove(name).map(|settings| settings.dir)
}

/// All open pools.
pub(crate) struct Pools {
    claims: Arc<Claims>,
    file: PathBuf,
    pools: Mutex<BTreeMap<String, Entry>>,
    /// Bytes a second of each pool that are checked.
    scrub_rate: AtomicU64,
}

struct Entry {
    settings: Settings,
    /// `None` if the settings are a predecessor's and the directory cannot be opened.
    pool: Option<Arc<Pool>>,
}

impl Pools {
    /// Opens the pools that a predecessor had. One that cannot be opened is tried again when its class is set.
    pub(crate) fn load(file: PathBuf, claims: Arc<Claims>) -> Self {
        let settings: BTreeMap<String, Settings> = match file.exists().then(|| read_json(&file)) {
            Some(Ok(settings)) => settings,
            Some(Err(error)) => {
                tracing::warn!(%error, "the settings of earlier caches are left out");
                BTreeMap::new()
            }
            None => BTreeMap::new(),
        };
        let open = |(name, settings): (String, Settings)| {
            let pool = claims.open_pool(&name, (&settings).into());
            let pool = pool.inspect_err(|error| tracing::error!(class = name, %error, "a cache cannot be opened")).ok();
            pool.iter().for_each(|pool| pool.set_scrub_rate(SCRUB_RATE));
            (name, Entry { settings, pool })
        };
        let pools = Mutex::new(settings.into_iter().map(open).collect());
        Self { claims, file, pools, scrub_rate: AtomicU64::new(SCRUB_RATE) }
    }

    /// Opens a pool, or gives an open one new limits. Gives whether it was opened.
    pub(crate) fn set(&self, name: &str, config: PoolConfig) -> Result<bool, ServeError> {
        let mut pools = self.pools.lock();
        let settings = Settings::from(&config);
        let (pool, is_new) = match pools.get(name) {
            Some(Entry { settings: old, pool: Some(pool) }) if old.dir == config.dir => {
                if *old == settings {
                    return Ok(false);
                }
                pool.reconfigure(&config)?;
                (pool.clone(), false)
            }
            _ => {
                let pool = self.claims.open_pool(name, config)?;
                pool.set_scrub_rate(self.scrub_rate.load(Relaxed));
                (pool, true)
            }
        };
        pools.insert(name.to_owned(), Entry { settings, pool: Some(pool) });
        let settings: BTreeMap<_, _> = pools.iter().map(|(name, entry)| (name, &entry.settings)).collect();
        write_json(&self.file, &settings)?;
        Ok(is_new)
    }

    /// Has every pool checked at this rate, and those that are opened later.
    pub(crate) fn set_scrub_rate(&self, bytes_per_second: u64) {
        let pools = self.pools.lock();
        self.scrub_rate.store(bytes_per_second, Relaxed);
        pools.values().filter_map(|entry| entry.pool.as_ref()).for_each(|pool| pool.set_scrub_rate(bytes_per_second));
    }

    pub(crate) fn get(&self, name: &str) -> Result<Arc<Pool>, ServeError> {
        let pools = self.pools.lock();
        let pool = pools.get(name).and_then(|entry| entry.pool.clone());
        pool.ok_or_else(|| ServeError::UnknownPool(name.to_owned()))
    }

    /// All open pools in order of their names.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Pool>)> {
        let pools = self.pools.lock();
        pools.iter().filter_map(|(name, entry)| Some((name.clone(), entry.pool.clone()?))).collect()
    }
}
