//! A NATS on which each role has a user of its own: each does what it must and nothing else, by connections that are
//! encrypted if the servers ask for that.

use std::path::Path;
use std::time::Duration;

use sendpi_bus::rights::NatsRole::{self, Channel, Gateway, Node, Operator, Push, Service};
use sendpi_model::server_frame::ServerFrame;
use sendpi_tests::{
    Keyspace, NatsClient, NatsWithRights, Recording, Sendpi, ServedNode, WebhookServer, nats_server, step, until,
    within,
};
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::process::Command;

async fn start(nats: &NatsWithRights, keyspace: &Keyspace, role: NatsRole, more: &str, args: &[&str]) -> ServedNode {
    let key = nats.key(role).display().to_string();
    let lines = format!("durability = \"relaxed\"\nrole = [\"{}\"]\nnats-key = {key:?}\n{more}", role.name());
    ServedNode::start(&nats.server, keyspace, &lines, args).await
}

/// Nodes, each with the key of its role.
struct Nodes {
    gateways: [ServedNode; 2],
    channel: ServedNode,
    push: ServedNode,
    webhook: WebhookServer,
    keyspace: Keyspace,
}

impl Nodes {
    async fn start(nats: &NatsWithRights, more: &str) -> Self {
        let (keyspace, webhook) = (Keyspace::make().await, WebhookServer::start().await);
        let start = async |role: NatsRole, args: &[&str]| start(nats, &keyspace, role, more, args).await;
        let hook = webhook.args();
        let hook: Vec<&str> = hook.iter().map(String::as_str).collect();
        let (channel, push) = (start(Channel, &[]).await, start(Push, &hook).await);
        let gateways = [start(Gateway, &[]).await, start(Gateway, &[]).await];
        Self { gateways, channel, push, webhook, keyspace }
    }

    /// Starts one more worker.
    async fn worker(&self, nats: &NatsWithRights, more: &str) -> ServedNode {
        start(nats, &self.keyspace, Channel, more, &[]).await
    }

    async fn connect(&self, gateway: usize, user: &str, device: &str) -> Recording {
        let (url, token) = (self.gateways[gateway].url(), ServedNode::token(user));
        Recording::connect_with(url, &token, user, device, Default::default()).await
    }

    /// Lets users talk, so that each role does all that it must.
    async fn talk(&self) -> String {
        step("two users talk over two gateways");
        let ann = self.connect(0, "ann", "phone").await;
        let bob = self.connect(1, "bob", "phone").await;
        let info = ann.client().create("lobby", &["bob", "cid"]).await.unwrap();
        let room = info.room.to_string();
        let sent = ann.client().send(&room, "hi").await.unwrap();
        bob.until_seq(&room, sent.seq).await;

        step("one who is offline gets a push");
        self.webhook.until("a push for cid", |push| push.body["user"] == "cid").await;

        step("a device on the other gateway learns of what was read");
        let tablet = self.connect(1, "ann", "tablet").await;
        bob.client().send(&room, "hello").await.unwrap();
        ann.until_seq(&room, sent.seq + 1).await;
        ann.client().read(&room, sent.seq + 1).await.unwrap();
        let marker =
            |frame: &ServerFrame| matches!(frame, ServerFrame::Marker(marker) if marker.seq > sent.seq).then_some(());
        tablet.until_frame("the marker", marker).await;
        for client in [ann, bob, tablet] {
            client.finish().await;
        }
        room
    }

