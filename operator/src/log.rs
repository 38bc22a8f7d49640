//! Messages to standard error.

use tracing_subscriber::EnvFilter;

use crate::cli::{CommonArgs, LogFormat};

/// Begins to log as the command line says.
pub fn start(args: &CommonArgs) {
    let filter = EnvFilter::try_new(&args.log_level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}
