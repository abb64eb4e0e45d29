//! Certificates for a database that asks for them.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// The files of an authority, of a server and of a client, and of an authority that nobody trusts. All are PEM.
#[derive(Debug, Clone)]
pub struct TestCertificates {
    folder: PathBuf,
}

impl TestCertificates {
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes all files, for a server at this address.
    ///
    /// # Panics
    /// If a file cannot be written.
    pub(crate) fn make(folder: &Path, address: &str) {
        let made = try_make(folder, address);
        made.unwrap_or_else(|error| panic!("cannot make certificates: {error}"));
    }

    /// Returns the certificate of the authority.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Returns the certificate of an authority that signed nothing.
    #[must_use]
    pub fn other_authority(&self) -> PathBuf {
        self.folder.join("other-ca.pem")
    }

    /// Returns the certificate and the key of a client.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.folder.join("client.pem"), self.folder.join("client-key.pem"))
    }

    /// Returns the settings with which Cassandra uses them.
    pub(crate) fn settings(&self) -> String {
        format!(
            "authenticator: PasswordAuthenticator\n\
             authorizer: CassandraAuthorizer\n\
             client_encryption_options:\n\
             \x20 enabled: true\n\
             \x20 optional: false\n\
             \x20 require_client_auth: true\n\
             \x20 ssl_context_factory:\n\
             \x20   class_name: org.apache.cassandra.security.PEMBasedSslContextFactory\n\
             \x20 keystore: {0}/server.pem\n\
             \x20 truststore: {0}/ca.pem\n",
            self.folder.display()
        )
    }
}

fn try_make(folder: &Path, address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let authority = || -> Result<_, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate()?)
    };
    let (trusted, other) = (authority()?, authority()?);
    std::fs::write(folder.join("ca.pem"), trusted.pem())?;
    std::fs::write(folder.join("other-ca.pem"), other.pem())?;
    let (server, client) = (KeyPair::generate()?, KeyPair::generate()?);
    let certificate = CertificateParams::new(vec![address.to_owned()])?.signed_by(&server, &trusted)?;
    std::fs::write(folder.join("server.pem"), format!("{}{}", server.serialize_pem(), certificate.pem()))?;
    let certificate = CertificateParams::new(vec!["sendpi".to_owned()])?.signed_by(&client, &trusted)?;
    std::fs::write(folder.join("client.pem"), certificate.pem())?;
    std::fs::write(folder.join("client-key.pem"), client.serialize_pem())?;
    Ok(())
}
