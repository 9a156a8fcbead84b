//! The screen: a pure client of the API, so that it can show any cluster that runs the harness.
//!
//! It watches the invariants, the tickets and the service's ConfigMap, and nothing else. Data goes one way:
//! watches and keys → [`model::Event`] → [`model::Model`] → [`view`]. The world is touched in [`feed`] (watches),
//! [`screen`] (the terminal) and, for the chaos keys, [`crate::injection`].

pub mod chronicle;
pub mod feed;
#[cfg(test)]
mod fixtures;
pub mod keys;
pub mod model;
pub mod screen;
pub mod text;
pub mod view;
