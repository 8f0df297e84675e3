//! What a daemon and its executor say to each other: frames with a length before them.
//!
//! ```text
//!   kind (1 byte) │ length (4 bytes, the highest first) │ so many bytes
//! ```

use super::super::command::Task;
use super::super::output::CHUNK_BYTES;
use crate::domain::effect::Outcome;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What both sides must speak. It rises when a daemon and an executor of two versions could
/// misunderstand each other.
pub(super) const PROTOCOL: u32 = 1;
/// Kind and length.
const HEAD_BYTES: usize = 5;
/// The longest order: arguments, variables and what the program reads are 64 KiB each at most.
const ORDER_BYTES_MAX: usize = 2 << 20;
/// The longest of all others.
const WORDS_BYTES_MAX: usize = 64 * 1024;

/// Who speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocol: u32,
    /// For people only.
    pub(super) version: String,
}

impl Hello {
    pub(super) fn ours() -> Self {
        Self { protocol: PROTOCOL, version: env!("CARGO_PKG_VERSION").to_owned() }
    }

    /// Whether we understand who said this.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.protocol == PROTOCOL {
            return Ok(());
        }
        Err(format!(
            "version {} speaks protocol {}, and version {} protocol {PROTOCOL}: \
             let both be of one version",
            self.version,
            self.protocol,
            env!("CARGO_PKG_VERSION")
        ))
    }
}

/// A program to be started.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// The attempt that it is for.
    pub(super) key: String,
    /// Whose it is: what a daemon is called over all its lives.
    pub(super) daemon: String,
    /// The life of that daemon.
    pub(super) life: String,
    pub(super) timeout_milliseconds: u64,
    pub(super) task: Task,
}

/// What is said.
#[derive(Clone, PartialEq)]
pub(super) enum Frame {
    /// The first thing that either side says.
    Hello(Hello),
    /// The daemon asks for a program.
    Run(Box<Order>),
    /// The program printed something.
    Output(Vec<u8>),
    /// The program is over, or was not started.
    Ended(Box<Outcome>),
    /// The executor does not talk to this daemon.
    Refused(String),
}

/// What a frame is, by its first byte.
#[derive(Clone, Copy)]
enum Kind {
    Hello,
    Run,
    Output,
    Ended,
    Refused,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Hello, Self::Run, Self::Output, Self::Ended, Self::Refused];

    fn byte(self) -> u8 {
        match self {
            Self::Hello => b'h',
            Self::Run => b'r',
            Self::Output => b'o',
            Self::Ended => b'e',
            Self::Refused => b'n',
        }
    }

    fn bytes_max(self) -> usize {
        match self {
            Self::Run => ORDER_BYTES_MAX,
            Self::Output => CHUNK_BYTES,
            Self::Hello | Self::Ended | Self::Refused => WORDS_BYTES_MAX,
        }
    }
}

impl Frame {
    /// The bytes of it; fails when it is too long.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, String> {
        let text = |it: serde_json::Result<Vec<u8>>| it.map_err(|error| error.to_string());
        let (kind, words) = match self {
            Self::Hello(hello) => (Kind::Hello, text(serde_json::to_vec(hello))?),
            Self::Run(order) => (Kind::Run, text(serde_json::to_vec(order))?),
            Self::Output(bytes) => (Kind::Output, bytes.clone()),
            Self::Ended(outcome) => (Kind::Ended, text(serde_json::to_vec(outcome))?),
            Self::Refused(reason) => (Kind::Refused, reason.clone().into_bytes()),
        };
        let length = u32::try_from(words.len()).unwrap_or(u32::MAX);
        if words.len() > kind.bytes_max() {
            return Err(format!("{length} bytes are too many for a frame"));
        }
        Ok([&[kind.byte()], &length.to_be_bytes()[..], &words].concat())
    }

    fn of(kind: Kind, words: &[u8]) -> Result<Self, String> {
        fn read<T: DeserializeOwned>(words: &[u8]) -> Result<T, String> {
            // The words may be secrets, so that only the place of the fault is told.
            serde_json::from_slice(words).map_err(|error| {
                format!("a frame is not understood at its byte {}", error.column())
            })
        }
        Ok(match kind {
            Kind::Hello => Self::Hello(read(words)?),
            Kind::Run => Self::Run(Box::new(read(words)?)),
            Kind::Output => Self::Output(words.to_vec()),
            Kind::Ended => Self::Ended(Box::new(read(words)?)),
            Kind::Refused => Self::Refused(String::from_utf8_lossy(words).into_owned()),
        })
    }
}

/// What stands before the words: their kind and length.
fn read_head(head: [u8; HEAD_BYTES]) -> Result<(Kind, usize), String> {
    let [byte, length @ ..] = head;
    let kind = Kind::ALL.into_iter().find(|it| it.byte() == byte);
    let kind = kind.ok_or_else(|| format!("a frame of an unknown kind: `{byte}`"))?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > kind.bytes_max() {
        return Err(format!("a frame of {length} bytes is too long"));
    }
    Ok((kind, length))
}

