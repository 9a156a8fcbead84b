//! Which proxy leads to the API server: the kubeconfig's, or that of HTTPS_PROXY and NO_PROXY, as kubectl reads them.
//! Pure, but for [`Environment::of_this_process`].

use http::Uri;
use ipnet::IpNet;
use std::net::IpAddr;
use std::str::FromStr;
use url::Url;

/// The schemes that a proxy may have.
const SCHEMES: &str = "http, https, socks5 or socks5h";

/// What the environment says about proxies.
#[derive(Debug, Clone, Default)]
pub(super) struct Environment {
    pub(super) https: Option<String>,
    pub(super) http: Option<String>,
    pub(super) exceptions: Option<String>,
}

impl Environment {
    /// As kubectl does: the name in capitals first.
    pub(super) fn of_this_process() -> Self {
        let read = |name: &str| {
            let names = [name.to_ascii_uppercase(), name.to_owned()];
            names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
        };
        Self { https: read("https_proxy"), http: read("http_proxy"), exceptions: read("no_proxy") }
    }
}

/// Why a proxy cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{whence} names the proxy {shown}, expected {SCHEMES}://HOST[:PORT]")]
pub struct ProxyError {
    /// Who names it.
    whence: &'static str,
    /// What it names, without a password.
    shown: String,
}

/// The proxy to a server; `None`: none. What the kubeconfig says goes for every server, whatever NO_PROXY says.
pub(super) fn choose(
    server: &Uri,
    of_kubeconfig: Option<&str>,
    environment: &Environment,
) -> Result<Option<Url>, ProxyError> {
    if let Some(proxy) = of_kubeconfig.filter(|it| !it.is_empty()) {
        return parse(proxy, "the kubeconfig (proxy-url)").map(Some);
    }
    let (proxy, whence) = match server.scheme_str() {
        Some("http") => (&environment.http, "HTTP_PROXY"),
        _ => (&environment.https, "HTTPS_PROXY"),
    };
    let exceptions = environment.exceptions.as_deref().unwrap_or_default();
    match proxy {
        Some(proxy) if !is_reached_directly(server, exceptions) => parse(proxy, whence).map(Some),
        Some(_) | None => Ok(None),
    }
}

/// A proxy; without a scheme, one that speaks HTTP.
fn parse(text: &str, whence: &'static str) -> Result<Url, ProxyError> {
    let is_known = |url: &Url| {
        matches!(url.scheme(), "http" | "https" | "socks5" | "socks5h")
            && url.host_str().is_some_and(|it| !it.is_empty())
    };
    let with_scheme = || Url::parse(&format!("http://{text}")).ok();
    let found = Url::parse(text).ok().filter(is_known);
    let found = found.or_else(|| with_scheme().filter(is_known).filter(|_| !text.contains("://")));
    found.ok_or_else(|| {
        let shown = text.rsplit_once('@').map_or(text, |(_, rest)| rest);
        ProxyError { whence, shown: shown.chars().filter(|c| !c.is_control()).take(100).collect() }
    })
}

/// Whether no proxy leads to this server: this machine, and what NO_PROXY lists: `*`, addresses, ranges of them, and
/// domains. `example.org` is the domain and all under it, `.example.org` and `*.example.org` only what is under it; a port
/// may follow. What is none of these is passed over.
pub(super) fn is_reached_directly(server: &Uri, exceptions: &str) -> bool {
    let host = server.host().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
    let default_port = if server.scheme_str() == Some("http") { 80 } else { 443 };
    let port = server.port_u16().unwrap_or(default_port);
    let address = host.parse::<IpAddr>().ok().map(|it| it.to_canonical());
    if host == "localhost" || address.is_some_and(|it| it.is_loopback() || it.is_unspecified()) {
        return true;
    }
    exceptions.split(',').map(|it| it.trim().to_ascii_lowercase()).any(|exception| {
        if exception == "*" {
            return true;
        }
        if let Ok(range) = IpNet::from_str(&exception) {
            return address.is_some_and(|it| range.contains(&it));
        }
        let (name, its_port) = with_port(&exception);
        if its_port.is_some_and(|it| it != port) {
            return false;
        }
        match (name.parse::<IpAddr>(), address) {
            (Ok(excepted), Some(address)) => excepted.to_canonical() == address,
            (Err(_), None) => is_domain_of(name, &host),
            (Ok(_), None) | (Err(_), Some(_)) => false,
        }
    })
}

