//! What a check may reach. A first guard against being used to reach what only the cluster's network may
//! (server-side request forgery): it judges addresses, at the moment of the connection, never names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a check may reach. Never: link-local and metadata addresses, multicast, the unspecified address, and the ports
/// of what runs a node and a cluster, whatever the address. Only the operator's configuration changes that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Loopback too: for a harness that runs on the machine of the service.
    pub allow_loopback: bool,
}

/// Metadata services of cloud providers outside the link-local range: of Alibaba, Azure and Oracle.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same of Google. Those of Amazon are all in `fd00:ec2::/32`.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254);

/// etcd, the API server where it listens by itself, the kubelet, kube-proxy, the cloud's, the ordinary controllers and
/// the scheduler. They listen on the node's own addresses, which pods may reach by any of its names.
const PORTS_OF_THE_CLUSTER: [u16; 13] =
    [2379, 2380, 2381, 6443, 10248, 10249, 10250, 10251, 10252, 10255, 10256, 10257, 10259];

impl EgressPolicy {
    /// Whether the address may be reached; in IPv6 it may be an IPv4 address in disguise.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => {
                self.allows_v6(address) && embedded_v4(address).into_iter().all(|it| self.allows_v4(it))
            }
        }
    }

    /// Whether the port may be reached, at any address.
    pub fn allows_port(port: u16) -> bool {
        !PORTS_OF_THE_CLUSTER.contains(&port)
    }

    fn allows_v4(self, address: Ipv4Addr) -> bool {
        let never = address.octets()[0] == 0
            || address.is_link_local()
            || address.is_multicast()
            || address.is_broadcast()
            || METADATA_V4.contains(&address);
        !never && (self.allow_loopback || !address.is_loopback())
    }

    fn allows_v6(self, address: Ipv6Addr) -> bool {
        let never = address.is_unspecified()
            || address.is_unicast_link_local()
            || address.is_multicast()
            || matches!(address.segments(), [0xfd00, 0xec2, ..])
            || address == METADATA_V6;
        !never && (self.allow_loopback || !address.is_loopback())
    }
}

/// The IPv4 addresses that an IPv6 address leads to, or may lead to: mapped, compatible, translated (RFC 2765), NAT64
/// (64:ff9b::/96 and 64:ff9b:1::/48, RFC 8215), 6to4 (2002::/16) or ISATAP (RFC 5214).
fn embedded_v4(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let segments = address.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, high, low] => vec![from(high, low)],
        [0x64, 0xff9b, 1, ..] => local_nat64(address),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => vec![from(high, low)],
        _ => Vec::new(),
    }
}

/// The addresses that one of 64:ff9b:1::/48 may lead to: where they are depends on the length of the network's prefix,
/// 48, 56, 64 or 96 (RFC 6052), which is not known here. What begins with 0 is only the filling of another place.
fn local_nat64(address: Ipv6Addr) -> Vec<Ipv4Addr> {
    let octets = address.octets();
    let places = [[6, 7, 9, 10], [7, 9, 10, 11], [9, 10, 11, 12], [12, 13, 14, 15]];
    let addresses = places.map(|places| Ipv4Addr::from(places.map(|place: usize| octets[place])));
    let found: Vec<Ipv4Addr> = addresses.into_iter().filter(|it| it.octets()[0] != 0).collect();
    if found.is_empty() { vec![Ipv4Addr::UNSPECIFIED] } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_must_never_be_reached_is_refused_in_every_disguise() {
        let policy = EgressPolicy { allow_loopback: true };
        for address in [
            "169.254.169.254",
            "169.254.0.1",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd00:ec2::253",
            "fd20:ce::254",
            "192.0.0.192",
            "::ffff:192.0.0.192",
            "64:ff9b:1::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "64:ff9b:1:0:a9:fea9:fe00:0",
            "64:ff9b::6464:64c8",
            "2002:a83f:8110::",
            "fe80::5efe:a9fe:a9fe",
            "2001:db8::5efe:a9fe:a9fe",
            "::ffff:0:169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(!policy.allows(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn loopback_is_reached_only_where_the_configuration_says_so() {
        for address in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] {
            let address = address.parse().unwrap();
            assert!(EgressPolicy { allow_loopback: true }.allows(address), "{address}");
            assert!(!EgressPolicy { allow_loopback: false }.allows(address), "{address}");
        }
    }

    #[test]
    fn the_ports_of_what_runs_a_cluster_are_not_reached_and_those_of_services_are() {
        for port in [2379, 6443, 10250, 10255, 10256, 10257, 10259] {
            assert!(!EgressPolicy::allows_port(port), "{port}");
        }
        for port in [80, 443, 8001, 8080, 8443, 9090, 10254, 30000, 32767] {
            assert!(EgressPolicy::allows_port(port), "{port}");
        }
    }

    #[test]
    fn ordinary_addresses_of_a_cluster_are_reached() {
        for address in
            ["10.96.0.10", "192.168.1.1", "8.8.8.8", "fd12::1", "2001:db8::1", "64:ff9b::808:808", "64:ff9b:1::808:808"]
        {
            assert!(EgressPolicy { allow_loopback: false }.allows(address.parse().unwrap()), "{address}");
        }
    }
}
