//! What a program prints or a server answers: its beginning and its end, in bounded memory, without secrets.

use super::live::Printing;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// The most that is kept of it, in bytes of text.
pub(super) const OUTPUT_BYTES_MAX: usize = 4096;
/// How much of the beginning is kept.
const HEAD_BYTES: usize = 1024;
/// How much of the end is kept; the rest is for the words between them.
const TAIL_BYTES: usize = OUTPUT_BYTES_MAX - HEAD_BYTES - 64;
/// So much is read at once, in bytes.
pub(super) const CHUNK_BYTES: usize = 16 * 1024;
/// A shorter text is no secret: it would be found everywhere.
const SECRET_BYTES_MIN: usize = 6;
/// After so much output it is read slowly, in bytes.
const FLOOD_BYTES: u64 = 16 << 20;
/// What stands in the place of a secret.
const MASK: &str = "***";

/// Texts that must not be shown, in the forms in which they get about.
#[derive(Clone, Debug, Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    /// Each secret as it is, in base64 and percent-encoded.
    pub(super) fn new(secrets: impl IntoIterator<Item = String>) -> Self {
        let mut forms = Vec::new();
        for secret in secrets.into_iter().filter(|it| it.len() >= SECRET_BYTES_MIN) {
            forms.push(base64(secret.as_bytes()));
            forms.push(percent_encoded(&secret));
            forms.push(secret);
        }
        // A longer one may hold a shorter one.
        forms.sort_by_key(|it| std::cmp::Reverse(it.len()));
        forms.dedup();
        Self(forms)
    }

    /// These and more.
    pub(super) fn with(&self, more: impl IntoIterator<Item = String>) -> Self {
        let mut all = Self::new(more);
        all.0.extend(self.0.iter().cloned());
        all.0.sort_by_key(|it| std::cmp::Reverse(it.len()));
        all
    }

    /// Masks every secret in a text.
    pub(super) fn mask(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret, MASK) } else { text }
        })
    }

    /// Masks what may be the beginning of a secret that was cut off at the end of a text.
    fn mask_cut_end(&self, text: &str) -> String {
        match self.open_end(text) {
            0 => text.to_owned(),
            length => format!("{}{MASK}", &text[..text.len() - length]),
        }
    }

    /// How many bytes at the end of a text may be the beginning of a secret.
    pub(super) fn open_end(&self, text: &str) -> usize {
        let longest = self.0.iter().flat_map(|secret| {
            secret.char_indices().map(|(at, _)| at).filter(|at| text.ends_with(&secret[..*at]))
        });
        longest.max().unwrap_or(0)
    }

    /// Masks what may be the end of a secret whose beginning was cut off.
    fn mask_cut_begin(&self, text: &str) -> String {
        let longest = self.0.iter().flat_map(|secret| {
            secret
                .char_indices()
                .filter(|(at, _)| *at > 0 && text.starts_with(&secret[*at..]))
                .map(|(at, _)| secret.len() - at)
        });
        match longest.max() {
            Some(length) => format!("{MASK}{}", &text[length..]),
            None => text.to_owned(),
        }
    }
}

/// As RFC 4648 has it, with padding.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for part in bytes.chunks(3) {
        let bits = part.iter().fold(0_u32, |bits, it| (bits << 8) | u32::from(*it));
        let bits = bits << (8 * (3 - part.len()));
        for place in 0..4 {
            let index = (bits >> (18 - 6 * place)) & 63;
            let letter = LETTERS.get(index as usize).copied().unwrap_or(b'=');
            text.push(if place <= part.len() { char::from(letter) } else { '=' });
        }
    }
    text
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.extend(["%", &format!("{byte:02X}")]);
        }
    }
    encoded
}

/// Where what a program prints goes.
#[derive(Clone)]
pub(super) enum Sink {
    /// It is kept and shown here.
    Kept(Arc<Kept>),
    /// It is sent on, no faster than it is taken.
    Sent(mpsc::Sender<Vec<u8>>),
}

impl Sink {
    async fn push(&self, chunk: &[u8]) {
        match self {
            Self::Kept(kept) => kept.push(chunk),
            // Where nobody takes it any more, nobody misses it.
            Self::Sent(to) => to.send(chunk.to_vec()).await.unwrap_or_default(),
        }
    }
}

/// What is kept of a program's output, and where it is shown meanwhile.
pub(super) struct Kept {
    output: Mutex<Output>,
    printing: Option<Printing>,
}

impl Kept {
    pub(super) fn new(printing: Option<Printing>) -> Self {
        Self { output: Mutex::default(), printing }
    }

    pub(super) fn push(&self, chunk: &[u8]) {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).push(chunk);
        if let Some(printing) = &self.printing {
            printing.push(chunk);
        }
    }

    /// See [`Output::text`].
    pub(super) fn text(&self, secrets: &Secrets) -> (String, u64) {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).text(secrets)
    }
}

/// Reads a program's two outputs as they come, until both are closed.
pub(super) fn read_output(child: &mut Child, sink: Sink) -> AbortOnDropHandle<()> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let reading = async move {
        tokio::join!(pour(stdout, &sink), pour(stderr, &sink));
    };
    AbortOnDropHandle::new(tokio::spawn(reading))
}

