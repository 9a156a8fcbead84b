//! What a panic said, for logs and reasons: one task that breaks down is a defect, and no reason for all to.

use crate::redact;
use futures::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;

/// The most that is kept of a panic's words, in characters.
const MAX_WORDS: usize = 256;

/// The words of a panic.
pub fn words(panic: Box<dyn Any + Send>) -> String {
    let words = match panic.downcast::<String>() {
        Ok(words) => *words,
        Err(panic) => panic.downcast_ref::<&str>().map_or_else(|| "a panic".to_owned(), |it| (*it).to_owned()),
    };
    redact::line(&words, MAX_WORDS)
}

/// Runs a future to its end, or to its panic. Whatever it shares with others must be whole at each of its awaits.
pub async fn caught<F: Future>(future: F) -> Result<F::Output, String> {
    AssertUnwindSafe(future).catch_unwind().await.map_err(words)
}

/// The same for what does not wait.
pub fn caught_now<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(work)).map_err(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn its_words_are_kept() {
        let number = 7;
        assert_eq!(caught(async { panic!("no {number}") }).await, Err::<(), _>("no 7".to_owned()));
        assert_eq!(caught_now(|| panic!("none")), Err::<(), _>("none".to_owned()));
        assert_eq!(caught(async { number }).await, Ok(7));
    }
}
