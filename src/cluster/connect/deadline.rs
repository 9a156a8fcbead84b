//! The layer under every Kubernetes client of the harness: no plain request can wait for ever.
//!
//! kube gives a response no time limit by default, because watches are responses, too. Here the head of every
//! response has a deadline, and so has the body of all but streams (watches and followed logs), whose silence
//! the watcher bounds itself.

use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full, Limited};
use kube::client::Body;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tower::{BoxError, Layer, Service};

/// The longest body of a plain response, in bytes: thirty times the largest object that etcd stores, a full page.
const BODY_LIMIT_BYTES: usize = 64 * 1024 * 1024;

/// A plain request did not end in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", deadline.as_secs_f32())]
struct DeadlineExceeded {
    deadline: Duration,
}

/// Adds a deadline to a service.
pub(super) struct DeadlineLayer {
    /// How long a request may take, all in all.
    pub(super) deadline: Duration,
}

impl<S> Layer<S> for DeadlineLayer {
    type Service = DeadlineService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        DeadlineService { inner, deadline: self.deadline }
    }
}

/// A service whose requests end in time.
pub(super) struct DeadlineService<S> {
    inner: S,
    deadline: Duration,
}

impl<S, B> Service<Request<Body>> for DeadlineService<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Either<Full<bytes::Bytes>, B>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let streams = is_stream(&request);
        let response = self.inner.call(request);
        let deadline = self.deadline;
        let answer = async move {
            let (head, body) = response.await?.into_parts();
            if streams {
                return Ok(Response::from_parts(head, Either::Right(body)));
            }
            let bytes = Limited::new(body, BODY_LIMIT_BYTES).collect().await?.to_bytes();
            Ok(Response::from_parts(head, Either::Left(Full::new(bytes))))
        };
        Box::pin(async move {
            tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Err(DeadlineExceeded { deadline }.into()))
        })
    }
}

/// Whether the response goes on for as long as it likes.
fn is_stream(request: &Request<Body>) -> bool {
    let asks_for = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        query.split('&').any(|pair| pair.split_once('=').is_some_and(|(key, value)| key == name && value != "false"))
    };
    asks_for("watch") || asks_for("follow") || request.headers().contains_key(http::header::UPGRADE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use futures::stream::pending;
    use http_body_util::StreamBody;
    use tower::{ServiceExt, service_fn};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn get(uri: &str) -> Request<Body> {
        Request::get(uri).body(Body::empty()).unwrap()
    }

    /// Sends a request to a server that sends the head of a response and then nothing.
    async fn ask_a_server_that_falls_silent(uri: &str) -> Result<(), String> {
        type Silent = StreamBody<futures::stream::Pending<Result<http_body::Frame<Bytes>, BoxError>>>;
        let falls_silent = |_| async { Ok::<_, BoxError>(Response::new(Silent::new(pending()))) };
        let service = DeadlineLayer { deadline: DEADLINE }.layer(service_fn(falls_silent));
        service.oneshot(get(uri)).await.map(drop).map_err(|error| error.to_string())
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_never_answers_is_given_up() {
        let never = |_| std::future::pending::<Result<Response<Full<Bytes>>, BoxError>>();
        let service = DeadlineLayer { deadline: DEADLINE }.layer(service_fn(never));
        let error = service.oneshot(get("/api/v1/pods?watch=true")).await.unwrap_err();
        assert_eq!(error.to_string(), "the API server did not answer within 10 s");
    }

    #[tokio::test(start_paused = true)]
    async fn a_plain_answer_that_never_ends_is_given_up() {
        for uri in ["/api/v1/pods", "/api/v1/pods?watch=false&limit=1"] {
            let error = ask_a_server_that_falls_silent(uri).await.unwrap_err();
            assert!(error.contains("within 10 s"), "{error}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent() {
        for uri in ["/api/v1/pods?limit=1&watch=true", "/api/v1/namespaces/a/pods/b/log?&follow=true"] {
            ask_a_server_that_falls_silent(uri).await.unwrap();
        }
    }
}
