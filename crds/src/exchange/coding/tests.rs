use super::*;

fn packed(content: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    compress(content, content.len() as u64, &mut frame).unwrap();
    frame
}

/// Decompresses `body` in pieces of `piece` bytes.
fn unpacked(body: &[u8], piece: usize, limit: u64) -> Result<Vec<u8>, CodingError> {
    let (mut decompressor, mut content) = (Decompressor::new(limit)?, Vec::new());
    for mut input in body.chunks(piece) {
        while let Some(bytes) = decompressor.step(&mut input)? {
            assert!(bytes.len() <= STEP_BYTES);
            content.extend_from_slice(bytes);
        }
    }
    assert_eq!(decompressor.finish()?, content.len() as u64);
    Ok(content)
}

/// Something that is neither all the same nor random.
fn content(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at * at / 977) as u8).collect()
}

#[test]
fn comes_back_in_whatever_pieces() {
    for bytes in [0, 1, 100, STEP_BYTES, STEP_BYTES + 1, 3 * STEP_BYTES] {
        let content = content(bytes);
        let frame = packed(&content);
        for piece in [1, 7, 4096, usize::MAX] {
            assert!(unpacked(&frame, piece, bytes as u64).unwrap() == content, "{bytes} in pieces of {piece}");
        }
        assert_eq!(content_length(&frame[..HEADER_BYTES.min(frame.len())]), Some(bytes as u64));
    }
}

#[test]
fn a_few_bytes_that_become_very_many_are_stopped() {
    let frame = packed(&vec![0; 64 << 20]);
    assert!(frame.len() < 16 << 10, "{}", frame.len());
    assert!(matches!(unpacked(&frame, usize::MAX, 1 << 20), Err(CodingError::TooLong(_))));
}

#[test]
fn half_a_frame_two_frames_and_nonsense_are_errors() {
    let content = content(10_000);
    let frame = packed(&content);
    let limit = 1 << 20;
    assert!(matches!(unpacked(&frame[..frame.len() - 1], 100, limit), Err(CodingError::Unfinished)));
    assert!(matches!(unpacked(&[], 100, limit), Err(CodingError::Unfinished)));
    let twice = [frame.clone(), frame.clone()].concat();
    for piece in [1, usize::MAX] {
        assert!(matches!(unpacked(&twice, piece, limit), Err(CodingError::Trailing)));
    }
    assert!(matches!(unpacked(b"an artifact as it is", 100, limit), Err(CodingError::Damaged(_))));
    assert_eq!(content_length(b"an artifact as it is"), None);
    // The header lies about the length.
    let mut lying = frame;
    let at = lying.windows(2).position(|two| two == ((content.len() - 256) as u16).to_le_bytes()).unwrap();
    lying[at] ^= 1;
    assert!(unpacked(&lying, 100, limit).is_err());
}

#[test]
fn a_frame_that_wants_much_memory_is_refused() {
    let mut encoder = Encoder::new(Vec::new(), 1).unwrap();
    encoder.set_parameter(zstd::stream::raw::CParameter::WindowLog(WINDOW_LOG_MAX + 1)).unwrap();
    encoder.write_all(&content(1000)).unwrap();
    let frame = encoder.finish().unwrap();
    assert_eq!(content_length(&frame), None, "its length was not said");
    assert!(matches!(unpacked(&frame, usize::MAX, 1 << 20), Err(CodingError::Damaged(_))));
}

#[test]
fn headers_are_read_as_http_has_them() {
    for (header, coding) in [
        (None, Some(Coding::Identity)),
        (Some("identity"), Some(Coding::Identity)),
        (Some("zstd"), Some(Coding::Zstd)),
        (Some("ZSTD"), Some(Coding::Zstd)),
        (Some("gzip"), None),
        (Some("zstd, gzip"), None),
    ] {
        assert_eq!(Coding::of(header), coding, "{header:?}");
    }
    for (header, coding) in [
        (None, Coding::Identity),
        (Some("gzip, deflate"), Coding::Identity),
        (Some("zstd"), Coding::Zstd),
        (Some("gzip;q=1.0, Zstd ; q=0.5"), Coding::Zstd),
        (Some("zstd;q=0"), Coding::Identity),
        (Some("zstd;q=0.0, *"), Coding::Identity),
    ] {
        assert_eq!(Coding::accepted(header), coding, "{header:?}");
    }
}
