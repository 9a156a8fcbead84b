//! A workload without a key: the platform's token is exchanged for a short-lived one.

use crate::support::install_tls_provider;
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use harness::claude::{Client, Request, Settings, Transcript};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Server {
    exchanges: Mutex<Vec<Value>>,
    refused: AtomicUsize,
}

const ANSWER: &str = r#"data: {"type":"message_start","message":{"id":"m","model":"m","usage":{"input_tokens":1}}}

data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":1}}

data: {"type":"message_stop"}

"#;

async fn serve(State(server): State<Arc<Server>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let error = |status: u16, text: &str| {
        (axum::http::StatusCode::from_u16(status).unwrap(), json!({ "error": text }).to_string()).into_response()
    };
    if uri.path() == "/v1/oauth/token" {
        let body: Value = serde_json::from_str(&body).unwrap();
        if body["assertion"] == "bad-token" {
            return error(400, "the assertion bad-token is not accepted");
        }
        let mut exchanges = server.exchanges.lock().unwrap();
        exchanges.push(body);
        return json!({ "access_token": format!("sk-ant-oat01-{}", exchanges.len()), "expires_in": 3600 })
            .to_string()
            .into_response();
    }
    let bearer = headers["authorization"].to_str().unwrap();
    let newest = format!("Bearer sk-ant-oat01-{}", server.exchanges.lock().unwrap().len());
    // The first token is withdrawn after one use.
    if bearer != newest || server.refused.fetch_add(1, Ordering::SeqCst) == 1 {
        return error(401, "invalid bearer token");
    }
    assert!(headers["anthropic-beta"].to_str().unwrap().contains("oauth"));
    ([("content-type", "text/event-stream")], ANSWER).into_response()
}

#[tokio::test]
async fn the_platforms_token_is_exchanged_once_and_again_when_the_api_no_longer_accepts_what_it_gave() {
    install_tls_provider();
    let server = Arc::new(Server::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base_url = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new().fallback(serve).with_state(Arc::clone(&server));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "platform-token").unwrap();
    let settings = Settings::from_variables(|name| match name {
        "ANTHROPIC_IDENTITY_TOKEN_FILE" => Some(file.path().display().to_string()),
        "ANTHROPIC_FEDERATION_RULE_ID" => Some("fdrl_1".to_owned()),
        "ANTHROPIC_ORGANIZATION_ID" => Some("org".to_owned()),
        "ANTHROPIC_SERVICE_ACCOUNT_ID" => Some("svac_1".to_owned()),
        "ANTHROPIC_BASE_URL" => Some(base_url.clone()),
        _ => None,
    });
    let client = Client::new(settings.unwrap().unwrap()).unwrap();
    let request = Request::new("claude-opus-5-5", 10, Transcript::opening("hello"));
    client.send(&request, |_| ()).await.unwrap();
    assert_eq!(
        *server.exchanges.lock().unwrap(),
        [json!({
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "platform-token",
            "federation_rule_id": "fdrl_1", "organization_id": "org", "service_account_id": "svac_1",
        })]
    );
    let refused = client.send(&request, |_| ()).await.unwrap_err();
    assert_eq!(refused.reason(), "AuthenticationFailed");
    client.send(&request, |_| ()).await.unwrap();
    assert_eq!(server.exchanges.lock().unwrap().len(), 2, "one exchange a token");
    let bad = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(bad.path(), "bad-token").unwrap();
    let settings = Settings::from_variables(|name| match name {
        "ANTHROPIC_IDENTITY_TOKEN_FILE" => Some(bad.path().display().to_string()),
        "ANTHROPIC_FEDERATION_RULE_ID" | "ANTHROPIC_ORGANIZATION_ID" => Some("x".to_owned()),
        "ANTHROPIC_BASE_URL" => Some(base_url.clone()),
        _ => None,
    });
    let error = Client::new(settings.unwrap().unwrap()).unwrap().send(&request, |_| ()).await.unwrap_err();
    assert!(!error.to_string().contains("bad-token"), "no error repeats the token: {error}");
}
