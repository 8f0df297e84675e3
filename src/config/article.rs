//! Articles: Markdown with front matter, below `rules/knowledge/` or sent to the API.

use super::code::Code;
use super::fields::Fields;
use super::reader::{Reader, Source};
use super::yaml::{Node, Place, parse};
use super::{Checked, Finding};
use crate::domain::knowledge::{ARTICLE_BYTES_MAX, Article};
use crate::domain::rules::RuleRef;
use jiff::Timestamp;
use std::path::Path;
use std::sync::Arc;

/// The kind of name that articles bear.
const ARTICLE: &str = "article";
/// The most entries of a list in the front matter.
const ENTRIES_MAX: usize = 200;
/// So many articles are read.
const ARTICLES_MAX: usize = 5000;
/// All of them together are so long at most, in bytes: they are kept in memory, and with the rules.
const ALL_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether a file of this name holds an article.
pub(super) fn is_article(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|it| it == "md")
}

/// Reads a file that holds one article, into those that were read before.
pub(super) fn read(reader: &mut Reader<'_>, text: &str, articles: &mut Vec<Arc<Article>>) {
    let name = reader.sources.get(reader.current).map(|it| it.name.clone()).unwrap_or_default();
    let stem = Path::new(&name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some(article) = article(reader, text, &stem) else { return };
    let bytes: usize = articles.iter().map(|it| it.text.len()).sum();
    if articles.len() >= ARTICLES_MAX || bytes + article.text.len() > ALL_BYTES_MAX {
        let message =
            format!("more than {ARTICLES_MAX} articles, or {ALL_BYTES_MAX} bytes of them");
        return reader.report(Place::START, Code::BadValue, message);
    }
    articles.push(Arc::new(article));
}

/// Reads an article that is no file. Its name is the one in its front matter, else the one that is given, else
/// its title in small letters.
pub fn read_article(name: Option<&str>, text: &str) -> Checked<Article> {
    let source = Source { name: "article".to_owned(), relative: String::new(), text: text.into() };
    let sources = [source];
    let mut reader = Reader::new(&sources, Timestamp::UNIX_EPOCH);
    let mut read = article(&mut reader, text, name.unwrap_or_default()).unwrap_or_default();
    let mut rule = RuleRef { name: read.rule.name.clone(), ..RuleRef::default() };
    if rule.name.is_empty() {
        rule.name = plain_name(&read.title);
    }
    read.rule = Arc::new(rule);
    let findings: Vec<Finding> = reader.findings.drain(..).collect();
    Checked::new(read, findings, 1)
}

/// A title as a name: `Disk is full!` is `disk-is-full`.
fn plain_name(title: &str) -> String {
    let words = title.split(|it: char| !it.is_alphanumeric()).filter(|it| !it.is_empty());
    words.map(str::to_lowercase).take(12).collect::<Vec<_>>().join("-")
}

/// The front matter, with the line that begins it so that places are right, and what follows it.
fn parts(text: &str) -> (Option<&str>, &str) {
    let is_mark = |line: &str| line.trim_end() == "---";
    if !text.lines().next().is_some_and(is_mark) {
        return (None, text);
    }
    let mut at = 0;
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let begins = at;
        at += line.len();
        if number > 0 && is_mark(line) {
            return (text.get(..begins), text.get(at..).unwrap_or_default());
        }
    }
    (Some(text), "")
}

fn article(reader: &mut Reader<'_>, text: &str, stem: &str) -> Option<Article> {
    let (front, body) = parts(text);
    if body.len() > ARTICLE_BYTES_MAX {
        let message = format!("an article has at most {ARTICLE_BYTES_MAX} bytes");
        reader.report(Place::START, Code::BadValue, message);
        return None;
    }
    let title = heading(body).unwrap_or(stem).to_owned();
    let mut article = Article { title, text: body.trim().to_owned(), ..Article::default() };
    let front = front.unwrap_or_default();
    if front.lines().count() > 1 && body.is_empty() && !text.trim_end().ends_with("\n---") {
        let hint = "write a line `---` behind the front matter, and the text below it";
        reader.report_hint(Place::START, Code::Syntax, "the front matter does not end", hint);
        return None;
    }
    let (documents, errors) = parse(front);
    reader.report_syntax(errors);
    let mut named = Named { name: stem.to_owned(), place: Place::START };
    if let Some(document) = documents.first().filter(|it| !it.is_null()) {
        let fields = Fields::open(reader, document)?;
        fill(reader, fields, &mut article, &mut named);
    }
    if article.title.trim().is_empty() {
        let hint = "begin the front matter with `title:`, or the text with `# Title`";
        reader.report_hint(Place::START, Code::MissingField, "an article needs a title", hint);
    }
    article.rule = if named.name.is_empty() {
        reader.rule_ref(String::new(), Place::START)
    } else {
        reader.take_name(ARTICLE, &named.name, named.place)
    };
    Some(article)
}

