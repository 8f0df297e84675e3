//! Knowledge: articles that people write, and what others said of their use.
//!
//! Articles of files are rules and come with them; others are made over the API and are objects. Which of
//! them fit an incident, and which past ones are like it, is worked out when somebody looks (`learn`): no
//! decision of this core depends on it, so that a replay needs none of it.

mod feedback;

pub use feedback::{Feedback, Vote};

use super::incident::{Incident, IncidentId};
use super::label::Labels;
use super::matcher::Matchers;
use super::rules::RuleRef;
use super::{Accepted, ObjectKey, Refusal, Reply, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The longest text of an article, in bytes.
pub const ARTICLE_BYTES_MAX: usize = 64 * 1024;
/// So many articles may be made over the API.
const MADE_MAX: usize = 1000;
/// So many alerts of an incident are asked for the address of their runbook.
const ALERTS_ASKED_MAX: usize = 64;
/// The annotations in which alerts name the page that tells what to do.
const ADDRESS_ANNOTATIONS: [&str; 3] = ["runbook_url", "runbook", "playbook_url"];

/// What people know about something, for the next time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Article {
    /// Name and place; without a file it was made over the API.
    pub rule: Arc<RuleRef>,
    /// What it is called.
    pub title: String,
    /// The names of the alerts that it is for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alerts: Vec<String>,
    /// It is offered for incidents only for which all of these hold.
    #[serde(default)]
    pub matchers: Matchers,
    /// The services, hosts and other items that it is about.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<String>,
    /// The addresses under which it is known to alerts, as their `runbook_url`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Words to find it by.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Who looks after it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub owner: String,
    /// The runbook that does what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
    /// Markdown.
    pub text: String,
}

/// An article that somebody made over the API.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MadeArticle {
    /// What it says.
    pub article: Arc<Article>,
    /// Who wrote it last.
    pub by: String,
    /// When it was first made.
    pub created_at: Timestamp,
    /// When it was last written.
    pub updated_at: Timestamp,
}

/// What an incident tells of itself, to find what is known about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// Its title, and the summary of its first alert.
    pub head: String,
    /// All other texts of its first alert.
    pub text: String,
    /// The names of its alerts.
    pub alerts: BTreeSet<String>,
    /// Where it was seen: services, hosts and other items.
    pub places: BTreeSet<String>,
    /// The labels of its first alert.
    pub labels: Labels,
    /// The pages that its alerts name.
    pub urls: BTreeSet<String>,
}

/// Something that may help, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer<T> {
    /// What.
    pub id: T,
    /// How well it fits, 0 to 1000.
    pub score: u16,
    /// Why, a reason each.
    pub why: Vec<String>,
}

impl Question {
    /// What an incident tells of itself.
    pub fn of(incident: &Incident) -> Self {
        let annotation = |name| incident.annotations.get(name).unwrap_or_default();
        let is_text = |name: &str| name != "summary" && !name.ends_with("url");
        let texts = incident.annotations.iter().filter(|(name, _)| is_text(name));
        let told = incident.symptoms.iter();
        let names = told.clone().map(|it| it.alertname.as_str());
        let roots = incident.root_causes.iter().map(|it| it.item.as_str());
        let places = told.map(|it| it.place.as_str()).chain(roots);
        let of = |words: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
            words.filter(|it| !it.is_empty()).map(str::to_owned).collect()
        };
        let (title, summary) = (incident.title.as_str(), annotation("summary"));
        // A title is often made of the summary, which would then count twice.
        let summary = if title.contains(summary) { "" } else { summary };
        Self {
            head: format!("{title}\n{summary}"),
            text: texts.map(|(_, it)| it).collect::<Vec<_>>().join("\n"),
            alerts: of(&mut names.chain(incident.labels.get("alertname"))),
            places: of(&mut places.chain(incident.services.iter().map(String::as_str))),
            labels: incident.labels.clone(),
            urls: addresses(&incident.annotations).collect(),
        }
    }
}

/// The pages that an alert names.
fn addresses(annotations: &Labels) -> impl Iterator<Item = String> {
    let named = ADDRESS_ANNOTATIONS.iter().filter_map(|it| annotations.get(it));
    named.filter(|it| it.contains("://")).map(str::to_owned)
}

impl State {
    /// All articles: those of files in their order, then those that were made, by name.
    pub fn all_articles(&self) -> Vec<Arc<Article>> {
        let made = self.articles.values().map(|it| it.article.clone());
        self.rules.articles.iter().cloned().chain(made).collect()
    }

    /// What an incident tells of itself, and all its alerts of the pages to read.
    pub fn question_about(&self, incident: &Incident) -> Question {
        let mut question = Question::of(incident);
        let members = self.members.get(&incident.id).into_iter().flatten();
        for alert in members.take(ALERTS_ASKED_MAX).filter_map(|it| self.alerts.get(it)) {
            question.urls.extend(addresses(&alert.annotations));
        }
        question
    }

