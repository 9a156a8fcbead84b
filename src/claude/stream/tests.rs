//! Streams, whole and broken.

use super::*;
use proptest::prelude::*;

const STREAM: &str = r#"event: message_start
data: {"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-opus-5-5","content":[],"stop_reason":null,"usage":{"input_tokens":812,"cache_read_input_tokens":5120,"output_tokens":1}}}

event: content_block_start
data: {"type":"content_block_start","index":0,"content_block":{"type":"thinking","thinking":"","signature":""}}

event: ping
data: {"type":"ping"}

event: content_block_delta
data: {"type":"content_block_delta","index":0,"delta":{"type":"signature_delta","signature":"Eq=="}}

event: content_block_stop
data: {"type":"content_block_stop","index":0}

event: content_block_start
data: {"type":"content_block_start","index":1,"content_block":{"type":"tool_use","id":"toolu_1","name":"read_config","input":{},"caller":{"type": "direct","odd":1.50}}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"{\"na"}}

event: content_block_delta
data: {"type":"content_block_delta","index":1,"delta":{"type":"input_json_delta","partial_json":"me\": \"ü\"}"}}

event: content_block_stop
data: {"type":"content_block_stop","index":1}

event: something_new
data: {"type":"something_new","x":1}

event: message_delta
data: {"type":"message_delta","delta":{"stop_reason":"tool_use","stop_sequence":null},"usage":{"output_tokens":96}}

event: message_stop
data: {"type":"message_stop"}

"#;

fn read(chunks: &[&[u8]]) -> Result<Message, ClaudeError> {
    let (mut events, mut assembly) = (Events::default(), Assembly::default());
    for chunk in chunks {
        for data in events.feed(chunk)? {
            assembly.take(&data, &mut |_| ())?;
        }
    }
    assembly.finish(None, RateLimits::default())
}

fn read_text(text: &str) -> Result<Message, ClaudeError> {
    read(&[text.as_bytes()])
}

#[test]
fn a_stream_becomes_a_message_whose_blocks_are_as_they_were_written() {
    let message = read_text(STREAM).unwrap();
    assert_eq!(message.stop, Stop::ToolUse);
    assert_eq!((message.usage.total_input(), message.usage.output_tokens), (5932, 96));
    let uses: Vec<_> = message.tool_uses().collect();
    assert_eq!(uses, [("toolu_1", "read_config", &serde_json::json!({ "name": "ü" }))]);
    let content: Vec<&str> = message.content.iter().map(|raw| raw.get()).collect();
    assert_eq!(
        content,
        [
            r#"{"type":"thinking","thinking":"","signature":"Eq=="}"#,
            r#"{"type":"tool_use","id":"toolu_1","name":"read_config","input":{"name": "ü"},"caller":{"type": "direct","odd":1.50}}"#,
        ]
    );
}

#[test]
fn a_stream_that_ends_early_is_broken_wherever_it_ends() {
    let ends: Vec<usize> = STREAM.match_indices("\n\n").map(|(at, _)| at + 2).collect();
    for end in &ends[..ends.len() - 1] {
        assert!(matches!(read_text(&STREAM[..*end]), Err(ClaudeError::StreamBroken(_))), "cut at {end}");
    }
}

#[test]
fn an_error_in_the_middle_of_a_stream_is_that_error() {
    let error = r#"event: error
data: {"type":"error","error":{"type":"overloaded_error","message":"busy"}}

"#;
    let cut = format!("{}{error}", &STREAM[..STREAM.find("event: ping").unwrap()]);
    let error = read_text(&cut).unwrap_err();
    assert_eq!((error.reason(), error.is_free()), ("Overloaded", false));
}

#[test]
fn a_call_that_was_cut_off_at_the_limit_is_not_there() {
    let cut = STREAM
        .replace(r#""stop_reason":"tool_use""#, r#""stop_reason":"max_tokens""#)
        .replace(r#""partial_json":"me\": \"ü\"}""#, r#""partial_json":"me\": \"""#);
    let message = read_text(&cut).unwrap();
    assert_eq!((message.stop.clone(), message.tool_uses().count(), message.content.len()), (Stop::MaxTokens, 0, 1));
}

#[test]
fn an_input_that_is_no_json_is_malformed() {
    let broken = STREAM.replace(r#""partial_json":"me\": \"ü\"}""#, r#""partial_json":"me""#);
    assert!(matches!(read_text(&broken), Err(ClaudeError::Malformed(_))));
}

#[test]
fn a_refusal_is_told_with_its_category() {
    let refused = STREAM.replace(
        r#""stop_reason":"tool_use","stop_sequence":null"#,
        r#""stop_reason":"refusal","stop_details":{"type":"refusal","category":"cyber","explanation":"no"}"#,
    );
    let refusal = Stop::Refusal { category: Some("cyber".into()), explanation: Some("no".into()) };
    assert_eq!(read_text(&refused).unwrap().stop, refusal);
}

#[test]
fn an_answer_without_end_is_given_up() {
    let mut events = Events::default();
    let line = vec![b'x'; MAX_BYTES];
    assert!(events.feed(&line).is_ok());
    assert!(matches!(events.feed(b"x"), Err(ClaudeError::Malformed(_))));
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_message_is_the_same(
        cuts in proptest::collection::vec(0..STREAM.len(), 0..20),
        ending in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let text = STREAM.replace('\n', ending);
        let bytes = text.as_bytes();
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        ends.extend([0, bytes.len()]);
        ends.sort_unstable();
        let chunks: Vec<&[u8]> = ends.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        let (one, other) = (read(&chunks).unwrap(), read_text(STREAM).unwrap());
        let raw = |message: &Message| message.content.iter().map(|it| it.get().to_owned()).collect::<Vec<_>>();
        prop_assert_eq!(raw(&one), raw(&other));
        prop_assert_eq!(one.blocks, other.blocks);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&[&bytes]);
    }
}