/// `name:port`, `[address]:port`, or no port.
fn with_port(exception: &str) -> (&str, Option<u16>) {
    let bare = |name: &str| name.parse::<IpAddr>().is_ok();
    match exception.rsplit_once(':') {
        Some((name, port)) if !bare(exception) => match port.parse() {
            Ok(port) => (name.trim_matches(['[', ']']), Some(port)),
            Err(_) => (exception, None),
        },
        Some(_) | None => (exception.trim_matches(['[', ']']), None),
    }
}

fn is_domain_of(exception: &str, host: &str) -> bool {
    let name = exception.strip_prefix('*').unwrap_or(exception);
    match name.strip_prefix('.') {
        Some("") => false,
        Some(_) => host.ends_with(name),
        None if name.is_empty() => false,
        None => host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.')),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_means_what_it_means_to_kubectl() {
        for (exceptions, direct, by_proxy) in [
            (
                "",
                vec!["https://127.0.0.1:6443", "https://[::1]", "https://localhost", "https://0.0.0.0"],
                vec!["a.example"],
            ),
            ("*", vec!["a.example", "10.0.0.1"], vec![]),
            ("10.0.0.1", vec!["10.0.0.1", "10.0.0.1:6443", "[::ffff:10.0.0.1]"], vec!["10.0.0.2", "example.org"]),
            ("10.0.0.1:6443", vec!["10.0.0.1:6443"], vec!["10.0.0.1"]),
            (
                "10.96.0.0/12, fd00::/8,",
                vec!["10.96.0.1", "10.111.1.1", "[fd12::1]:6443"],
                vec!["10.112.0.1", "[fe00::1]"],
            ),
            ("[fd00::1]:6443,fd00::2", vec!["[fd00::1]:6443", "[fd00::2]"], vec!["[fd00::1]", "[fd00::3]"]),
            (
                "example.org",
                vec!["example.org", "API.Example.org", "a.b.example.org:6443"],
                vec!["notexample.org", "org"],
            ),
            (".example.org", vec!["api.example.org"], vec!["example.org", "badexample.org"]),
            ("*.example.org", vec!["api.example.org"], vec!["example.org"]),
            ("example.org:6443", vec!["example.org:6443", "api.example.org:6443"], vec!["example.org"]),
            ("example.org:443", vec!["example.org"], vec!["example.org:6443"]),
            (" , ,no/host,:80,.,*.,a.example", vec!["a.example"], vec!["b.example"]),
        ] {
            let url = |text: &str| -> Uri {
                if text.contains("://") { text.to_owned() } else { format!("https://{text}/") }.parse().unwrap()
            };
            for server in direct {
                assert!(is_reached_directly(&url(server), exceptions), "{server} with NO_PROXY={exceptions}");
            }
            for server in by_proxy {
                assert!(!is_reached_directly(&url(server), exceptions), "{server} with NO_PROXY={exceptions}");
            }
        }
    }

    #[test]
    fn the_proxy_is_that_of_the_kubeconfig_or_of_the_environment() {
        let environment = Environment {
            https: Some("proxy.example:3128".to_owned()),
            http: Some("socks5://plain.example".to_owned()),
            exceptions: Some("api.example".to_owned()),
        };
        for (server, of_kubeconfig, expected) in [
            ("https://a.example:6443", None, Some("http://proxy.example:3128/")),
            ("http://a.example", None, Some("socks5://plain.example")),
            ("https://api.example", None, None),
            ("https://api.example", Some("https://user:secret@own.example"), Some("https://user:secret@own.example/")),
            ("https://a.example", Some(""), Some("http://proxy.example:3128/")),
        ] {
            let chosen = choose(&server.parse().unwrap(), of_kubeconfig, &environment).unwrap();
            assert_eq!(chosen.as_ref().map(Url::as_str), expected, "{server}");
        }
        let none = choose(&"https://a.example".parse().unwrap(), None, &Environment::default());
        assert_eq!(none, Ok(None));
    }

    #[test]
    fn a_proxy_that_is_none_is_shown_without_its_password() {
        let environment =
            Environment { https: Some("ftp://user:secret@proxy.example".to_owned()), ..Environment::default() };
        let error = choose(&"https://a.example".parse().unwrap(), None, &environment).unwrap_err().to_string();
        assert!(error.contains("HTTPS_PROXY") && error.contains("proxy.example"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
}
