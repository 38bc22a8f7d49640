//! Sizes as people read them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// `bytes` rounded up to at most four digits with a binary suffix, such as `138Gi`. Never less than what it stands for.
pub fn rounded(bytes: u64) -> Quantity {
    let mut number = bytes;
    let mut suffixes = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter();
    let mut suffix = suffixes.next();
    while number > 9999 {
        number = number.div_ceil(1024);
        suffix = suffixes.next();
    }
    Quantity(format!("{number}{}", suffix.copied().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_up_to_four_digits() {
        for (bytes, text) in [
            (0, "0"),
            (9999, "9999"),
            (10_000, "10Ki"),
            (10 * 1024 + 1, "11Ki"),
            (9999 * 1024, "9999Ki"),
            (9999 * 1024 + 1, "10Mi"),
            (148_000_000_000, "138Gi"),
            (u64::MAX, "16Ei"),
        ] {
            assert_eq!(rounded(bytes).0, text, "{bytes}");
        }
    }
}
