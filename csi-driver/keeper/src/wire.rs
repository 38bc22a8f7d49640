//! The messages, each one packet of a kind, which is its first byte, and what belongs to it. Numbers are little-endian, names
//! are UTF-8. Descriptors travel beside a packet.
//!
//! Hello, welcome and refusal are the same in every version of the protocol, for ever: by them two programs of different
//! releases find out that they do not understand each other.

/// The versions that this release speaks.
pub const VERSIONS: Versions = Versions { least: 1, most: 1 };
/// Longest packet, in bytes.
pub const MOST_BYTES: usize = 1024;
/// Longest name, in bytes.
pub const MOST_NAME_BYTES: usize = 512;
/// Most descriptors under one name.
pub const MOST_DESCRIPTORS: usize = 4;

const MAGIC: &[u8] = b"granary keeper";

/// A range of versions of the protocol, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// The oldest.
    pub least: u16,
    /// The newest.
    pub most: u16,
}

impl Versions {
    /// The newest version that both sides speak.
    pub fn common(self, other: Self) -> Option<u16> {
        let most = self.most.min(other.most);
        (most >= self.least.max(other.least)).then_some(most)
    }

    fn encode(self) -> [u8; 4] {
        let ([a, b], [c, d]) = (self.least.to_le_bytes(), self.most.to_le_bytes());
        [a, b, c, d]
    }

    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let &[a, b, c, d] = bytes else { return Err(WireError::Length) };
        Ok(Self { least: u16::from_le_bytes([a, b]), most: u16::from_le_bytes([c, d]) })
    }
}

/// What a client asks. The keeper answers each packet by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// The first of every connection: the versions that the client speaks.
    Hello(Versions),
    /// Keep the descriptors that come with it, in place of what has the name.
    Keep(&'a str),
    /// Close what has the name, if there is something.
    Forget(&'a str),
    /// Give what has the first name after this one, in the order of bytes.
    Next(&'a str),
}

/// What the keeper answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// To a hello: the version that is spoken from now on.
    Welcome(u16),
    /// To a hello: no version is common; the keeper speaks these.
    Refused(Versions),
    /// It is done.
    Done,
    /// What has this name; its descriptors come with it.
    Entry(&'a str),
    /// There is no further name.
    End,
    /// It was not done, and why.
    Failed(&'a str),
}

/// A packet that says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Of a kind that this version does not have.
    #[error("a packet of an unknown kind")]
    Kind,
    /// Too short or too long for its kind.
    #[error("a packet of a wrong length")]
    Length,
    /// A hello of another protocol.
    #[error("a hello that is none")]
    Magic,
    /// A text that is none, or too long.
    #[error("a packet with a name that is none")]
    Name,
}

impl<'a> Request<'a> {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(versions) => [b"H", MAGIC, &versions.encode()].concat(),
            Self::Keep(name) => [b"K", name.as_bytes()].concat(),
            Self::Forget(name) => [b"F", name.as_bytes()].concat(),
            Self::Next(name) => [b"N", name.as_bytes()].concat(),
        }
    }

    /// Reads a packet, which anybody may have sent.
    pub fn decode(packet: &'a [u8]) -> Result<Self, WireError> {
        let (kind, rest) = packet.split_first().ok_or(WireError::Length)?;
        Ok(match kind {
            b'H' => Self::Hello(Versions::decode(rest.strip_prefix(MAGIC).ok_or(WireError::Magic)?)?),
            b'K' => Self::Keep(name(rest)?),
            b'F' => Self::Forget(name(rest)?),
            // Before the first name comes none.
            b'N' if rest.is_empty() => Self::Next(""),
            b'N' => Self::Next(name(rest)?),
            _ => return Err(WireError::Kind),
        })
    }
}

