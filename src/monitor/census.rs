//! How many invariants of each namespace are asked, and how many of those are broken. Pure.

use crate::outage::Outage;
use std::collections::HashMap;

/// What counts of one invariant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// It is not asked.
    #[default]
    Unasked,
    /// It is asked, and its last sample was no breach.
    Sound,
    /// It is asked, and its last sample was a breach.
    Broken,
}

/// The counts of all namespaces.
#[derive(Debug, Default)]
pub struct Census {
    by_namespace: HashMap<String, Outage>,
}

impl Census {
    /// One invariant of a namespace stands otherwise than before.
    pub fn change(&mut self, namespace: &str, before: Standing, after: Standing) {
        if before == after {
            return;
        }
        if !self.by_namespace.contains_key(namespace) {
            self.by_namespace.insert(namespace.to_owned(), Outage { broken: 0, asked: 0 });
        }
        let Some(counts) = self.by_namespace.get_mut(namespace) else { return };
        let one = |is: bool| usize::from(is);
        counts.asked = counts.asked + one(after != Standing::Unasked) - one(before != Standing::Unasked);
        counts.broken = counts.broken + one(after == Standing::Broken) - one(before == Standing::Broken);
        if counts.asked == 0 {
            self.by_namespace.remove(namespace);
        }
    }

    /// Whether so much of a namespace is broken that the cause lies elsewhere.
    pub fn outage(&self, namespace: &str) -> Option<Outage> {
        self.by_namespace.get(namespace).and_then(|counts| Outage::of(counts.broken, counts.asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standing() -> impl Strategy<Value = Standing> {
        prop::sample::select(&[Standing::Unasked, Standing::Sound, Standing::Broken][..])
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_count_of_all_whatever_changes(changes in prop::collection::vec((0usize..12, standing()), 0..200)) {
            let (mut census, mut all) = (Census::default(), [Standing::Unasked; 12]);
            for (index, after) in changes {
                census.change("shop", all[index], after);
                all[index] = after;
                let asked = all.iter().filter(|it| **it != Standing::Unasked).count();
                let broken = all.iter().filter(|it| **it == Standing::Broken).count();
                prop_assert_eq!(census.outage("shop"), Outage::of(broken, asked));
            }
        }
    }
}
