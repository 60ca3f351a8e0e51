//! The JSON of chat completions: what is asked, and the few fields of the answers that are read. Servers differ in
//! all others, so those are not looked at.

use bidmesh_core::input::Tokens;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::execute::output::{Keep, one_line};

#[derive(Serialize)]
struct ChatRequest<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    messages: [ChatMessage<'a>; 1],
    stream: bool,
    stream_options: StreamOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
}

#[derive(Serialize)]
struct StreamOptions {
    include_usage: bool,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: &'a str,
}

/// The body of a request for a streamed answer.
pub(super) fn request(model: Option<&str>, prompt: &str, tokens_max: Option<u32>) -> Vec<u8> {
    let messages = [ChatMessage { role: "user", content: prompt }];
    let stream_options = StreamOptions { include_usage: true };
    let request = ChatRequest { model, messages, stream: true, stream_options, max_tokens: tokens_max };
    // Strings, numbers and a list of one: none of them can fail to be written.
    serde_json::to_vec(&request).unwrap_or_default()
}

/// What one piece of an answer says.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Said {
    /// The text, if it has any.
    pub(super) text: Option<String>,
    /// Whether the answer is whole.
    pub(super) finished: bool,
    /// How many tokens the whole answer took, where the server counts them: in an event of its own after the text,
    /// with the last of it, or never.
    pub(super) tokens: Option<Tokens>,
}

/// Why a piece of an answer says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// The server tells an error, in these words.
    Told(String),
    /// It is not the JSON that it should be.
    Unreadable(String),
}

/// An event of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Said(Said),
    Done,
}

#[derive(Deserialize)]
struct Completion {
    choices: Option<Vec<Choice>>,
    usage: Option<Usage>,
    error: Option<Value>,
}

/// Each may be missing, and is no error then: the text is what was asked for.
#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
}

impl Usage {
    fn tokens(&self) -> Option<Tokens> {
        let number = |tokens: Option<u64>| u32::try_from(tokens?).ok();
        Some(Tokens { prompt: number(self.prompt_tokens)?, generated: number(self.completion_tokens)? })
    }
}

#[derive(Deserialize)]
struct Choice {
    index: Option<u64>,
    /// Of a stream.
    delta: Option<Content>,
    /// Of a whole answer.
    message: Option<Content>,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    /// Missing or null where there is only a role.
    content: Option<String>,
}

/// Reads an event's data.
pub(super) fn step(data: &str) -> Result<Step, Trouble> {
    if data.trim() == "[DONE]" { Ok(Step::Done) } else { read(data.as_bytes()).map(Step::Said) }
}

/// Reads one JSON object of an answer; an error that it tells is an error.
pub(super) fn read(json: &[u8]) -> Result<Said, Trouble> {
    let completion: Completion =
        serde_json::from_slice(json).map_err(|error| Trouble::Unreadable(error.to_string()))?;
    if let Some(error) = completion.error.filter(|error| !error.is_null()) {
        return Err(Trouble::Told(words_of(&error).unwrap_or("without a message").to_owned()));
    }
    // No choices at all: an event about usage. Others than the first were not asked for.
    let first = completion.choices.into_iter().flatten().find(|choice| choice.index.unwrap_or(0) == 0);
    let said = first.map_or_else(Said::default, |choice| Said {
        text: choice.delta.or(choice.message).and_then(|content| content.content),
        // Some servers write an empty reason for none.
        finished: choice.finish_reason.is_some_and(|reason| !reason.is_empty()),
        tokens: None,
    });
    Ok(Said { tokens: completion.usage.as_ref().and_then(Usage::tokens), ..said })
}

