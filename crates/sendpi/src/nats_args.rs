//! How a process signs in at NATS.

use std::path::PathBuf;
use std::time::Duration;

use sendpi_bus::rights::NatsRole;
use sendpi_bus::{BusConfig, NatsLogin, NatsLoginError};
use sendpi_model::timing::NATS_REQUEST;
use sendpi_tls::TlsFiles;

/// The options for NATS, beside its address.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NatsArgs {
    /// A file with the NKEY seed of this process's NATS user, or a .creds file.
    #[arg(long, value_name = "FILE", env = "SENDPI_NATS_KEY", global = true)]
    nats_key: Option<PathBuf>,
    /// A PEM file with the certificate authorities of the NATS servers. Connections are encrypted if it is given, or if
    /// the servers are tls://host:port; then the authorities of the operating system are trusted.
    #[arg(long, value_name = "FILE", env = "SENDPI_NATS_CA", global = true)]
    nats_ca: Option<PathBuf>,
    /// A PEM file with the certificate of this process, if the NATS servers ask for one.
    #[arg(
        long,
        value_name = "FILE",
        requires = "nats_certificate_key",
        env = "SENDPI_NATS_CERTIFICATE",
        global = true
    )]
    nats_certificate: Option<PathBuf>,
    /// A PEM file with the key of that certificate.
    #[arg(
        long,
        value_name = "FILE",
        requires = "nats_certificate",
        env = "SENDPI_NATS_CERTIFICATE_KEY",
        global = true
    )]
    nats_certificate_key: Option<PathBuf>,
}

impl NatsArgs {
    /// Returns how a process of this role reaches the servers, and how long a request may take there.
    pub(crate) fn config(&self, servers: &str, role: NatsRole) -> Result<BusConfig, NatsLoginError> {
        self.config_within(servers, role, NATS_REQUEST)
    }

    /// The same, where a request may take so long.
    pub(crate) fn config_within(
        &self,
        servers: &str,
        role: NatsRole,
        request_timeout: Duration,
    ) -> Result<BusConfig, NatsLoginError> {
        let identity = self.nats_certificate.clone().zip(self.nats_certificate_key.clone());
        let tls = (self.nats_ca.is_some() || identity.is_some())
            .then(|| TlsFiles { authorities: self.nats_ca.clone(), identity });
        let login = self.nats_key.as_deref().map(NatsLogin::read).transpose()?;
        Ok(BusConfig { servers: servers.to_owned(), request_timeout, role, login, tls })
    }
}
