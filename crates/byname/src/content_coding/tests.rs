//! What holds for each coding.

use std::pin::pin;
use std::task::{Context, Waker};

use super::*;

/// Text that compresses as answers do.
fn text(length: usize) -> Vec<u8> {
    let lines = (0..).flat_map(|n: u32| format!("{{\"id\":{n},\"name\":\"order {}\"}},", n * 7919 % 1000).into_bytes());
    lines.take(length).collect()
}

/// Bytes that do not compress.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}

fn encoded(coding: ContentCoding, body: &[u8]) -> Vec<u8> {
    pollster::block_on(encode_whole(coding, body)).unwrap()
}

fn decoded(coding: ContentCoding, body: &[u8]) -> Result<Vec<u8>, CodingError> {
    pollster::block_on(decode_whole(coding, body, 64 << 20)).map(|whole| whole.expect("it is within the limit"))
}

#[test]
fn what_was_encoded_is_decoded() {
    for coding in ContentCoding::ALL.iter().copied() {
        for length in [0, 1, 1000, PIECE - 1, PIECE, PIECE + 1, 3 << 20] {
            for body in [text(length), noise(length)] {
                assert!(decoded(coding, &encoded(coding, &body)).unwrap() == body, "{coding:?} {length}");
            }
        }
    }
}

#[test]
fn what_was_put_before_a_flush_is_decoded_without_what_follows() {
    for coding in ContentCoding::ALL.iter().copied() {
        for length in [1, 10, 5000, 200_000] {
            let mut encoder = BodyEncoder::new(coding, None).unwrap();
            let mut decoder = BodyDecoder::new(coding);
            for body in [text(length), noise(length), text(1)] {
                let (mut sent, mut came) = (Vec::new(), Vec::with_capacity(length + 1));
                encoder.put(&body, &mut sent).unwrap();
                encoder.flush(&mut sent).unwrap();
                let mut input = &sent[..];
                while !input.is_empty() {
                    decoder.decode(&mut input, &mut came).unwrap();
                }
                assert!(came == body, "{coding:?} {length}");
                assert!(decoder.end().is_err(), "{coding:?}: the stream goes on");
            }
            let (mut sent, mut came) = (Vec::new(), Vec::with_capacity(1));
            encoder.finish(&mut sent).unwrap();
            decoder.decode(&mut &sent[..], &mut came).unwrap();
            assert!(came.is_empty());
            decoder.end().unwrap();
        }
    }
}

#[test]
fn a_body_that_is_cut_off_anywhere_is_rejected() {
    for coding in ContentCoding::ALL.iter().copied() {
        let whole = encoded(coding, &text(2000));
        for length in 0..whole.len() {
            let error = decoded(coding, &whole[..length]).unwrap_err();
            assert!(error.to_string().contains("data ends too early"), "{coding:?} {length}: {error}");
        }
    }
}

#[test]
fn a_body_that_was_damaged_is_never_decoded_to_another() {
    let body = text(2000);
    for coding in ContentCoding::ALL.iter().copied() {
        let mut whole = encoded(coding, &body);
        let mut rejected = 0;
        for at in 0..whole.len() {
            whole[at] ^= 0x55;
            match decoded(coding, &whole) {
                Ok(came) => assert!(coding == ContentCoding::Zstd || came == body, "{coding:?} {at}"),
                Err(_) => rejected += 1,
            }
            whole[at] ^= 0x55;
        }
        assert!(rejected > whole.len() / 2, "{coding:?}: {rejected} of {}", whole.len());
    }
}

#[test]
fn bytes_behind_the_end_are_rejected() {
    for coding in ContentCoding::ALL.iter().copied() {
        let mut whole = encoded(coding, b"[1,2]");
        whole.extend(b"garbage");
        let error = decoded(coding, &whole).unwrap_err();
        assert!(error.to_string().contains(coding.name()), "{error}");
    }
    // Members of gzip cost the reader far more than the sender. Frames of zstd don't.
    let two = [encoded(ContentCoding::Gzip, b"[1,"), encoded(ContentCoding::Gzip, b"2]")].concat();
    let error = decoded(ContentCoding::Gzip, &two).unwrap_err();
    assert!(error.to_string().contains("send one member"), "{error}");
    let two = [encoded(ContentCoding::Zstd, b"[1,"), encoded(ContentCoding::Zstd, b"2]")].concat();
    assert_eq!(decoded(ContentCoding::Zstd, &two).unwrap(), b"[1,2]");
}

