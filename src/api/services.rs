//! Services and other configuration items over REST: what is known, what needs what, what fires there.

use super::Context;
use super::error::ApiError;
use super::input::{Params, page_limit, parse_words};
use super::listing::Page;
use super::routes::{Answer, Operation};
use crate::domain::State as Domain;
use crate::domain::alert::AlertState;
use crate::domain::incident::IncidentId;
use crate::domain::item::{Catalog, Item, ItemId, ItemKind, Relation};
use crate::domain::label::{Fingerprint, Labels};
use crate::engine::Handle;
use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// So many alerts of one item are told.
const ALERTS_MAX: usize = 100;
/// So many alerts are looked at before the watch may go on.
const CHUNK: usize = 2_000;
/// The most items of one graph.
const GRAPH_ITEMS_MAX: usize = 500;
/// How far a graph goes if not told, and at most.
const DEPTH: (u8, u8) = (3, 20);

/// The routes of this file.
pub(super) fn operations() -> Vec<Operation> {
    let list = "Lists services, hosts and other configuration items, by name";
    let graph = "Shows what an item needs and what needs it, the nearest first";
    vec![
        Operation::read("/api/v1/services", list, Answer::Page("Service"), self::list).query(&[
            ("kind", "component, resource, api, system, domain; several with commas"),
            ("owner", "only of this owner"),
            ("q", "only those whose name or title has this in it"),
            ("firing", "true = only those about which an alert fires"),
            ("cursor", "`next_cursor` of the page before"),
            ("limit", "items a page, 1 to 1000, 100 by default"),
        ]),
        Operation::read(
            "/api/v1/services/{name}",
            "Shows an item, by its name or by `kind:namespace/name`",
            Answer::Json("Service"),
            show,
        ),
        Operation::read(
            "/api/v1/services/{name}/graph",
            graph,
            Answer::Page("Service"),
            self::graph,
        )
        .query(&[("depth", "how many steps away, 3 by default")]),
    ]
}

/// An item as REST shows it.
#[derive(Clone, Debug, Serialize)]
struct ServiceView {
    id: String,
    name: String,
    kind: ItemKind,
    #[serde(rename = "type")]
    item_type: String,
    namespace: String,
    title: Option<String>,
    owner: Option<String>,
    system: Option<String>,
    lifecycle: Option<String>,
    tier: Option<u8>,
    zone: Option<String>,
    labels: Labels,
    learned: bool,
    firing_count: usize,
    alerts: Vec<Fingerprint>,
    incidents: Vec<IncidentId>,
    depends_on: Vec<String>,
    dependents: Vec<String>,
    hosts: Vec<String>,
    residents: Vec<String>,
    part_of: Vec<String>,
    parts: Vec<String>,
    file: String,
    line: u32,
}

/// A catalog, and what fires where.
struct Looked {
    catalog: Arc<Catalog>,
    firing: BTreeMap<ItemId, (usize, Vec<Fingerprint>)>,
    incidents: BTreeMap<ItemId, BTreeSet<IncidentId>>,
}

impl Looked {
    /// Looks through all alerts, some at a time: the watch must not wait for a reader.
    async fn at(context: &Context) -> Result<Self, ApiError> {
        let (catalog, learned) = context
            .handle
            .read(|state| {
                let catalog = state.rules.catalog.clone();
                let learned = state.learned_items();
                (catalog, learned)
            })
            .await?;
        let handle = context.handle.clone();
        let looking = tokio::task::spawn_blocking(move || {
            Self::through(&handle, with_learned(catalog, learned))
        });
        looking.await.map_err(|error| ApiError::unavailable(error.to_string()))
    }

    fn through(handle: &Handle, catalog: Arc<Catalog>) -> Self {
        let mut looked = Self::new(catalog);
        handle.peek(|state| looked.take_incidents(state));
        let mut after = Bound::Unbounded;
        while let Some(last) = handle.peek(|state| looked.take_alerts(state, after)) {
            after = Bound::Excluded(last);
        }
        looked
    }

    fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog, firing: BTreeMap::new(), incidents: BTreeMap::new() }
    }

    fn take_incidents(&mut self, state: &Domain) {
        for incident in state.incidents.values().filter(|it| it.state.is_active()) {
            for item in incident.services.iter().filter_map(|it| self.catalog.find(it)) {
                self.incidents.entry(item).or_default().insert(incident.id);
            }
        }
    }

    /// Takes some alerts; the last one looked at, if there may be more.
    fn take_alerts(&mut self, state: &Domain, after: Bound<Fingerprint>) -> Option<Fingerprint> {
        let mut last = None;
        let mut seen = 0;
        for (fingerprint, alert) in state.alerts.range((after, Bound::Unbounded)).take(CHUNK) {
            seen += 1;
            last = Some(*fingerprint);
            if alert.state != AlertState::Firing {
                continue;
            }
            let bindings = self.catalog.bind(&alert.labels);
            let items = [bindings.primary(), bindings.host()].map(|it| it.map(|it| it.item));
            for item in BTreeSet::from(items).into_iter().flatten() {
                let (count, alerts) = self.firing.entry(item).or_default();
                *count += 1;
                if alerts.len() < ALERTS_MAX {
                    alerts.push(*fingerprint);
                }
                let active = |it: &IncidentId| {
                    state.incidents.get(it).is_some_and(|it| it.state.is_active())
                };
                self.incidents.entry(item).or_default().extend(alert.incident.filter(active));
            }
        }
        last.filter(|_| seen == CHUNK)
    }

    fn view(&self, id: ItemId) -> Option<ServiceView> {
        let item = self.catalog.item(id)?.clone();
        let catalog = &self.catalog;
        let names = |ids: &[ItemId]| {
            ids.iter().filter_map(|it| catalog.item(*it)).map(ToString::to_string).collect()
        };
        let (firing_count, alerts) = self.firing.get(&id).cloned().unwrap_or_default();
        Some(ServiceView {
            id: item.to_string(),
            zone: catalog.zone(id).map(str::to_owned),
            firing_count,
            alerts,
            incidents: self.incidents.get(&id).into_iter().flatten().copied().collect(),
            depends_on: names(catalog.dependencies(id)),
            dependents: names(catalog.dependents(id)),
            hosts: names(catalog.hosts(id)),
            residents: names(catalog.residents(id)),
            part_of: names(catalog.wholes(id)),
            parts: names(catalog.parts(id)),
            file: item.rule.file.clone(),
            line: item.rule.line,
            name: item.name,
            kind: item.kind,
            item_type: item.item_type,
            namespace: item.namespace,
            title: item.title,
            owner: item.owner,
            system: item.system,
            lifecycle: item.lifecycle,
            tier: item.tier,
            labels: item.labels,
            learned: item.learned,
        })
    }

    fn find(&self, name: &str) -> Result<ItemId, ApiError> {
        let hint = "`watchkeeper service list` shows what is known";
        let missing = || ApiError::not_found(format!("there is no service `{name}`")).hint(hint);
        self.catalog.find(name).ok_or_else(missing)
    }

    /// What a fault here can reach and what can reach it, each way by itself, the nearest first.
    fn around(&self, root: ItemId, depth: u8) -> Vec<ItemId> {
        let mut seen = BTreeSet::from([root]);
        let mut found = vec![root];
        let catalog = &self.catalog;
        let up: [fn(&Catalog, ItemId) -> &[ItemId]; 2] = [Catalog::dependents, Catalog::residents];
        let down: [fn(&Catalog, ItemId) -> &[ItemId]; 2] = [Catalog::dependencies, Catalog::hosts];
        for ways in [down, up] {
            let mut walked = BTreeSet::from([root]);
            let mut edge = vec![root];
            for _ in 0..depth {
                let next = edge.iter().flat_map(|id| ways.iter().flat_map(|it| it(catalog, *id)));
                edge = next.copied().filter(|it| walked.insert(*it)).collect();
                found.extend(edge.iter().copied().filter(|it| seen.insert(*it)));
            }
        }
        found.truncate(GRAPH_ITEMS_MAX);
        found
    }
}

