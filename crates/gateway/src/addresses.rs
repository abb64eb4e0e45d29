//! How many connections one address has, and which address a client has behind proxies that are trusted.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use ipnet::IpNet;

/// Returns the address of a client: the peer, or if that is a trusted proxy the last address in `X-Forwarded-For` that
/// is none. What a client itself wrote there is before that of the first trusted proxy, and counts for nothing.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |address: IpAddr| trusted.iter().any(|net| net.contains(&address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let named = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
    let named: Vec<&str> = named.flat_map(|value| value.split(',')).collect();
    let mut client = peer;
    for address in named.into_iter().rev() {
        // Behind something that is no address nothing can be told.
        let Some(address) = read_address(address.trim()) else { break };
        client = address.to_canonical();
        if !is_trusted(client) {
            break;
        }
    }
    client
}

/// Reads an address, with or without a port.
fn read_address(text: &str) -> Option<IpAddr> {
    text.parse().ok().or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
}

/// Returns what is counted as one address: an IPv6 network of 64 bits is given to one customer.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// How many connections each address has.
#[derive(Debug, Clone)]
pub(crate) struct AddressCounts {
    most: Option<u32>,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// One connection of an address, which is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct CountedAddress {
    address: IpAddr,
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl AddressCounts {
    pub(crate) fn new(most: Option<u32>) -> Self {
        Self { most, counts: Arc::default() }
    }

    /// Counts a connection. `None` if the address has too many.
    pub(crate) fn admit(&self, address: IpAddr) -> Option<CountedAddress> {
        let address = counted(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.get(&address).copied().unwrap_or_default();
        if self.most.is_some_and(|most| count >= most) {
            return None;
        }
        counts.insert(address, count + 1);
        Some(CountedAddress { address, counts: Arc::clone(&self.counts) })
    }
}

impl Drop for CountedAddress {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(peer: &str, forwarded: &[&str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()];
        let headers =
            forwarded.iter().map(|value| (http::HeaderName::from_static("x-forwarded-for"), value.parse().unwrap()));
        client_address(peer.parse().unwrap(), &headers.collect(), &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        assert_eq!(of("93.1.1.1", &["1.2.3.4"]), "93.1.1.1");
        assert_eq!(of("10.0.0.1", &["1.2.3.4"]), "1.2.3.4");
        assert_eq!(of("::ffff:10.0.0.1", &["6.6.6.6, 1.2.3.4", "10.9.9.9"]), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &["1.2.3.4, nonsense"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &["1.2.3.4:56"]), "1.2.3.4");
        assert_eq!(of("10.0.0.1", &["[2001:db8::1]:56"]), "2001:db8::1");
        assert_eq!(of("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(of("fd00::1", &["2001:db8::1, 10.0.0.7"]), "2001:db8::1");
    }

    #[test]
    fn an_address_has_so_many_connections_until_one_ends() {
        let counts = AddressCounts::new(Some(2));
        let address = |text: &str| text.parse().unwrap();
        let first = counts.admit(address("2001:db8::1"));
        let second = counts.admit(address("2001:db8::2"));
        assert!(first.is_some() && second.is_some());
        assert!(counts.admit(address("2001:db8::3")).is_none() && counts.admit(address("2001:db8:0:1::1")).is_some());
        drop(first);
        assert!(counts.admit(address("2001:db8::3")).is_some());
        drop(second);
        assert!(counts.counts.lock().unwrap().is_empty());
    }
}
