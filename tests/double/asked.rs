//! A valid request, for a brain to read.

use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

/// A valid request.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) body: Value,
    /// Tools, system prompt, and each message, exactly as they were sent.
    pub(super) segments: Vec<String>,
}

/// A tool's result, with the call that it answers.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    pub(crate) tool: String,
    pub(crate) input: Value,
    pub(crate) content: String,
    pub(crate) is_error: bool,
}

impl Asked {
    /// How often the model has answered in this conversation.
    pub(crate) fn turn(&self) -> usize {
        self.messages().iter().filter(|message| message["role"] == "assistant").count()
    }

    /// Whether a small model is asked for words.
    pub(crate) fn is_summary(&self) -> bool {
        self.body.get("tools").is_none()
    }

    /// The schema that the answer must have.
    pub(crate) fn format(&self) -> Option<&Value> {
        self.body.pointer("/output_config/format/schema")
    }

    /// The text of the first message.
    pub(crate) fn opening(&self) -> &str {
        self.messages()[0]["content"].as_str().unwrap_or_default()
    }

    /// The results in the last message.
    pub(crate) fn last_results(&self) -> Vec<Given> {
        self.results_in(self.messages().len() - 1)
    }

    /// All results of the conversation, oldest first.
    pub(crate) fn all_results(&self) -> Vec<Given> {
        (0..self.messages().len()).flat_map(|index| self.results_in(index)).collect()
    }

    /// Whether a part of the prompt is marked for the cache.
    pub(super) fn is_cached(&self) -> bool {
        self.body.get("cache_control").is_some()
    }

    /// The digests of all beginnings of the prompt, with their bytes.
    pub(super) fn prefixes(&self) -> Vec<(String, usize)> {
        let (mut hash, mut bytes) = (Sha256::new(), 0);
        hash.update(self.body["model"].as_str().unwrap_or_default());
        let grow = |segment: &String| {
            hash.update(segment.as_bytes());
            bytes += segment.len();
            (format!("{:x?}", hash.clone().finalize()), bytes)
        };
        self.segments.iter().map(grow).collect()
    }

    fn messages(&self) -> &Vec<Value> {
        self.body["messages"].as_array().unwrap()
    }

    fn results_in(&self, index: usize) -> Vec<Given> {
        let messages = self.messages();
        let blocks = messages[index]["content"].as_array().cloned().unwrap_or_default();
        let results = blocks.iter().filter(|block| block["type"] == "tool_result");
        results
            .map(|result| {
                let calls = messages[index - 1]["content"].as_array().unwrap();
                let call = calls.iter().find(|call| call["id"] == result["tool_use_id"]).unwrap();
                Given {
                    tool: call["name"].as_str().unwrap().to_owned(),
                    input: call["input"].clone(),
                    content: result["content"].as_str().unwrap_or_default().to_owned(),
                    is_error: result["is_error"] == true,
                }
            })
            .collect()
    }
}

/// The blocks of a message's content, as they were written; a text is one block.
pub(super) fn blocks(content: &RawValue) -> Vec<String> {
    serde_json::from_str::<Vec<Box<RawValue>>>(content.get())
        .map_or_else(|_| vec![content.get().to_owned()], |blocks| blocks.iter().map(|it| it.get().to_owned()).collect())
}
