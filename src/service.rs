//! The demo's service: a rate limiter that answers over HTTP, and whose health is whatever its config file says.
//!
//! It stands for somebody else's program: it imports nothing of the other rooms, and nothing in it knows that a
//! harness exists. Steps that touch the world: [`Service::bind`] and [`Service::serve`] (sockets), [`config_file`]
//! (reads and replaces the file), [`console`] (the terminal). The rest is pure.
//!
//! - `POST /check {"key": "..."}`: may this key go on? 200 or 429.
//! - `GET /health`: 200, or 503 with the reason; late by `delay_ms`.
//! - `GET /metrics`: the same in numbers, in the Prometheus text format.

pub mod chaos;
pub mod config;
pub mod config_file;
