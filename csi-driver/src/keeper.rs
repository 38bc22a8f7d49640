//! The keeper of a node: nothing but [`granary_keeper`], so that it need not change when anything else does.

use granary_keeper::Keeper;

use crate::options::KeeperOptions;

/// Keeps until it is killed.
pub fn run(options: &KeeperOptions) -> anyhow::Result<()> {
    let keeper = Keeper::listen(&options.socket)?;
    tracing::info!(socket = %options.socket.display(), version = env!("CARGO_PKG_VERSION"), "keeping");
    Ok(keeper.run(None)?)
}
