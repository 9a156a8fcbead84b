//! What is wrong with a certificate, in words.

use jiff::Timestamp;
use rustls::CertificateError;
use rustls::pki_types::UnixTime;
use std::borrow::Cow;
use webpki::Error as Webpki;

/// So many of the names of a certificate are listed.
const LISTED_NAMES: usize = 5;

/// What is wrong with a certificate, in a sentence.
pub(super) fn words(error: &CertificateError) -> String {
    let said: Cow<'static, str> = match error {
        CertificateError::BadEncoding => "the certificate cannot be read: its encoding is broken".into(),
        CertificateError::Expired => "the certificate has expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("the certificate expired on {}", date(*not_after)).into()
        }
        CertificateError::NotValidYet => "the certificate is not valid yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("the certificate is not valid before {}", date(*not_before)).into()
        }
        CertificateError::Revoked => "the certificate was revoked".into(),
        CertificateError::UnhandledCriticalExtension => {
            "the certificate has a critical extension that this client does not know".into()
        }
        CertificateError::UnknownIssuer => {
            "the certificate was signed by an authority that this system does not trust, or the server does not send \
             the intermediate certificates"
                .into()
        }
        CertificateError::UnknownRevocationStatus => "whether the certificate was revoked is not known".into(),
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "the list of revoked certificates has expired".into()
        }
        CertificateError::BadSignature => "the certificate's signature is wrong".into(),
        CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => OLD_ALGORITHM.into(),
        CertificateError::NotValidForName => "the certificate is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            other_name(&expected.to_str(), presented).into()
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => WRONG_PURPOSE.into(),
        CertificateError::InvalidOcspResponse => {
            "the server's proof that its certificate is not revoked is wrong".into()
        }
        CertificateError::Other(other) => other.0.downcast_ref::<Webpki>().map_or(NOT_ACCEPTED, webpki_words).into(),
        // One of these is deprecated and cannot be named.
        _ => NOT_ACCEPTED.into(),
    };
    said.into_owned()
}

const OLD_ALGORITHM: &str = "the certificate is signed with an algorithm that this client does not accept";
const WRONG_PURPOSE: &str = "the certificate was not issued for servers (its extended key usage lacks serverAuth)";
const NOT_ACCEPTED: &str = "the certificate is not accepted";

/// What rustls has no name for.
fn webpki_words(error: &Webpki) -> &'static str {
    match error {
        Webpki::CaUsedAsEndEntity => {
            "the server shows the certificate of an authority (CA:TRUE) as its own; it needs one that is issued for a \
             server"
        }
        Webpki::EndEntityUsedAsCa => {
            "the certificate was signed with one that is not an authority's (it lacks CA:TRUE)"
        }
        Webpki::PathLenConstraintViolated => "the chain of certificates is longer than one of its authorities permits",
        Webpki::NameConstraintViolation => "one of the certificate's authorities may not sign for this name",
        Webpki::UnsupportedCertVersion => "the certificate is not of version 3",
        Webpki::UnsupportedCriticalExtension => {
            "the certificate has a critical extension that this client does not know"
        }
        Webpki::MalformedExtensions
        | Webpki::ExtensionValueInvalid
        | Webpki::MalformedDnsIdentifier
        | Webpki::MalformedNameConstraint
        | Webpki::InvalidNetworkMaskConstraint
        | Webpki::EmptyEkuExtension
        | Webpki::InvalidSerialNumber
        | Webpki::TrailingData(_)
        | Webpki::BadDer
        | Webpki::BadDerTime => "the certificate cannot be read: its encoding is broken",
        Webpki::SignatureAlgorithmMismatch => "the certificate contradicts itself about the algorithm of its signature",
        Webpki::CertDistrusted => "the certificate's key is distrusted",
        Webpki::CertRevoked => "the certificate was revoked",
        Webpki::InvalidCertValidity => "the certificate ends before it begins",
        Webpki::MaximumNameConstraintComparisonsExceeded
        | Webpki::MaximumPathBuildCallsExceeded
        | Webpki::MaximumPathDepthExceeded
        | Webpki::MaximumSignatureChecksExceeded => "the chain of certificates is too long or too intricate",
        Webpki::UnsupportedNameType => "the certificate names its server in a way that this client does not know",
        _ => NOT_ACCEPTED,
    }
}

