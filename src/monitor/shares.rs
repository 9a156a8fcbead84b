//! How many checks of a namespace may be under way at once. Pure.
//!
//! A namespace may begin a check while it has fewer under way than are left free. So one that is alone has half of all,
//! and however many there are whose targets never answer, some are always left for the next.

use std::collections::HashMap;

/// Who has how many checks under way.
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    taken: usize,
    of: HashMap<String, Share>,
}

#[derive(Debug, Default)]
struct Share {
    taken: usize,
    refused: bool,
}

/// Whether a check may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Granted,
    /// The namespace has too many under way.
    Refused {
        /// It was not refused one since it had none under way.
        first: bool,
    },
}

impl Shares {
    /// So many at once in all.
    pub fn new(limit: usize) -> Self {
        Self { limit, taken: 0, of: HashMap::new() }
    }

    /// A check of this namespace is to begin.
    pub fn take(&mut self, namespace: &str) -> Admission {
        let free = self.limit.saturating_sub(self.taken);
        if !self.of.contains_key(namespace) {
            self.of.insert(namespace.to_owned(), Share::default());
        }
        let Some(share) = self.of.get_mut(namespace) else { return Admission::Granted };
        if share.taken >= free && share.taken > 0 {
            return Admission::Refused { first: !std::mem::replace(&mut share.refused, true) };
        }
        share.taken += 1;
        self.taken += 1;
        Admission::Granted
    }

    /// A check of this namespace is over.
    pub fn give_back(&mut self, namespace: &str) {
        let Some(share) = self.of.get_mut(namespace) else { return };
        share.taken = share.taken.saturating_sub(1);
        self.taken = self.taken.saturating_sub(1);
        if share.taken == 0 {
            self.of.remove(namespace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(shares: &mut Shares, namespace: &str) -> usize {
        (0..100_000).take_while(|_| shares.take(namespace) == Admission::Granted).count()
    }

    #[test]
    fn a_namespace_whose_targets_never_answer_leaves_room_for_all_others() {
        let mut shares = Shares::new(512);
        assert_eq!(take_all(&mut shares, "silent"), 256);
        assert_eq!(shares.take("silent"), Admission::Refused { first: false });
        assert_eq!(take_all(&mut shares, "as-silent"), 128);
        for number in 0..100 {
            assert_eq!(shares.take(&format!("other-{number}")), Admission::Granted, "{number}");
        }
    }

    #[test]
    fn what_is_given_back_can_be_taken_again_and_nothing_is_remembered_of_who_has_none() {
        let mut shares = Shares::new(4);
        assert_eq!(take_all(&mut shares, "a"), 2);
        shares.give_back("a");
        assert_eq!(shares.take("a"), Admission::Granted);
        (0..2).for_each(|_| shares.give_back("a"));
        assert!(shares.of.is_empty() && shares.taken == 0);
        assert_eq!(shares.take("a"), Admission::Granted);
    }
}
