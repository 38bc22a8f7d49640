//! What this kernel can do.

use std::fs::OpenOptions;
use std::io;
use std::path::Path;
use std::str::FromStr;

use granary_image::{BLOCK_BYTES, ImageBuilder};
use rustix::mount::FsOpenFlags;

use crate::erofs;
use crate::state_dir::{remove_file, write_durably};

/// How versions are mounted on this node at best.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// EROFS on image and blob themselves where a version is complete when it is mounted, and else as the next.
    EROFSFile,
    /// EROFS on two loop devices, image and blob.
    EROFSLoop,
    /// As a FUSE filesystem, which reads the image itself.
    FUSE,
    /// Not at all: a sentence that says what is missing and what to do.
    Unsupported(String),
}

/// How versions shall be mounted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LayoutChoice {
    /// By the first layout of which the kernel has all, in the order below.
    #[default]
    Auto,
    /// By [`Layout::EROFSFile`] or not at all.
    EROFSFile,
    /// By [`Layout::EROFSLoop`] or not at all.
    EROFSLoop,
    /// By [`Layout::FUSE`] or not at all.
    FUSE,
}

impl LayoutChoice {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Auto, Self::EROFSFile, Self::EROFSLoop, Self::FUSE];

    /// The name on command lines.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "Auto",
            Self::EROFSFile => "EROFSFile",
            Self::EROFSLoop => "EROFSLoop",
            Self::FUSE => "FUSE",
        }
    }
}

impl FromStr for LayoutChoice {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|choice| choice.as_str() == name);
        found.ok_or_else(|| format!("it must be one of {}", Self::ALL.map(Self::as_str).join(", ")))
    }
}

/// EROFS takes further devices from this version on.
const LEAST_KERNEL: (u32, u32) = (5, 16);

/// Finds out by asking for each part, which also loads the modules. Images will lie in `dir`.
pub(crate) fn probe(dir: &Path, choice: LayoutChoice) -> Layout {
    choose(choice, &ThisKernel(dir))
}

/// What a kernel can be asked for; an error is a sentence that says what is missing and what to do.
trait Kernel {
    fn erofs_on_loops(&self) -> Result<(), String>;
    /// Only where loops can be had, which versions with absent parts need.
    fn erofs_on_files(&self) -> Result<(), String>;
    fn fuse(&self) -> Result<(), String>;
}

fn choose(choice: LayoutChoice, kernel: &impl Kernel) -> Layout {
    let found = match choice {
        LayoutChoice::Auto => best(kernel),
        LayoutChoice::EROFSFile => {
            kernel.erofs_on_loops().and_then(|()| kernel.erofs_on_files()).map(|()| Layout::EROFSFile)
        }
        LayoutChoice::EROFSLoop => kernel.erofs_on_loops().map(|()| Layout::EROFSLoop),
        LayoutChoice::FUSE => kernel.fuse().map(|()| Layout::FUSE),
    };
    found.unwrap_or_else(Layout::Unsupported)
}

fn best(kernel: &impl Kernel) -> Result<Layout, String> {
    let Err(reason) = kernel.erofs_on_loops() else {
        return Ok(match kernel.erofs_on_files() {
            Ok(()) => Layout::EROFSFile,
            Err(reason) => {
                tracing::info!(reason, "this kernel mounts versions by loop devices only");
                Layout::EROFSLoop
            }
        });
    };
    // What EROFS lacks comes first: it is what should be had.
    kernel.fuse().map_err(|_| reason.clone())?;
    tracing::warn!(
        reason,
        "this kernel cannot mount versions itself: each read that it has not cached asks this process"
    );
    Ok(Layout::FUSE)
}

struct ThisKernel<'a>(&'a Path);

impl Kernel for ThisKernel<'_> {
    fn erofs_on_loops(&self) -> Result<(), String> {
        erofs_on_loops(&rustix::system::uname().release().to_string_lossy())
    }

    fn erofs_on_files(&self) -> Result<(), String> {
        mount_files(self.0)
            .map_err(|error| format!("it does not mount EROFS on files ({error}): choose EROFSLoop, or a later kernel"))
    }

    fn fuse(&self) -> Result<(), String> {
        filesystem("fuse")?;
        device("/dev/fuse", "fuse")
    }
}

