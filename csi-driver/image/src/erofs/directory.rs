//! Directories as EROFS wants them: entries in byte order of their names, `.` and `..` among them, in blocks that each begin
//! with the entries' fixed parts, followed by the names.

use super::{
    layout::{BLOCK, DIRENT_BYTES, Dirent},
    tree::Tree,
};

/// The entries of all directories: node indices, sorted by name within each directory.
pub(super) struct Children {
    nodes: Vec<u32>,
    /// For each directory the end of its entries in `nodes`.
    ends: Vec<u32>,
}

impl Children {
    pub(super) fn of(tree: &Tree) -> Self {
        let mut ends = vec![0u32; tree.directories.len()];
        let all_but_root = || (0u32..).zip(&tree.nodes).skip(1);
        for (_, node) in all_but_root() {
            ends[node.parent as usize] += 1;
        }
        let mut sum = 0;
        for end in &mut ends {
            // For now where the directory's entries begin: the loop below moves each to the end.
            (*end, sum) = (sum, sum + *end);
        }
        let mut nodes = vec![0; tree.nodes.len() - 1];
        for (index, node) in all_but_root() {
            let next = &mut ends[node.parent as usize];
            nodes[*next as usize] = index;
            *next += 1;
        }
        let mut children = Self { nodes, ends };
        for directory in 0..tree.directories.len() {
            // Whole paths came in order, where `a.b` is before `a/`, but the name `a` is before `a.b`.
            let range = children.range(directory);
            children.nodes[range].sort_by(|&a, &b| tree.name(a).cmp(tree.name(b)));
        }
        children
    }

    pub(super) fn in_directory(&self, directory: usize) -> &[u32] {
        &self.nodes[self.range(directory)]
    }

    fn range(&self, directory: usize) -> std::ops::Range<usize> {
        let start = if directory == 0 { 0 } else { self.ends[directory - 1] as usize };
        start..self.ends[directory] as usize
    }
}

/// A name and the node that it leads to.
pub(super) type Entry<'a> = (&'a [u8], u32);

/// The entries of a directory block by block.
pub(super) struct Blocks<'a> {
    tree: &'a Tree,
    children: &'a [u32],
    dots: [Entry<'a>; 2],
    next_child: usize,
    next_dot: usize,
}

impl<'a> Blocks<'a> {
    pub(super) fn of(tree: &'a Tree, children: &'a Children, directory: usize) -> Self {
        let this = &tree.directories[directory];
        let parent = &tree.directories[this.parent as usize];
        let dots = [(b".".as_slice(), this.node), (b"..".as_slice(), parent.node)];
        Self { tree, children: children.in_directory(directory), dots, next_child: 0, next_dot: 0 }
    }

    /// Fills `block` with the next block's entries and returns how many bytes they take; 0 at the end.
    pub(super) fn next_into(&mut self, block: &mut Vec<Entry<'a>>) -> usize {
        block.clear();
        let mut used = 0;
        while let Some((entry, is_dot)) = self.peek() {
            let needed = DIRENT_BYTES + entry.0.len();
            if used + needed > BLOCK {
                break;
            }
            used += needed;
            block.push(entry);
            if is_dot { self.next_dot += 1 } else { self.next_child += 1 }
        }
        used
    }

    fn peek(&self) -> Option<(Entry<'a>, bool)> {
        let dot = self.dots.get(self.next_dot).copied();
        let child = self.children.get(self.next_child).map(|&node| (self.tree.name(node), node));
        match (dot, child) {
            (Some(dot), Some(child)) if child.0 < dot.0 => Some((child, false)),
            (Some(dot), _) => Some((dot, true)),
            (None, child) => child.map(|child| (child, false)),
        }
    }
}

/// Appends a block's bytes, without padding.
pub(super) fn encode_block(entries: &[Entry<'_>], tree: &Tree, nids: &[u32], out: &mut Vec<u8>) {
    let mut name_at = entries.len() * DIRENT_BYTES;
    for (name, node) in entries {
        let nid = u64::from(nids[*node as usize]);
        let is_directory = tree.nodes[*node as usize].is_directory;
        out.extend_from_slice(&Dirent { nid, name_at: name_at as u16, is_directory }.encode());
        name_at += name.len();
    }
    for (name, _) in entries {
        out.extend_from_slice(name);
    }
}
