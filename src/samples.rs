//! The manifests of the demo: what `harness init` and `harness demo` install.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;

/// The ConfigMap of the demo's service.
pub const CONFIG_NAME: &str = "rate-limiter-config";
/// The key of the service's configuration in it.
pub const CONFIG_KEY: &str = "service_config.json";
/// The Deployment and the Service of the demo's service, where the chart installed them.
pub const SERVICE: &str = "rate-limiter";
/// The port that the invariants ask by default.
pub const PORT: u16 = 8001;

/// The service answers 200.
pub const HEALTHY: &str = "rate-limiter-healthy";
/// The service answers within 200 ms.
pub const LATENCY: &str = "rate-limiter-latency";

/// The service's ConfigMap, without a namespace.
pub fn config_map() -> Result<ConfigMap, serde_yaml::Error> {
    serde_yaml::from_str(include_str!("samples/rate-limiter-config.yaml"))
}

/// The sample invariants for a service at this port of localhost, without a namespace.
pub fn invariants(port: u16) -> Result<Vec<Value>, serde_yaml::Error> {
    [include_str!("samples/rate-limiter-healthy.yaml"), include_str!("samples/rate-limiter-latency.yaml")]
        .into_iter()
        .map(|text| serde_yaml::from_str(&text.replace(&format!(":{PORT}/"), &format!(":{port}/"))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::{Allow, Invariant};

    #[test]
    fn the_samples_are_what_the_types_understand() {
        let config = config_map().unwrap();
        assert_eq!(config.metadata.name.as_deref(), Some(CONFIG_NAME));
        let text = &config.data.unwrap()[CONFIG_KEY];
        assert_eq!(text, r#"{"enabled": true, "delay_ms": 0}"#);

        let typed = invariants(PORT).unwrap().into_iter().map(serde_json::from_value::<Invariant>);
        let invariants: Vec<_> = typed.map(Result::unwrap).collect();
        let names: Vec<_> = invariants.iter().map(|invariant| invariant.metadata.name.as_deref().unwrap()).collect();
        assert_eq!(names, [HEALTHY, LATENCY]);
        for invariant in invariants {
            let [Allow::EditConfig(allowed)] = &invariant.spec.remediation.allow[..] else {
                panic!("one allowed edit")
            };
            assert_eq!((allowed.name.as_str(), allowed.key.as_str()), (CONFIG_NAME, CONFIG_KEY));
        }
    }

    #[test]
    fn the_invariants_ask_the_port_that_is_wanted() {
        let queries: Vec<_> =
            invariants(9123).unwrap().into_iter().map(|invariant| invariant["spec"]["query"].clone()).collect();
        assert_eq!(queries, ["http://localhost:9123/health", "latency:http://localhost:9123/health"]);
    }
}
