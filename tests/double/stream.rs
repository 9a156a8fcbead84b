//! Events on their way: cut into pieces where nobody would expect it.

use axum::body::{Body, Bytes};
use futures::stream;

/// Bytes of a piece: a prime, so that the cuts fall everywhere.
const PIECE: usize = 61;

/// The events as the body of an answer; a broken one ends in the middle of the connection.
pub(super) fn body(events: &[(String, String)], broken: bool) -> Body {
    let text: String = events.iter().flat_map(|(name, data)| ["event: ", name, "\ndata: ", data, "\n\n"]).collect();
    let mut pieces: Vec<Result<Bytes, std::io::Error>> =
        text.as_bytes().chunks(PIECE).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    if broken {
        pieces.push(Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
    }
    Body::from_stream(stream::iter(pieces))
}
