//! Sizes as people read and write them.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use thiserror::Error;

/// A Quantity that is no size.
#[derive(Error, Debug, Clone, PartialEq, Eq)]
#[error("'{0}' is no size: write a number of bytes, such as '500Gi' or '1.5T'")]
pub struct SizeError(String);

/// The bytes that a Quantity means, rounded up to a whole number. Numbers that do not fit are as good as the largest that does.
pub fn bytes(quantity: &Quantity) -> Result<u64, SizeError> {
    parse(&quantity.0).ok_or_else(|| SizeError(quantity.0.clone()))
}

fn parse(text: &str) -> Option<u64> {
    let text = text.strip_prefix('+').unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    // Saturating: more digits than 38 are more bytes than there are.
    let digits: Vec<u128> = whole.bytes().chain(fraction.bytes()).map(|digit| u128::from(digit - b'0')).collect();
    let digits = digits.iter().fold(0u128, |sum, digit| sum.saturating_mul(10).saturating_add(*digit));
    let (factor, divisor) = factor(suffix)?;
    let divisor = divisor.saturating_mul(10u128.saturating_pow(u32::try_from(fraction.len()).ok()?));
    let bytes = digits.saturating_mul(factor).div_ceil(divisor);
    Some(u64::try_from(bytes).unwrap_or(u64::MAX))
}

/// What a suffix multiplies with, and what it divides by.
fn factor(suffix: &str) -> Option<(u128, u128)> {
    let is_number = |text: &&str| text.starts_with(|c: char| c.is_ascii_digit() || "+-".contains(c));
    if let Some(exponent) = suffix.strip_prefix(['e', 'E']).filter(is_number) {
        let exponent: i32 = exponent.parse().ok().filter(|exponent: &i32| exponent.abs() <= 30)?;
        let power = 10u128.pow(exponent.unsigned_abs());
        return Some(if exponent < 0 { (1, power) } else { (power, 1) });
    }
    let decimal = ["k", "M", "G", "T", "P", "E"].iter().zip(1..).find(|(name, _)| **name == suffix);
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"].iter().zip(1..).find(|(name, _)| **name == suffix);
    match (suffix, decimal, binary) {
        ("", ..) => Some((1, 1)),
        ("m", ..) => Some((1, 1000)),
        (_, Some((_, power)), _) => Some((1000u128.pow(power), 1)),
        (_, _, Some((_, power))) => Some((1024u128.pow(power), 1)),
        _ => None,
    }
}

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
    fn reads_what_the_api_server_accepts() {
        for (text, number) in [
            ("0", 0),
            ("5", 5),
            ("64Mi", 64 << 20),
            ("1.5Gi", 3 << 29),
            ("1T", 1_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000),
            ("1e3", 1000),
            ("12E2", 1200),
            ("1500m", 2),
            (".5k", 500),
            ("+1Ki", 1024),
            ("99999999Ei", u64::MAX),
            ("99999999999999999999999999999999999999999999", u64::MAX),
        ] {
            assert_eq!(bytes(&Quantity(text.to_owned())), Ok(number), "{text}");
        }
        for text in ["", "Gi", "1.2.3", "-1", "1 Gi", "1GB", "1e", "1ex", "."] {
            assert!(bytes(&Quantity(text.to_owned())).is_err(), "{text}");
        }
    }

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
