//! Which volume capabilities a dataset has: files, read by many.

use crate::proto::csi::VolumeCapability;
use crate::proto::csi::volume_capability::{AccessMode, AccessType, access_mode::Mode};

/// A capability that a dataset does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CapabilityError {
    /// The request has none, or an incomplete one.
    #[error("the request has no complete volume capability")]
    Missing,
    /// A block volume.
    #[error("a dataset is a directory, not a block device: use volumeMode: Filesystem")]
    Block,
    /// An access mode that writes.
    #[error("a dataset is read-only: use accessModes: [ReadOnlyMany]")]
    Writable,
}

/// Checks that a volume is asked for as what it is. File system type and mount flags mean nothing: how a dataset is mounted is not the
/// caller's choice.
///
/// An inline volume has no access mode in its manifest, and the kubelet makes one up; there it is not looked at.
pub fn check(capability: Option<&VolumeCapability>, ephemeral: bool) -> Result<(), CapabilityError> {
    let capability = capability.ok_or(CapabilityError::Missing)?;
    match capability.access_type {
        None => return Err(CapabilityError::Missing),
        Some(AccessType::Block(_)) => return Err(CapabilityError::Block),
        Some(AccessType::Mount(_)) => {}
    }
    let mode = capability.access_mode.as_ref().map(AccessMode::mode).ok_or(CapabilityError::Missing)?;
    match mode {
        Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => Ok(()),
        Mode::Unknown => Err(CapabilityError::Missing),
        Mode::SingleNodeWriter
        | Mode::MultiNodeSingleWriter
        | Mode::MultiNodeMultiWriter
        | Mode::SingleNodeSingleWriter
        | Mode::SingleNodeMultiWriter => {
            if ephemeral {
                Ok(())
            } else {
                Err(CapabilityError::Writable)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::csi::volume_capability::{BlockVolume, MountVolume};

    fn mount(mode: Mode) -> VolumeCapability {
        VolumeCapability {
            access_mode: Some(AccessMode { mode: mode.into() }),
            access_type: Some(AccessType::Mount(MountVolume { fs_type: "xfs".into(), ..Default::default() })),
        }
    }

    #[test]
    fn readers_pass_and_writers_are_told_what_to_write() {
        assert_eq!(check(Some(&mount(Mode::MultiNodeReaderOnly)), false), Ok(()));
        assert_eq!(check(Some(&mount(Mode::SingleNodeReaderOnly)), false), Ok(()));
        for mode in [Mode::SingleNodeWriter, Mode::MultiNodeMultiWriter, Mode::SingleNodeMultiWriter] {
            assert_eq!(check(Some(&mount(mode)), false), Err(CapabilityError::Writable));
            assert_eq!(check(Some(&mount(mode)), true), Ok(()));
        }
        assert_eq!(check(Some(&mount(Mode::Unknown)), false), Err(CapabilityError::Missing));
    }

    #[test]
    fn block_volumes_are_refused() {
        let block = VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            ..mount(Mode::MultiNodeReaderOnly)
        };
        assert_eq!(check(Some(&block), true), Err(CapabilityError::Block));
        assert_eq!(check(None, false), Err(CapabilityError::Missing));
    }
}