/// A catalog with what was learned of places that are not in it.
fn with_learned(catalog: Arc<Catalog>, learned: (Vec<Item>, Vec<Relation>)) -> Arc<Catalog> {
    if learned.0.is_empty() {
        return catalog;
    }
    let items = catalog.items().map(|it| it.1.clone()).chain(learned.0).collect();
    let relations = [catalog.relations(), &learned.1].concat();
    Arc::new(Catalog::new(items, &relations))
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ListQuery {
    kind: Option<String>,
    owner: Option<String>,
    q: Option<String>,
    firing: Option<bool>,
    cursor: Option<String>,
    limit: Option<usize>,
}

/// Which items are wanted.
fn is_wanted(query: &ListQuery, kinds: Option<&[ItemKind]>, item: &Item) -> bool {
    let part = query.q.as_deref().unwrap_or_default().to_lowercase();
    let has = |text: &str| text.to_lowercase().contains(&part);
    kinds.is_none_or(|it| it.contains(&item.kind))
        && query.owner.as_ref().is_none_or(|it| item.owner.as_ref() == Some(it))
        && (has(&item.name) || item.title.as_deref().is_some_and(has))
}

fn page(looked: &Looked, query: &ListQuery) -> Result<Page<ServiceView>, ApiError> {
    let limit = page_limit(query.limit)?;
    let kinds = parse_words(query.kind.as_deref(), &ItemKind::ALL.map(|it| (it.as_str(), it)))?;
    let after = match query.cursor.as_deref().filter(|it| !it.is_empty()) {
        Some(cursor) => Some(looked.find(cursor)?),
        None => None,
    };
    let fires = |id: &ItemId| looked.firing.contains_key(id);
    let wanted = (looked.catalog.items())
        .filter(|(id, _)| after.is_none_or(|it| *id > it))
        .filter(|(_, item)| is_wanted(query, kinds.as_deref(), item))
        .filter(|(id, _)| query.firing != Some(true) || fires(id));
    let mut wanted = wanted.peekable();
    let taken = wanted.by_ref().take(limit);
    let items: Vec<ServiceView> = taken.filter_map(|(id, _)| looked.view(id)).collect();
    let last = items.last().map(|it| it.id.clone());
    Ok(Page { items, next_cursor: wanted.peek().and(last) })
}

async fn list(
    State(context): State<Context>,
    Params(query): Params<ListQuery>,
) -> Result<Json<Page<ServiceView>>, ApiError> {
    page(&Looked::at(&context).await?, &query).map(Json)
}

async fn show(
    State(context): State<Context>,
    Path(name): Path<String>,
) -> Result<Json<ServiceView>, ApiError> {
    let looked = Looked::at(&context).await?;
    let view = looked.view(looked.find(&name)?);
    view.map(Json).ok_or_else(|| ApiError::not_found(format!("there is no service `{name}`")))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GraphQuery {
    depth: Option<u8>,
}

async fn graph(
    State(context): State<Context>,
    Path(name): Path<String>,
    Params(query): Params<GraphQuery>,
) -> Result<Json<Page<ServiceView>>, ApiError> {
    let looked = Looked::at(&context).await?;
    let depth = query.depth.unwrap_or(DEPTH.0).min(DEPTH.1);
    let around = looked.around(looked.find(&name)?, depth);
    let items = around.into_iter().filter_map(|it| looked.view(it)).collect();
    Ok(Json(Page { items, next_cursor: None }))
}

#[cfg(test)]
mod tests {
    use super::super::openapi::assert_schema;
    use super::*;
    use crate::config;
    use crate::domain::event::{AlertBatch, Ends, Event, ReceivedAlert};
    use crate::domain::rules::Mode;
    use jiff::Timestamp;

    const SHOP: &str = "
{apiVersion: backstage.io/v1alpha1, kind: Component, metadata: {name: web}, spec: {owner: shop, dependsOn: [cart]}}
---
{apiVersion: backstage.io/v1alpha1, kind: Component, metadata: {name: cart}, spec: {owner: shop, dependsOn: [db, 'resource:n1']}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {name: db}, spec: {type: database, owner: data, dependsOn: [n1]}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {name: n1, labels: {zone: a}}, spec: {type: host}}
";

    /// A shop whose cart has an alert.
    fn looked() -> Looked {
        let rules = config::rules_from_texts(&[("c.yaml", SHOP)], Mode::Act).value.unwrap();
        let (mut state, now) = (Domain::default(), Timestamp::UNIX_EPOCH);
        drop(state.apply(now, &Event::RulesLoaded(Arc::new(rules))));
        let alert = ReceivedAlert {
            labels: Labels::from_pairs([("alertname", "Slow"), ("pod", "cart-0"), ("node", "n1")]),
            annotations: Labels::default(),
            starts_at: Some(now),
            ends: Ends::WhenTold,
            generator_url: "".into(),
            identity: None,
        };
        let batch = AlertBatch { source: "x".into(), alerts: vec![alert], rejected: vec![] };
        drop(state.apply(now, &Event::AlertsReceived(batch)));
        let mut looked = Looked::new(state.rules.catalog.clone());
        looked.take_incidents(&state);
        assert_eq!(looked.take_alerts(&state, Bound::Unbounded), None);
        looked
    }

    #[test]
    fn the_view_is_as_documented_and_tells_what_fires() {
        let looked = looked();
        let view =
            |name| serde_json::to_value(looked.view(looked.find(name).unwrap()).unwrap()).unwrap();
        let cart = view("cart");
        assert_schema("Service", &cart);
        assert_eq!(cart["firing_count"], 1);
        assert_eq!(cart["incidents"], serde_json::json!(["INC-1"]));
        assert_eq!(cart["dependents"], serde_json::json!(["component:default/web"]));
        assert_eq!(cart["hosts"], serde_json::json!(["resource:default/n1"]));
        assert_eq!(cart["zone"], "a");
        assert_eq!(view("n1")["firing_count"], 1);
        assert_eq!(view("web")["firing_count"], 0);
        assert!(looked.find("nothing").is_err());
    }

    #[test]
    fn filters_choose_and_pages_follow_each_other() {
        let looked = looked();
        let names = |query: ListQuery| {
            let page = page(&looked, &query).unwrap();
            (page.items.into_iter().map(|it| it.name).collect::<Vec<_>>(), page.next_cursor)
        };
        let some = |it: &str| Some(it.to_owned());
        let (all, none) = names(ListQuery::default());
        assert_eq!((all, none), (["cart", "db", "n1", "web"].map(str::to_owned).to_vec(), None));
        let (first, cursor) = names(ListQuery { limit: Some(3), ..ListQuery::default() });
        assert_eq!((first.len(), cursor.as_deref()), (3, Some("resource:default/n1")));
        assert_eq!(names(ListQuery { cursor, ..ListQuery::default() }).0, ["web"]);
        let firing =
            ListQuery { firing: Some(true), kind: some("component"), ..Default::default() };
        assert_eq!(names(firing).0, ["cart"]);
        assert_eq!(names(ListQuery { owner: some("data"), ..Default::default() }).0, ["db"]);
        assert_eq!(names(ListQuery { q: some("WE"), ..Default::default() }).0, ["web"]);
        assert!(page(&looked, &ListQuery { kind: some("x"), ..Default::default() }).is_err());
    }

    #[test]
    fn a_graph_goes_both_ways_but_does_not_turn() {
        let looked = looked();
        let around = |name: &str, depth| {
            let ids = looked.around(looked.find(name).unwrap(), depth);
            ids.into_iter().map(|it| looked.catalog.name(it).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(around("cart", 1), ["cart", "db", "n1", "web"]);
        assert_eq!(around("web", 1), ["web", "cart"]);
        assert_eq!(around("web", 9), ["web", "cart", "db", "n1"]);
        assert_eq!(around("db", 9), ["db", "n1", "cart", "web"]);
    }
}