    /// Makes an article, or writes it anew.
    pub(super) fn set_article(&mut self, now: Timestamp, by: &str, article: &Article) -> Reply {
        let name: Arc<str> = article.rule.name.as_str().into();
        if let Some(written) = self.rules.articles.iter().find(|it| *it.rule.name == *name) {
            let text = format!("the article {} is a file: change it there", written.rule);
            return Err(Refusal::WrongState(text));
        }
        if name.is_empty() || article.title.trim().is_empty() {
            return Err(Refusal::Invalid("an article needs a name and a title".to_owned()));
        }
        if article.text.len() > ARTICLE_BYTES_MAX {
            let text = format!("an article has at most {ARTICLE_BYTES_MAX} bytes");
            return Err(Refusal::Invalid(text));
        }
        if self.articles.len() >= MADE_MAX && !self.articles.contains_key(&name) {
            let text = format!("{MADE_MAX} articles were made: keep more of them in files");
            return Err(Refusal::WrongState(text));
        }
        let created_at = self.articles.get(&name).map_or(now, |it| it.created_at);
        let made = MadeArticle {
            article: Arc::new(article.clone()),
            by: by.to_owned(),
            created_at,
            updated_at: now,
        };
        self.articles.insert(name.clone(), made);
        let key = ObjectKey::Article(name);
        self.touch(now, key.clone());
        Ok(Accepted::Object(key))
    }

    /// Removes an article that somebody made. What was said of it stays, as it may come back.
    pub(super) fn remove_article(&mut self, now: Timestamp, name: &str) -> Reply {
        if let Some(written) = self.rules.articles.iter().find(|it| it.rule.name == name) {
            let text = format!("the article {} is a file: take it away there", written.rule);
            return Err(Refusal::WrongState(text));
        }
        if self.articles.remove(name).is_none() {
            return Err(Refusal::NotFound(format!("there is no article `{name}`")));
        }
        self.touch(now, ObjectKey::Article(name.into()));
        Ok(Accepted::Done)
    }

    /// Whether there is something that people can say of whether it helped: an article, or an incident.
    fn is_known(&self, subject: &str) -> bool {
        let incident = subject.parse::<IncidentId>();
        incident.is_ok_and(|it| it.0 > 0 && it.0 <= self.memory.incident)
            || self.articles.contains_key(subject)
            || self.rules.articles.iter().any(|it| it.rule.name == subject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::event::{Command, Event};
    use crate::domain::rules::RuleSet;

    fn article(name: &str) -> Article {
        let rule = RuleRef { name: name.to_owned(), file: String::new(), line: 0 };
        Article { rule: Arc::new(rule), title: name.to_owned(), ..Article::default() }
    }

    fn give(state: &mut State, command: Command) -> Reply {
        let event = Event::CommandGiven { by: "ann".to_owned(), command };
        state.apply(Timestamp::UNIX_EPOCH, &event).reply.unwrap()
    }

    fn set(state: &mut State, name: &str) -> Reply {
        give(state, Command::SetArticle { article: Box::new(article(name)) })
    }

    #[test]
    fn what_a_file_says_is_changed_in_the_file() {
        let mut state = State::default();
        let rules = RuleSet { articles: vec![Arc::new(article("disk"))], ..RuleSet::default() };
        drop(state.apply(Timestamp::UNIX_EPOCH, &Event::RulesLoaded(Arc::new(rules))));
        assert!(matches!(set(&mut state, "disk"), Err(Refusal::WrongState(_))));
        assert!(set(&mut state, "net").is_ok());
        assert!(set(&mut state, "net").is_ok(), "it is written anew");
        assert!(matches!(set(&mut state, ""), Err(Refusal::Invalid(_))));
        let names: Vec<String> =
            state.all_articles().iter().map(|it| it.rule.name.clone()).collect();
        assert_eq!(names, ["disk", "net"]);
        let remove = |state: &mut State, name: &str| {
            give(state, Command::RemoveArticle { article: name.to_owned() })
        };
        assert!(matches!(remove(&mut state, "disk"), Err(Refusal::WrongState(_))));
        assert!(remove(&mut state, "net").is_ok());
        assert!(matches!(remove(&mut state, "net"), Err(Refusal::NotFound(_))));
    }

    #[test]
    fn a_person_votes_once_for_each_incident() {
        let mut state = State::default();
        assert!(set(&mut state, "net").is_ok());
        state.memory.incident = 2;
        let mut rate = |subject: &str, incident: u64, helped: bool| {
            let incident = Some(IncidentId(incident));
            let subject = subject.to_owned();
            give(&mut state, Command::RateKnowledge { subject, incident, helped }).is_ok()
        };
        assert!(rate("net", 1, true) && rate("net", 2, true) && rate("net", 2, false));
        assert!(rate("INC-1", 2, true));
        assert!(!rate("disk", 1, true) && !rate("INC-3", 1, true) && !rate("net", 3, true));
        let net = state.feedback.get("net").unwrap();
        assert_eq!((net.helped, net.no_use), (1, 1), "the later word counts");
        assert_eq!(state.feedback.get("INC-1").unwrap().helped, 1);
    }
}
