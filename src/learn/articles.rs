//! Which articles fit an incident, and why: by what they say of themselves, and by their words.

use super::index::{Field, Index, Terms};
use crate::domain::knowledge::{Article, Feedback, Offer, Question};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What the words of title and beginning count beside all words.
const FIELDS: [(Field, f64); 2] = [(Field::Head, 0.3), (Field::Text, 0.7)];
/// What an article says of itself counts so many points, and its words up to [`WORDS_POINTS`].
const ADDRESS_POINTS: i64 = 2000;
const ALERT_POINTS: i64 = 600;
const TITLE_POINTS: i64 = 400;
const MATCHERS_POINTS: i64 = 200;
const ITEM_POINTS: i64 = 200;
const WORDS_POINTS: f64 = 400.0;
/// Points are added up in thousandths, so that a small difference of words decides between equals.
const FINE: i64 = 1000;
/// What has fewer points is not offered: a few words in common are chance.
const POINTS_MIN: i64 = 50;
/// A reason names so many words.
const WORDS_NAMED_MAX: usize = 6;
/// The first lines of so many bytes are the beginning of an article.
const BEGINNING_BYTES_MAX: usize = 600;

/// What people said, by what they spoke of.
pub type Feedbacks = BTreeMap<Arc<str>, Feedback>;

/// Articles, and an index of their words. Built when somebody asks, and kept while they are the same.
#[derive(Debug)]
pub struct Articles {
    all: Vec<Arc<Article>>,
    index: Index,
}

impl Articles {
    /// Reads articles.
    pub fn of(all: Vec<Arc<Article>>) -> Self {
        let mut index = Index::default();
        for article in &all {
            let mut terms = Terms::default();
            let named = article.alerts.iter().chain(&article.items).chain(&article.tags);
            for field in [Field::Head, Field::Text] {
                terms.add_text(field, &article.title);
                named.clone().for_each(|it| terms.add_text(field, it));
            }
            terms.add_text(Field::Head, beginning(&article.text));
            terms.add_text(Field::Text, &article.text);
            index.add(&terms);
        }
        index.measure();
        Self { all, index }
    }

