//! What is asked. The conversation comes last in the body, so that each body begins with all of the one before it.

use super::error::ClaudeError;
use super::message::Message;
use super::model::Capabilities;
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

/// One turn that is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The model.
    pub model: String,
    /// Tokens of the answer, thinking included.
    pub max_tokens: u32,
    /// The system prompt; empty: none.
    pub system: String,
    /// The tools that the model may call.
    pub tools: Vec<Tool>,
    /// Whether the model thinks first; `None`: as the model does by itself.
    pub thinking: Option<Thinking>,
    /// How hard it tries; `None`: as the model does by itself.
    pub effort: Option<Effort>,
    /// The JSON schema of the answer's text; `None`: any text.
    pub format: Option<Value>,
    /// Whether the prompt is cached for the next turn.
    pub cached: bool,
    /// The conversation.
    pub transcript: Transcript,
}

/// A tool that the model may call. Its input is held to the schema by the API (`strict`).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    /// The schema of its input, as [`strict_schema`](super::strict_schema) makes it.
    pub input_schema: Value,
}

/// Whether a model thinks before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// As much as it sees fit.
    Adaptive,
    /// Not at all: only models whose thinking can be switched off.
    Disabled,
}

/// How hard a model tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the words of the API")]
pub enum Effort {
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

/// What a tool gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// The call that this answers.
    pub tool_use_id: String,
    /// What it gave.
    pub content: String,
    /// It was not executed, or failed.
    pub is_error: bool,
}

impl ToolResult {
    /// What a tool gave.
    pub fn ok(tool_use_id: impl Into<String>, content: impl Into<String>) -> Self {
        Self { tool_use_id: tool_use_id.into(), content: content.into(), is_error: false }
    }
}

/// A conversation. It only grows; each message is serialised once and sent the same ever after.
#[derive(Debug, Clone)]
pub struct Transcript {
    messages: Vec<Box<RawValue>>,
}

impl Transcript {
    /// A conversation that begins with this message of the user.
    pub fn opening(text: impl Into<String>) -> Self {
        let mut transcript = Self { messages: Vec::new() };
        transcript.push_user(text);
        transcript
    }

    /// Appends the model's turn, unchanged but for empty texts, which the API sends and does not take. A turn that says
    /// nothing, which may follow the results of tools, is left out altogether.
    pub fn push_reply(&mut self, message: &Message) {
        let said = message.said();
        if !said.is_empty() {
            self.push("assistant", &said);
        }
    }

    /// Appends the results of all calls of the model's last turn, in one message.
    pub fn push_results(&mut self, results: Vec<ToolResult>) {
        let blocks: Vec<Value> = results
            .into_iter()
            .map(|result| {
                let mut block =
                    json!({ "type": "tool_result", "tool_use_id": result.tool_use_id, "content": result.content });
                if result.is_error {
                    block["is_error"] = Value::Bool(true);
                }
                block
            })
            .collect();
        self.push("user", &blocks);
    }

    /// Appends a message of the user; to the user's last one, if the model has said nothing since: roles alternate.
    pub fn push_user(&mut self, text: impl Into<String>) {
        let text = text.into();
        let last = self.messages.last().and_then(|last| serde_json::from_str::<UserMessage>(last.get()).ok());
        match last.filter(|last| last.role == "user") {
            Some(last) => {
                let mut blocks = last.blocks();
                blocks.extend(to_raw_value(&json!({ "type": "text", "text": text })).ok());
                self.messages.pop();
                self.push("user", &blocks);
            }
            None => self.push("user", &text),
        }
    }

    /// The messages as they are sent.
    pub fn messages(&self) -> &[Box<RawValue>] {
        &self.messages
    }

    fn push<T: Serialize>(&mut self, role: &'static str, content: &T) {
        #[derive(Serialize)]
        struct Wire<'a, T> {
            role: &'static str,
            content: &'a T,
        }
        // Values, strings and raw JSON: there is nothing in them that cannot be serialised.
        self.messages.extend(to_raw_value(&Wire { role, content }).ok());
    }
}