/// Reads the next frame; `None` when the other side has said all. Takes memory as bytes come, not
/// as they are promised.
pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Frame>, String> {
    let broken = |error: std::io::Error| format!("the connection broke: {error}");
    let mut head = [0; HEAD_BYTES];
    let mut known = 0;
    while let Some(rest) = head.get_mut(known..).filter(|it| !it.is_empty()) {
        match from.read(rest).await.map_err(broken)? {
            0 if known == 0 => return Ok(None),
            0 => return Err("the connection ended within a frame".to_owned()),
            count => known += count,
        }
    }
    let (kind, length) = read_head(head)?;
    let mut words = Vec::new();
    from.take(length as u64).read_to_end(&mut words).await.map_err(broken)?;
    if words.len() < length {
        return Err("the connection ended within a frame".to_owned());
    }
    Frame::of(kind, &words).map(Some)
}

/// Writes a frame; fails when it is too long, or nobody takes it.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), frame: &Frame) -> Result<(), String> {
    let bytes = frame.bytes()?;
    to.write_all(&bytes).await.map_err(|error| format!("the connection broke: {error}"))
}

/// Reads frames until there are no more, as a test of the reader: how many there are, or what is
/// wrong with one of them.
pub fn read_frames(mut bytes: &[u8]) -> Result<usize, String> {
    let mut count = 0;
    while let Some((head, rest)) = bytes.split_first_chunk() {
        let (kind, length) = read_head(*head)?;
        let words = rest.get(..length).ok_or("the connection ended within a frame")?;
        let frame = Frame::of(kind, words)?;
        let again = Frame::of(kind, frame.bytes()?.get(HEAD_BYTES..).unwrap_or_default())?;
        if again != frame {
            return Err("what was written is not what was read".to_owned());
        }
        bytes = rest.get(length..).unwrap_or_default();
        count += 1;
    }
    if bytes.is_empty() { Ok(count) } else { Err("the connection ended within a frame".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::effect::OutcomeKind;

    fn frames() -> Vec<Frame> {
        let task = Task {
            argv: vec!["a".to_owned(), "é\u{0}\n".to_owned()],
            directory: None,
            environment: [("A".to_owned(), "b".to_owned())].into(),
            limits: crate::domain::rules::Limits::default(),
            user: Some("x".to_owned()),
            stdin: Some("in".to_owned()),
            paths: None,
        };
        let (key, daemon, life) = ("EXE-1/a/1".to_owned(), "d".to_owned(), "l".to_owned());
        let order = Order { key, daemon, life, timeout_milliseconds: 7, task };
        vec![
            Frame::Hello(Hello::ours()),
            Frame::Run(Box::new(order)),
            Frame::Output(vec![0, 255]),
            Frame::Output(Vec::new()),
            Frame::Ended(Box::new(super::super::super::outcome(OutcomeKind::Failed, "no"))),
            Frame::Refused("not you".to_owned()),
        ]
    }

    #[tokio::test]
    async fn what_is_said_is_what_is_heard() {
        let frames = frames();
        let bytes: Vec<u8> = frames.iter().flat_map(|it| it.bytes().unwrap()).collect();
        assert_eq!(read_frames(&bytes), Ok(frames.len()));
        let mut from = bytes.as_slice();
        for frame in frames {
            assert!(read(&mut from).await.unwrap() == Some(frame));
        }
        assert!(read(&mut from).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn what_is_cut_off_or_too_long_is_told() {
        for frame in frames() {
            let bytes = frame.bytes().unwrap();
            for cut in 1..bytes.len() {
                let mut from = &bytes[..cut];
                assert!(read(&mut from).await.is_err() && read_frames(&bytes[..cut]).is_err());
            }
        }
        assert!(Frame::Refused("x".repeat(WORDS_BYTES_MAX + 1)).bytes().is_err());
        for (bytes, part) in [
            (&b"x\0\0\0\0"[..], "unknown kind"),
            (b"r\xff\xff\xff\xff", "too long"),
            (b"r\x00\x20\x00\x01", "too long"),
            (b"o\x00\x00\x40\x01", "too long"),
            (b"h\0\0\0\x02{}", "not understood"),
            (b"r\0\0\0\x09\"secret\"x", "not understood"),
            (b"h\0\0\0\x09{}", "within a frame"),
        ] {
            let told = read_frames(bytes).unwrap_err();
            assert!(told.contains(part) && !told.contains("secret"), "{told}");
            assert_eq!(read(&mut &bytes[..]).await.map(drop), Err(told));
        }
    }

    #[test]
    fn another_protocol_is_refused_with_what_to_do() {
        let other = Hello { protocol: PROTOCOL + 1, version: "9".to_owned() };
        assert!(other.check().unwrap_err().contains("let both be of one version"));
        assert_eq!(Hello::ours().check(), Ok(()));
    }
}
