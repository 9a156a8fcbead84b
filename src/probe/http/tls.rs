//! TLS: whom checks trust, and what went wrong, in words.

mod certificates;

use super::ProberError;
use rustls::{AlertDescription, ClientConfig, Error, PeerIncompatible, RootCertStore};
use std::sync::Arc;

/// The authorities that this system trusts.
pub(super) fn system_authorities() -> Result<RootCertStore, ProberError> {
    let found = rustls_native_certs::load_native_certs();
    let mut authorities = RootCertStore::empty();
    let (_, unreadable) = authorities.add_parsable_certificates(found.certs);
    if authorities.is_empty() {
        let why = found.errors.first().map_or_else(|| "none is there".to_owned(), ToString::to_string);
        return Err(ProberError::TrustNobody(why));
    }
    if unreadable > 0 || !found.errors.is_empty() {
        tracing::debug!(unreadable, errors = ?found.errors, "some certificate authorities of this system are ignored");
    }
    Ok(authorities)
}

/// How checks speak TLS.
pub(super) fn config(authorities: RootCertStore) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_root_certificates(authorities).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// What went wrong, in a sentence for people who did not write this library.
pub(super) fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => certificates::words(error),
        Error::InvalidMessage(_) => "the server does not speak TLS at this port".to_owned(),
        Error::AlertReceived(alert) => format!("the server refused the TLS connection: {}", alert_words(*alert)),
        Error::PeerIncompatible(incompatibility) => incompatibility_words(incompatibility).to_owned(),
        Error::NoApplicationProtocol => "the server speaks neither HTTP/2 nor HTTP/1.1 over TLS".to_owned(),
        Error::NoCertificatesPresented => "the server showed no certificate".to_owned(),
        Error::PeerMisbehaved(_)
        | Error::InappropriateMessage { .. }
        | Error::InappropriateHandshakeMessage { .. }
        | Error::DecryptError
        | Error::PeerSentOversizedRecord => "the server broke the rules of TLS".to_owned(),
        _ => "no TLS connection could be made".to_owned(),
    }
}

fn alert_words(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    match alert {
        Alert::HandshakeFailure | Alert::InsufficientSecurity => "it accepts none of the offered algorithms",
        Alert::ProtocolVersion => "it accepts neither TLS 1.2 nor TLS 1.3",
        Alert::UnrecognisedName => "it has no certificate for this name",
        Alert::CertificateRequired | Alert::NoCertificate => "it demands a client certificate",
        Alert::BadCertificate
        | Alert::UnsupportedCertificate
        | Alert::CertificateRevoked
        | Alert::CertificateExpired
        | Alert::CertificateUnknown
        | Alert::UnknownCA => "it does not accept the client's certificate",
        Alert::AccessDenied => "access denied",
        Alert::NoApplicationProtocol => "it speaks neither HTTP/2 nor HTTP/1.1",
        Alert::InternalError => "an error of its own",
        Alert::CloseNotify | Alert::UserCanceled => "it closed the connection",
        other => return format!("alert {}", u8::from(other)),
    }
    .to_owned()
}

fn incompatibility_words(incompatibility: &PeerIncompatible) -> &'static str {
    match incompatibility {
        PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig => {
            "the server speaks neither TLS 1.2 nor TLS 1.3"
        }
        PeerIncompatible::NoCipherSuitesInCommon
        | PeerIncompatible::NoKxGroupsInCommon
        | PeerIncompatible::NoSignatureSchemesInCommon => "the server has no algorithm in common with this client",
        _ => "the server's TLS lacks what this client needs",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{InvalidMessage, PeerMisbehaved};

    #[test]
    fn what_is_no_matter_of_certificates_is_said_in_words_too() {
        for (error, expected) in [
            (Error::InvalidMessage(InvalidMessage::InvalidContentType), "the server does not speak TLS at this port"),
            (
                Error::AlertReceived(AlertDescription::HandshakeFailure),
                "the server refused the TLS connection: it accepts none of the offered algorithms",
            ),
            (Error::AlertReceived(AlertDescription::Unknown(200)), "the server refused the TLS connection: alert 200"),
            (
                Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "the server speaks neither TLS 1.2 nor TLS 1.3",
            ),
            (
                Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec),
                "the server broke the rules of TLS",
            ),
            (Error::General("inner::Thing".to_owned()), "no TLS connection could be made"),
        ] {
            assert_eq!(words(&error), expected);
        }
    }
}
