//! When so much is broken at once that the cause lies elsewhere, and nothing is repaired one by one. Pure.

use std::fmt;

/// With fewer broken invariants it is no outage, however few there are in all.
const FEWEST: usize = 5;

/// On a ticket that stands for all that is broken in its namespace.
pub const UMBRELLA_LABEL: &str = "harness.dev/umbrella";

/// More than half of a namespace's invariants, and at least five, are broken at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Invariants whose last sample was a breach.
    pub broken: usize,
    /// Invariants that are asked.
    pub asked: usize,
}

impl Outage {
    /// The outage that this is, if it is one.
    pub fn of(broken: usize, asked: usize) -> Option<Self> {
        (broken >= FEWEST && broken * 2 > asked).then_some(Self { broken, asked })
    }
}

impl fmt::Display for Outage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} invariants of this namespace are broken at once", self.broken, self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_half_and_at_least_five_are_an_outage() {
        for (broken, asked, expected) in [(4, 4, false), (5, 5, true), (5, 9, true), (5, 10, false), (51, 100, true)] {
            assert_eq!(Outage::of(broken, asked).is_some(), expected, "{broken} of {asked}");
        }
    }
}
