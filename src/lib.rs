//! # The AI-Native Infrastructure Harness
//!
//! People declare what must hold of a service (an [`Invariant`](crd::Invariant)); the harness finds out when it
//! does not and opens a [`Ticket`](crd::Ticket); an agent repairs it inside limits that it cannot move; the ticket
//! closes only when the monitor sees the invariant hold again.
//!
//! The rooms, in the order in which an incident walks through them. Imports point one way:
//! `crd ← lifecycle ← probe ← monitor`, `crd ← lifecycle ← agent`, all ← `cli`; `service` knows nobody.
//!
//! - [`crd`]: what users apply and read. No behaviour.
//! - [`lifecycle`]: the life of a ticket as one pure transition table, shared by its two writers.
//! - [`probe`]: ask one question of a target, get a sample of facts, judge it by a condition.
//! - [`monitor`]: invariants in, tickets out: when to ask, what follows from the answer, the writes.
//! - [`agent`]: tickets in, repairs out: planners propose, policy judges, one executor writes and undoes.
//! - [`service`]: the demo's rate limiter, a program that happens to share the binary.
//! - [`cluster`]: a Kubernetes API to talk to: the current context, or a real embedded control plane.
//! - [`tui`]: the screen, a pure client of the API.
//! - [`injection`]: a fault, written through the API as a person would; [`samples`]: the demo's manifests.
//! - [`cli`]: a file per subcommand; the only reader of the environment.

pub mod agent;
pub mod claude;
pub mod cli;
pub mod cluster;
pub mod crd;
pub mod document;
pub mod gitops;
pub mod history;
pub mod http;
pub mod injection;
pub mod journal;
pub mod lease;
pub mod ledger;
pub mod lifecycle;
pub mod monitor;
pub mod operator;
pub mod outage;
pub mod panics;
pub mod pods;
pub mod probe;
pub mod question;
pub mod redact;
pub mod samples;
pub mod service;
pub mod telemetry;
pub mod tui;
pub mod vitals;
pub mod watch;
