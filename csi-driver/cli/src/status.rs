//! `granary status`: what is mounted on this machine.

use std::io::{self, Write};

use anyhow::{Context as _, bail};
use granary_serve::{MountStatus, survey_mounts};
use serde::Serialize;

use crate::args::StatusArgs;

/// One mount, as it is printed.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    mount_point: String,
    layout: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_percent: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dataset: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
}

impl From<MountStatus> for Line {
    fn from(mount: MountStatus) -> Self {
        Self {
            mount_point: mount.mount_point.display().to_string(),
            layout: mount.layout.as_str(),
            cached_percent: mount.cached_percent,
            // `granary mount` calls its own by their URIs, in no namespace of a cluster.
            dataset: mount.dataset.map(|(namespace, name)| match namespace.as_str() {
                crate::mount::NAMESPACE => name,
                _ => format!("{namespace}/{name}"),
            }),
            version: mount.version,
        }
    }
}

/// Prints all mounts.
pub fn run(args: &StatusArgs) -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("what is mounted shows by loop devices, which only root may open: run it with sudo");
    }
    let lines: Vec<Line> = survey_mounts().context("cannot see what is mounted")?.into_iter().map(Line::from).collect();
    let mut out = io::stdout().lock();
    let written = if args.json {
        serde_json::to_writer_pretty(&mut out, &lines).map_err(io::Error::from).and_then(|()| writeln!(out))
    } else {
        print(&lines, &mut out)
    };
    match written {
        // The reader, such as `head`, has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot print"),
    }
}

fn print(lines: &[Line], out: &mut impl Write) -> io::Result<()> {
    if lines.is_empty() {
        return writeln!(out, "nothing is mounted");
    }
    let width = lines.iter().map(|line| line.mount_point.chars().count()).max().unwrap_or(0).max("MOUNT POINT".len());
    writeln!(out, "{:width$}  {:15}  {:>6}  DATASET", "MOUNT POINT", "LAYOUT", "CACHED")?;
    for line in lines {
        let cached = line.cached_percent.map_or_else(|| "?".to_owned(), |percent| format!("{percent}%"));
        let dataset = line.dataset.as_deref().unwrap_or("?");
        writeln!(out, "{:width$}  {:15}  {cached:>6}  {dataset}", line.mount_point, line.layout)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use granary_serve::MountLayout;

    use super::*;

    fn mount(at: &str, layout: MountLayout, dataset: Option<(&str, &str)>, cached_percent: Option<u8>) -> Line {
        Line::from(MountStatus {
            mount_point: PathBuf::from(at),
            layout,
            dataset: dataset.map(|(namespace, name)| (namespace.to_owned(), name.to_owned())),
            version: None,
            cached_percent,
        })
    }

    #[test]
    fn people_see_columns() {
        let lines = [
            mount("/data", MountLayout::EROFSLoopFUSE, Some(("local", "s3://b/")), Some(7)),
            mount("/var/lib/kubelet/x", MountLayout::EROFSFile, Some(("vision", "imagenet")), Some(100)),
            mount("/y", MountLayout::EROFSLoopFUSE, None, None),
        ];
        let mut text = Vec::new();
        print(&lines, &mut text).unwrap();
        let expected = "\
MOUNT POINT         LAYOUT           CACHED  DATASET
/data               EROFSLoopFUSE        7%  s3://b/
/var/lib/kubelet/x  EROFSFile          100%  vision/imagenet
/y                  EROFSLoopFUSE         ?  ?
";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }
}
