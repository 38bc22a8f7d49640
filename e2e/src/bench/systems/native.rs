//! The same files on the disk's own filesystem: what ratios are to.

use anyhow::Result;

use super::{Mounted, Place, System};
use crate::bench::data;
use crate::bench::rows::{Row, Task};

pub(super) const NAME: &str = "native";

pub(super) struct Native;

impl System for Native {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        !row.limited && !matches!(row.task, Task::Mount | Task::CopyThenMap)
    }

    fn prepare(&self, place: &Place) -> Result<()> {
        data::make_native(place.dir, place.dataset)?;
        data::read_once(place.dir, place.dataset)
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        Ok(Mounted::directory(data::native_dir(place.dir, place.dataset)))
    }
}
