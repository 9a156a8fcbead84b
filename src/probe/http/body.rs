//! Bodies: read to their end, and kept at their start.

use super::failure::Broken;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::io::Read;

/// The most of a body that is kept. Bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// The start of a body, as text.
pub(super) async fn read(headers: &HeaderMap, mut body: Incoming) -> Result<String, Broken> {
    let (mut kept, mut length) = (Vec::new(), 0_usize);
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(Broken::Exchange)?.into_data() else { continue };
        let room = MAX_BODY - kept.len();
        kept.extend_from_slice(&data[..data.len().min(room)]);
        length = length.saturating_add(data.len());
    }
    let plain = plain(headers, kept, length)?;
    let mut text = match String::from_utf8_lossy(&plain) {
        std::borrow::Cow::Borrowed(_) => String::from_utf8(plain).unwrap_or_default(),
        std::borrow::Cow::Owned(text) => text,
    };
    // What is replaced takes more room.
    text.truncate(text.floor_char_boundary(MAX_BODY));
    Ok(text)
}

/// Nobody asked for compression, but what comes compressed all the same is understood: what a condition says is meant
/// of the text. No more comes out than is kept, whatever the compressed form would grow to.
fn plain(headers: &HeaderMap, kept: Vec<u8>, length: usize) -> Result<Vec<u8>, Broken> {
    let coding = headers.get(CONTENT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default().trim();
    let is = |name: &str| coding.eq_ignore_ascii_case(name);
    let mut decoder: Box<dyn Read + '_> = match () {
        () if kept.is_empty() => return Ok(kept),
        () if is("gzip") || is("x-gzip") => Box::new(MultiGzDecoder::new(kept.as_slice())),
        () if is("deflate") => Box::new(ZlibDecoder::new(kept.as_slice())),
        () => return Ok(kept),
    };
    let (mut plain, mut part, is_whole) = (Vec::new(), [0; 4096], length <= kept.len());
    while plain.len() < MAX_BODY {
        match decoder.read(&mut part) {
            Ok(0) => break,
            Ok(count) => plain.extend_from_slice(&part[..count]),
            Err(error) if is_whole => return Err(Broken::Encoded(coding.to_owned(), error)),
            // Its end is not there to be read.
            Err(_) => break,
        }
    }
    plain.truncate(MAX_BODY);
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;

    fn headers(coding: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_ENCODING, http::HeaderValue::from_static(coding))])
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_came_compressed_is_read_as_it_was_meant() {
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(b"ok").unwrap();
        for (coding, sent) in [("gzip", gzip(b"ok")), ("X-Gzip", gzip(b"ok")), ("deflate", zlib.finish().unwrap())] {
            let length = sent.len();
            assert_eq!(plain(&headers(coding), sent, length).unwrap(), b"ok", "{coding}");
        }
        for coding in ["identity", "br", ""] {
            assert_eq!(plain(&headers(coding), b"ok".to_vec(), 2).unwrap(), b"ok", "{coding}");
        }
    }

    #[test]
    fn a_bomb_is_cut_and_an_empty_body_needs_no_form() {
        let bomb = gzip(&vec![b'x'; 64 * 1024 * 1024]);
        let length = bomb.len();
        assert!(length > MAX_BODY / 2, "{length}");
        let kept = bomb[..length.min(MAX_BODY)].to_vec();
        assert_eq!(plain(&headers("gzip"), kept, length).unwrap().len(), MAX_BODY);
        assert_eq!(plain(&headers("gzip"), Vec::new(), 0).unwrap(), b"");
    }

    #[test]
    fn what_is_no_gzip_is_no_answer_unless_its_end_was_thrown_away() {
        assert!(plain(&headers("gzip"), b"plain".to_vec(), 5).is_err());
        let noise: Vec<u8> =
            (0..200_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let sent = gzip(&noise);
        let start = sent[..32 * 1024].to_vec();
        let read = plain(&headers("gzip"), start, sent.len()).unwrap();
        assert!(!read.is_empty() && noise.starts_with(&read));
    }
}