#[test]
fn a_body_that_would_grow_beyond_the_limit_is_decoded_no_further() {
    let limit = 100_000;
    for coding in ContentCoding::ALL.iter().copied() {
        let fits = encoded(coding, &vec![b' '; limit]);
        assert_eq!(pollster::block_on(decode_whole(coding, &fits, limit)).unwrap().unwrap().len(), limit);
        let bomb = encoded(coding, &vec![b' '; 64 << 20]);
        assert!(bomb.len() < 100_000, "{}", bomb.len());
        assert!(pollster::block_on(decode_whole(coding, &bomb, limit)).unwrap().is_none(), "{coding:?}");
        // Whatever the input, not more comes than there is room.
        let (mut input, mut out) = (&bomb[..], Vec::with_capacity(1000));
        BodyDecoder::new(coding).decode(&mut input, &mut out).unwrap();
        assert_eq!((out.len(), out.capacity()), (1000, 1000));
        assert!(!input.is_empty());
    }
}

#[test]
fn other_tasks_run_between_the_pieces_of_a_whole_body() {
    /// How often a future lets others run until it is done.
    fn pauses<T>(future: impl Future<Output = T>) -> usize {
        let (mut future, mut pauses) = (pin!(future), 0);
        while future.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            pauses += 1;
        }
        pauses
    }
    for coding in ContentCoding::ALL.iter().copied() {
        let body = vec![b' '; 20 * PIECE];
        assert!(pauses(encode_whole(coding, &body)) >= 19, "{coding:?}");
        assert!(pauses(decode_whole(coding, &encoded(coding, &body), body.len())) >= 19, "{coding:?}");
    }
}

#[test]
fn a_frame_with_a_window_of_more_than_8_mib_is_rejected() {
    let frame = |window_log: u32| {
        let mut context = zstd_safe::CCtx::create();
        context.set_parameter(zstd_safe::CParameter::WindowLog(window_log)).unwrap();
        let mut out = Vec::with_capacity(1000);
        let mut input = zstd_safe::InBuffer::around(b"[1,2]");
        context.compress_stream(&mut zstd_safe::OutBuffer::around(&mut out), &mut input).unwrap();
        let length = out.len();
        context.end_stream(&mut zstd_safe::OutBuffer::around_pos(&mut out, length)).unwrap();
        out
    };
    assert_eq!(decoded(ContentCoding::Zstd, &frame(23)).unwrap(), b"[1,2]");
    let error = decoded(ContentCoding::Zstd, &frame(24)).unwrap_err();
    assert!(error.to_string().contains("larger than the 8 MiB"), "{error}");
}

#[test]
fn an_open_stream_needs_little_memory() {
    let mut context = zstd::ZstdEncoder::new(None).unwrap();
    context.put(&text(1 << 20), &mut Vec::new()).unwrap();
    assert!(context.size() < 400 << 10, "{}", context.size());
}

#[test]
fn the_coding_of_a_body_is_one_that_is_known() {
    let of = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, value.parse().unwrap());
        }
        ContentCoding::of(&headers).map_err(|unknown| unknown.0)
    };
    for plain in [&[][..], &["identity"], &["Identity"], &[""], &["identity, identity"]] {
        assert_eq!(of(plain), Ok(None), "{plain:?}");
    }
    for (name, coding) in
        [("gzip", ContentCoding::Gzip), ("X-GZIP", ContentCoding::Gzip), ("zstd", ContentCoding::Zstd)]
    {
        assert_eq!(of(&[name]), Ok(Some(coding)));
        assert_eq!(of(&["identity", name]), Ok(Some(coding)));
    }
    for unknown in ["br", "deflate", "gzip, gzip", "gzip, zstd", "gzip;q=1", "*", "?"] {
        assert_eq!(of(&[unknown]), Err(unknown.parse().unwrap()));
    }
    assert_eq!(of(&["gzip", "gzip"]), Err("gzip".parse().unwrap()));
}
