//! What this kernel can do.

/// How versions are mounted on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Layout {
    /// EROFS on two loop devices, image and blob.
    EROFSLoop,
    /// Not at all: a sentence that says what is missing and what to do.
    Unsupported(String),
}
