//! Streams, whole and broken.

use super::*;
use proptest::prelude::*;
use serde_json::json;

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
        for event in events.feed(chunk)? {
            assembly.take(&event, &mut |_| ())?;
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
    assert_eq!(message.usage.map(|it| (it.total_input(), it.output_tokens)), Some((5932, 96)));
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
fn a_call_without_arguments_has_the_input_that_it_began_with() {
    for (start, expected) in [(r#""input":{}"#, json!({})), (r#""input":{"a":1}"#, json!({ "a": 1 }))] {
        let quiet = STREAM
            .replace(r#""partial_json":"{\"na""#, r#""partial_json":"""#)
            .replace(r#""partial_json":"me\": \"ü\"}""#, r#""partial_json":"""#)
            .replace(r#""input":{}"#, start);
        let message = read_text(&quiet).unwrap();
        assert_eq!(message.tool_uses().next().map(|(_, _, input)| input.clone()), Some(expected), "{start}");
    }
}

#[test]
fn a_surrogate_pair_may_be_split_over_two_parts_and_half_of_one_is_replaced() {
    let split = |one: &str, other: &str| {
        STREAM.replace(r#""partial_json":"me\": \"ü\"}""#, &format!(r#""partial_json":"me\": \"{one}""#)).replace(
            "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}",
            &format!(
                "data: {{\"type\":\"content_block_delta\",\"index\":1,\"delta\":{{\"type\":\"input_json_delta\",\
                     \"partial_json\":\"{other}\\\"}}\"}}}}\n\ndata: {{\"type\":\"content_block_stop\",\"index\":1}}"
            ),
        )
    };
    let name = |text: &str| {
        let message = read_text(text).unwrap();
        message.tool_uses().next().and_then(|(_, _, input)| input["name"].as_str().map(str::to_owned))
    };
    assert_eq!(name(&split("\\ud83e", "\\udd80")).as_deref(), Some("\u{1f980}"));
    assert!(name(&split("\\ud83e", "x")).is_some_and(|it| it.contains('\u{fffd}') && it.ends_with('x')));
}

#[test]
fn the_line_of_an_event_says_what_it_is_and_what_comes_after_the_end_is_ignored() {
    let untyped = STREAM.replace(r#"data: {"type":"message_stop"}"#, "data: {}");
    assert!(read_text(&untyped).is_ok(), "the line alone says it");
    let lines: Vec<&str> = STREAM.lines().filter(|line| !line.starts_with("event:")).collect();
    let nameless = lines.join(
        "
",
    ) + "

";
    assert!(read_text(&nameless).is_ok(), "the data alone says it");
    for after in ["data: [DONE]\n\n", "event: error\ndata: {}\n\n", "data: nonsense\n\n"] {
        assert!(read_text(&format!("{STREAM}{after}")).is_ok(), "{after}");
    }
    for ping in ["", "1", "nonsense", "[DONE]"] {
        let odd = STREAM.replace(r#"data: {"type":"ping"}"#, &format!("data: {ping}"));
        assert!(read_text(&odd).is_ok(), "{ping}");
    }
    for error in [
        "event: error\ndata: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
        "data: {\"error\":{\"type\":\"overloaded_error\",\"message\":\"busy\"}}\n\n",
    ] {
        let cut = format!("{}{error}", &STREAM[..STREAM.find("event: ping").unwrap()]);
        assert_eq!(read_text(&cut).unwrap_err().reason(), "Overloaded", "{error}");
    }
}

#[test]
fn usage_that_is_not_there_is_not_known() {
    let none = STREAM
        .replace(r#""usage":{"input_tokens":812,"cache_read_input_tokens":5120,"output_tokens":1}"#, r#""usage":null"#);
    assert_eq!(read_text(&none).unwrap().usage, None);
    let half = STREAM.replace(r#""usage":{"output_tokens":96}"#, r#""usage":null"#);
    assert_eq!(read_text(&half).unwrap().usage, None, "the one token of the start is not all");
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
