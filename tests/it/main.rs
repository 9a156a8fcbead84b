//! The integration tests: one binary, real parts.

mod control_plane;
mod demo;
mod monitor;
mod probe;
mod repair;
mod screen;
mod service;
mod stage;
mod support;
mod users;
mod words;
