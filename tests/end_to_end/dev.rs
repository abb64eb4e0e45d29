//! What `sendpi dev` gives only to people on its own machine.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use sendpi_bus::setup;
use sendpi_model::Partitions;
use sendpi_tests::{NatsServer, Recording, Sendpi, SendpiSetup, get, sendpi_binary, step, until, within};
use tokio::process::Command;

#[tokio::test]
async fn a_development_token_is_only_for_who_comes_directly() {
    let server = Sendpi::start().await;
    let path = "/dev/token?user=ann";
    for header in [
        ("Forwarded", "for=192.0.2.7"),
        ("X-Forwarded-For", "192.0.2.7"),
        ("X-Forwarded-Proto", "https"),
        ("X-Real-IP", "192.0.2.7"),
        ("Via", "1.1 proxy"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("Origin", "https://evil.example"),
    ] {
        step(format!("a request comes with {header:?}"));
        let answer = get(server.url(), path, &[header]).await.unwrap();
        assert_eq!(answer.status, 403, "{header:?}: {}", answer.body);
    }
    for site in ["same-origin", "none"] {
        step(format!("the page itself asks, as {site}"));
        let answer = get(server.url(), path, &[("Sec-Fetch-Site", site)]).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert!(answer.head.to_lowercase().contains("cache-control: no-store"), "{}", answer.head);
    }
}

#[tokio::test]
async fn the_token_key_is_for_its_owner_only() {
    let mut server = Sendpi::start().await;
    let key = server.data().join("token-key");
    let mode = || std::fs::metadata(&key).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(), 0o600);
    let secret = std::fs::read(&key).unwrap();
    step("the server starts again with a key that everybody may read");
    server.terminate().await;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    server.start_again().await;
    assert_eq!((mode(), std::fs::read(&key).unwrap()), (0o600, secret));
}

#[tokio::test]
async fn a_server_whose_output_nobody_reads_serves() {
    let mut server = Sendpi::start_with(SendpiSetup { unread_output: true, ..SendpiSetup::default() }).await;
    let ann = Recording::connect(&server, "ann", "phone").await;
    ann.client().ping().await.unwrap();
    ann.finish().await;
    step("the server is told to end, and has not ended in another way before");
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_node_that_cannot_start_is_an_error_with_its_reason_also_where_there_are_several() {
    let nats = NatsServer::start().await;
    let other = Partitions::new(8).unwrap();
    setup(&nats.connect("other").await, other, 1).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    for nodes in ["1", "3"] {
        step(format!("{nodes} nodes start on a cluster that was made for something else"));
        let data = folder.path().to_str().unwrap();
        let args = ["dev", "--port", "0", "--nodes", nodes, "--data", data, "--nats", &nats.url()];
        let output = Sendpi::run(&args).await;
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("this cluster was made with"), "{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

/// The NATS server is a program that never becomes ready.
#[tokio::test]
async fn a_signal_while_nats_starts_leaves_no_nats_behind() {
    let folder = tempfile::tempdir().unwrap();
    let (program, pid) = (folder.path().join("nats-server"), folder.path().join("pid"));
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = --version ]; then echo nats-server: v2.15.1; exit; fi\n\
         echo $$ > {0}.new; mv {0}.new {0}; exec sleep 60\n",
        pid.display()
    );
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    for signal in ["TERM", "INT"] {
        let mut command = Command::new(sendpi_binary());
        command.args(["dev", "--port", "0", "--nats-server"]).arg(&program);
        command.arg("--data").arg(folder.path().join("data")).kill_on_drop(true);
        let mut sendpi = command.spawn().unwrap();
        until("the program to be started", async || pid.exists()).await;
        let started = std::fs::read_to_string(&pid).unwrap();
        std::fs::remove_file(&pid).unwrap();
        let told = Command::new("kill").arg(format!("-{signal}")).arg(sendpi.id().unwrap().to_string()).status().await;
        assert!(told.unwrap().success());
        let status = within(Duration::from_secs(5), "sendpi ends", sendpi.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        let process = std::path::Path::new("/proc").join(started.trim());
        // A process that nobody has waited for yet stays as a zombie.
        let runs = || std::fs::read(process.join("cmdline")).is_ok_and(|line| !line.is_empty());
        until("the program to have ended", async || !runs()).await;
    }
}
