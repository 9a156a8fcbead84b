//! What the agent keeps beyond any ticket: one ConfigMap in the harness's own namespace, a key for each subject. It
//! survives a restart, a successor, and whatever becomes of the tickets.
//!
//! Touches the world in one way: that ConfigMap, with its precondition, by one writer at a time in this process.

use super::executor::FIELD_MANAGER;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;
use kube::api::{Api, PostParams};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// The name of the ConfigMap.
pub const BOOKS_NAME: &str = "harness-agent-spend";

/// Another process may write in between, or an answer be lost; so often it is tried.
const TRIES: usize = 6;
const PAUSE: Duration = Duration::from_millis(100);

/// The ConfigMap cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("key {key} of ConfigMap {BOOKS_NAME} cannot be kept: {why}")]
pub struct BooksError {
    /// The subject.
    pub key: &'static str,
    /// Why.
    pub why: String,
}

/// The ConfigMap. Cheap to clone; clones share all.
#[derive(Clone)]
pub struct Books {
    api: Api<ConfigMap>,
    /// What was written last: mostly nobody else writes.
    last: Arc<Mutex<Option<ConfigMap>>>,
}

/// One's turn to write, for as long as this is kept.
pub type Turn = OwnedMutexGuard<Option<ConfigMap>>;

impl Books {
    /// The books in the harness's own namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), last: Arc::default() }
    }

    /// Waits for one's turn to write.
    pub async fn turn(&self) -> Turn {
        Arc::clone(&self.last).lock_owned().await
    }

    /// Changes what is kept under a key. What `edit` refuses is not written. A write whose answer was lost may be made
    /// twice.
    pub async fn change<P, T, E>(
        &self,
        mut turn: Turn,
        key: &'static str,
        mut edit: impl FnMut(&mut P) -> Result<T, E>,
    ) -> Result<Result<T, E>, BooksError>
    where
        P: Default + Serialize + DeserializeOwned,
    {
        let mut failed = None;
        for _ in 0..TRIES {
            if failed.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            match self.change_once(&mut turn, key, &mut edit).await {
                Ok(done) => return done,
                Err(error) => failed = Some(error),
            }
        }
        let why = failed.map_or_else(String::new, |error| error.to_string());
        Err(BooksError { key, why })
    }

    /// Changes the page as it was written last, or as it is found; an outdated one meets a conflict.
    async fn change_once<P, T, E>(
        &self,
        turn: &mut Turn,
        key: &'static str,
        edit: &mut impl FnMut(&mut P) -> Result<T, E>,
    ) -> Result<Result<Result<T, E>, BooksError>, kube::Error>
    where
        P: Default + Serialize + DeserializeOwned,
    {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let found = match turn.take() {
            Some(known) => Some(known),
            None => self.api.get_opt(BOOKS_NAME).await?,
        };
        let mut page = match read::<P>(found.as_ref(), key) {
            Ok(page) => page,
            Err(error) => return Ok(Err(error)),
        };
        let result = match edit(&mut page) {
            Ok(result) => result,
            Err(refused) => {
                **turn = found;
                return Ok(Ok(Err(refused)));
            }
        };
        let text = serde_json::to_string(&page).map_err(kube::Error::SerdeError)?;
        // Whatever else others wrote on it stays.
        let mut object = found.clone().unwrap_or_else(|| ConfigMap {
            metadata: ObjectMeta { name: Some(BOOKS_NAME.to_owned()), ..ObjectMeta::default() },
            ..ConfigMap::default()
        });
        object.metadata.managed_fields = None;
        object.data.get_or_insert_default().insert(key.to_owned(), text);
        let written = match found {
            Some(_) => self.api.replace(BOOKS_NAME, &parameters, &object).await?,
            None => self.api.create(&parameters, &object).await?,
        };
        **turn = Some(written);
        Ok(Ok(Ok(result)))
    }
}

fn read<P: Default + DeserializeOwned>(found: Option<&ConfigMap>, key: &'static str) -> Result<P, BooksError> {
    let text = found.and_then(|object| object.data.as_ref()?.get(key));
    text.map_or_else(
        || Ok(P::default()),
        |text| {
            serde_json::from_str(text)
                .map_err(|error| BooksError { key, why: format!("it is not understood ({error}); delete the key") })
        },
    )
}
