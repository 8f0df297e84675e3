//! What readers ask of articles and of past incidents: indexes that are made when somebody first asks, off the watch.

use super::{Handle, Shared};
use crate::domain::State;
use crate::domain::incident::{Incident, IncidentId};
use crate::domain::knowledge::{Article, Feedback, Offer};
use crate::learn::{Articles, Feedbacks, Past};
use crate::store::{self, Kind, Scope, Store};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A question reads so many more past incidents at most, the newest first; the rest is read behind it.
const READ_AT_ONCE: usize = 2000;
/// How many are read from the store at once.
const PAGE: usize = 500;
/// With so many the reading of older ones ends.
const INCIDENTS_MAX: usize = 400_000;

/// What is kept ready.
#[derive(Default)]
pub(super) struct Library {
    articles: Mutex<Option<Arc<Articles>>>,
    past: Mutex<Reading>,
}

/// Past incidents, as far as they were read.
#[derive(Default)]
struct Reading {
    past: Past,
    /// The newest number that was there at the last look.
    newest: Option<IncidentId>,
    /// Which of those that were there were open then.
    open: BTreeSet<IncidentId>,
    /// Where the reading of older ones goes on; `None` = at the newest.
    before: Option<String>,
    /// Nothing older is left to read.
    is_whole: bool,
}

impl Handle {
    /// The articles that fit an incident, the best first.
    pub async fn fitting_articles(&self, incident: &Incident, most: usize) -> Vec<Offer<String>> {
        let (all, said, question) =
            self.peek(|state| (state.all_articles(), said(state), state.question_about(incident)));
        self.ask_articles(all, move |articles| articles.fitting(&question, &said, most)).await
    }

    /// The articles that a text finds, the best first.
    pub async fn search_articles(&self, text: String, most: usize) -> Vec<Offer<String>> {
        let (all, said) = self.peek(|state| (state.all_articles(), said(state)));
        self.ask_articles(all, move |articles| articles.search(&text, &said, most)).await
    }

    async fn ask_articles(
        &self,
        all: Vec<Arc<Article>>,
        ask: impl FnOnce(&Articles) -> Vec<Offer<String>> + Send + 'static,
    ) -> Vec<Offer<String>> {
        if all.is_empty() {
            return Vec::new();
        }
        let shared = self.shared.clone();
        let asking = move || ask(&shared.library.articles(all));
        tokio::task::spawn_blocking(asking).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "articles could not be looked through");
            Vec::new()
        })
    }

    /// The past incidents that are most like one, as far as they were read: those that were closed. The first
    /// question reads the newest, and has the others read behind it.
    pub async fn similar_incidents(
        &self,
        incident: Incident,
        most: usize,
    ) -> Result<Vec<Offer<IncidentId>>, store::Error> {
        let shared = self.shared.clone();
        let said = self.peek(said);
        let asking = move || {
            let mut reading = lock(&shared.library.past);
            let was_whole = reading.is_whole;
            reading.go_on(&shared)?;
            let is_left = !reading.is_whole && !was_whole;
            Ok((reading.past.like(&incident, &said, most), is_left))
        };
        let asked = tokio::task::spawn_blocking(asking).await;
        let (found, is_left) = asked.map_err(|error| store::Error::Failed(error.to_string()))??;
        if is_left {
            let shared = self.shared.clone();
            tokio::task::spawn_blocking(move || read_the_rest(&shared));
        }
        Ok(found)
    }
}

impl Library {
    /// The index of these articles.
    fn articles(&self, all: Vec<Arc<Article>>) -> Arc<Articles> {
        let mut kept = lock(&self.articles);
        if let Some(kept) = kept.as_ref().filter(|it| it.is_of(&all)) {
            return kept.clone();
        }
        let articles = Arc::new(Articles::of(all));
        *kept = Some(articles.clone());
        articles
    }
}

impl Reading {
    /// Reads what was closed since the last look, and some more of what is older.
    fn go_on(&mut self, shared: &Shared) -> Result<(), store::Error> {
        let Some(store) = shared.store() else { return Ok(()) };
        if self.past.len() > INCIDENTS_MAX + INCIDENTS_MAX / 2 {
            // What retention removed since is forgotten with all the rest.
            *self = Self::default();
        }
        let open: BTreeSet<IncidentId> = {
            let state = shared.state.read().unwrap_or_else(PoisonError::into_inner);
            state.incidents.keys().copied().collect()
        };
        self.read_newer(&*store, &open)?;
        for _ in 0..READ_AT_ONCE / PAGE {
            self.read_older(&*store)?;
        }
        Ok(())
    }

    fn read_newer(
        &mut self,
        store: &dyn Store,
        open: &BTreeSet<IncidentId>,
    ) -> Result<(), store::Error> {
        let closed: Vec<IncidentId> = self.open.difference(open).copied().collect();
        for id in closed {
            if let Some(object) = store.get(Kind::Incident, &id.to_string())? {
                self.take(&object.body);
            }
        }
        let first_look = self.newest.is_none();
        let mut newest = self.newest.max(open.last().copied());
        let mut before: Option<String> = None;
        loop {
            let limit = if first_look { 1 } else { PAGE };
            let page = store.list(Kind::Incident, Scope::Closed, before.as_deref(), limit)?;
            let ids: Vec<Option<IncidentId>> = page.iter().map(|it| it.id.parse().ok()).collect();
            newest = newest.max(ids.iter().flatten().max().copied());
            let known = self.newest;
            for (object, _) in page.iter().zip(&ids).filter(|(_, id)| **id > known) {
                self.take(&object.body);
            }
            let is_known = ids.last().is_none_or(|it| *it <= self.newest);
            if first_look || is_known || page.len() < limit {
                break;
            }
            before = page.last().map(|it| it.id.clone());
        }
        self.newest = newest;
        self.open.clone_from(open);
        Ok(())
    }

    fn read_older(&mut self, store: &dyn Store) -> Result<(), store::Error> {
        if self.is_whole {
            return Ok(());
        }
        let page = store.list(Kind::Incident, Scope::Closed, self.before.as_deref(), PAGE)?;
        for object in &page {
            self.take(&object.body);
        }
        self.is_whole = page.len() < PAGE || self.past.len() >= INCIDENTS_MAX;
        self.before = page.last().map(|it| it.id.clone());
        Ok(())
    }

    fn take(&mut self, body: &[u8]) {
        match serde_json::from_slice::<Incident>(body) {
            Ok(incident) => self.past.add(&incident),
            Err(error) => tracing::warn!(%error, "a past incident cannot be read"),
        }
    }
}

/// Reads the older ones, giving way to whoever asks.
fn read_the_rest(shared: &Shared) {
    loop {
        let mut reading = lock(&shared.library.past);
        if reading.is_whole {
            tracing::debug!(incidents = reading.past.len(), "past incidents are read");
            return;
        }
        if let Err(error) = reading.go_on(shared) {
            tracing::warn!(%error, "past incidents could not be read; the next question tries again");
            return;
        }
        drop(reading);
        std::thread::yield_now();
    }
}

/// What people said, without who said it.
fn said(state: &State) -> Feedbacks {
    let plain = |it: &Feedback| Feedback { votes: std::collections::VecDeque::new(), ..it.clone() };
    state.feedback.iter().map(|(subject, it)| (subject.clone(), plain(it))).collect()
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
