//! The certificates of one control plane: an authority that lives in memory only, and what it signs.

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

/// A certificate authority whose private key never touches the disk.
pub(super) struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, both PEM.
pub(super) struct Identity {
    /// The certificate.
    pub(super) certificate_pem: String,
    /// Its private key (PKCS #8).
    pub(super) key_pem: String,
}

impl Authority {
    /// Makes a new authority (ECDSA P-256).
    pub(super) fn generate() -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named("harness-control-plane", None);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let certificate = parameters.self_signed(&key)?;
        Ok(Self { certificate, issuer: Issuer::new(parameters, key) })
    }

    /// The authority's certificate, PEM.
    pub(super) fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// The authority's certificate, DER.
    pub(super) fn der(&self) -> Vec<u8> {
        self.certificate.der().to_vec()
    }

    /// Signs a serving certificate for loopback.
    pub(super) fn serving(&self) -> Result<Identity, rcgen::Error> {
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"].map(String::from);
        let mut parameters = CertificateParams::new(names)?;
        parameters.distinguished_name = named("kube-apiserver", None);
        self.sign(parameters, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// Signs a client certificate: Kubernetes reads the common name as the user and the organisation as its group.
    pub(super) fn user(&self, name: &str, group: Option<&str>) -> Result<Identity, rcgen::Error> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(name, group);
        self.sign(parameters, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn sign(
        &self,
        mut parameters: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity, rcgen::Error> {
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![usage];
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Identity { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

fn named(common_name: &str, organisation: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    if let Some(organisation) = organisation {
        name.push(DnType::OrganizationName, organisation);
    }
    name
}