/// A message that was serialised, read again.
#[derive(Deserialize)]
struct UserMessage {
    role: String,
    content: Box<RawValue>,
}

impl UserMessage {
    /// Its blocks, unchanged; a text is one.
    fn blocks(&self) -> Vec<Box<RawValue>> {
        serde_json::from_str(self.content.get()).unwrap_or_else(|_| {
            let text: String = serde_json::from_str(self.content.get()).unwrap_or_default();
            to_raw_value(&json!({ "type": "text", "text": text })).into_iter().collect()
        })
    }
}

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    max_tokens: u32,
    stream: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_config: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system: Option<Value>,
    messages: &'a [Box<RawValue>],
}

impl Request {
    /// A request without system prompt and tools, as the model answers by itself, with the prompt cached.
    pub fn new(model: impl Into<String>, max_tokens: u32, transcript: Transcript) -> Self {
        Self {
            model: model.into(),
            max_tokens,
            system: String::new(),
            tools: Vec::new(),
            thinking: None,
            effort: None,
            format: None,
            cached: true,
            transcript,
        }
    }

    /// The bytes that are sent: never fewer than its tokens.
    pub fn body_len(&self) -> usize {
        self.body().map_or(0, |body| body.len())
    }

    pub(super) fn body(&self) -> Result<Vec<u8>, ClaudeError> {
        self.check()?;
        let ephemeral = || json!({ "type": "ephemeral" });
        let system = (!self.system.is_empty()).then(|| {
            let mut block = json!({ "type": "text", "text": self.system });
            if self.cached {
                block["cache_control"] = ephemeral();
            }
            json!([block])
        });
        let tools = self.tools.iter().map(|tool| {
            json!({
                "name": tool.name, "description": tool.description, "strict": true, "input_schema": tool.input_schema,
            })
        });
        let body = Body {
            model: &self.model,
            max_tokens: self.max_tokens,
            stream: true,
            thinking: self.thinking.map(|thinking| match thinking {
                Thinking::Adaptive => json!({ "type": "adaptive" }),
                Thinking::Disabled => json!({ "type": "disabled" }),
            }),
            output_config: self.output_config(),
            // At the end of the conversation, wherever that is: no message has a mark that a later turn would move.
            cache_control: self.cached.then(ephemeral),
            tools: tools.collect(),
            system,
            messages: self.transcript.messages(),
        };
        serde_json::to_vec(&body).map_err(|error| ClaudeError::MakeRequest(error.to_string()))
    }

    fn output_config(&self) -> Option<Value> {
        let mut config = serde_json::Map::new();
        if let Some(effort) = self.effort {
            config.insert("effort".to_owned(), json!(effort));
        }
        if let Some(schema) = &self.format {
            config.insert("format".to_owned(), json!({ "type": "json_schema", "schema": schema }));
        }
        (!config.is_empty()).then_some(Value::Object(config))
    }

