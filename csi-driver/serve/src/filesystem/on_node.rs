//! The steps of a node for versions that are FUSE filesystems.

use std::collections::BTreeSet;
use std::path::Path;

use granary_image::ImageReader;

use super::mount::{Content, FilesystemMount};
use super::source;
use crate::live::Backing;
use crate::node::{Node, abort_connection};
use crate::served::ServedBlob;
use crate::state_dir::VersionDir;
use crate::{ServeError, VersionManifest, erofs};

impl Node {
    /// Mounts a version at its private place.
    pub(crate) fn mount_filesystem(
        &self,
        key: &str,
        dir: &VersionDir,
        blob: &ServedBlob,
    ) -> Result<Backing, ServeError> {
        let (content, mount_point) = (self.content(key, dir, blob)?, dir.mount_point());
        let source = source::of(&self.state.instance, dir);
        let mount = FilesystemMount::begin(content, &source, &mount_point, &self.blobs.keeping);
        Ok(Backing::Filesystem(mount.map_err(ServeError::io("mount", &mount_point))?))
    }

    /// Goes on with the filesystem of a version that is not live, if a keeper has held its connection. Otherwise nobody can, and
    /// it is taken away: who waits for an answer gets an error.
    pub(crate) fn resume_filesystem(
        &self,
        key: &str,
        dir: &VersionDir,
        manifest: &VersionManifest,
        blob: &ServedBlob,
    ) -> Result<Option<Backing>, ServeError> {
        let (survey, mount_point) = (self.survey()?, dir.mount_point());
        let minors: BTreeSet<u32> = survey.filesystems(key).map(|mount| mount.minor).collect();
        for &minor in &minors {
            let content = self.content(key, dir, blob)?;
            let Some(mount) = FilesystemMount::resume(content, minor, &self.blobs.keeping) else { continue };
            let places: Vec<_> = survey.filesystems(key).filter(|mount| mount.minor == minor).collect();
            if places.iter().all(|place| place.mount_point != mount_point) {
                erofs::bind(&places[0].mount_point, &mount_point).map_err(ServeError::io("mount", &mount_point))?;
            }
            return Ok(Some(Backing::Filesystem(mount)));
        }
        if !minors.is_empty() {
            self.interrupted.lock().push(manifest.version.clone());
        }
        minors.into_iter().for_each(abort_connection);
        while self.survey()?.at(&mount_point).is_some_and(|top| source::parse(top, &self.state.instance) == Some(key)) {
            erofs::unmount(&mount_point).map_err(ServeError::io("unmount", &mount_point))?;
        }
        Ok(None)
    }

    fn content(&self, key: &str, dir: &VersionDir, blob: &ServedBlob) -> Result<Content, ServeError> {
        Ok(Content { key: key.to_owned(), image: ImageReader::open(&dir.image())?, reads: self.blobs.reads(blob) })
    }

    /// Shows a live version over what is at `target` if that is a FUSE filesystem that a predecessor served: who has that goes
    /// on to get errors, but not who comes from now on. What is below stays until the target is unbound, since a target without
    /// a version, for however short, could be taken for an empty one.
    pub(crate) fn renew(&self, key: &str, target: &Path) -> Result<(), ServeError> {
        let survey = self.survey()?;
        let is_dead = |minor| self.live(key).is_some_and(|version| !version.is_filesystem(minor));
        let on_top = survey.at(target).filter(|mount| source::parse(mount, &self.state.instance) == Some(key));
        if on_top.is_none_or(|mount| !is_dead(mount.minor)) {
            return Ok(());
        }
        tracing::warn!(target = %target.display(), "renewed a mount whose readers get errors: start their containers again");
        let source = self.state.version(key).mount_point();
        erofs::bind(&source, target).map_err(ServeError::io("bind-mount a version at", target))
    }
}
