//! Articles over REST: those of files are shown, others are made here; and what people say of their use.

use super::Context;
use super::access::Caller;
use super::error::ApiError;
use super::input::{ByBody, Input, Params, page_limit};
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::config;
use crate::domain::State as Domain;
use crate::domain::event::Command;
use crate::domain::incident::IncidentId;
use crate::domain::knowledge::{Article, Offer};
use axum::Json;
use axum::extract::{Path, State};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A search looks for so many at most.
const FOUND_MAX: usize = 100;

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    const ONE: Answer = Answer::Json("Article");
    const PATH: &str = "/api/v1/articles/{id}";
    let summary =
        "Lists articles by name without their texts; with `q` those that it finds, the best first";
    vec![
        Operation::read("/api/v1/articles", summary, Answer::Page("Article"), list).query(&[
            ("q", "words that it is about"),
            ("cursor", "`next_cursor` of the page before; not with `q`"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::command(
            "/api/v1/articles",
            "Makes an article, or writes one anew that was made here",
            "ArticleInput",
            ONE,
            add,
        ),
        Operation::read(PATH, "Shows an article", ONE, show),
        Operation::command(
            "/api/v1/articles/{id}/remove",
            "Removes an article that was made here",
            "By",
            Answer::Page("Article"),
            remove,
        ),
        Operation::command(
            "/api/v1/articles/{id}/rate",
            "Says whether it helped; that counts when it is offered again",
            "Rating",
            ONE,
            rate,
        ),
    ]
}

/// An article as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct ArticleView {
    id: String,
    title: String,
    alerts: Vec<String>,
    matchers: Vec<String>,
    items: Vec<String>,
    urls: Vec<String>,
    tags: Vec<String>,
    owner: String,
    runbook: Option<String>,
    file: Option<String>,
    line: Option<u32>,
    created_by: Option<String>,
    updated_at: Option<Timestamp>,
    helped: u64,
    no_use: u64,
    score: Option<u16>,
    why: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

fn view(state: &Domain, article: &Article) -> ArticleView {
    let name = article.rule.name.as_str();
    let made = state.articles.get(name);
    let said = state.feedback.get(name);
    let rule = Some(&article.rule).filter(|it| !it.file.is_empty());
    ArticleView {
        id: name.to_owned(),
        title: article.title.clone(),
        alerts: article.alerts.clone(),
        matchers: article.matchers.0.iter().map(ToString::to_string).collect(),
        items: article.items.clone(),
        urls: article.urls.clone(),
        tags: article.tags.clone(),
        owner: article.owner.clone(),
        runbook: article.runbook.clone(),
        file: rule.map(|it| it.file.clone()),
        line: rule.map(|it| it.line),
        created_by: made.map(|it| it.by.clone()),
        updated_at: made.map(|it| it.updated_at),
        helped: said.map_or(0, |it| it.helped),
        no_use: said.map_or(0, |it| it.no_use),
        score: None,
        why: Vec::new(),
        text: None,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    q: Option<String>,
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<ArticleView>>, ApiError> {
    let limit = page_limit(query.limit)?;
    if let Some(text) = query.q.filter(|it| !it.trim().is_empty()) {
        return search(&context, text, limit.min(FOUND_MAX)).await;
    }
    Ok(Json(page(&context, query.cursor, limit).await?))
}

/// A page of all, by name.
async fn page(
    context: &Context,
    cursor: Option<String>,
    limit: usize,
) -> Result<Page<ArticleView>, ApiError> {
    let look = |state: &Domain| {
        let mut all = state.all_articles();
        all.sort_by(|one, other| one.rule.name.cmp(&other.rule.name));
        let mut wanted = (all.iter())
            .filter(|it| cursor.as_ref().is_none_or(|cursor| it.rule.name > *cursor))
            .peekable();
        let items: Vec<_> = wanted.by_ref().take(limit).map(|it| view(state, it)).collect();
        let last = items.last().map(|it| it.id.clone());
        Page { items, next_cursor: wanted.peek().and(last) }
    };
    Ok(context.handle.read(look).await?)
}

async fn search(
    context: &Context,
    text: String,
    limit: usize,
) -> Result<Json<Page<ArticleView>>, ApiError> {
    context.handle.settle().await?;
    let found = context.handle.search_articles(text, limit).await;
    let look = |state: &Domain| {
        let all = by_name(state);
        let item = |it: Offer<String>| {
            let article = all.get(&it.id)?;
            Some(ArticleView { score: Some(it.score), why: it.why, ..view(state, article) })
        };
        found.into_iter().filter_map(item).collect()
    };
    Ok(Json(Page { items: context.handle.peek(look), next_cursor: None }))
}

fn by_name(state: &Domain) -> BTreeMap<String, Arc<Article>> {
    state.all_articles().into_iter().map(|it| (it.rule.name.clone(), it)).collect()
}

async fn show(
    State(context): State<Context>,
    Path(id): Path<String>,
) -> Result<Json<ArticleView>, ApiError> {
    let look = |state: &Domain| {
        let article = by_name(state).remove(&id)?;
        Some(ArticleView { text: Some(article.text.clone()), ..view(state, &article) })
    };
    let found = context.handle.read(look).await?;
    found.map(Json).ok_or_else(|| {
        ApiError::not_found(format!("there is no article `{id}`"))
            .hint("`watchkeeper article search WORDS` finds articles by their words")
    })
}

/// The body of a new article.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ArticleInput {
    by: Option<String>,
    name: Option<String>,
    markdown: String,
}

async fn add(
    State(context): State<Context>,
    caller: Caller,
    Input(body): Input<ArticleInput>,
) -> Result<Json<ArticleView>, ApiError> {
    let by = caller.by(body.by)?;
    let checked = config::read_article(body.name.as_deref(), &body.markdown);
    let Some(article) = checked.value else {
        let told = checked.findings.iter().map(|it| {
            let hint = it.hint.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
            format!("{}:{} {}: {}{hint}", it.line, it.column, it.code, it.message)
        });
        let told: Vec<String> = told.take(5).collect();
        let message = format!("the article cannot be used: {}", told.join("; "));
        return Err(ApiError::bad_request(message));
    };
    let name = article.rule.name.clone();
    context.handle.command(by, Command::SetArticle { article: Box::new(article) }).await?;
    show(State(context), Path(name)).await
}

async fn remove(
    State(context): State<Context>,
    Path(article): Path<String>,
    caller: Caller,
    Input(body): Input<ByBody>,
) -> Result<Json<Page<ArticleView>>, ApiError> {
    let by = caller.by(body.by)?;
    context.handle.command(by, Command::RemoveArticle { article }).await?;
    Ok(Json(page(&context, None, page_limit(None)?).await?))
}

/// The body of a word about whether something helped.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rating {
    pub(super) by: Option<String>,
    pub(super) incident: Option<IncidentId>,
    pub(super) helped: bool,
}

async fn rate(
    State(context): State<Context>,
    Path(id): Path<String>,
    caller: Caller,
    Input(body): Input<Rating>,
) -> Result<Json<ArticleView>, ApiError> {
    let Rating { by, incident, helped } = body;
    let by = caller.by(by)?;
    let subject = id.clone();
    context.handle.command(by, Command::RateKnowledge { subject, incident, helped }).await?;
    show(State(context), Path(id)).await
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;

    #[test]
    fn the_view_is_as_documented() {
        let text = "---\ntitle: Disk full\nalerts: [DiskFull]\n---\nFree some.";
        let article = config::read_article(Some("disk"), text).value.unwrap();
        let shown = view(&Domain::default(), &article);
        let whole = ArticleView { text: Some(article.text.clone()), score: Some(1), ..shown };
        let json = serde_json::to_value(whole).unwrap();
        assert_schema("Article", &json);
        assert_eq!((&json["id"], &json["file"]), (&"disk".into(), &serde_json::Value::Null));
    }
}
