//! Which names are asked for, in which order. Pure.
//!
//! A pod's short names go through search domains, and what no search domain has is asked of the world. Whether the
//! world answers says nothing about a Service: a cluster without a way out would never learn that one is gone.

use hickory_resolver::proto::ProtoError;
use hickory_resolver::proto::rr::Name;
use std::str::FromStr;

/// The most dots in the short name of a Service or of one of its pods: `pod.service.namespace`.
const DOTS_OF_A_SHORT_NAME: usize = 2;

/// What is asked for a name, and whose answer counts.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The first of these that has an address.
    InOrder(Vec<Name>),
    /// A Service of the own namespace, by its bare name; else a host of the node's search domains.
    Bare {
        /// In the cluster's zone.
        cluster: Vec<Name>,
        /// In the node's search domains.
        node: Vec<Name>,
    },
    /// A Service with its namespace, or a name of the world: both look like `a.b`.
    Dotted {
        /// In the cluster's zone.
        cluster: Vec<Name>,
        /// If the cluster knows one of these, the name is one of the cluster's.
        parents: Vec<Name>,
        /// In the node's search domains, and the name as it stands.
        world: Vec<Name>,
    },
}

impl Plan {
    /// How a name is looked up with these search domains.
    pub(super) fn of(name: &str, search: &[Name], ndots: usize) -> Result<Self, ProtoError> {
        let relative = Name::from_str_relaxed(name)?;
        let absolute = rooted(relative.clone());
        if relative.is_fqdn() {
            return Ok(Self::InOrder(vec![absolute]));
        }
        let dots = usize::from(relative.num_labels()).saturating_sub(1);
        let within = |domains: &[Name]| -> Vec<Name> {
            domains.iter().filter_map(|domain| relative.clone().append_domain(domain).ok()).map(rooted).collect()
        };
        let Some(zone) = cluster_zone(search) else {
            let mut names = within(search);
            names.insert(if dots >= ndots { 0 } else { names.len() }, absolute);
            return Ok(Self::InOrder(names));
        };
        if zone.zone_of(&absolute) {
            return Ok(Self::InOrder(vec![absolute]));
        }
        let (own, others): (Vec<Name>, Vec<Name>) =
            search.iter().cloned().map(rooted).partition(|domain| zone.zone_of(domain));
        let cluster = within(&own);
        let mut world = within(&others);
        if dots == 0 {
            return Ok(Self::Bare { cluster, node: world });
        }
        let last = relative.trim_to(1);
        if last.iter().next().is_some_and(|label| label.eq_ignore_ascii_case(b"svc")) {
            return Ok(Self::InOrder(cluster));
        }
        if dots >= ndots && dots > DOTS_OF_A_SHORT_NAME {
            world.insert(0, absolute);
            return Ok(Self::InOrder(world.into_iter().chain(cluster).collect()));
        }
        world.push(absolute);
        Ok(Self::Dotted { cluster, parents: parents(&last, dots, &zone, &own), world })
    }
}

/// `NAMESPACE.svc.ZONE` exists while the namespace does; for `a.b`, `b` may also be a Service whose pod is `a`.
fn parents(last: &Name, dots: usize, zone: &Name, own: &[Name]) -> Vec<Name> {
    let services = Name::from_str("svc").and_then(|svc| svc.append_domain(zone));
    let is_a_namespace = |domain: &&Name| domain.num_labels() > zone.num_labels() + 1;
    let namespace = own.iter().find(is_a_namespace).filter(|_| dots == 1);
    let domains = services.ok().into_iter().chain(namespace.cloned());
    domains.filter_map(|domain| last.clone().append_domain(&domain).ok()).map(rooted).collect()
}

/// The zone of the cluster: a pod searches `NAMESPACE.svc.ZONE`, `svc.ZONE` and `ZONE`.
fn cluster_zone(search: &[Name]) -> Option<Name> {
    let all: Vec<Name> = search.iter().cloned().map(rooted).collect();
    let services = all.iter().filter(|domain| domain.iter().next().is_some_and(|it| it.eq_ignore_ascii_case(b"svc")));
    services.map(Name::base_name).find(|zone| all.contains(zone))
}

fn rooted(mut name: Name) -> Name {
    name.set_fqdn(true);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: [&str; 4] = ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example"];

    fn names(texts: &[&str]) -> Vec<Name> {
        texts.iter().map(|text| Name::from_str(text).unwrap()).collect()
    }

    fn plan(name: &str, search: &[&str], ndots: usize) -> Plan {
        Plan::of(name, &names(search), ndots).unwrap()
    }

    #[test]
    fn a_bare_name_is_a_service_of_the_own_namespace_or_a_host_near_the_node_and_never_one_of_the_world() {
        let cluster = names(&["web.shop.svc.cluster.local.", "web.svc.cluster.local.", "web.cluster.local."]);
        assert_eq!(plan("web", &POD, 5), Plan::Bare { cluster, node: names(&["web.corp.example."]) });
    }

    #[test]
    fn a_name_with_a_dot_may_be_of_the_cluster_or_of_the_world() {
        let cluster = ["web.prod.shop.svc.cluster.local.", "web.prod.svc.cluster.local.", "web.prod.cluster.local."];
        let expected = Plan::Dotted {
            cluster: names(&cluster),
            parents: names(&["prod.svc.cluster.local.", "prod.shop.svc.cluster.local."]),
            world: names(&["web.prod.corp.example.", "web.prod."]),
        };
        assert_eq!(plan("web.prod", &POD, 5), expected);
        // A pod with few ndots asks for a Service all the same.
        assert_eq!(plan("web.prod", &POD, 1), expected);
    }

    #[test]
    fn a_full_name_of_the_cluster_is_asked_for_as_it_stands() {
        for name in ["web.prod.svc.cluster.local", "web.prod.svc.cluster.local.", "WEB.prod.svc.Cluster.local"] {
            let Plan::InOrder(asked) = plan(name, &POD, 5) else { panic!("{name}") };
            assert_eq!(asked, names(&["web.prod.svc.cluster.local."]), "{name}");
        }
        let Plan::InOrder(asked) = plan("web.prod.svc", &POD, 5) else { panic!() };
        assert!(asked.contains(&names(&["web.prod.svc.cluster.local."])[0]) && asked.len() == 3, "{asked:?}");
    }

    #[test]
    fn a_long_name_is_one_of_the_world_first() {
        let Plan::InOrder(asked) = plan("a.b.c.d.example.com", &POD, 5) else { panic!() };
        assert_eq!(asked[0], names(&["a.b.c.d.example.com."])[0]);
    }

    #[test]
    fn outside_of_a_cluster_search_domains_are_what_they_are_everywhere() {
        let home = ["fritz.box"];
        assert_eq!(plan("nas", &home, 1), Plan::InOrder(names(&["nas.fritz.box.", "nas."])));
        assert_eq!(plan("example.com", &home, 1), Plan::InOrder(names(&["example.com.", "example.com.fritz.box."])));
        assert_eq!(plan("example.com", &[], 1), Plan::InOrder(names(&["example.com."])));
    }
}