fn other_name(expected: &str, presented: &[String]) -> String {
    let names: Vec<&str> = presented.iter().take(LISTED_NAMES).map(|name| plain(name)).collect();
    match names.as_slice() {
        [] => format!("the certificate is not for {expected}: it has no subject alternative name"),
        names => {
            let more = presented.len() - names.len();
            let more = if more == 0 { String::new() } else { format!(" and {more} more") };
            format!("the certificate is not for {expected}, but for {}{more}", names.join(", "))
        }
    }
}

/// The library writes `DnsName("example.org")`.
fn plain(name: &str) -> &str {
    let quoted = name.split_once("(\"").and_then(|(_, rest)| rest.strip_suffix("\")"));
    quoted.or_else(|| name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'))).unwrap_or(name)
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "a day that no calendar has".to_owned(), |it| it.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{OtherError, pki_types::ServerName};
    use std::sync::Arc;
    use std::time::Duration;

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    fn every_error_of_rustls() -> Vec<CertificateError> {
        let (time, another) = (at(1_700_000_000), at(1_600_000_000));
        let presented = vec!["DnsName(\"a.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        let expected = ServerName::try_from("web.example").unwrap();
        vec![
            CertificateError::BadEncoding,
            CertificateError::Expired,
            CertificateError::ExpiredContext { time, not_after: another },
            CertificateError::NotValidYet,
            CertificateError::NotValidYetContext { time: another, not_before: time },
            CertificateError::Revoked,
            CertificateError::UnhandledCriticalExtension,
            CertificateError::UnknownIssuer,
            CertificateError::UnknownRevocationStatus,
            CertificateError::ExpiredRevocationList,
            CertificateError::ExpiredRevocationListContext { time, next_update: another },
            CertificateError::BadSignature,
            CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext {
                signature_algorithm_id: vec![1],
                public_key_algorithm_id: vec![2],
            },
            CertificateError::UnsupportedSignatureAlgorithmContext {
                signature_algorithm_id: vec![1],
                supported_algorithms: Vec::new(),
            },
            CertificateError::NotValidForName,
            CertificateError::NotValidForNameContext { expected, presented },
            CertificateError::InvalidPurpose,
            CertificateError::InvalidOcspResponse,
            CertificateError::ApplicationVerificationFailure,
        ]
    }

    fn every_other_error() -> Vec<Webpki> {
        vec![
            Webpki::CaUsedAsEndEntity,
            Webpki::EndEntityUsedAsCa,
            Webpki::PathLenConstraintViolated,
            Webpki::NameConstraintViolation,
            Webpki::UnsupportedCertVersion,
            Webpki::UnsupportedCriticalExtension,
            Webpki::MalformedExtensions,
            Webpki::ExtensionValueInvalid,
            Webpki::MalformedDnsIdentifier,
            Webpki::MalformedNameConstraint,
            Webpki::InvalidNetworkMaskConstraint,
            Webpki::EmptyEkuExtension,
            Webpki::InvalidSerialNumber,
            Webpki::SignatureAlgorithmMismatch,
            Webpki::CertDistrusted,
            Webpki::InvalidCertValidity,
            Webpki::MaximumNameConstraintComparisonsExceeded,
            Webpki::MaximumPathBuildCallsExceeded,
            Webpki::MaximumPathDepthExceeded,
            Webpki::MaximumSignatureChecksExceeded,
            Webpki::UnsupportedNameType,
        ]
    }

    #[test]
    fn every_error_of_a_certificate_is_a_sentence_without_the_words_of_a_program() {
        let others = every_other_error().into_iter();
        let others = others.map(|error| CertificateError::Other(OtherError(Arc::new(error))));
        for error in every_error_of_rustls().into_iter().chain(others) {
            let said = words(&error);
            let of_a_program = ["Other", "Error", "::", "{", "DnsName", "Context"];
            assert!(said.contains("certificate"), "{said}");
            assert!(!of_a_program.iter().any(|word| said.contains(word)), "{said}");
            let is_named = !matches!(error, CertificateError::ApplicationVerificationFailure);
            assert_eq!(said != NOT_ACCEPTED, is_named, "{error:?}: {said}");
        }
    }

    #[test]
    fn a_sentence_names_what_matters() {
        for (number, expected) in [
            (2, "the certificate expired on 2020-09-13T12:26:40Z"),
            (4, "the certificate is not valid before 2023-11-14T22:13:20Z"),
            (15, "the certificate is not for web.example, but for a.example, 10.0.0.1"),
        ] {
            assert_eq!(words(&every_error_of_rustls()[number]), expected);
        }
    }
}
