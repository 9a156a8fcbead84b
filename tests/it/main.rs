//! The integration tests: one binary, real parts.

mod control_plane;
mod probe;
mod service;
mod support;
