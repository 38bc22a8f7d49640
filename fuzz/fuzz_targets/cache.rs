//! What a node's cache finds in its own directory: the parts file of a blob, or, behind a first byte of 0, the file that tells
//! the format. A crash, a failing disk or another program may have left anything there.
#![no_main]

use granary_fuzz::{scratch, seal};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    match data.split_first() {
        None => {}
        Some((0, text)) => granary_blob::fuzz::format_file(&scratch().join("format"), text),
        // The first byte is the length of the data file, in MiB.
        Some((mib, parts)) => {
            let dir = scratch().join("blob");
            let data_bytes = u64::from(*mib) << 20;
            granary_blob::fuzz::parts_file(&dir, parts, data_bytes);
            let mut sealed = parts.to_vec();
            seal::parts(&mut sealed);
            granary_blob::fuzz::parts_file(&dir, &sealed, data_bytes);
        }
    }
});