async fn pour(from: Option<impl AsyncRead + Unpin>, to: &Sink) {
    let Some(mut from) = from else { return };
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut seen = 0_u64;
    // A pipe that cannot be read is as good as closed: the exit code decides.
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        to.push(buffer.get(..count).unwrap_or_default()).await;
        seen = seen.saturating_add(count as u64);
        // Nobody reads all that, so that it need not take the processor from the watch.
        if seen > FLOOD_BYTES {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Keeps the first and the last part of a stream.
#[derive(Default)]
pub(super) struct Output {
    head: Vec<u8>,
    tail: Vec<u8>,
    pub(super) seen: u64,
}

impl Output {
    pub(super) fn push(&mut self, chunk: &[u8]) {
        self.seen = self.seen.saturating_add(chunk.len() as u64);
        let room = (HEAD_BYTES - self.head.len()).min(chunk.len());
        let (head, rest) = chunk.split_at(room);
        self.head.extend_from_slice(head);
        self.tail.extend_from_slice(rest);
        // Twice the size, so that bytes are moved once for every TAIL_BYTES that come in.
        if self.tail.len() > 2 * TAIL_BYTES {
            self.tail.drain(..self.tail.len() - TAIL_BYTES);
        }
    }

    /// What is kept, as text of at most [`OUTPUT_BYTES_MAX`], and how many bytes were cut out of
    /// the middle.
    pub(super) fn text(&self, secrets: &Secrets) -> (String, u64) {
        let from = self.tail.len().saturating_sub(TAIL_BYTES);
        let tail = self.tail.get(from..).unwrap_or_default();
        let cut = self.seen.saturating_sub((self.head.len() + tail.len()) as u64);
        if cut == 0 {
            let all = [self.head.as_slice(), tail].concat();
            return (last(&secrets.mask(&String::from_utf8_lossy(&all)), OUTPUT_BYTES_MAX), 0);
        }
        let head = secrets.mask_cut_end(&secrets.mask(&String::from_utf8_lossy(&self.head)));
        let tail = secrets.mask_cut_begin(&secrets.mask(&String::from_utf8_lossy(tail)));
        let (head, tail) = (first(&head, HEAD_BYTES), last(&tail, TAIL_BYTES));
        (format!("{head}\n[{cut} bytes were cut out here]\n{tail}"), cut)
    }
}

/// The first part of a text: a byte that is not UTF-8 became three.
fn first(text: &str, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().to_owned()
}

/// The last part of a text.
fn last(text: &str, bytes_max: usize) -> String {
    let mut start = text.len().saturating_sub(bytes_max);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn output(chunks: &[&[u8]]) -> Output {
        let mut output = Output::default();
        for chunk in chunks {
            output.push(chunk);
        }
        output
    }

    #[test]
    fn secrets_are_masked_in_every_form() {
        let secrets = Secrets::new(["s3cr&t word".to_owned(), "abc".to_owned()]);
        for (text, shown) in [
            ("the s3cr&t word is", "the *** is"),
            ("czNjciZ0IHdvcmQ=", "***"),
            ("?p=s3cr%26t%20word&", "?p=***&"),
            ("abc", "abc"),
            ("s3cr&t wor", "s3cr&t wor"),
        ] {
            let (told, _) = output(&[text.as_bytes()]).text(&secrets);
            assert_eq!(told, shown);
        }
        assert_eq!(secrets.with(["another".to_owned()]).mask("another s3cr&t word"), "*** ***");
        assert_eq!(base64(b"ab"), "YWI=");
        assert_eq!(base64(b"abc"), "YWJj");
        assert_eq!(base64(b"a"), "YQ==");
    }

    #[test]
    fn a_secret_that_was_cut_in_two_is_masked_too() {
        let secrets = Secrets::new(["topsecretvalue".to_owned()]);
        for at in 0..30 {
            let begin = "x".repeat(HEAD_BYTES - at);
            let text = format!("{begin}topsecretvalue{}", "y".repeat(TAIL_BYTES + 100));
            let (told, cut) = output(&[text.as_bytes()]).text(&secrets);
            assert!(cut > 0 && !told.contains("tops"), "{at}: {told}");
            let text = format!("{}topsecretvalue{}", "x".repeat(9000), "y".repeat(TAIL_BYTES - at));
            let (told, _) = output(&[text.as_bytes()]).text(&secrets);
            assert!(!told.contains("alue"), "{at}: {told}");
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_beginning_and_the_end(chunks in proptest::collection::vec(
            proptest::collection::vec(any::<u8>(), 0..3000), 0..12)) {
            let mut output = Output::default();
            for chunk in &chunks {
                output.push(chunk);
                prop_assert!(output.tail.len() <= 2 * TAIL_BYTES + 3000);
            }
            let all = chunks.concat();
            let (text, cut) = output.text(&Secrets::default());
            prop_assert!(text.len() <= OUTPUT_BYTES_MAX);
            prop_assert_eq!(cut, all.len().saturating_sub(HEAD_BYTES + TAIL_BYTES) as u64);
            if cut > 0 {
                let told = format!("[{cut} bytes were cut out here]");
                let (begin, end) = text.split_once(&told).unwrap();
                let head = String::from_utf8_lossy(&all[..HEAD_BYTES]).into_owned();
                prop_assert!(head.starts_with(begin.trim_end_matches('\n')));
                let tail = String::from_utf8_lossy(&all[all.len() - TAIL_BYTES..]).into_owned();
                prop_assert!(tail.ends_with(end.trim_start_matches('\n')));
            } else {
                prop_assert!(String::from_utf8_lossy(&all).ends_with(&text));
            }
        }
    }
}