impl<'a> Answer<'a> {
    /// The packet.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome(version) => [b"W", version.to_le_bytes().as_slice()].concat(),
            Self::Refused(versions) => [b"R", versions.encode().as_slice()].concat(),
            Self::Done => b"D".to_vec(),
            Self::Entry(name) => [b"E", name.as_bytes()].concat(),
            Self::End => b"Z".to_vec(),
            Self::Failed(why) => [b"X", why.as_bytes()].concat(),
        }
    }

    /// Reads a packet.
    pub fn decode(packet: &'a [u8]) -> Result<Self, WireError> {
        let (kind, rest) = packet.split_first().ok_or(WireError::Length)?;
        let nothing = |answer| if rest.is_empty() { Ok(answer) } else { Err(WireError::Length) };
        Ok(match kind {
            b'W' => Self::Welcome(u16::from_le_bytes(rest.try_into().map_err(|_| WireError::Length)?)),
            b'R' => Self::Refused(Versions::decode(rest)?),
            b'D' => nothing(Self::Done)?,
            b'E' => Self::Entry(name(rest)?),
            b'Z' => nothing(Self::End)?,
            b'X' => Self::Failed(std::str::from_utf8(rest).map_err(|_| WireError::Name)?),
            _ => return Err(WireError::Kind),
        })
    }
}

fn name(bytes: &[u8]) -> Result<&str, WireError> {
    match std::str::from_utf8(bytes) {
        Ok(name) if !name.is_empty() && name.len() <= MOST_NAME_BYTES => Ok(name),
        _ => Err(WireError::Name),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_newest_common_version_is_spoken() {
        let speaks = |least, most| Versions { least, most };
        assert_eq!(speaks(1, 1).common(speaks(1, 1)), Some(1));
        assert_eq!(speaks(1, 3).common(speaks(2, 7)), Some(3));
        assert_eq!(speaks(4, 9).common(speaks(1, 5)), Some(5));
        assert_eq!(speaks(1, 1).common(speaks(2, 3)), None);
        assert_eq!(speaks(9, 1).common(speaks(1, 9)), None, "a range that is none");
    }

    /// A keeper is older than the nodes that come after it: these bytes must never change.
    #[test]
    fn hello_welcome_and_refusal_are_as_ever() {
        let versions = Versions { least: 0x0102, most: 0x0304 };
        assert_eq!(Request::Hello(versions).encode(), b"Hgranary keeper\x02\x01\x04\x03");
        assert_eq!(Answer::Welcome(0x0102).encode(), b"W\x02\x01");
        assert_eq!(Answer::Refused(versions).encode(), b"R\x02\x01\x04\x03");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for (packet, error) in [
            (b"".as_slice(), WireError::Length),
            (b"H", WireError::Magic),
            (b"Hgranary keeper\x01\x00\x01", WireError::Length),
            (b"Hgranary kettle\x01\x00\x01\x00", WireError::Magic),
            (b"K", WireError::Name),
            (b"K\xff", WireError::Name),
            (b"?", WireError::Kind),
        ] {
            assert_eq!(Request::decode(packet), Err(error), "{packet:?}");
        }
        assert_eq!(Request::decode(&[b"K", "n".repeat(MOST_NAME_BYTES + 1).as_bytes()].concat()), Err(WireError::Name));
        for packet in [b"".as_slice(), b"W\x01", b"Dx", b"Zx", b"E", b"X\xff", b"R\x01\x00", b"H"] {
            assert!(Answer::decode(packet).is_err(), "{packet:?}");
        }
    }

    proptest! {
        #[test]
        fn messages_come_back(name in "[a-z/\u{e4}]{1,60}", least: u16, most: u16) {
            let versions = Versions { least, most };
            let requests =
                [Request::Hello(versions), Request::Keep(&name), Request::Forget(&name), Request::Next(&name), Request::Next("")];
            for request in requests {
                let packet = request.encode();
                prop_assert_eq!(Request::decode(&packet), Ok(request));
            }
            let answers = [
                Answer::Welcome(most), Answer::Refused(versions), Answer::Done, Answer::Entry(&name), Answer::End, Answer::Failed(&name),
            ];
            for answer in answers {
                let packet = answer.encode();
                prop_assert_eq!(Answer::decode(&packet), Ok(answer));
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(packet in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(request) = Request::decode(&packet) {
                prop_assert_eq!(request.encode(), packet.clone());
            }
            if let Ok(answer) = Answer::decode(&packet) {
                prop_assert_eq!(answer.encode(), packet);
            }
        }
    }
}
