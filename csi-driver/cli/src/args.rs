//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use granary_serve::LayoutChoice;

use crate::size::parse_size;

/// Mounts data of an object store as a directory, cached on this machine; no cluster needed.
#[derive(Debug, Parser)]
#[command(name = "granary", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Mount what URIs name now, read-only, until Ctrl-C. Needs root.
    Mount(MountArgs),
    /// Print what a version of URIs would contain.
    Index(IndexArgs),
    /// List what is mounted on this machine, by `granary mount` or a cluster's node, and how. Needs root.
    Status(StatusArgs),
    /// Hold what a mounting process leaves to the next one; `granary mount` starts it.
    #[command(hide = true)]
    Keeper(KeeperArgs),
}

/// Arguments of `keeper`.
#[derive(Debug, Args)]
pub struct KeeperArgs {
    /// Where it listens.
    pub socket: PathBuf,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// For programs: a list of objects with mountPoint, layout and, where they are known, dataset, version and cachedPercent.
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `mount`.
#[derive(Debug, Args)]
pub struct MountArgs {
    /// `s3://bucket/prefix/`, `https://host/file` or `file:///directory/`; with several, each is a directory of its own.
    #[arg(required = true, value_name = "URI")]
    pub uris: Vec<String>,
    /// Directory where the files appear; it is made if it is not there.
    #[arg(value_name = "MOUNTPOINT")]
    pub mount_point: PathBuf,
    /// Directory that keeps what was read, for this and later mounts.
    #[arg(long, value_name = "DIR", default_value = "/var/cache/granary")]
    pub cache: PathBuf,
    /// Most that the cache takes, such as 500G or 1Ti; without it, all but what --min-free says.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub cache_size: Option<u64>,
    /// Percent of the cache's filesystem that stay free: the cache gives way to others.
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u8).range(0..=90))]
    pub min_free: u8,
    /// Fill the cache with everything in the background, behind what is being read; as far as it fits.
    #[arg(long)]
    pub preload: bool,
    /// Mount what the last mount of the same URIs found, without listing them now: for millions of files, or while a source is away.
    #[arg(long)]
    pub last: bool,
    /// How it is mounted: EROFSFile, EROFSLoop or FUSE, or not at all; Auto: by the first of them that the kernel can.
    #[arg(long, default_value = "Auto")]
    pub layout: LayoutChoice,
    /// How to reach the sources.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// Arguments of `index`.
#[derive(Debug, Args)]
pub struct IndexArgs {
    /// `s3://bucket/prefix/`, `https://host/file` or `file:///directory/`.
    #[arg(required = true, value_name = "URI")]
    pub uris: Vec<String>,
    /// Also print every file.
    #[arg(long)]
    pub files: bool,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Output,
    /// How to reach the sources.
    #[command(flatten)]
    pub source: SourceArgs,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// How to reach sources. Keys come from `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN`, or from where AWS
/// tools find them.
#[derive(Debug, Args)]
pub struct SourceArgs {
    /// URL of the S3 service.
    #[arg(long, env = "AWS_ENDPOINT_URL", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Region of the bucket; also from AWS_DEFAULT_REGION.
    #[arg(long, env = "AWS_REGION")]
    pub region: Option<String>,
    /// Do not sign requests: for public buckets.
    #[arg(long)]
    pub no_sign_request: bool,
    /// Where requests name the bucket; without it, in the path if there is an endpoint.
    #[arg(long, value_enum)]
    pub addressing: Option<AddressingArg>,
    /// Only keys that match this glob; may be given several times.
    #[arg(long, value_name = "GLOB")]
    pub include: Vec<String>,
    /// No keys that match this glob; wins over --include.
    #[arg(long, value_name = "GLOB")]
    pub exclude: Vec<String>,
}

/// Where requests name the bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AddressingArg {
    /// `https://endpoint/bucket/key`.
    Path,
    /// `https://bucket.endpoint/key`.
    VirtualHost,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn mount(line: &str) -> MountArgs {
        match Cli::try_parse_from(line.split(' ')).unwrap().command {
            Command::Mount(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_last_word_is_the_mount_point() {
        let args = mount(
            "granary mount s3://a/b/ file:///c/ /mnt --cache /tmp/x --cache-size 10G --exclude *.tmp --exclude x",
        );
        assert_eq!(args.uris, ["s3://a/b/", "file:///c/"]);
        assert_eq!(args.mount_point, PathBuf::from("/mnt"));
        assert_eq!((args.cache_size, args.cache), (Some(10_000_000_000), PathBuf::from("/tmp/x")));
        assert_eq!(args.source.exclude, ["*.tmp", "x"]);
        assert!(!args.preload && mount("granary mount s3://a/ /mnt --preload").preload);
        assert!(!args.last && mount("granary mount s3://a/ /mnt --last").last);
        assert_eq!(args.layout, LayoutChoice::Auto);
        assert_eq!(mount("granary mount s3://a/ /mnt --layout FUSE").layout, LayoutChoice::FUSE);
    }

    #[test]
    fn incomplete_lines_are_refused() {
        for line in [
            "granary mount",
            "granary mount s3://a/",
            "granary index",
            "granary mount s3://a/ /m --cache-size 1X",
            "granary mount s3://a/ /m --min-free 91",
            "granary mount s3://a/ /m --layout EROFS",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_err(), "{line}");
        }
    }

    #[test]
    fn s3_options_are_taken() {
        let args = mount(
            "granary mount s3://a/ /m --endpoint http://h:1 --region r --no-sign-request --addressing virtual-host",
        );
        assert_eq!(args.source.endpoint.as_deref(), Some("http://h:1"));
        assert_eq!(args.source.region.as_deref(), Some("r"));
        assert!(args.source.no_sign_request);
        assert_eq!(args.source.addressing, Some(AddressingArg::VirtualHost));
    }
}