/// Mounts an image without devices.
fn mount_files(dir: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let (image, data) = (dir.join("probe.erofs"), dir.join("probe.data"));
    let mut builder = ImageBuilder::new();
    builder.add_file("file", BLOCK_BYTES, 0)?;
    let mut bytes = Vec::new();
    builder.finish(BLOCK_BYTES, &mut bytes)?;
    write_durably(&image, &bytes)?;
    write_durably(&data, &[0; BLOCK_BYTES as usize])?;
    let mounted = erofs::mount_detached(&image, &data);
    for file in [image, data] {
        remove_file(&file)?;
    }
    mounted?;
    Ok(())
}

fn erofs_on_loops(release: &str) -> Result<(), String> {
    if kernel_version(release).is_some_and(|version| version < LEAST_KERNEL) {
        let (major, minor) = LEAST_KERNEL;
        return Err(format!("it is Linux {release}, and {major}.{minor} or later is needed"));
    }
    filesystem("erofs")?;
    filesystem("fuse")?;
    device("/dev/loop-control", "loop")?;
    device("/dev/fuse", "fuse")
}

fn filesystem(name: &str) -> Result<(), String> {
    let opened = rustix::mount::fsopen(name, FsOpenFlags::FSOPEN_CLOEXEC);
    opened.map(drop).map_err(|error| lack(&format!("filesystem {name}"), name, error.into()))
}

fn device(path: &str, module: &str) -> Result<(), String> {
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.map(drop).map_err(|error| lack(path, module, error))
}

fn lack(what: &str, module: &str, error: io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{what} is not allowed for this user ({error}): run as root with CAP_SYS_ADMIN")
        }
        _ => format!("it has no {what} ({error}): load the kernel module {module}, or use a kernel that has it"),
    }
}

/// `6.18.2-generic` is (6, 18).
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_releases() {
        assert_eq!(kernel_version("6.18.2-generic"), Some((6, 18)));
        assert_eq!(kernel_version("5.10.0"), Some((5, 10)));
        assert_eq!(kernel_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(kernel_version("unknown"), None);
    }

    #[test]
    fn an_old_kernel_is_named() {
        let reason = erofs_on_loops("5.10.0-8-amd64").unwrap_err();
        assert!(reason.contains("5.10.0-8-amd64") && reason.contains("5.16"), "{reason}");
    }

    #[test]
    fn what_is_missing_says_what_to_do() {
        let missing = lack("filesystem erofs", "erofs", rustix::io::Errno::NODEV.into());
        assert!(missing.contains("load the kernel module erofs"), "{missing}");
        let refused = lack("/dev/fuse", "fuse", rustix::io::Errno::PERM.into());
        assert!(refused.contains("root"), "{refused}");
    }

    /// Whether it has EROFS on loops, EROFS on files, and FUSE.
    struct Fake(bool, bool, bool);

    fn had(what: &str, has: bool) -> Result<(), String> {
        if has { Ok(()) } else { Err(what.to_owned()) }
    }

    impl Kernel for Fake {
        fn erofs_on_loops(&self) -> Result<(), String> {
            had("loops", self.0)
        }

        fn erofs_on_files(&self) -> Result<(), String> {
            assert!(self.0, "of no use alone");
            had("files", self.1)
        }

        fn fuse(&self) -> Result<(), String> {
            had("fuse", self.2)
        }
    }

    #[test]
    fn the_best_that_the_kernel_has_is_chosen_or_what_was_asked_for_and_nothing_else() {
        use LayoutChoice as C;
        let lacks = |what: &str| Layout::Unsupported(what.to_owned());
        let (all, old, none) = (Fake(true, true, true), Fake(true, false, true), Fake(false, false, false));
        let fuse = Fake(false, false, true);
        for (choice, kernel, expected) in [
            (C::Auto, &all, Layout::EROFSFile),
            (C::Auto, &old, Layout::EROFSLoop),
            (C::Auto, &fuse, Layout::FUSE),
            (C::Auto, &none, lacks("loops")),
            (C::EROFSFile, &all, Layout::EROFSFile),
            (C::EROFSFile, &old, lacks("files")),
            (C::EROFSFile, &fuse, lacks("loops")),
            (C::EROFSLoop, &all, Layout::EROFSLoop),
            (C::EROFSLoop, &fuse, lacks("loops")),
            (C::FUSE, &all, Layout::FUSE),
            (C::FUSE, &none, lacks("fuse")),
        ] {
            assert_eq!(choose(choice, kernel), expected, "{choice:?}");
        }
    }

    #[test]
    fn a_choice_is_read_as_it_is_written() {
        for choice in LayoutChoice::ALL {
            assert_eq!(choice.as_str().parse(), Ok(choice));
        }
        assert!("fuse".parse::<LayoutChoice>().unwrap_err().contains("Auto, EROFSFile, EROFSLoop, FUSE"));
    }
}
