//! TLS to the database.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whom to trust as a node of the database, and who this node is. All files are PEM.
///
/// A node is known by the IP address at which it is reached, so its certificate must name that one, and not only its
/// host name: the driver knows the nodes by the addresses that they tell each other.
#[derive(Debug, Clone)]
pub struct CqlTls {
    /// The file of the certificate authorities.
    pub authorities: PathBuf,
    /// The files of the certificate of this node and of its key, if the database asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The reason why a file of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CqlTlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Error,
    },
    /// A file has no certificate.
    #[error("{0} has no certificate")]
    Empty(PathBuf),
    /// What a file has is no certificate, or does not fit to the key.
    #[error("cannot use the certificates of {path}: {source}")]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong with them.
        source: rustls::Error,
    },
}

impl CqlTls {
    /// Reads the files.
    pub(super) fn client_config(&self) -> Result<Arc<ClientConfig>, CqlTlsError> {
        let mut roots = RootCertStore::empty();
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| CqlTlsError::Certificate { path, source }
        };
        for authority in certificates(&self.authorities)? {
            roots.add(authority).map_err(unusable(&self.authorities))?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|source| CqlTlsError::File { path: key.clone(), source })?;
                config.with_client_auth_cert(chain, key).map_err(unusable(certificate))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CqlTlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|source| CqlTlsError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(CqlTlsError::Empty(path.to_owned())) } else { Ok(certificates) }
}
