//! The integration tests: one binary, real parts.

mod control_plane;
mod demo;
mod probe;
mod repair;
mod screen;
mod service;
mod support;
