//! What each role may do in NATS: what it may publish, and what it may subscribe to. There are only lists of what is
//! allowed. `nats/rights.conf` is [`render`]ed from here.
//!
//! NATS does not check a requester's right to its reply subject, not even for its own API: a stream keeps an answer of
//! JetStream that is sent to a subject of the stream. So of the nodes only workers may make consumers, whose
//! deliveries could go anywhere, and whoever reads a bucket takes nothing for a value that was not put as one.

use crate::subject::{self, NodeSubject, bucket_stream};

/// What a process is to NATS. Each has a user of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NatsRole {
    /// A node with the role of a gateway.
    Gateway,
    /// A worker.
    Channel,
    /// A push worker.
    Push,
    /// A node with several of these roles.
    Node,
    /// A person, or a program that makes the buckets and streams.
    Operator,
    /// A service that publishes system events.
    Service,
}

/// What a role may do: filters of subjects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rights {
    /// What it may publish.
    pub publish: Vec<String>,
    /// What it may subscribe to.
    pub subscribe: Vec<String>,
}

/// The streams that keep the buckets.
fn leases() -> String {
    bucket_stream(subject::PARTITIONS_BUCKET)
}

fn presence() -> String {
    bucket_stream(subject::PRESENCE_BUCKET)
}

fn streams() -> [String; 6] {
    let [push, ingest, dead, log] =
        [subject::PUSH_STREAM, subject::INGEST_STREAM, subject::DEAD_STREAM, subject::PUSH_LOG_STREAM]
            .map(str::to_owned);
    [leases(), presence(), push, ingest, dead, log]
}

/// Returns a subject of the API of JetStream.
fn api(verb: &str, stream: &str) -> String {
    format!("$JS.API.{verb}.{stream}")
}

fn key(bucket: &str, filter: &str) -> String {
    subject::bucket_prefix(bucket) + filter
}

impl NatsRole {
    /// All roles.
    pub const ALL: [Self; 6] = [Self::Gateway, Self::Channel, Self::Push, Self::Node, Self::Operator, Self::Service];

    /// Returns the name of the role, which is a part of its inbox.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Channel => "channel",
            Self::Push => "push",
            Self::Node => "node",
            Self::Operator => "operator",
            Self::Service => "service",
        }
    }

    /// Returns what the role may do.
    #[must_use]
    pub fn rights(self) -> Rights {
        let mut rights = Rights::default();
        match self {
            Self::Gateway => rights.gateway(self),
            Self::Channel => rights.channel(self),
            Self::Push => rights.push(self),
            Self::Node => {
                rights.gateway(self);
                rights.channel(self);
                rights.push(self);
            }
            Self::Operator => rights.operator(self),
            Self::Service => {
                rights.publish.push(subject::INGEST_SUBJECTS.to_owned());
                rights.subscribe.push(subject::SERVICE_INBOXES.to_owned());
            }
        }
        for list in [&mut rights.publish, &mut rights.subscribe] {
            list.sort();
            list.dedup();
        }
        rights
    }
}

impl Rights {
    fn publish(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.publish.extend(subjects);
    }

    fn subscribe(&mut self, subjects: impl IntoIterator<Item = String>) {
        self.subscribe.extend(subjects);
    }

    /// What every node does: it keeps its own key, and sees whether the buckets and streams are there.
    fn node(&mut self, role: NatsRole) {
        self.publish(streams().iter().map(|stream| api("STREAM.INFO", stream)));
        self.publish([
            key(subject::PRESENCE_BUCKET, subject::NODE_KEYS),
            api("STREAM.MSG.GET", &presence()),
            api("STREAM.MSG.GET", &leases()),
            subject::direct_get(&presence()),
            api("CONSUMER.INFO", subject::PUSH_STREAM) + "." + subject::PUSH_CONSUMER,
            subject::PULSES.to_owned(),
        ]);
        self.subscribe([subject::inboxes(role), subject::PULSES.to_owned()]);
    }

    /// It may watch a bucket. The consumer of a watch has no name at first, and one after a reconnect or a gap, when
    /// the client makes it anew.
    fn watch(&mut self, bucket: &str) {
        self.publish([
            api("CONSUMER.CREATE", bucket),
            api("CONSUMER.CREATE", bucket) + ".>",
            api("CONSUMER.DELETE", bucket) + ".*",
            format!("$JS.FC.{bucket}.>"),
        ]);
    }

    /// It may answer these roles.
    fn answer(&mut self, roles: &[NatsRole]) {
        self.publish(roles.iter().map(|role| subject::inboxes(*role)));
    }

    fn gateway(&mut self, role: NatsRole) {
        self.node(role);
        self.publish([
            subject::ROOMS.to_owned(),
            subject::ORPHANS.to_owned(),
            subject::USERS.to_owned(),
            subject::ALL_LINK_REPLIES.to_owned(),
            subject::all_nodes(NodeSubject::SignIn),
            subject::all_nodes(NodeSubject::SignOut),
            key(subject::PRESENCE_BUCKET, "*.*"),
        ]);
        // Gateways ask each other about sign-ins and sign-outs, and push workers ask for sessions.
        self.answer(&[NatsRole::Gateway, NatsRole::Push, NatsRole::Node]);
        self.subscribe([subject::ALL_FLOW_REPLIES.to_owned(), subject::SERVED.to_owned(), subject::USERS.to_owned()]);
        let asked = [NodeSubject::Link, NodeSubject::SignIn, NodeSubject::SignOut, NodeSubject::Sessions];
        self.subscribe(asked.map(subject::all_nodes));
    }