    /// Whether these are the articles that it was built of.
    pub fn is_of(&self, all: &[Arc<Article>]) -> bool {
        self.all.len() == all.len()
            && self.all.iter().zip(all).all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// Those that fit an incident, the best first.
    pub fn fitting(
        &self,
        question: &Question,
        said: &Feedbacks,
        most: usize,
    ) -> Vec<Offer<String>> {
        let mut terms = Terms::default();
        let names = question.alerts.iter().chain(&question.places);
        for field in [Field::Head, Field::Text] {
            terms.add_text(field, &question.head);
            terms.add_text(field, &question.text);
            names.clone().for_each(|it| terms.add_text(field, it));
        }
        self.ranked(&terms, said, most, |article| structure(article, question))
    }

    /// Those that a text finds, the best first.
    pub fn search(&self, text: &str, said: &Feedbacks, most: usize) -> Vec<Offer<String>> {
        let mut terms = Terms::default();
        terms.add_text(Field::Head, text);
        terms.add_text(Field::Text, text);
        let plain = letters(text);
        self.ranked(&terms, said, most, |article| {
            let is_named = !plain.is_empty()
                && (letters(&article.title) == plain || letters(&article.rule.name) == plain);
            Some(if is_named {
                vec![(TITLE_POINTS, "it is called so".to_owned())]
            } else {
                Vec::new()
            })
        })
    }

    fn ranked(
        &self,
        terms: &Terms,
        said: &Feedbacks,
        most: usize,
        structure: impl Fn(&Article) -> Option<Vec<(i64, String)>>,
    ) -> Vec<Offer<String>> {
        let likenesses = self.index.likenesses(terms, &FIELDS);
        let mut found: Vec<(i64, u32, Vec<String>)> = Vec::new();
        for (number, article) in (0_u32..).zip(&self.all) {
            let Some(reasons) = structure(article) else { continue };
            let likeness = likenesses.get(&number).copied().unwrap_or(0.0);
            let words = rounded(likeness * WORDS_POINTS * 1000.0);
            let mut points = reasons.iter().map(|it| it.0 * FINE).sum::<i64>() + words;
            if points < POINTS_MIN * FINE {
                continue;
            }
            let mut why: Vec<String> = reasons.into_iter().map(|it| it.1).collect();
            if let Some(feedback) = said.get(article.rule.name.as_str()) {
                points += feedback.points() * FINE;
                why.push(said_so(feedback));
            }
            found.push((points, number, why));
        }
        found.sort_by_key(|it| (std::cmp::Reverse(it.0), it.1));
        found.truncate(most);
        let offer = |(points, number, mut why): (i64, u32, Vec<String>)| {
            let article = self.all.get(number as usize)?;
            let shared = self.index.shared(terms, number).remove(&Field::Text);
            why.extend(shared.map(|it| in_common(&it)));
            Some(Offer { id: article.rule.name.clone(), score: score(points / FINE), why })
        };
        found.into_iter().filter_map(offer).collect()
    }
}

/// What an article says of itself that is true of an incident, with its points; `None` = it is for others.
fn structure(article: &Article, question: &Question) -> Option<Vec<(i64, String)>> {
    let mut reasons = Vec::new();
    let has_matchers = !article.matchers.0.is_empty();
    if has_matchers && !article.matchers.matches(&question.labels) {
        return None;
    }
    let at = |it: &&String| question.urls.iter().any(|url| is_same_page(it, url));
    if let Some(url) = article.urls.iter().find(at) {
        reasons.push((ADDRESS_POINTS, format!("an alert's runbook_url leads to it: {url}")));
    }
    if let Some(name) = article.alerts.iter().find(|it| question.alerts.contains(*it)) {
        reasons.push((ALERT_POINTS, format!("it is for the alert {name}")));
    }
    let is_title = |it: &&String| {
        let plain = letters(it);
        letters(&article.title) == plain || letters(&article.rule.name) == plain
    };
    if let Some(name) = question.alerts.iter().find(is_title) {
        reasons.push((TITLE_POINTS, format!("it is called like the alert {name}")));
    }
    if has_matchers {
        reasons.push((MATCHERS_POINTS, format!("{} holds", article.matchers)));
    }
    if let Some(item) = article.items.iter().find(|it| question.places.contains(*it)) {
        reasons.push((ITEM_POINTS, format!("it is about {item}")));
    }
    Some(reasons)
}

/// Whether two addresses lead to one page, whatever scheme, case or slash at the end they have.
fn is_same_page(one: &str, other: &str) -> bool {
    let plain = |it: &str| {
        let it = it.trim().to_lowercase();
        let it = it.split_once("://").map_or(it.as_str(), |(_, rest)| rest).to_owned();
        it.trim_end_matches('/').to_owned()
    };
    plain(one) == plain(other)
}

/// The letters and digits of a name, small: `Kube Job Failed` is `KubeJobFailed`.
fn letters(name: &str) -> String {
    name.chars().filter(|it| it.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

/// The first paragraph that is no heading and no code.
fn beginning(text: &str) -> &str {
    let paragraphs = text.split("\n\n").map(str::trim);
    let is_prose = |it: &&str| !it.is_empty() && !it.starts_with(['#', '`', '<', '{', '[']);
    let first = paragraphs.clone().find(is_prose).unwrap_or_default();
    first.get(..first.floor_char_boundary(BEGINNING_BYTES_MAX)).unwrap_or(first)
}

/// What people said of it, in words.
pub(super) fn said_so(feedback: &Feedback) -> String {
    let all = feedback.helped + feedback.no_use;
    format!("{} of {all} said that it helped", feedback.helped)
}

/// The words that two texts share, in words.
pub(super) fn in_common(words: &[String]) -> String {
    let named = words.iter().take(WORDS_NAMED_MAX).map(String::as_str);
    let more = words.len().saturating_sub(WORDS_NAMED_MAX);
    let more = if more > 0 { format!(" and {more} more words") } else { String::new() };
    format!("both say {}{more}", named.collect::<Vec<_>>().join(", "))
}

/// Points as a score.
pub(super) fn score(points: i64) -> u16 {
    u16::try_from(points.clamp(0, 1000)).unwrap_or(1000)
}

#[expect(clippy::cast_possible_truncation, reason = "it is at most some thousands")]
pub(super) fn rounded(points: f64) -> i64 {
    points.round() as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::label::Labels;
    use crate::domain::rules::RuleRef;

    fn article(name: &str, title: &str, text: &str) -> Article {
        let rule = Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() });
        let (title, text) = (title.to_owned(), text.to_owned());
        Article { rule, title, text, ..Article::default() }
    }

    fn library() -> Articles {
        let disk = article("disk", "Disk is full", "Delete old logs, then grow the volume.");
        let url = "https://wiki/runbooks/network/".to_owned();
        let net = article("net", "Network Down", "Packets are lost. Look at the switch.");
        let net = Article { urls: vec![url], ..net };
        let db = article("db", "Replication lags", "The replica reads the log of the primary.");
        let db = Article {
            alerts: vec!["ReplicaLate".to_owned()],
            matchers: "team=\"db\"".parse().unwrap(),
            items: vec!["db-main".to_owned()],
            ..db
        };
        Articles::of([disk, net, db].map(Arc::new).to_vec())
    }

    fn question(alert: &str, head: &str) -> Question {
        Question {
            head: head.to_owned(),
            alerts: [alert.to_owned()].into(),
            labels: Labels::from_pairs([("team", "db")]),
            ..Question::default()
        }
    }

    fn names(offers: &[Offer<String>]) -> Vec<&str> {
        offers.iter().map(|it| it.id.as_str()).collect()
    }

    #[test]
    fn what_an_article_says_of_itself_counts_most_and_words_decide_the_rest() {
        let (library, said) = (library(), Feedbacks::new());
        let offers = library.fitting(&question("Full", "the volume is full of logs"), &said, 5);
        assert_eq!(names(&offers)[0], "disk", "{offers:?}");
        assert!(offers[0].why[0].starts_with("both say "), "{offers:?}");
        let offers = library.fitting(&question("NetworkDown", "a disk of logs"), &said, 5);
        assert_eq!(names(&offers)[0], "net");
        assert_eq!(offers[0].why[0], "it is called like the alert NetworkDown");
        let late = Question {
            places: ["db-main".to_owned()].into(),
            ..question("ReplicaLate", "it is late")
        };
        let offers = library.fitting(&late, &said, 5);
        assert_eq!((names(&offers)[0], offers[0].score), ("db", 1000));
        assert_eq!(
            offers[0].why[..3],
            ["it is for the alert ReplicaLate", "{team=\"db\"} holds", "it is about db-main"]
        );
        let other = Question { labels: Labels::default(), ..late };
        assert!(!names(&library.fitting(&other, &said, 5)).contains(&"db"), "it is for others");
    }

    #[test]
    fn the_page_that_an_alert_names_comes_first() {
        let urls = ["http://WIKI/runbooks/network".to_owned()].into();
        let asked = Question { urls, ..question("ReplicaLate", "replication lags") };
        let offers = library().fitting(&asked, &Feedbacks::new(), 5);
        assert_eq!(names(&offers)[..2], ["net", "db"]);
    }

    #[test]
    fn what_helped_rises_and_what_was_of_no_use_sinks() {
        let twins = ["one", "two"].map(|it| Arc::new(article(it, "Disk is full", "Delete logs.")));
        let library = Articles::of(twins.to_vec());
        let asked = question("Full", "disk full");
        let said = |subject: &str, helped, no_use| -> Feedbacks {
            let subject: Arc<str> = subject.into();
            let feedback =
                Feedback { subject: subject.clone(), helped, no_use, ..Feedback::default() };
            [(subject, feedback)].into()
        };
        assert_eq!(names(&library.fitting(&asked, &Feedbacks::new(), 5)), ["one", "two"]);
        let offers = library.fitting(&asked, &said("two", 3, 1), 5);
        assert_eq!(names(&offers), ["two", "one"]);
        assert!(offers[0].why.contains(&"3 of 4 said that it helped".to_owned()));
        assert_eq!(names(&library.fitting(&asked, &said("one", 0, 1), 5)), ["two", "one"]);
    }

    #[test]
    fn a_search_finds_names_and_words() {
        let (library, said) = (library(), Feedbacks::new());
        assert_eq!(names(&library.search("switches", &said, 5)), ["net"]);
        assert_eq!(names(&library.search("db", &said, 5))[0], "db");
        assert!(library.search("printer", &said, 5).is_empty());
    }
}
