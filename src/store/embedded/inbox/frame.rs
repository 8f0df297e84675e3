//! What one write appends to the inbox: some records, with a check over all of them.
//!
//! ```text
//! length  u32   of the body, in bytes; 0 = here the frames end
//! check   u32   CRC-32 of everything that follows
//! before  u64   the `seq` of the record before the first one; 0 = none
//! last    u64   the `seq` of the last record
//! body          of each record: `seq` u64, correlation domain u16, length u32, packed facts
//! ```
//!
//! Numbers are big-endian.

use super::super::super::{Error, Packed, Record};
use super::super::{damaged, encode, failed};
use crate::domain::event::{CorrelationDomain, Event};
use std::borrow::Cow;

/// The bytes before the body.
const HEAD_BYTES: usize = 24;
/// How long an alert is, more or less: room that is taken at once need not be taken bit by bit.
const ALERT_BYTES: usize = 1024;
/// Facts are packed like values that stand under this key.
const PACKED_KEY: &[u8] = b"record";
/// The part of the head that the check does not cover.
const UNCHECKED_BYTES: usize = 8;

/// A frame that was read.
pub(super) struct Frame<'a> {
    /// The `seq` of the record before it; 0 = none.
    pub(super) before: u64,
    /// The `seq` of its last record.
    pub(super) last: u64,
    /// Where it ends, in bytes from the beginning of the file.
    pub(super) end: usize,
    body: &'a [u8],
}

/// What stands where a frame should be, but is none.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoFrame;

/// Brings facts into the form in which they are stored: `MessagePack`, compressed if that pays.
pub(in super::super) fn pack(events: &[Event]) -> Result<Vec<u8>, Error> {
    let alerts = events.iter().map(|it| match it {
        Event::AlertsReceived(batch) => batch.alerts.len(),
        _ => 1,
    });
    let mut body = Vec::with_capacity(alerts.sum::<usize>() * ALERT_BYTES);
    rmp_serde::encode::write_named(&mut body, events)
        .map_err(|e| failed("write down facts", &e))?;
    encode::pack(PACKED_KEY, &body)
}

/// Writes records as a frame; their facts need not be packed if that was done before.
pub(super) fn write(
    before: u64,
    records: &[Record],
    packed: &[Option<Packed>],
) -> Result<Vec<u8>, Error> {
    let mut frame = vec![0; HEAD_BYTES];
    for (place, record) in records.iter().enumerate() {
        let facts = match packed.get(place) {
            Some(Some(packed)) => Cow::Borrowed(&packed.0),
            Some(None) | None => Cow::Owned(pack(&record.events)?),
        };
        frame.extend(record.seq.to_be_bytes());
        frame.extend(record.correlation_domain.0.to_be_bytes());
        frame.extend(length_of(facts.len())?.to_be_bytes());
        frame.extend_from_slice(&facts);
    }
    let last = records.last().map_or(0, |it| it.seq);
    let length = length_of(frame.len() - HEAD_BYTES)?;
    put(&mut frame, 0, &length.to_be_bytes());
    put(&mut frame, 8, &before.to_be_bytes());
    put(&mut frame, 16, &last.to_be_bytes());
    let check = crc32fast::hash(frame.get(UNCHECKED_BYTES..).unwrap_or_default());
    put(&mut frame, 4, &check.to_be_bytes());
    Ok(frame)
}

fn put(frame: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = frame.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

fn length_of(bytes: usize) -> Result<u32, Error> {
    u32::try_from(bytes).map_err(|e| failed("write so many records at once", &e))
}

/// The frames of a file, up to its end, or to the first thing that is none.
pub(super) fn read_all(bytes: &[u8]) -> impl Iterator<Item = Result<Frame<'_>, NoFrame>> {
    let mut next = Some(0);
    std::iter::from_fn(move || {
        let found = read(bytes, next?).transpose();
        next = match &found {
            Some(Ok(frame)) => Some(frame.end),
            Some(Err(NoFrame)) | None => None,
        };
        found
    })
}

fn read(bytes: &[u8], at: usize) -> Result<Option<Frame<'_>>, NoFrame> {
    let Some(rest) = bytes.get(at..).filter(|it| it.len() >= HEAD_BYTES) else { return Ok(None) };
    let mut head = Numbers(rest);
    let (Some(length), Some(check)) = (head.u32(), head.u32()) else { return Err(NoFrame) };
    if length == 0 {
        return if check == 0 { Ok(None) } else { Err(NoFrame) };
    }
    let end = HEAD_BYTES.checked_add(length as usize).ok_or(NoFrame)?;
    let checked = rest.get(UNCHECKED_BYTES..end).ok_or(NoFrame)?;
    if crc32fast::hash(checked) != check {
        return Err(NoFrame);
    }
    let mut numbers = Numbers(checked);
    let (Some(before), Some(last)) = (numbers.u64(), numbers.u64()) else { return Err(NoFrame) };
    Ok(Some(Frame { before, last, end: at + end, body: numbers.0 }))
}

impl Frame<'_> {
    /// Adds its records after a `seq` to others, until there are `limit`.
    pub(super) fn read(
        &self,
        after: u64,
        limit: usize,
        records: &mut Vec<Record>,
    ) -> Result<(), Error> {
        let mut rest = Numbers(self.body);
        while records.len() < limit && !rest.0.is_empty() {
            let head = (rest.u64(), rest.u16(), rest.u32());
            let (Some(seq), Some(domain), Some(length)) = head else {
                return Err(damaged("a record of the inbox is cut short"));
            };
            let Some(packed) = rest.bytes(length as usize) else {
                return Err(damaged("a record of the inbox is cut short"));
            };
            if seq > after {
                let events = rmp_serde::from_slice(&encode::unpack(PACKED_KEY, packed)?)
                    .map_err(|e| damaged(&format!("record {seq}: `{e}`")))?;
                let correlation_domain = CorrelationDomain(domain);
                records.push(Record { seq, correlation_domain, events });
            }
        }
        Ok(())
    }
}

/// Takes numbers from the front of some bytes.
struct Numbers<'a>(&'a [u8]);

impl<'a> Numbers<'a> {
    fn u16(&mut self) -> Option<u16> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*number))
    }

    fn u32(&mut self) -> Option<u32> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_be_bytes(*number))
    }

    fn u64(&mut self) -> Option<u64> {
        let (number, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_be_bytes(*number))
    }

    fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(bytes)
    }
}
