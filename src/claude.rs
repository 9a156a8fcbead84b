//! The Messages API: a small library of its own that knows nothing of the rest of this crate.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use harness::claude::{Client, Request, Settings, Stop, ToolResult, Transcript};
//!
//! let Some(settings) = Settings::from_variables(|name| std::env::var(name).ok())? else { return Ok(()) };
//! let client = Client::new(settings)?;
//! let mut request = Request::new("claude-opus-5-5", 16_000, Transcript::opening("Is the service healthy?"));
//! request.system = "You look after services.".to_owned();
//! let message = client.send(&request, |_progress| ()).await?;
//! if message.stop == Stop::ToolUse {
//!     let answer = |(id, _name, _input): (&str, &str, &_)| ToolResult::ok(id, "status 200");
//!     request.transcript.push_reply(&message);
//!     request.transcript.push_results(message.tool_uses().map(answer).collect());
//! }
//! # Ok(()) }
//! ```
//!
//! What it is careful about: a conversation is append-only and what was sent is replayed byte for byte, thinking blocks
//! and fields that are not understood included; a turn that was cut off has no tool calls; nothing waits longer than its
//! deadline; a key is in no error and no debug output; what a call costs is known.
//!
//! Formats and rules are those of API version 2026-10-21 and of the official SDKs.

mod client;
mod error;
mod identity;
mod message;
mod model;
mod price;
mod request;
mod retry;
mod schema;
mod settings;
mod stream;

pub use client::{Call, Client, Failed, Progress};
pub use error::{ApiErrorKind, ClaudeError};
pub use identity::WorkloadIdentity;
pub use message::{Block, Message, RateLimits, Stop, Usage};
pub use model::Capabilities;
pub use price::{ModelPrice, NanoDollars, ParseDollarsError, ParsePriceError, Price, Prices};
pub use request::{Effort, Request, Thinking, Tool, ToolResult, Transcript};
pub use schema::strict_schema;
pub use settings::{Credentials, Secret, Settings, SettingsError};