    /// What the API would refuse, said before it is sent.
    fn check(&self) -> Result<(), ClaudeError> {
        let hard = matches!(self.effort, Some(Effort::XHigh | Effort::Max));
        let can = Capabilities::of(&self.model);
        let missing = match self.thinking {
            Some(Thinking::Disabled) if !can.thinking_can_be_disabled || hard => "thinking cannot be disabled",
            Some(Thinking::Adaptive) if !can.adaptive_thinking => "thinking is not adaptive",
            _ if self.effort.is_some() && !can.effort => "effort cannot be chosen",
            Some(_) | None => return Ok(()),
        };
        Err(ClaudeError::MakeRequest(format!("of {}, {missing} as this asks for it", self.model)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claude::message::tests::message;
    use proptest::prelude::*;

    fn request() -> Request {
        let mut request = Request::new("claude-opus-5-5", 100, Transcript::opening("hello"));
        request.system = "rules".to_owned();
        request.tools = vec![Tool { name: "a".into(), description: "b".into(), input_schema: json!({}) }];
        request
    }

    #[test]
    fn the_body_is_what_the_api_documents() {
        let mut request = request();
        request.thinking = Some(Thinking::Adaptive);
        request.effort = Some(Effort::XHigh);
        let body: Value = serde_json::from_slice(&request.body().unwrap()).unwrap();
        assert_eq!(
            body,
            json!({
                "model": "claude-opus-5-5", "max_tokens": 100, "stream": true, "thinking": { "type": "adaptive" },
                "output_config": { "effort": "xhigh" }, "cache_control": { "type": "ephemeral" },
                "tools": [{ "name": "a", "description": "b", "strict": true, "input_schema": {} }],
                "system": [{ "type": "text", "text": "rules", "cache_control": { "type": "ephemeral" } }],
                "messages": [{ "role": "user", "content": "hello" }],
            })
        );
    }

    #[test]
    fn thinking_is_only_switched_off_where_that_is_possible() {
        for (model, effort, possible) in [
            ("claude-opus-5-5", Effort::Low, false),
            ("claude-sonnet-5-5", Effort::Low, false),
            ("claude-haiku-5-5", Effort::Low, true),
            ("claude-haiku-5-5", Effort::Max, false),
        ] {
            let mut request = Request::new(model, 1, Transcript::opening("x"));
            request.thinking = Some(Thinking::Disabled);
            request.effort = Some(effort);
            assert_eq!(request.body().is_ok(), possible, "{model} {effort:?}");
        }
    }

    #[test]
    fn what_says_nothing_is_never_sent_back() {
        let results = vec![ToolResult::ok("t", "x")];
        for said in ["[]", r#"[{"type":"text","text":"","citations":null}]"#, r#"[{"type":"thinking","thinking":""}]"#]
        {
            let mut transcript = Transcript::opening("hello");
            transcript.push_reply(&message(r#"[{"type":"tool_use","id":"t","name":"a","input":{}}]"#));
            transcript.push_results(results.clone());
            transcript.push_reply(&message(said));
            transcript.push_user("go on");
            let messages: Vec<Value> =
                transcript.messages().iter().map(|it| serde_json::from_str(it.get()).unwrap()).collect();
            let roles: Vec<&Value> = messages.iter().map(|it| &it["role"]).collect();
            assert_eq!(roles, ["user", "assistant", "user"], "{said}");
            assert_eq!(messages[2]["content"][1], json!({ "type": "text", "text": "go on" }), "{said}");
        }
        let mut transcript = Transcript::opening("hello");
        transcript.push_reply(&message(r#"[{"type":"text","text":""},{"type":"text","text":"well"}]"#));
        assert_eq!(transcript.messages()[1].get(), r#"{"role":"assistant","content":[{"type":"text","text":"well"}]}"#);
    }

    #[test]
    fn what_the_model_said_is_replayed_byte_for_byte() {
        let raw = r#"[{"type":"thinking","thinking":"","signature":"Eq=="},{"type":"new","odd":1.50e1,"b":[ 1 ]}]"#;
        let mut request = request();
        request.transcript.push_reply(&message(raw));
        let body = String::from_utf8(request.body().unwrap()).unwrap();
        assert!(body.contains(raw), "{body}");
    }

    proptest! {
        #[test]
        fn each_body_begins_with_all_of_the_one_before_it(texts in proptest::collection::vec(".*", 1..6)) {
            let mut request = request();
            let mut before = request.body().unwrap();
            for text in texts {
                let block = json!([{ "type": "tool_use", "id": "t", "name": "a", "input": { "x": text } }]);
                request.transcript.push_reply(&message(&block.to_string()));
                request.transcript.push_results(vec![ToolResult::ok("t", text)]);
                let body = request.body().unwrap();
                // Without the brackets that close the list and the body.
                prop_assert!(body.starts_with(&before[..before.len() - 2]));
                before = body;
            }
        }
    }
}
