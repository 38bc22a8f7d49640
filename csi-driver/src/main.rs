//! `granary-csi`

fn main() {}
