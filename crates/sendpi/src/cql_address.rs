//! The address of a keyspace on a command line.

use std::str::FromStr;

use sendpi_store::cql::CqlConfig;

/// Nodes of a database, and a keyspace in it: `host:port,host:port/keyspace`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CqlAddress {
    nodes: Vec<String>,
    keyspace: String,
}

impl CqlAddress {
    /// Returns how to reach the keyspace, without a login.
    pub(crate) fn config(&self) -> CqlConfig {
        CqlConfig {
            nodes: self.nodes.clone(),
            keyspace: self.keyspace.clone(),
            login: None,
            tls: None,
            datacenter: None,
        }
    }
}

impl FromStr for CqlAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be host:port/keyspace, with commas between several nodes";
        let (nodes, keyspace) = text.split_once('/').ok_or(FORM)?;
        let nodes: Vec<String> = nodes.split(',').map(str::to_owned).collect();
        if keyspace.is_empty() || nodes.iter().any(String::is_empty) {
            return Err(FORM);
        }
        Ok(Self { nodes, keyspace: keyspace.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_nodes_and_a_keyspace() {
        let address: CqlAddress = "a:9042,b:9042/chat".parse().unwrap();
        assert_eq!(
            (address.config().nodes, address.config().keyspace),
            (vec!["a:9042".into(), "b:9042".into()], "chat".into())
        );
        for text in ["a:9042", "a:9042/", "/chat", "a,,b/chat"] {
            assert!(text.parse::<CqlAddress>().is_err(), "{text}");
        }
    }
}
