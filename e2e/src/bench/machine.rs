//! What the figures were measured on.

use std::path::Path;

use super::figures::Machine;

/// This machine; `dir` is where caches are.
pub(super) fn this(dir: &Path) -> Machine {
    let system = rustix::system::uname();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib =
        memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse::<u64>().ok());
    Machine {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        memory_bytes: kib.unwrap_or(0) * 1024,
        kernel: system.release().to_string_lossy().split('-').next().unwrap_or_default().to_owned(),
        filesystem: filesystem(dir, &std::fs::read_to_string("/proc/self/mounts").unwrap_or_default()),
    }
}

/// The type of the filesystem of `dir`: that of the longest mount point above it.
fn filesystem(dir: &Path, mounts: &str) -> String {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let above = fields.filter(|field| field.len() > 2 && dir.starts_with(field[1]));
    above.max_by_key(|field| field[1].len()).map_or("unknown".into(), |field| field[2].to_owned())
}

/// Today, by the system's clock in UTC.
pub(super) fn today() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    date(since.as_secs() / 86400)
}

/// The Gregorian date of a day since 1970-01-01 (Howard Hinnant's days algorithm).
fn date(day: u64) -> String {
    let day = day + 719_468;
    let (era, of_era) = (day / 146_097, day % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (month, of_month) =
        (if shifted < 10 { shifted + 3 } else { shifted - 9 }, of_year - (153 * shifted + 2) / 5 + 1);
    format!("{:04}-{month:02}-{of_month:02}", year + era * 400 + u64::from(month <= 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_have_their_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(19_782), "2024-02-29");
        assert_eq!(date(20_782), "2026-11-25");
    }

    #[test]
    fn the_filesystem_is_that_of_the_nearest_mount() {
        let mounts = "/dev/a / ext4 rw 0 0\n/dev/b /data xfs rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(filesystem(Path::new("/data/x"), mounts), "xfs");
        assert_eq!(filesystem(Path::new("/database"), mounts), "ext4");
    }
}
