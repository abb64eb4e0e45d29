//! A TCP proxy in front of a server. A test can break the connections that go through it.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Forwards connections to a server while it is open. Dropping it ends it.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    open: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts an open proxy to the server at `url`.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(url: &str) -> Self {
        let server = url.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("no proxy: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("no proxy: {error}"));
        let open = watch::Sender::new(true);
        let task = tokio::spawn(accept(listener, server, open.clone()));
        Self { url: format!("http://{address}"), open, task }
    }

    /// Returns the address of the proxy.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks all connections, and every new one, until [`Proxy::mend`].
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    /// Forwards new connections again.
    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: String, open: watch::Sender<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        if *open.borrow() {
            tokio::spawn(forward(client, server.clone(), open.subscribe()));
        }
    }
}

async fn forward(mut client: TcpStream, server: String, mut open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        // However a connection ends, the other half ends with it.
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
