//! Which ticket works on which object. One ticket at a time may write to an object, whatever else it is about.

use crate::watch::ObjectKey;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The claims of all tickets that are being worked on. They follow from the phases of the tickets, so that nothing of
/// this needs to be stored: a successor claims for every ticket in mid-incident before it begins a new one.
#[derive(Debug, Default)]
pub struct Claims {
    holders: Mutex<HashMap<ObjectKey, ObjectKey>>,
}

impl Claims {
    /// Claims all objects for the ticket, or none. Says who holds one of them if not.
    pub fn acquire(&self, ticket: &ObjectKey, objects: &[ObjectKey]) -> Result<(), ObjectKey> {
        let mut holders = self.lock();
        if let Some(other) = objects.iter().filter_map(|object| holders.get(object)).find(|holder| *holder != ticket) {
            return Err(other.clone());
        }
        for object in objects {
            holders.insert(object.clone(), ticket.clone());
        }
        Ok(())
    }

    /// Lets the ticket hold these objects, as far as no other ticket does, and no others; true if it let go of any.
    pub fn follow(&self, ticket: &ObjectKey, objects: &[ObjectKey]) -> bool {
        let mut holders = self.lock();
        let before = holders.len();
        holders.retain(|object, holder| holder != ticket || objects.contains(object));
        let let_go = holders.len() < before;
        for object in objects {
            holders.entry(object.clone()).or_insert_with(|| ticket.clone());
        }
        let_go
    }

    /// Lets go of everything that the ticket holds; true if it held anything.
    pub fn release(&self, ticket: &ObjectKey) -> bool {
        let mut holders = self.lock();
        let before = holders.len();
        holders.retain(|_, holder| holder != ticket);
        holders.len() < before
    }

    /// Whether no other ticket holds any of the objects.
    pub fn is_free(&self, ticket: &ObjectKey, objects: &[ObjectKey]) -> bool {
        let holders = self.lock();
        objects.iter().filter_map(|object| holders.get(object)).all(|holder| holder == ticket)
    }

    /// Whether any ticket works on the object.
    pub fn is_claimed(&self, object: &ObjectKey) -> bool {
        self.lock().contains_key(object)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ObjectKey, ObjectKey>> {
        // Every change above is complete before anything can panic.
        self.holders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("default", name)
    }

    #[test]
    fn an_object_has_one_holder_and_a_loser_gets_nothing() {
        let claims = Claims::default();
        assert_eq!(claims.acquire(&key("a-1"), &[key("x")]), Ok(()));
        assert_eq!(claims.acquire(&key("b-1"), &[key("y"), key("x")]), Err(key("a-1")));
        assert_eq!(claims.acquire(&key("c-1"), &[key("y")]), Ok(()));
        assert_eq!(claims.acquire(&key("a-1"), &[key("x")]), Ok(()));
        assert!(claims.release(&key("a-1")));
        assert!(!claims.release(&key("a-1")));
        assert_eq!(claims.acquire(&key("b-1"), &[key("x")]), Ok(()));
    }

    #[test]
    fn what_is_held_follows_what_may_be_written_as_far_as_it_is_free() {
        let claims = Claims::default();
        assert_eq!(claims.acquire(&key("a-1"), &[key("x"), key("y")]), Ok(()));
        assert_eq!(claims.acquire(&key("b-1"), &[key("z")]), Ok(()));
        assert!(!claims.follow(&key("a-1"), &[key("x"), key("y")]));
        assert!(claims.follow(&key("a-1"), &[key("y"), key("z"), key("v")]));
        assert_eq!(claims.acquire(&key("c-1"), &[key("x")]), Ok(()));
        assert_eq!(claims.acquire(&key("c-1"), &[key("v")]), Err(key("a-1")));
        assert_eq!(claims.acquire(&key("a-1"), &[key("z")]), Err(key("b-1")));
    }
}
