//! The text that a run has generated so far: whole characters, within the limit, handed out as it comes.

use std::fmt;

use bidmesh_core::wire::Text;

use super::Generated;

/// The output of one run. What was handed out is at every moment a prefix of what [`Output::into_text`] returns.
#[derive(Debug)]
pub(super) struct Output {
    text: String,
    limit: usize,
    /// The beginning of a character that has not come to its end.
    unfinished: Vec<u8>,
    /// Newlines that belong to the output only if something follows.
    newlines: usize,
}

/// The output has more bytes than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooMuch {
    limit: usize,
}

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it generated more than the {} bytes that an output may have", self.limit)
    }
}

impl Output {
    /// Nothing yet; `limit` bytes at most.
    pub(super) const fn new(limit: usize) -> Self {
        Self { text: String::new(), limit, unfinished: Vec::new(), newlines: 0 }
    }

    /// How many bytes there are.
    pub(super) const fn len(&self) -> usize {
        self.text.len()
    }

    /// Takes text as it is.
    pub(super) async fn push(&mut self, piece: &str, to: &Generated) -> Result<(), TooMuch> {
        if piece.len() > self.limit.saturating_sub(self.text.len()) {
            return Err(TooMuch { limit: self.limit });
        }
        self.text.push_str(piece);
        to.push(piece).await;
        Ok(())
    }

    /// Takes bytes as a program printed them: what is not UTF-8 becomes U+FFFD, newlines at the end are held back.
    pub(super) async fn push_bytes(&mut self, bytes: &[u8], to: &Generated) -> Result<(), TooMuch> {
        let decoded = self.decode(bytes);
        let body = decoded.trim_end_matches('\n');
        let newlines = decoded.len() - body.len();
        if body.is_empty() {
            self.newlines += newlines;
        } else {
            let held = std::mem::replace(&mut self.newlines, newlines);
            if held.saturating_add(body.len()) > self.limit.saturating_sub(self.text.len()) {
                return Err(TooMuch { limit: self.limit });
            }
            let piece = "\n".repeat(held) + body;
            self.push(&piece, to).await?;
        }
        // Held newlines cost nothing, but a program that prints nothing else must come to an end.
        if self.newlines > self.limit.max(1) { Err(TooMuch { limit: self.limit }) } else { Ok(()) }
    }

    /// No more bytes come. A character that never came to its end becomes U+FFFD.
    pub(super) async fn close(&mut self, to: &Generated) -> Result<(), TooMuch> {
        if self.unfinished.is_empty() {
            return Ok(());
        }
        self.unfinished.clear();
        self.push_bytes("\u{fffd}".as_bytes(), to).await
    }

    /// The whole output.
    pub(super) fn into_text(self) -> Text {
        self.text.into()
    }

    fn decode(&mut self, bytes: &[u8]) -> String {
        let mut joined = std::mem::take(&mut self.unfinished);
        joined.extend_from_slice(bytes);
        let mut rest = joined.as_slice();
        let mut decoded = String::with_capacity(rest.len());
        loop {
            let error = match std::str::from_utf8(rest) {
                Ok(valid) => {
                    decoded.push_str(valid);
                    return decoded;
                }
                Err(error) => error,
            };
            let (valid, after) = rest.split_at(error.valid_up_to());
            decoded.push_str(&String::from_utf8_lossy(valid));
            match error.error_len() {
                Some(length) => {
                    decoded.push(char::REPLACEMENT_CHARACTER);
                    rest = after.get(length..).unwrap_or_default();
                }
                None => {
                    self.unfinished = after.to_vec();
                    return decoded;
                }
            }
        }
    }
}

/// The end of what a program says, however much it says.
#[derive(Debug)]
pub(super) struct LastWords {
    bytes: Vec<u8>,
    limit: usize,
}

impl LastWords {
    /// Nothing yet; about `limit` bytes will be told.
    pub(super) const fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Takes what was said next.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        // White space will go, so keep more than is told.
        let surplus = self.bytes.len().saturating_sub(self.limit.saturating_mul(4));
        self.bytes.drain(..surplus);
    }

    /// On one line.
    pub(super) fn line(&self) -> String {
        one_line(&self.bytes, self.limit, Keep::End)
    }
}

/// Text from outside on one line of at most about `limit` bytes, for the inside of an error message: the end of it
/// if `keep` says so, since programs say last what went wrong.
pub(super) fn one_line(bytes: &[u8], limit: usize, keep: Keep) -> String {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let line = words.collect::<Vec<_>>().join(" ");
    if line.len() <= limit {
        return line;
    }
    match keep {
        Keep::Beginning => format!("{} …", line[..line.floor_char_boundary(limit)].trim_end()),
        Keep::End => format!("… {}", line[line.ceil_char_boundary(line.len() - limit)..].trim_start()),
    }
}

/// Which part of a long text to keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keep {
    Beginning,
    End,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn printed(chunks: &[&[u8]], limit: usize) -> Result<(String, String), TooMuch> {
        let (text, mut reader) = Generated::channel(1000);
        let mut output = Output::new(limit);
        for chunk in chunks {
            output.push_bytes(chunk, &text).await?;
        }
        output.close(&text).await?;
        let whole = output.into_text();
        drop(text);
        let mut streamed = String::new();
        while let Some(piece) = reader.recv().await {
            streamed.push_str(&piece);
        }
        Ok((streamed, whole.to_string()))
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn the_limit_is_exact_and_leaves_held_newlines_out() {
        let too_much = Err(TooMuch { limit: 4 });
        assert_eq!(run(printed(&[b"abcd", b"\n\n\n\n"], 4)), Ok(("abcd".into(), "abcd".into())));
        assert_eq!(run(printed(&[b"abc", b"\n", b"d"], 4)), too_much);
        assert_eq!(run(printed(&[b"abcde"], 4)), too_much);
        assert_eq!(run(printed(&[b"\n\n", b"\n\n\n"], 4)), too_much);
    }

    #[test]
    fn a_line_of_an_error_is_cut_between_characters() {
        assert_eq!(one_line("a\n\n b\tü".as_bytes(), 100, Keep::End), "a b ü");
        assert_eq!(one_line("üü".as_bytes(), 1, Keep::Beginning), " …");
        assert_eq!(one_line("ab üc".as_bytes(), 2, Keep::End), "… c");
    }

    #[test]
    fn last_words_take_no_more_room_than_they_need() {
        let mut words = LastWords::new(10);
        for _ in 0..1000 {
            words.push(b"and so on\n");
        }
        assert_eq!(words.line(), "… and so on");
        assert!(words.bytes.capacity() < 200);
    }

    proptest! {
        #[test]
        fn streamed_and_whole_are_what_the_bytes_say_however_they_are_split(
            chunks in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..6),
                    "[\n aä😀]{0,5}".prop_map(String::into_bytes),
                    Just(vec![0xf0, 0x9f]),
                    Just(vec![0x98, 0x80]),
                ],
                0..12,
            ),
        ) {
            let slices: Vec<&[u8]> = chunks.iter().map(Vec::as_slice).collect();
            let (streamed, whole) = run(printed(&slices, 1000)).unwrap();
            let bytes = chunks.concat();
            let lossy = String::from_utf8_lossy(&bytes);
            prop_assert_eq!(&whole, lossy.trim_end_matches('\n'));
            prop_assert_eq!(streamed, whole);
        }
    }
}
