//! Sizes as people write them.

/// Units and their bytes. Powers of 1000 and of 1024 as in Kubernetes' quantities; a `B` at the end is allowed.
const UNITS: [(&str, u64); 11] = [
    ("", 1),
    ("K", 1000),
    ("M", 1_000_000),
    ("G", 1_000_000_000),
    ("T", 1_000_000_000_000),
    ("P", 1_000_000_000_000_000),
    ("KI", 1 << 10),
    ("MI", 1 << 20),
    ("GI", 1 << 30),
    ("TI", 1 << 40),
    ("PI", 1 << 50),
];

/// Reads `500G`, `1.5Ti`, `64MiB` or a number of bytes.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let error = || format!("'{text}' is no size: write a number and a unit, such as 500G or 1.5Ti");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = unit.trim().to_ascii_uppercase();
    let unit = unit.strip_suffix('B').unwrap_or(&unit);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
    let bytes = match number.parse::<u64>() {
        Ok(number) => number.checked_mul(*factor).ok_or_else(error)?,
        Err(_) => (number.parse::<f64>().map_err(|_| error())? * *factor as f64) as u64,
    };
    if bytes == 0 { Err(error()) } else { Ok(bytes) }
}

/// Writes bytes with a unit, to about three digits.
pub fn show_size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB", "TiB"] {
        if value < 1024.0 {
            let digits = if unit == "B" || value >= 100.0 { 0 } else { 1 };
            return format!("{value:.digits$} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.1} PiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("1", 1),
            ("10k", 10_000),
            ("500G", 500_000_000_000),
            ("1Ti", 1 << 40),
            ("64MiB", 64 << 20),
            ("1.5Gi", 3 << 29),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "G", "0", "-1G", "1X", "1.2.3G", "99999999999T", "0.0G"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown() {
        assert_eq!(show_size(0), "0 B");
        assert_eq!(show_size(1536), "1.5 KiB");
        assert_eq!(show_size(2 << 30), "2.0 GiB");
        assert_eq!(show_size(u64::MAX), "16384.0 PiB");
    }
}
