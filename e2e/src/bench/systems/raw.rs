//! A client without a filesystem: what the network gives.

use anyhow::Result;

use super::{Mounted, Place, System, never_mounted};
use crate::bench::raw;
use crate::bench::rows::{Row, State, Task};
use crate::bench::task::{Deadline, Outcome};

pub(super) const NAME: &str = "raw client";

pub(super) struct Raw;

impl System for Raw {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        !row.limited && row.state == State::Cold && matches!(row.task, Task::Sequential { .. } | Task::Files { .. })
    }

    fn mount(&self, _: &Place) -> Result<Mounted> {
        never_mounted(NAME)
    }

    fn does_itself(&self, _: &Row) -> bool {
        true
    }

    fn own_task(&self, _: &Row, place: &Place, deadline: Deadline) -> Result<Outcome> {
        raw::read(place.dataset, place.port, deadline)
    }
}
