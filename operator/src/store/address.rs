//! Content addresses.

use std::fmt;
use std::str::FromStr;

const PREFIX: &str = "sha256:";

/// A content address, `sha256:<64 hex digits>`. Nothing else can be one, so it is safe as a file name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address(String);

impl Address {
    /// The address of content with this sha256.
    pub fn of(digest: &[u8]) -> Self {
        Self(hex::encode(digest))
    }

    /// The 64 hex digits.
    pub fn hex(&self) -> &str {
        &self.0
    }
}

/// The text is no content address.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not sha256: and 64 lower-case hex digits")]
pub struct NotAnAddress(String);

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix(PREFIX).filter(|hex| {
            hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
        });
        hex.map(|hex| Self(hex.to_owned())).ok_or_else(|| NotAnAddress(text.chars().take(80).collect()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_sha256_is_an_address() {
        let good = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(good.parse::<Address>().unwrap().to_string(), good);
        for bad in ["", "sha256:", "sha256:../../etc", &"0a".repeat(32), &good.to_uppercase(), &format!("{good}0")] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }
}
