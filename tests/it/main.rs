//! The integration tests: one binary, real parts.

mod admission;
mod claude;
mod control_plane;
mod demo;
#[path = "../double/double.rs"]
mod double;
mod monitor;
mod probe;
mod repair;
mod screen;
mod service;
mod stage;
mod support;
mod users;
mod words;
