//! What a check may reach. A first guard against being used to reach what only the cluster's network may
//! (server-side request forgery): it judges addresses, at the moment of the connection, never names.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a check may reach. Never: link-local and metadata addresses, multicast, the unspecified address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Loopback too: for a harness that runs on the machine of the service.
    pub allow_loopback: bool,
}

/// Metadata services of cloud providers outside the link-local range.
const METADATA_V4: [Ipv4Addr; 2] = [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16)];
const METADATA_V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)];

impl EgressPolicy {
    /// Whether the address may be reached; in IPv6 it may be an IPv4 address in disguise.
    pub fn allows(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.allows_v4(address),
            IpAddr::V6(address) => {
                embedded_v4(address).map_or_else(|| self.allows_v6(address), |it| self.allows_v4(it))
            }
        }
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
            || METADATA_V6.contains(&address);
        !never && (self.allow_loopback || !address.is_loopback())
    }
}

/// The IPv4 address that an IPv6 address leads to: mapped, compatible, translated (RFC 2765),
/// NAT64 (64:ff9b::/96) or 6to4 (2002::/16).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let segments = address.segments();
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match segments {
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0, 0, 0, 0, 0xffff, 0, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => Some(from(high, low)),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => Some(from(high, low)),
        _ => None,
    }
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
            "fd20:ce::254",
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
    fn ordinary_addresses_of_a_cluster_are_reached() {
        for address in ["10.96.0.10", "192.168.1.1", "8.8.8.8", "fd12::1", "2001:db8::1"] {
            assert!(EgressPolicy { allow_loopback: false }.allows(address.parse().unwrap()), "{address}");
        }
    }
}
