//! TLS to the servers that a node needs: whom to trust, and who the node is, from PEM files.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::{Error, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};

/// Whom to trust as a server, and who this node is. All files are PEM.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The file of the certificate authorities. Without one, those of the operating system are trusted.
    pub authorities: Option<PathBuf>,
    /// The files of the certificate of this node and of its key, if the servers ask for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The reason why a file of TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFilesError {
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

impl TlsFiles {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsFilesError`] names the file that cannot be used.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsFilesError> {
        let unusable = |path: &Path| {
            let path = path.to_owned();
            |source| TlsFilesError::Certificate { path, source }
        };
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(file) => {
                for authority in certificates(file)? {
                    roots.add(authority).map_err(unusable(file))?;
                }
            }
            None => _ = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        }
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(unusable(Path::new("the TLS provider")))?
            .with_root_certificates(roots);
        let config = match &self.identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates(certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|source| TlsFilesError::File { path: key.clone(), source })?;
                config.with_client_auth_cert(chain, key).map_err(unusable(certificate))?
            }
        };
        Ok(Arc::new(config))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFilesError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let certificates: Vec<_> = read.map_err(|source| TlsFilesError::File { path: path.to_owned(), source })?;
    if certificates.is_empty() { Err(TlsFilesError::Empty(path.to_owned())) } else { Ok(certificates) }
}