    fn channel(&mut self, role: NatsRole) {
        self.node(role);
        self.publish([
            subject::all_nodes(NodeSubject::Link),
            subject::all_nodes(NodeSubject::Alive),
            subject::ALL_FLOW_REPLIES.to_owned(),
            subject::ORPHANS.to_owned(),
            subject::SERVED.to_owned(),
            subject::PUSH_SUBJECTS.to_owned(),
            subject::DEAD_INGEST.to_owned(),
            key(subject::PARTITIONS_BUCKET, "*"),
            // What dead nodes left.
            api("STREAM.PURGE", &presence()),
        ]);
        // Operators ask it, and workers ask each other whether they live.
        self.answer(&[NatsRole::Channel, NatsRole::Node, NatsRole::Operator]);
        for bucket in [leases(), presence()] {
            self.watch(&bucket);
        }
        let ingest = subject::INGEST_STREAM;
        self.publish(["CONSUMER.CREATE", "CONSUMER.INFO", "CONSUMER.DELETE", "CONSUMER.MSG.NEXT"].map(|verb| {
            let every = if verb == "CONSUMER.CREATE" { ".>" } else { ".*" };
            api(verb, ingest) + every
        }));
        self.publish([format!("$JS.ACK.{ingest}.>")]);
        self.subscribe([
            subject::ROOMS.to_owned(),
            subject::ALL_LINK_REPLIES.to_owned(),
            subject::ORPHANS.to_owned(),
            subject::CONTROL_WORKERS.to_owned(),
            subject::all_nodes(NodeSubject::Alive),
        ]);
    }

    fn push(&mut self, role: NatsRole) {
        self.node(role);
        let push = subject::PUSH_STREAM;
        self.publish([
            subject::PUSH_LOG_SUBJECTS.to_owned(),
            subject::DEAD_PUSH.to_owned(),
            subject::all_nodes(NodeSubject::Sessions),
            api("CONSUMER.MSG.NEXT", push) + "." + subject::PUSH_CONSUMER,
            format!("$JS.ACK.{push}.{}.>", subject::PUSH_CONSUMER),
            api("STREAM.MSG.GET", subject::PUSH_LOG_STREAM),
        ]);
        self.answer(&[NatsRole::Operator]);
        self.subscribe([subject::CONTROL_PUSH.to_owned()]);
    }

    fn operator(&mut self, role: NatsRole) {
        self.node(role);
        self.watch(&presence());
        for verb in ["STREAM.CREATE", "STREAM.UPDATE", "STREAM.DELETE", "STREAM.MSG.GET"] {
            self.publish(streams().iter().map(|stream| api(verb, stream)));
        }
        self.publish([
            api("CONSUMER.CREATE", subject::PUSH_STREAM) + "." + subject::PUSH_CONSUMER,
            key(subject::PARTITIONS_BUCKET, "*"),
            subject::CONTROL_WORKERS.to_owned(),
            subject::CONTROL_PUSH.to_owned(),
        ]);
    }
}

/// Returns the part of a NATS server's configuration that gives each role its rights. The public keys of the users are
/// the variables `SENDPI_NKEY_<ROLE>`.
#[must_use]
pub fn render() -> String {
    let mut text = String::from(
        "# Who may do what in NATS: a user for each role of Sendpi, with all that it may publish and subscribe to.\n\
         # `sendpi nats rights` prints this file; change crates/bus/src/rights.rs, not this. `sendpi nats keys` makes\n\
         # the keys, and the file with their public halves that is included here.\n\
         include \"keys/public.conf\"\n\n\
         authorization {\n  users: [\n",
    );
    for role in NatsRole::ALL {
        let rights = role.rights();
        let list = |subjects: &[String]| {
            subjects.iter().map(|subject| format!("          \"{subject}\"\n")).collect::<String>()
        };
        text += &format!(
            "    {{\n      nkey: ${}\n      permissions: {{\n        publish: {{ allow: [\n{}        ] }}\n        \
             subscribe: {{ allow: [\n{}        ] }}\n      }}\n    }}\n",
            variable(role),
            list(&rights.publish),
            list(&rights.subscribe),
        );
    }
    text + "  ]\n}\n"
}

/// Returns the name of the variable that holds the public key of a role's user.
#[must_use]
pub fn variable(role: NatsRole) -> String {
    format!("SENDPI_NKEY_{}", role.name().to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns whether a filter, as NATS has them, matches a subject.
    fn matches(filter: &str, subject: &str) -> bool {
        let (mut filter, mut subject) = (filter.split('.'), subject.split('.'));
        loop {
            match (filter.next(), subject.next()) {
                (Some(">"), Some(_)) | (None, None) => return true,
                (Some(part), Some(token)) if part == "*" || part == token => {}
                _ => return false,
            }
        }
    }

    #[test]
    fn filters_match_as_those_of_nats() {
        for (filter, subject, does) in [
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            (">", "a", true),
        ] {
            assert_eq!(matches(filter, subject), does, "{filter} {subject}");
        }
    }

    #[test]
    fn the_file_with_the_rights_is_the_rendered_one() {
        assert_eq!(include_str!("../../../nats/rights.conf"), render());
    }

    #[test]
    fn nobody_has_the_whole_api_or_anothers_inbox() {
        for role in NatsRole::ALL {
            let Rights { publish, subscribe } = role.rights();
            assert!(publish.iter().all(|filter| !matches(filter, "$JS.API.STREAM.LIST")), "{role:?}");
            assert!(subscribe.iter().all(|filter| !filter.starts_with('>') && !filter.starts_with('*')), "{role:?}");
            for other in NatsRole::ALL.into_iter().filter(|other| *other != role && *other != NatsRole::Service) {
                let inbox = format!("_INBOX_sendpi.n1.{}.x", other.name());
                assert!(subscribe.iter().all(|filter| !matches(filter, &inbox)), "{role:?} {other:?}");
            }
        }
    }
}
