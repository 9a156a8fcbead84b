//! Events on their way: cut into pieces where nobody would expect it.

use axum::body::{Body, Bytes};
use futures::stream;

/// Bytes of a piece: a prime, so that the cuts fall everywhere.
const PIECE: usize = 61;

/// The frames of events as the body of an answer; a broken one ends in the middle of the connection, a gathered one comes
/// in one piece.
pub(super) fn body(frames: &[String], broken: bool, gathered: bool) -> Body {
    let text = frames.concat();
    let piece = if gathered { text.len().max(1) } else { PIECE };
    let mut pieces: Vec<Result<Bytes, std::io::Error>> =
        text.as_bytes().chunks(piece).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    if broken {
        pieces.push(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    }
    Body::from_stream(stream::iter(pieces))
}
