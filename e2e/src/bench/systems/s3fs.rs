//! Debian's s3fs with its file cache.

use std::process::Command;

use anyhow::Result;

use super::mounted::mount_point;
use super::{Mounted, Place, Starting, System, peer_can};
use crate::bench::rows::Row;

pub(super) const NAME: &str = "s3fs";

pub(super) struct S3fs;

impl System for S3fs {
    fn name(&self) -> &'static str {
        NAME
    }

    fn can(&self, row: &Row) -> bool {
        peer_can(row)
    }

    fn mount(&self, place: &Place) -> Result<Mounted> {
        let (mount, cache) = (mount_point(place), place.work.join("cache"));
        std::fs::create_dir_all(&cache)?;
        let mut command = Command::new("s3fs");
        command.arg("bench").arg(&mount).arg("-f");
        let options = format!(
            "url=http://127.0.0.1:{},use_path_request_style,public_bucket=1,ro,parallel_count=16,multipart_size=16,\
             max_stat_cache_size=100000,stat_cache_expire=3600,enable_noobj_cache,use_cache={}",
            place.port,
            cache.display()
        );
        command.args(["-o", &options]);
        let path = mount.join(place.dataset.prefix());
        Mounted::start(Starting { command, path, says: None }, place)
    }
}
