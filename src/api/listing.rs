//! Pages of listings: objects of the store in falling order of id, filtered, with a cursor.

use super::Context;
use super::error::ApiError;
use crate::store::{Kind, Object, Scope};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// How many objects are read from the store at once.
const CHUNK: usize = 256;
/// How many objects one request may look at; a filter that finds little ends the page early, and
/// its cursor goes on from there.
const SCANNED_MAX: usize = 20_000;

/// One page of a listing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Page<T> {
    /// The items, newest first unless said otherwise.
    pub items: Vec<T>,
    /// What to send as `cursor` for the next page; `null` = there is none.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// Changes each item.
    pub(super) fn map<V>(self, change: impl FnMut(T) -> V) -> Page<V> {
        Page { items: self.items.into_iter().map(change).collect(), next_cursor: self.next_cursor }
    }
}

/// Reads the value of a stored object.
pub(super) fn decode<T: DeserializeOwned>(object: &Object) -> Result<T, ApiError> {
    serde_json::from_slice(&object.body).map_err(|error| ApiError::unreadable(&object.id, &error))
}

/// Reads one object, open or closed.
pub(super) async fn find<T: DeserializeOwned>(
    context: &Context,
    kind: Kind,
    id: &str,
) -> Result<T, ApiError> {
    context.handle.settle().await?;
    let object = context.handle.get(kind, id.to_owned()).await;
    match object.map_err(|error| ApiError::store(&error))? {
        Some(object) => decode(&object),
        None => Err(ApiError::not_found(format!("there is no `{id}`"))),
    }
}

/// Reads a page of objects, open and closed, that `keep` wants.
pub(super) async fn walk<T: DeserializeOwned>(
    context: &Context,
    kind: Kind,
    cursor: Option<String>,
    limit: usize,
    mut keep: impl FnMut(&T) -> bool,
) -> Result<Page<T>, ApiError> {
    context.handle.settle().await?;
    let mut gathering = Gathering { items: Vec::new(), last: cursor, scanned: 0, limit };
    loop {
        let before = gathering.last.clone();
        let chunk = context.handle.list(kind, Scope::All, before, CHUNK).await;
        let chunk = chunk.map_err(|error| ApiError::store(&error))?;
        if let Some(next_cursor) = gathering.take(&chunk, &mut keep)? {
            return Ok(Page { items: gathering.items, next_cursor });
        }
    }
}

/// A page while it is being filled.
struct Gathering<T> {
    items: Vec<T>,
    last: Option<String>,
    scanned: usize,
    limit: usize,
}

impl<T: DeserializeOwned> Gathering<T> {
    /// Takes what is wanted of a chunk. `Some` = the page is done; inside is its cursor.
    #[expect(clippy::option_option, reason = "done without a next page differs from not done")]
    fn take(
        &mut self,
        chunk: &[Object],
        keep: &mut impl FnMut(&T) -> bool,
    ) -> Result<Option<Option<String>>, ApiError> {
        for object in chunk {
            if self.items.len() == self.limit {
                return Ok(Some(self.last.clone()));
            }
            let item: T = decode(object)?;
            self.last = Some(object.id.clone());
            self.scanned += 1;
            if keep(&item) {
                self.items.push(item);
            }
        }
        if chunk.len() < CHUNK {
            return Ok(Some(None));
        }
        Ok((self.scanned >= SCANNED_MAX).then(|| self.last.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(numbers: impl Iterator<Item = u64>) -> Vec<Object> {
        let object = |it: u64| Object {
            kind: Kind::Incident,
            id: format!("INC-{it}"),
            body: it.to_string().into_bytes(),
        };
        numbers.map(object).collect()
    }

    fn gathering(limit: usize) -> Gathering<u64> {
        Gathering { items: Vec::new(), last: None, scanned: 0, limit }
    }

    #[test]
    fn a_page_ends_where_the_next_begins() {
        let chunk = objects((1..=5).rev());
        let mut page = gathering(2);
        let done = page.take(&chunk, &mut |it| it % 2 == 1).unwrap();
        assert_eq!((page.items, done), (vec![5, 3], Some(Some("INC-3".to_owned()))));

        let mut page = gathering(3);
        let done = page.take(&chunk, &mut |it| it % 2 == 1).unwrap();
        assert_eq!((page.items, done), (vec![5, 3, 1], Some(None)), "nothing is left");
    }

    #[test]
    fn a_filter_that_finds_nothing_does_not_read_for_ever() {
        let mut page = gathering(1);
        let mut chunks = 0;
        let cursor = loop {
            let chunk = objects((0..CHUNK as u64).rev());
            chunks += 1;
            if let Some(cursor) = page.take(&chunk, &mut |_| false).unwrap() {
                break cursor;
            }
        };
        assert!(cursor.is_some() && chunks == SCANNED_MAX.div_ceil(CHUNK), "{chunks} chunks");
    }

    #[test]
    fn an_unreadable_object_is_an_error_and_no_panic() {
        let mut chunk = objects(1..2);
        chunk[0].body = b"{".to_vec();
        let error = gathering(1).take(&chunk, &mut |_| true).err().unwrap();
        assert_eq!(error.status().as_u16(), 500);
    }
}
