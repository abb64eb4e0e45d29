//! A NATS server with a user for each role, as `nats/rights.conf` has them.

#![expect(clippy::missing_panics_doc, clippy::expect_used, reason = "a test ends at what it does not expect")]

use std::path::{Path, PathBuf};

use sendpi_bus::NatsLogin;
use sendpi_bus::rights::NatsRole;
use tempfile::TempDir;

use crate::{NatsClient, NatsServer, Sendpi, TestCertificates};

/// A server that lets in only the users of the roles.
#[derive(Debug)]
pub struct NatsWithRights {
    /// The server.
    pub server: NatsServer,
    folder: TempDir,
}

impl NatsWithRights {
    /// Starts a server with fresh keys. With `tls`, it takes only encrypted connections of clients that have a
    /// certificate.
    pub async fn start(tls: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().display().to_string();
        assert!(Sendpi::run(&["nats", "keys", &keys]).await.status.success());
        let rights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats/rights.conf");
        let rights = std::fs::read_to_string(rights).expect("the rights");
        let public = std::fs::read_to_string(folder.path().join("public.conf")).expect("the public keys");
        let mut config = rights.replace("include \"keys/public.conf\"", &public);
        if tls {
            TestCertificates::make(folder.path(), "127.0.0.1");
            config += &format!(
                "tls {{ cert_file: \"{keys}/server.pem\", key_file: \"{keys}/server.pem\", ca_file: \"{keys}/ca.pem\"\n\
                 verify: true }}\n"
            );
        }
        Self { server: NatsServer::start_with(&config).await, folder }
    }

    /// Returns the file with the key of a role's user.
    #[must_use]
    pub fn key(&self, role: NatsRole) -> PathBuf {
        self.folder.path().join(role.name()).with_extension("nk")
    }

    /// Returns the certificates of the server and of its clients.
    #[must_use]
    pub fn certificates(&self) -> TestCertificates {
        TestCertificates::in_folder(self.folder.path())
    }

    /// Makes the buckets and streams, as an operator does.
    pub async fn set_up(&self, args: &[&str]) {
        let (key, url) = (self.key(NatsRole::Operator).display().to_string(), self.server.url());
        let args = [&["nats", "setup", "--nats-replicas", "1", "--nats", &url, "--nats-key", &key], args].concat();
        let output = Sendpi::run(&args).await;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Connects as the user of a role. The server must take connections that are not encrypted.
    pub async fn connect(&self, role: NatsRole) -> NatsClient {
        let login = NatsLogin::read(&self.key(role)).expect("its key");
        let inbox = match role {
            NatsRole::Service => "_INBOX_service".to_owned(),
            role => format!("_INBOX_sendpi.test.{}", role.name()),
        };
        NatsClient::connect_as(&self.server.url(), &login, &inbox).await
    }
}