    /// Lets users talk in new rooms.
    async fn talk_again(&self) {
        let (ann, bob) = (self.connect(0, "ann", "phone").await, self.connect(1, "bob", "phone").await);
        for n in 0..8 {
            let info = ann.client().create(&format!("room {n}"), &["bob"]).await.unwrap();
            let sent = ann.client().send(info.room.as_str(), "hi").await.unwrap();
            bob.until_seq(info.room.as_str(), sent.seq).await;
        }
        ann.finish().await;
        bob.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_does_what_it_must_with_its_own_key_and_an_encrypted_connection() {
    let mut nats = NatsWithRights::start(true).await;
    let files = nats.certificates();
    let (ca, (certificate, key)) = (files.authority(), files.client());
    let (ca, certificate, key) =
        (ca.display().to_string(), certificate.display().to_string(), key.display().to_string());
    let tls = ["--nats-ca", &ca, "--nats-certificate", &certificate, "--nats-certificate-key", &key];

    step("before an operator has made the buckets, a node says what to do");
    let keyspace = Keyspace::make().await;
    let gateway = nats.key(Gateway).display().to_string();
    let args = [&["--role", "gateway", "--nats-key", &gateway], tls.as_slice()].concat();
    let refused = ServedNode::refused(&nats.server, &keyspace, "durability = \"relaxed\"", &args).await;
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(text.contains("`sendpi nats setup`"), "{text}");

    step("whom the server does not know it does not let in");
    for args in [&tls[..], &args[..4]] {
        let refused = ServedNode::refused(&nats.server, &keyspace, "durability = \"relaxed\"", args).await;
        let text = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(text.contains("cannot connect to NATS"), "{text}");
    }

    nats.set_up(&tls).await;
    let more = format!(
        "nats-ca = {ca:?}\nnats-certificate = {certificate:?}\nnats-certificate-key = {key:?}\nno-rates = true"
    );
    let nodes = Nodes::start(&nats, &more).await;
    nodes.talk().await;

    step("a worker that was connected to a server that was restarted hears of leases and nodes again");
    nats.server.restart().await;
    let operator = nats.key(Operator).display().to_string();
    let url = nats.server.url();
    let ctl = async |args: &[&str]| {
        let access = ["--json", "--nats", &url, "--nats-key", &operator];
        Sendpi::run(&[&["ctl"], args, &access, tls.as_slice()].concat()).await.stdout
    };
    let rows = async |args: &[&str]| serde_json::from_slice::<Vec<Value>>(&ctl(args).await).unwrap_or_default();
    until("all to be served again", async || rows(&["partitions"]).await.len() == 64).await;
    let second = nodes.worker(&nats, &more).await;
    until("the new worker to have its share", async || {
        let workers = rows(&["workers"]).await;
        let owned = |worker: &Value| worker["status"]["partitions"].as_array().map_or(0, Vec::len);
        workers.len() == 2 && workers.iter().all(|worker| owned(worker) > 0)
    })
    .await;
    nodes.talk_again().await;
    for node in nodes.gateways.iter().chain([&nodes.channel, &nodes.push, &second]) {
        assert_eq!(node.logged("NATS refuses"), 0, "it tries what it has no right to");
    }
}

#[tokio::test]
async fn a_server_of_a_release_with_known_defects_is_refused() {
    let old = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", old.local_addr().unwrap());
    let server = tokio::spawn(async move {
        let info = r#"INFO {"server_id":"S","version":"2.12.1","proto":1,"headers":true,"max_payload":1048576}"#;
        loop {
            let (mut stream, _) = old.accept().await.unwrap();
            stream.write_all(format!("{info}\r\nPONG\r\n").as_bytes()).await.unwrap();
            tokio::spawn(async move { tokio::io::copy(&mut stream, &mut tokio::io::sink()).await });
        }
    });
    let output = Sendpi::run(&["ctl", "workers", "--nats", &url]).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("is 2.12.1") && text.contains("2.12.12 or newer of 2.12, or 2.14.3 or newer"), "{text}");
    server.abort();
}

/// A subject, and who may publish it and subscribe to it.
type Sample = (&'static str, &'static [NatsRole], &'static [NatsRole]);

const NOBODY: &[NatsRole] = &[];
const ALL_NODES: &[NatsRole] = &[Gateway, Channel, Push, Node, Operator];

/// What the design page gives to each role, written down once more.
const SAMPLES: &[Sample] = &[
    ("sendpi.room.5", &[Gateway, Node], &[Channel, Node]),
    ("sendpi.room.5.x", NOBODY, NOBODY),
    ("sendpi.orphan.5", &[Gateway, Channel, Node], &[Channel, Node]),
    ("sendpi.served.5", &[Channel, Node], &[Gateway, Node]),
    ("sendpi.user.ann", &[Gateway, Node], &[Gateway, Node]),
    ("sendpi.node.n1.link", &[Channel, Node], &[Gateway, Node]),
    ("sendpi.node.n1.alive", &[Channel, Node], &[Channel, Node]),
    ("sendpi.node.n1.signin", &[Gateway, Node], &[Gateway, Node]),
    ("sendpi.node.n1.signout", &[Gateway, Node], &[Gateway, Node]),
    ("sendpi.node.n1.sessions", &[Push, Node], &[Gateway, Node]),
    ("sendpi.node.n1.other", NOBODY, NOBODY),
    ("sendpi.ctl.worker.n1", &[Operator], &[Channel, Node]),
    ("sendpi.ctl.push", &[Operator], &[Push, Node]),
    ("sendpi.ingest.room.lobby", &[Service], NOBODY),
    ("sendpi.in.5.room.lobby", NOBODY, NOBODY),
    ("sendpi.push.5", &[Channel, Node], NOBODY),
    ("sendpi.pushlog.lobby.ann", &[Push, Node], NOBODY),
    ("sendpi.dead.push.lobby.ann", &[Push, Node], NOBODY),
    ("sendpi.dead.ingest.room.lobby", &[Channel, Node], NOBODY),
    ("sendpi.>", NOBODY, NOBODY),
    (">", NOBODY, NOBODY),
    ("_INBOX.x", NOBODY, NOBODY),
    ("_INBOX_service.x", NOBODY, &[Service]),
    ("_INBOX_sendpi.n1.gateway.x", &[Gateway, Node], &[Gateway]),
    ("_INBOX_sendpi.n1.channel.x", &[Channel, Node], &[Channel]),
    ("_INBOX_sendpi.n1.push.x", &[Gateway, Node], &[Push]),
    ("_INBOX_sendpi.n1.node.x", &[Gateway, Channel, Node], &[Node]),
    ("_INBOX_sendpi.n1.operator.x", &[Channel, Push, Node], &[Operator]),
    ("_INBOX_sendpi.n1.flow.5", &[Channel, Node], &[Gateway, Node]),
    ("_INBOX_sendpi.n1.link.n2", &[Gateway, Node], &[Channel, Node]),
    ("_INBOX_sendpi.n1.pulse", ALL_NODES, ALL_NODES),
    ("$KV.sendpi_partitions.5", &[Channel, Node, Operator], NOBODY),
    ("$KV.sendpi_partitions.>", NOBODY, NOBODY),
    ("$KV.sendpi_presence.=n.n1", ALL_NODES, NOBODY),
    ("$KV.sendpi_presence.ann.n1", &[Gateway, Node], NOBODY),
    ("$KV.other.x", NOBODY, NOBODY),
    ("$SYS.REQ.SERVER.PING", NOBODY, NOBODY),
    ("$JS.ACK.sendpi_ingest.c.1.2.3.4.5", &[Channel, Node], NOBODY),
    ("$JS.ACK.sendpi_push.push-workers.1.2.3.4.5", &[Push, Node], NOBODY),
    ("$JS.ACK.sendpi_push.other.1.2.3.4.5", NOBODY, NOBODY),
];

const STREAMS: [&str; 7] = [
    "KV_sendpi_partitions",
    "KV_sendpi_presence",
    "sendpi_push",
    "sendpi_ingest",
    "sendpi_dead",
    "sendpi_push_log",
    "another",
];

/// The verbs of JetStream that name a stream, the consumer if there is one in the end.
const VERBS: [&str; 25] = [
    "CONSUMER.CREATE",
    "STREAM.CREATE",
    "STREAM.UPDATE",
    "STREAM.DELETE",
    "STREAM.INFO",
    "STREAM.PURGE",
    "STREAM.SNAPSHOT",
    "STREAM.RESTORE",
    "STREAM.MSG.GET",
    "STREAM.MSG.DELETE",
    "STREAM.LEADER.STEPDOWN",
    "STREAM.PEER.REMOVE",
    "DIRECT.GET",
    "CONSUMER.LIST",
    "CONSUMER.NAMES",
    "CONSUMER.CREATE/push-workers",
    "CONSUMER.CREATE/c",
    "CONSUMER.DURABLE.CREATE/c",
    "CONSUMER.DELETE/c",
    "CONSUMER.INFO/c",
    "CONSUMER.INFO/push-workers",
    "CONSUMER.MSG.NEXT/c",
    "CONSUMER.MSG.NEXT/push-workers",
    "CONSUMER.PAUSE/c",
    "CONSUMER.LEADER.STEPDOWN/c",
];

/// Returns who may use a verb on a stream.
fn may_use(verb: &str, stream: &str) -> &'static [NatsRole] {
    let bucket = stream.starts_with("KV_");
    match (verb, stream) {
        (_, "another") => NOBODY,
        ("STREAM.INFO", _) => ALL_NODES,
        ("STREAM.CREATE" | "STREAM.UPDATE" | "STREAM.DELETE", _) => &[Operator],
        ("STREAM.MSG.GET", _) if bucket => ALL_NODES,
        ("STREAM.MSG.GET", "sendpi_push_log") => &[Push, Node, Operator],
        ("STREAM.MSG.GET", _) => &[Operator],
        ("DIRECT.GET", "KV_sendpi_presence") => ALL_NODES,
        ("STREAM.PURGE", "KV_sendpi_presence") => &[Channel, Node],
        (
            "CONSUMER.CREATE" | "CONSUMER.CREATE/c" | "CONSUMER.CREATE/push-workers" | "CONSUMER.DELETE/c",
            "KV_sendpi_presence",
        ) => &[Channel, Node, Operator],
        (
            "CONSUMER.CREATE" | "CONSUMER.CREATE/c" | "CONSUMER.CREATE/push-workers" | "CONSUMER.DELETE/c",
            "KV_sendpi_partitions",
        ) => &[Channel, Node],
        ("CONSUMER.CREATE/push-workers", "sendpi_push") => &[Operator],
        ("CONSUMER.INFO/push-workers", "sendpi_push") => ALL_NODES,
        ("CONSUMER.MSG.NEXT/push-workers", "sendpi_push") => &[Push, Node],
        (
            "CONSUMER.CREATE/c"
            | "CONSUMER.CREATE/push-workers"
            | "CONSUMER.DELETE/c"
            | "CONSUMER.INFO/c"
            | "CONSUMER.INFO/push-workers"
            | "CONSUMER.MSG.NEXT/c"
            | "CONSUMER.MSG.NEXT/push-workers",
            "sendpi_ingest",
        ) => &[Channel, Node],
        _ => NOBODY,
    }
}

#[tokio::test]
async fn a_server_of_a_cluster_takes_the_configuration_with_the_keys_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["cluster.conf", "rights.conf"] {
        std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats").join(file), folder.path().join(file))
            .unwrap();
    }
    let keys = folder.path().join("keys").display().to_string();
    assert!(Sendpi::run(&["nats", "keys", &keys]).await.status.success());
    let config = folder.path().join("cluster.conf");
    let checked = Command::new(nats_server()).arg("-t").arg("-c").arg(config).env("NATS_NAME", "nats-1").output();
    let checked = checked.await.unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_role_may_do_nothing_else() {
    let nats = NatsWithRights::start(false).await;
    for role in NatsRole::ALL {
        let mut client = nats.connect(role).await;
        let mut wrong = Vec::new();
        for (subject, publish, subscribe) in SAMPLES {
            // One publishes to no filter.
            if !subject.contains('>') && client.may_publish(subject, "", "").await != publish.contains(&role) {
                wrong.push(format!("publish {subject}"));
            }
            if client.may_subscribe(subject).await != subscribe.contains(&role) {
                wrong.push(format!("subscribe {subject}"));
            }
        }
        for (verb, stream) in VERBS.iter().flat_map(|verb| STREAMS.map(|stream| (*verb, stream))) {
            let subject = match verb.split_once('/') {
                Some((verb, consumer)) => format!("$JS.API.{verb}.{stream}.{consumer}"),
                None => format!("$JS.API.{verb}.{stream}"),
            };
            if client.may_publish(&subject, "", "").await != may_use(verb, stream).contains(&role) {
                wrong.push(format!("publish {subject}"));
            }
            assert!(!client.may_subscribe(&subject).await, "{role:?} {subject}");
        }
        for subject in ["$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", "$JS.API.META.LEADER.STEPDOWN"] {
            assert!(!client.may_publish(subject, "", "").await, "{role:?} {subject}");
        }
        assert_eq!(wrong, Vec::<String>::new(), "{role:?} may, or may not");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_with_a_foreign_reply_subject_changes_nothing() {
    let nats = NatsWithRights::start(false).await;
    nats.set_up(&[]).await;
    let nodes = Nodes::start(&nats, "no-rates = true").await;
    let room = nodes.talk().await;
    let mut operator = nats.connect(Operator).await;
    let keys = operator.last_kept("KV_sendpi_partitions", "$KV.sendpi_partitions.5").await.unwrap();

    step("what nodes and workers answer");
    let worker = keys["owner"].as_str().unwrap().to_owned();
    let foreign = "$KV.sendpi_partitions.=config";
    let config = operator.last_kept("KV_sendpi_partitions", foreign).await;
    let asks = [
        (Gateway, "sendpi.room.5".to_owned()),
        (Gateway, format!("sendpi.node.{worker}.signout")),
        (Channel, format!("sendpi.node.{worker}.alive")),
        (Channel, format!("sendpi.node.{worker}.link")),
        (Push, format!("sendpi.node.{worker}.sessions")),
        (Operator, format!("sendpi.ctl.worker.{worker}")),
        (Operator, "sendpi.ctl.push".to_owned()),
        (Service, "sendpi.ingest.room.lobby".to_owned()),
    ];
    for (role, subject) in asks.iter().filter(|(role, _)| *role != Service) {
        assert!(nats.connect(*role).await.may_publish(subject, foreign, "{}").await, "{subject}");
    }
    // Each answers one question after the other, so that this answer comes behind those to the foreign subject.
    let (key, url) = (nats.key(Operator).display().to_string(), nats.server.url());
    assert!(Sendpi::run(&["ctl", "workers", "--nats", &url, "--nats-key", &key]).await.status.success());
    let why = ["why", "--room", &room, "--seq", "2", "--user", "bob", "--nats", &url, "--nats-key", &key];
    assert!(Sendpi::run(&why).await.status.success());
    assert_eq!(operator.last_kept("KV_sendpi_partitions", foreign).await, config);

    step("NATS itself answers to any subject, and what it writes so is no lease");
    let mut gateway = nats.connect(Gateway).await;
    for partition in 0..64 {
        let foreign = format!("$KV.sendpi_partitions.{partition}");
        assert!(gateway.may_publish("$JS.API.STREAM.INFO.KV_sendpi_presence", &foreign, "").await);
    }
    assert!(gateway.may_publish("$JS.API.STREAM.INFO.KV_sendpi_presence", foreign, "").await);
    nats.set_up(&[]).await;
    assert_eq!(operator.last_kept("KV_sendpi_partitions", foreign).await, config);
    let ann = nodes.connect(0, "ann", "phone").await;
    let bob = nodes.connect(1, "bob", "phone").await;
    let is_lease = async |operator: &mut NatsClient, partition: u16| {
        let kept = operator.last_kept("KV_sendpi_partitions", &format!("$KV.sendpi_partitions.{partition}")).await;
        kept.is_some_and(|kept| kept["owner"] == worker.as_str())
    };
    within(Duration::from_secs(30), "all leases are leases again", async {
        for partition in 0..64 {
            while !is_lease(&mut operator, partition).await {
                let sent = ann.client().send(&room, "still here").await.unwrap();
                bob.until_seq(&room, sent.seq).await;
            }
        }
    })
    .await;
    ann.finish().await;
    bob.finish().await;
}
