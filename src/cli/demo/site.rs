//! The shop's own small service: what runbooks repair, and who is notified.

use crate::cli::output::{field, text};
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// How many happenings are kept for the screen.
const HAPPENINGS_MAX: usize = 6;

/// What was repaired and told so far. Cheap to clone.
#[derive(Clone, Default)]
pub struct Site {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    cured_at: BTreeMap<String, Timestamp>,
    notifications: u64,
    happenings: VecDeque<String>,
}

impl Site {
    /// Serves the shop on a listener until the demo ends.
    pub async fn serve(self, listener: tokio::net::TcpListener) -> std::io::Result<()> {
        let router = axum::Router::new()
            .route("/notifications", axum::routing::post(notify))
            .route("/{kind}/{name}", axum::routing::post(repair))
            .with_state(self);
        axum::serve(listener, router).await
    }

    /// When each thing was last repaired, by `consumers/NAME` or `volumes/NAME`.
    pub fn cured_at(&self) -> BTreeMap<String, Timestamp> {
        self.look(|it| it.cured_at.clone())
    }

    /// How many notifications arrived.
    pub fn notifications(&self) -> u64 {
        self.look(|it| it.notifications)
    }

    /// The last happenings, oldest first.
    pub fn happenings(&self) -> Vec<String> {
        self.look(|it| it.happenings.iter().cloned().collect())
    }

    /// Adds a happening for the screen.
    pub fn tell(&self, happening: String) {
        self.look(|it| {
            it.happenings.push_back(happening);
            if it.happenings.len() > HAPPENINGS_MAX {
                it.happenings.pop_front();
            }
        });
    }

    fn look<T>(&self, look: impl FnOnce(&mut Inner) -> T) -> T {
        look(&mut self.inner.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn repair(
    State(site): State<Site>,
    Path((kind, name)): Path<(String, String)>,
) -> Json<Value> {
    let thing = format!("{kind}/{name}");
    site.look(|it| it.cured_at.insert(thing.clone(), Timestamp::now()));
    site.tell(format!("repaired        {thing} by a runbook"));
    Json(json!({"repaired": thing}))
}

async fn notify(State(site): State<Site>, Json(body): Json<Value>) -> Json<Value> {
    site.look(|it| it.notifications += 1);
    site.tell(notification_line(&body));
    Json(json!({}))
}

/// A notification in a line, whatever its exact form.
fn notification_line(body: &Value) -> String {
    let first = |names: &[&str]| {
        names.iter().map(|it| field(body, it)).find(|it| !it.is_empty()).unwrap_or_default()
    };
    let incident = body.get("incident");
    let (id, title) = match incident {
        Some(it @ Value::Object(_)) => (field(it, "id"), field(it, "title")),
        Some(other) => (text(other), String::new()),
        None => (String::new(), String::new()),
    };
    let title = if title.is_empty() { first(&["title", "text", "message"]) } else { title };
    format!("{:<15} {id} {title}", first(&["occasion", "event", "kind"])).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_is_told_in_a_line() {
        for (body, expected) in [
            (
                json!({"occasion": "opened", "incident": {"id": "INC-1", "title": "Down"}}),
                "opened          INC-1 Down",
            ),
            (
                json!({"occasion": "breached", "incident": "INC-1", "title": "a"}),
                "breached        INC-1 a",
            ),
            (json!({}), ""),
        ] {
            assert_eq!(notification_line(&body).trim(), expected.trim());
        }
    }

    #[tokio::test]
    async fn a_repair_is_remembered_and_the_list_stays_short() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let site = Site::default();
        tokio::spawn(site.clone().serve(listener));
        crate::cli::client::choose_cryptography();
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        for _ in 0..10 {
            let repair = http.post(format!("http://{address}/consumers/mailer"));
            assert!(repair.send().await.unwrap().status().is_success());
        }
        let notify = http.post(format!("http://{address}/notifications")).json(&json!({}));
        assert!(notify.send().await.unwrap().status().is_success());
        assert!(site.cured_at().contains_key("consumers/mailer"));
        assert_eq!((site.notifications(), site.happenings().len()), (1, HAPPENINGS_MAX));
    }
}
