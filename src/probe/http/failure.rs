//! Whose fault it is that there is no answer, by the types of the errors that caused it.

use super::super::resolver::ResolveError;
use super::super::sample::{Blindness, BlindnessReason, Failure, FailureReason, Observation};
use super::tls;
use rustix::io::Errno;
use std::error::Error;
use std::io;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// No address takes a connection.
    Connect(io::Error),
    /// The host cannot be named in a certificate.
    Unnameable,
    /// No TLS connection.
    Handshake(io::Error),
    /// The question cannot be put.
    Request(http::Error),
    /// The connection was closed before anything of the answer.
    Closed(hyper::Error),
    /// The connection broke, or what came is no HTTP.
    Exchange(hyper::Error),
    /// The body does not have the form that its head says.
    Encoded(String, io::Error),
}

impl Broken {
    /// As a sample says it.
    pub(super) fn observation(&self) -> Observation {
        match self {
            Self::Connect(error) => {
                caused_by(error).unwrap_or_else(|| failed(FailureReason::Unreachable, &error.to_string()))
            }
            Self::Unnameable => failed(FailureReason::TlsFailure, "no certificate can be made out to this host"),
            Self::Handshake(error) => caused_by(error).unwrap_or_else(|| {
                let message = match error.kind() {
                    io::ErrorKind::UnexpectedEof => "the connection was closed during the TLS handshake".to_owned(),
                    _ => error.to_string(),
                };
                failed(FailureReason::TlsFailure, &message)
            }),
            Self::Request(error) => failed(FailureReason::ProtocolError, &error.to_string()),
            Self::Closed(error) | Self::Exchange(error) => caused_by(error).unwrap_or_else(|| {
                let mut innermost: &dyn Error = error;
                while let Some(cause) = innermost.source() {
                    innermost = cause;
                }
                failed(FailureReason::ProtocolError, &innermost.to_string())
            }),
            Self::Encoded(coding, error) => {
                failed(FailureReason::ProtocolError, &format!("the body is not in the form {coding}: {error}"))
            }
        }
    }
}

/// Whose fault it is that a name led to no address.
pub(super) fn unresolved(error: &ResolveError) -> Observation {
    match error.reason() {
        Ok(reason) => failed(reason, &error.to_string()),
        Err(reason) => Observation::Unknown(Blindness::new(reason, &error.to_string())),
    }
}

fn failed(reason: FailureReason, message: &str) -> Observation {
    Observation::Failed(Failure::new(reason, message))
}

/// Looks through the causes of an error for one that is understood.
fn caused_by(error: &(dyn Error + 'static)) -> Option<Observation> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<rustls::Error>() {
            return Some(failed(FailureReason::TlsFailure, &tls::words(error)));
        }
        if let Some(io) = current.downcast_ref::<io::Error>() {
            if let Some(observation) = classify_io(io) {
                return Some(observation);
            }
            // An io::Error hides what it wraps from `source`.
            cause = io.get_ref().map(|inner| inner as &(dyn Error + 'static)).or_else(|| io.source());
            continue;
        }
        cause = current.source();
    }
    None
}

fn classify_io(error: &io::Error) -> Option<Observation> {
    use io::ErrorKind::{
        AddrNotAvailable, BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable,
        NetworkUnreachable, TimedOut,
    };
    let failed = |reason| Some(failed(reason, &error.to_string()));
    let out_of_resources = Errno::from_io_error(error)
        .is_some_and(|errno| [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM].contains(&errno));
    match error.kind() {
        AddrNotAvailable => Some(own_resources(error)),
        _ if out_of_resources => Some(own_resources(error)),
        ConnectionRefused => failed(FailureReason::ConnectionRefused),
        ConnectionReset | ConnectionAborted | BrokenPipe => failed(FailureReason::ConnectionReset),
        TimedOut => failed(FailureReason::TimedOut),
        HostUnreachable | NetworkUnreachable => failed(FailureReason::Unreachable),
        _ => None,
    }
}

fn own_resources(error: &io::Error) -> Observation {
    Observation::Unknown(Blindness::new(BlindnessReason::OwnResources, &error.to_string()))
}
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_side_ran_out_of_is_no_breach() {
        for errno in [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM, Errno::ADDRNOTAVAIL] {
            let observation = classify_io(&errno.into());
            let Some(Observation::Unknown(blindness)) = observation else { panic!("{errno}: {observation:?}") };
            assert_eq!(blindness.reason, BlindnessReason::OwnResources, "{errno}");
        }
    }

    #[test]
    fn what_the_way_to_the_target_says_is_a_breach_with_its_reason() {
        for (errno, reason) in [
            (Errno::CONNREFUSED, FailureReason::ConnectionRefused),
            (Errno::CONNRESET, FailureReason::ConnectionReset),
            (Errno::PIPE, FailureReason::ConnectionReset),
            (Errno::TIMEDOUT, FailureReason::TimedOut),
            (Errno::HOSTUNREACH, FailureReason::Unreachable),
            (Errno::NETUNREACH, FailureReason::Unreachable),
        ] {
            let observation = classify_io(&errno.into());
            let Some(Observation::Failed(failure)) = observation else { panic!("{errno}: {observation:?}") };
            assert_eq!(failure.reason, reason, "{errno}");
        }
    }
}