#[derive(Deserialize)]
struct Models {
    /// Null at a server without models.
    #[serde(deserialize_with = "Option::deserialize")]
    data: Option<Vec<Model>>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

/// The longest name of a model, in bytes: names are shown to people.
const NAME_BYTES_MAX: usize = 200;

/// The names in a list of models, those that are no names left out; `None` if it is no such list.
pub(super) fn models(json: &[u8]) -> Option<Vec<String>> {
    let models: Models = serde_json::from_slice(json).ok()?;
    let is_name = |id: &String| id.len() <= NAME_BYTES_MAX && !id.chars().any(char::is_control);
    Some(models.data.into_iter().flatten().map(|model| model.id).filter(is_name).collect())
}

/// What the body of an error says, on one line of about `limit` bytes.
pub(super) fn error_words(body: &[u8], limit: usize) -> String {
    let json: Option<Value> = serde_json::from_slice(body).ok();
    let words = json.as_ref().and_then(|json| words_of(json.get("error").unwrap_or(json)));
    one_line(words.map_or(body, str::as_bytes), limit, Keep::Beginning)
}

fn words_of(error: &Value) -> Option<&str> {
    let in_field = ["message", "detail", "error"].into_iter().find_map(|field| error.get(field)?.as_str());
    error.as_str().or(in_field)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_has_what_is_set_and_nothing_else() {
        let bare = request(None, "a \"b\"\n", None);
        assert_eq!(
            String::from_utf8(bare).unwrap(),
            r#"{"messages":[{"role":"user","content":"a \"b\"\n"}],"stream":true,"stream_options":{"include_usage":true}}"#
        );
        let full: Value = serde_json::from_slice(&request(Some("m"), "p", Some(5))).unwrap();
        assert_eq!((&full["model"], &full["max_tokens"]), (&"m".into(), &5.into()));
    }

    #[test]
    fn pieces_of_both_dialects() {
        let counted = |text: Option<&str>, finished, tokens| {
            Ok(Step::Said(Said { text: text.map(str::to_owned), finished, tokens }))
        };
        let said = |text, finished| counted(text, finished, None);
        let tokens = Some(Tokens { prompt: 34, generated: 3 });
        let cases = [
            (
                r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"role":"assistant","content":null}}]}"#,
                said(None, false),
            ),
            (
                r#"{"choices": [{"index": 0, "delta": {"role": "assistant"}, "logprobs": null, "finish_reason": null}]}"#,
                said(None, false),
            ),
            (
                r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"1"}}],"timings":{}}"#,
                said(Some("1"), false),
            ),
            (r#"{"choices":[{"finish_reason":"length","index":0,"delta":{}}]}"#, said(None, true)),
            (
                r#"{"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":""}]}"#,
                said(Some("x"), false),
            ),
            (r#"{"choices":[],"usage":{"total_tokens":5}}"#, said(None, false)),
            (
                r#"{"choices":[],"usage":{"completion_tokens":3,"prompt_tokens":34,"total_tokens":37}}"#,
                counted(None, false, tokens),
            ),
            (r#"{"choices":[{"index":0,"delta":{"content":"x"}}],"usage":null}"#, said(Some("x"), false)),
            (r#"{"choices":[{"index":1,"delta":{"content":"other"}}]}"#, said(None, false)),
            (
                r#"{"choices":[{"message":{"content":"whole"},"finish_reason":"stop"}]}"#,
                said(Some("whole"), true),
            ),
            ("[DONE]", Ok(Step::Done)),
            (
                r#"{"error":{"code":500,"message":"out of memory"}}"#,
                Err(Trouble::Told("out of memory".to_owned())),
            ),
        ];
        for (json, expected) in cases {
            assert_eq!(step(json), expected, "{json}");
        }
        assert!(step("{\"choices\":").is_err());
        assert!(step("[1]").is_err());
    }

    #[test]
    fn lists_of_models() {
        assert_eq!(
            models(br#"{"object":"list","data":[{"id":"a","object":"model"},{"id":"b"}]}"#).unwrap(),
            ["a", "b"]
        );
        assert_eq!(models(br#"{"object":"list","data":null}"#).unwrap(), [""; 0]);
        let odd = format!(r#"{{"data":[{{"id":"a\nb"}},{{"id":"{}"}},{{"id":"c"}}]}}"#, "x".repeat(201));
        assert_eq!(models(odd.as_bytes()).unwrap(), ["c"]);
        assert_eq!(models(br#"{"status":"ok"}"#), None);
        assert_eq!(models(b"<html>"), None);
    }

    #[test]
    fn errors_of_all_shapes() {
        let cases: [(&[u8], &str); 5] = [
            (
                br#"{"error":{"code":401,"message":"Invalid API Key","type":"authentication_error"}}"#,
                "Invalid API Key",
            ),
            (br#"{"error":"model 'x' not found"}"#, "model 'x' not found"),
            (br#"{"detail":"Not Found"}"#, "Not Found"),
            (b"<h1>Bad\nGateway</h1>", "<h1>Bad Gateway</h1>"),
            (b"", ""),
        ];
        for (body, expected) in cases {
            assert_eq!(error_words(body, 100), expected);
        }
    }
}