/// The name of an article, and where it is written.
struct Named {
    name: String,
    place: Place,
}

fn fill(reader: &mut Reader<'_>, mut fields: Fields<'_>, article: &mut Article, named: &mut Named) {
    if let Some(node) = fields.optional("name") {
        *named = Named { name: reader.filled_text(node), place: node.place };
    }
    if let Some(node) = fields.optional("title") {
        article.title = reader.filled_text(node);
    }
    article.alerts = texts(reader, fields.optional("alerts"));
    article.matchers = reader.matchers(fields.optional("matchers"));
    article.items = texts(reader, fields.optional("items"));
    article.tags = texts(reader, fields.optional("tags"));
    article.urls = texts(reader, fields.optional("urls"));
    if let Some(node) = fields.optional("owner") {
        article.owner = reader.filled_text(node);
    }
    if let Some(node) = fields.optional("runbook") {
        let name = reader.filled_text(node);
        reader.refer("runbook", &name, node.place);
        article.runbook = Some(name);
    }
    fields.finish(reader);
}

fn texts(reader: &mut Reader<'_>, node: Option<&Node>) -> Vec<String> {
    let Some(node) = node.filter(|it| !it.is_null()) else { return Vec::new() };
    let items = reader.short_list(node, ENTRIES_MAX);
    items.iter().map(|it| reader.filled_text(it)).collect()
}

/// The first heading of a text.
fn heading(text: &str) -> Option<&str> {
    let mut lines = text.lines().map(str::trim).filter(|it| !it.is_empty());
    let title = lines.next()?.strip_prefix("# ")?.trim();
    (!title.is_empty()).then_some(title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        let checked = read_article(Some("disk"), text);
        let place = |it: &Finding| format!("{}:{} {} {}", it.line, it.column, it.code, it.message);
        checked.findings.iter().map(place).collect()
    }

    #[test]
    fn an_article_is_read_with_all_that_its_front_matter_says() {
        let text = "---\ntitle: Disk full\nname: full-disk\nalerts: [DiskFull, DiskWillFill]\n\
            matchers: ['team=\"db\"']\nitems: [db-main]\nurls: ['https://wiki/disk']\ntags: [disk]\n\
            owner: dba\n---\n# Something else\n\nFree some.\n";
        let article = read_article(None, text).value.unwrap();
        assert_eq!(
            (article.title.as_str(), article.rule.name.as_str()),
            ("Disk full", "full-disk")
        );
        assert_eq!(article.alerts, ["DiskFull", "DiskWillFill"]);
        assert_eq!(article.matchers.to_string(), "{team=\"db\"}");
        assert_eq!((article.owner.as_str(), article.urls.len()), ("dba", 1));
        assert_eq!(article.text, "# Something else\n\nFree some.");
    }

    #[test]
    fn plain_markdown_is_an_article() {
        let article = read_article(None, "# Disk is full!\n\nFree some.\n").value.unwrap();
        assert_eq!(article.rule.name, "disk-is-full");
        assert_eq!(article.title, "Disk is full!");
        let article = read_article(Some("disk"), "---\n---\nFree some.").value.unwrap();
        assert_eq!((article.title.as_str(), article.text.as_str()), ("disk", "Free some."));
        assert!(read_article(None, "Free some.").value.is_none(), "it has no name");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, expected) in [
            ("---\ntitel: x\n---\n", "2:1 WK0103 unknown field `titel`"),
            ("---\ntitle: x\nalerts: DiskFull\n---\n", "3:9 WK0105 expected a list"),
            ("---\ntitle: x\nmatchers: ['a']\n---\n", "3:12 WK0111"),
            ("---\ntitle: [\n---\ntext\n", "WK0102 not valid YAML"),
            ("---\ntitle: x\ntext without an end\n", "1:1 WK0102 the front matter does not end"),
            ("---\n- a\n---\ntext", "2:1 WK0105 expected a map"),
            ("---\ntitle: ''\n---\ntext", "2:8 WK0106"),
        ] {
            let found = findings(text);
            assert!(found.iter().any(|it| it.contains(expected)), "{expected} in {found:?}");
        }
        let long = "x".repeat(ARTICLE_BYTES_MAX + 1);
        assert_eq!(findings(&long).len(), 1);
    }
}
