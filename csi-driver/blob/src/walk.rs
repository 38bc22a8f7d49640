//! Absent parts in ascending order, a run at a time, for those who fetch what nobody waits for.

use std::ops::Range;
use std::sync::Arc;

use crate::blob::Blob;
use crate::fill::Run;
use crate::presence::Presence;

/// The first adjacent parts in `numbers` that are absent and that nobody fetches, of one object and at most `most` bytes;
/// `numbers` then begins after them. `None` if there are none any more. `ahead` as in [`Run::new`].
pub(crate) fn next_run(blob: &Arc<Blob>, numbers: &mut Range<u64>, most: u64, ahead: bool) -> Option<Run> {
    let table = blob.store.table();
    let table = table.as_ref()?;
    let mut run = Run::new(blob, ahead);
    let mut extent = 0;
    numbers.end = numbers.end.min(table.part_count());
    while !numbers.is_empty() {
        let part = table.part_near(&mut extent, numbers.start);
        if !run.fits(&part, most) {
            break;
        }
        let flight = (blob.store.state(&part).presence() == Presence::Absent).then(|| blob.board(&part));
        match flight {
            Some((flight, true)) => run.push(part, flight),
            _ if run.is_empty() => {}
            _ => break,
        }
        numbers.start += 1;
    }
    (!run.is_empty()).then_some(run)
}
