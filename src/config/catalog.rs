//! Backstage's catalog documents: items, what they need, and the matchers that bind alerts to them.
//!
//! The format is Backstage's, so that what is unknown here is left alone, and what leads nowhere is a
//! warning: a catalog is written by many teams, and a gap in it must not keep the rules from loading.

use super::code::Code;
use super::files::Files;
use super::reader::{Position, Reader};
use super::yaml::{Node, Place, Value, parse};
use super::{Checked, Finding};
use crate::domain::item::{Catalog, Item, ItemId, ItemKind, Relation, RelationKind};
use crate::domain::label::Labels;
use crate::domain::matcher::Matchers;
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// The annotation that binds alerts to an item: matchers, a set in each line.
pub(super) const MATCHERS: &str = "watchkeeper.dev/matchers";
/// The kind of name under which the reader knows items by their references.
const ITEM: &str = "item";
/// The longest name, in bytes; Backstage's own limit is 63.
const NAME_BYTES_MAX: usize = 253;

/// What the documents say, before references are looked up.
#[derive(Default)]
pub(super) struct Entities {
    items: Vec<Item>,
    /// The items' places by their references in lower case.
    places: BTreeMap<String, usize>,
    references: Vec<Reference>,
}

/// A reference of one item to another.
struct Reference {
    from: usize,
    relation: RelationKind,
    /// The relation is that of the other to this one.
    is_turned: bool,
    /// What it can be if it does not say so, the likeliest first.
    kinds: &'static [ItemKind],
    field: &'static str,
    text: String,
    position: Position,
}

const THINGS: &[ItemKind] = &[ItemKind::Component, ItemKind::Resource, ItemKind::Api];

/// The fields of `spec` that refer to other items.
const FIELDS: [(&str, RelationKind, bool, &[ItemKind]); 8] = [
    ("dependsOn", RelationKind::DependsOn, false, THINGS),
    ("dependencyOf", RelationKind::DependsOn, true, THINGS),
    ("providesApis", RelationKind::ProvidesApi, false, &[ItemKind::Api]),
    ("consumesApis", RelationKind::ConsumesApi, false, &[ItemKind::Api]),
    ("subcomponentOf", RelationKind::PartOf, false, &[ItemKind::Component]),
    ("system", RelationKind::PartOf, false, &[ItemKind::System]),
    ("domain", RelationKind::PartOf, false, &[ItemKind::Domain]),
    ("subdomainOf", RelationKind::PartOf, false, &[ItemKind::Domain]),
];

/// Whether a document is Backstage's, by its `apiVersion`.
pub(super) fn is_backstage(version: &str) -> bool {
    version.starts_with("backstage.io/") || version.contains(".backstage.io/")
}

/// Reads a catalog from one file.
pub(super) fn collect(mut files: Files, now: Timestamp) -> Checked<Catalog> {
    let mut reader = Reader::new(&files.sources, now);
    let mut entities = Entities::default();
    for (number, source) in files.sources.iter().enumerate() {
        reader.current = number;
        let (documents, errors) = parse(&source.text);
        for document in &documents {
            match field(document, "apiVersion").and_then(text) {
                Some(version) if is_backstage(version) => {
                    read_document(&mut reader, document, &mut entities);
                }
                _ => reader.report_hint(
                    document.place,
                    Code::LeftAside,
                    "left aside: this is no document of a catalog",
                    "it begins with `apiVersion: backstage.io/v1alpha1`",
                ),
            }
        }
        reader.report_syntax(errors);
    }
    let catalog = resolve(&mut reader, entities);
    let mut findings: Vec<Finding> = std::mem::take(&mut files.findings);
    let count = files.sources.len() + findings.len();
    findings.append(&mut reader.findings);
    Checked::new(catalog, findings, count)
}

/// Reads a catalog's file.
pub(super) fn read(file: &Path) -> Checked<Catalog> {
    let mut files = Files::default();
    files.add_file(file, file);
    collect(files, Timestamp::now())
}

/// Reads one document of Backstage's. People, teams, templates and places of other files are known
/// and left alone.
pub(super) fn read_document(reader: &mut Reader<'_>, document: &Node, entities: &mut Entities) {
    let kind = field(document, "kind").and_then(text).unwrap_or_default();
    let Some(kind) = ItemKind::from_word(kind) else { return };
    let name = field(document, "metadata").and_then(|it| field(it, "name"));
    let Some((node, name)) = name.and_then(|it| Some((it, text(it)?))).filter(|it| is_name(it.1))
    else {
        let message = format!("left aside: a {} without a name", kind.as_str());
        let hint = "write `metadata: {name: …}`; a name has neither `/` nor `:`";
        return reader.report_hint(document.place, Code::LeftAside, message, hint);
    };
    let item = item(reader, document, kind, (node.place, name));
    let reference = item.to_string().to_ascii_lowercase();
    if let Some((source, first)) = reader.position_of(ITEM, &reference) {
        let file = reader.sources.get(source).map_or("", |it| it.name.as_str());
        let hint = format!("the other one is at {file}:{}:{}", first.line, first.column);
        let message = format!("left aside: `{reference}` is there already");
        return reader.report_hint(node.place, Code::Doubled, message, hint);
    }
    reader.note_name(ITEM, &reference, node.place);
    let from = entities.items.len();
    entities.places.insert(reference, from);
    entities.items.push(item);
    let spec = field(document, "spec");
    for (name, relation, is_turned, kinds) in FIELDS {
        for node in spec.and_then(|it| field(it, name)).map(entries).unwrap_or_default() {
            let Some(text) = text(node) else { continue };
            entities.references.push(Reference {
                from,
                relation,
                is_turned,
                kinds,
                field: name,
                text: text.to_owned(),
                position: (reader.current, node.place),
            });
        }
    }
}

fn item(reader: &mut Reader<'_>, document: &Node, kind: ItemKind, name: (Place, &str)) -> Item {
    let (place, name) = name;
    let within = |part: &str, name: &str| {
        field(document, part).and_then(|it| field(it, name)).and_then(text).map(str::to_owned)
    };
    let labels = field(document, "metadata").and_then(|it| field(it, "labels"));
    let labels = labels.map(Node::entries).unwrap_or_default().iter();
    let labels = labels.filter_map(|(key, value)| Some((key.text.as_str(), text(value)?)));
    let annotations = field(document, "metadata").and_then(|it| field(it, "annotations"));
    let matchers = annotations.and_then(|it| field(it, MATCHERS));
    Item {
        name: name.to_owned(),
        kind,
        item_type: within("spec", "type").unwrap_or_default(),
        namespace: within("metadata", "namespace").unwrap_or_else(|| "default".to_owned()),
        title: within("metadata", "title"),
        owner: within("spec", "owner").map(|it| plain_owner(&it)),
        system: within("spec", "system"),
        lifecycle: within("spec", "lifecycle"),
        tier: tier(document),
        labels: Labels::from_pairs(labels),
        matchers: matchers.map(|it| matcher_sets(reader, it)).unwrap_or_default(),
        rule: reader.rule_ref(name.to_owned(), place),
        learned: false,
    }
}

/// How much an item matters, as people write it beside Backstage's own fields: a label, an annotation or a
/// field of `spec` whose name, after a prefix, is `tier` or `criticality`.
fn tier(document: &Node) -> Option<u8> {
    let metadata = field(document, "metadata");
    let annotations = metadata.and_then(|it| field(it, "annotations"));
    let labels = metadata.and_then(|it| field(it, "labels"));
    let parts = [annotations, labels, field(document, "spec")].into_iter().flatten();
    parts.flat_map(Node::entries).find_map(|(key, value)| {
        let name = key.text.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
        let is_tier = matches!(&*name, "tier" | "criticality" | "business-criticality");
        read_tier(text(value).filter(|_| is_tier)?)
    })
}

/// `1`, `tier-1`, `Tier 1`, `tier_1`, `T1`, or a word.
fn read_tier(text: &str) -> Option<u8> {
    let word = text.trim().to_ascii_lowercase();
    let digits = word.trim_start_matches(|it: char| !it.is_ascii_digit());
    let before = word.strip_suffix(digits)?.trim_end_matches(['-', '_', ' ']);
    match (before, digits.parse::<u8>()) {
        ("" | "tier" | "t", Ok(number)) => Some(number),
        _ => match &*word {
            "critical" | "mission-critical" | "business-critical" | "platinum" => Some(1),
            "high" | "important" | "gold" => Some(2),
            "medium" | "moderate" | "silver" => Some(3),
            "low" | "bronze" => Some(4),
            _ => None,
        },
    }
}

/// A team is who owns things as a rule: `group:default/payments` is `payments`.
fn plain_owner(owner: &str) -> String {
    let owner = owner.strip_prefix("group:").unwrap_or(owner);
    owner.strip_prefix("default/").unwrap_or(owner).to_owned()
}

/// Sets of matchers, one in each line.
fn matcher_sets(reader: &mut Reader<'_>, node: &Node) -> Vec<Matchers> {
    let mut sets = Vec::new();
    let lines = text(node).unwrap_or_default().lines().map(str::trim);
    for line in lines.filter(|it| !it.is_empty()) {
        let hint = "write matchers as `service=\"x\", env=\"prod\"`; a line for each set";
        match line.parse::<Matchers>() {
            Ok(set) if set.0.is_empty() => {
                let message = "no matcher: every alert would be bound to it";
                reader.report_hint(node.place, Code::BadMatcher, message, hint);
            }
            Ok(set) => sets.push(set),
            Err(reason) => {
                reader.report_hint(node.place, Code::BadMatcher, reason, hint);
            }
        }
    }
    sets
}

/// Looks up what the items refer to.
pub(super) fn resolve(reader: &mut Reader<'_>, entities: Entities) -> Catalog {
    let mut relations = Vec::new();
    let mut seen = BTreeSet::new();
    for reference in &entities.references {
        let candidates = candidates(&entities, reference);
        let found = candidates.iter().find_map(|it| entities.places.get(it).copied());
        let Some(to) = found else {
            // A file beside those that are checked may have it.
            if !candidates.iter().any(|it| reader.position_of(ITEM, it).is_some()) {
                report_broken(reader, &entities, reference, &candidates);
            }
            continue;
        };
        if !seen.insert((reference.from, reference.field, to)) {
            let message = format!("`{}` stands twice in `{}`", reference.text, reference.field);
            reader.report_at(reference.position, Code::Doubled, &message, None);
        }
        let number = |it: usize| ItemId(u32::try_from(it).unwrap_or(u32::MAX));
        let (from, to) = (number(reference.from), number(to));
        let (from, to) = if reference.is_turned { (to, from) } else { (from, to) };
        relations.push(Relation { from, kind: reference.relation, to });
    }
    Catalog::new(entities.items, &relations)
}

/// The full references that a short one can stand for, the likeliest first.
fn candidates(entities: &Entities, reference: &Reference) -> Vec<String> {
    let text = reference.text.trim().to_ascii_lowercase();
    let (kind, rest) = match text.split_once(':') {
        Some((kind, rest)) => (Some(kind), rest),
        None => (None, text.as_str()),
    };
    let own = entities.items.get(reference.from).map_or("default", |it| &it.namespace);
    let (namespaces, name) = match rest.split_once('/') {
        Some((namespace, name)) => (vec![namespace.to_owned()], name),
        None => (vec![own.to_ascii_lowercase(), "default".to_owned()], rest),
    };
    let kinds = match kind {
        Some(kind) => vec![kind],
        None => reference.kinds.iter().map(|it| it.as_str()).collect(),
    };
    let pairs = kinds.iter().flat_map(|kind| namespaces.iter().map(move |space| (kind, space)));
    pairs.map(|(kind, space)| format!("{kind}:{space}/{name}")).collect()
}

fn report_broken(
    reader: &mut Reader<'_>,
    entities: &Entities,
    reference: &Reference,
    candidates: &[String],
) {
    let first = candidates.first().map_or("", String::as_str);
    let name = first.rsplit('/').next().unwrap_or(first);
    let named = entities.items.iter().find(|it| it.name.eq_ignore_ascii_case(name));
    let hint = match named {
        Some(it) => format!("did you mean `{it}`?"),
        None => "no document of the catalog has this name; what is not there cannot be a cause"
            .to_owned(),
    };
    let message = format!("`{}` leads nowhere: `{}`", reference.field, reference.text);
    reader.report_at(reference.position, Code::BrokenReference, &message, Some(hint));
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && !name.contains(|it: char| it.is_control() || it.is_whitespace() || "/:".contains(it))
}

/// The value of a key, if the node is a map that has it.
fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    node.entries().iter().find(|(key, _)| key.text == name).map(|(_, value)| value)
}

/// The text of a single value.
fn text(node: &Node) -> Option<&str> {
    match &node.value {
        Value::Scalar { text, .. } if !node.is_null() => Some(text),
        _ => None,
    }
}

/// The entries of a list, or the value that stands there alone.
fn entries(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items,
        Value::Scalar { .. } | Value::Map(_) => std::slice::from_ref(node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reader::Source;

    fn read_text(text: &str) -> Checked<Catalog> {
        let source =
            Source { name: "c.yaml".into(), relative: "c.yaml".into(), text: text.to_owned() };
        collect(Files { sources: vec![source], findings: Vec::new() }, Timestamp::UNIX_EPOCH)
    }

    const SHOP: &str = r#"
apiVersion: backstage.io/v1alpha1
kind: Component
metadata:
  name: Web
  annotations:
    opslevel.com/tier: tier_1
    watchkeeper.dev/matchers: |
      site="shop", env="prod"
      vhost=~"shop\\..*"
spec: {type: website, owner: group:default/shop, consumesApis: [cart-api], dependsOn: [web], future: {}}
---
apiVersion: backstage.io/v1beta1
kind: component
metadata: {name: cart, namespace: shop}
spec:
  owner: user:jane
  providesApis: [api:default/cart-api]
  dependsOn: ["Resource:default/DB", db, nothing, resource:db1, resource:default/cart]
  system: shop
---
{apiVersion: backstage.io/v1alpha1, kind: API, metadata: {name: cart-api}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {name: db}, spec: {type: database, dependencyOf: [shop/cart]}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {name: db1, labels: {zone: a}}, spec: {type: host}}
---
{apiVersion: backstage.io/v1alpha1, kind: System, metadata: {name: shop, namespace: shop}}
---
{apiVersion: backstage.io/v1alpha1, kind: Group, metadata: {name: shop}}
---
{apiVersion: scaffolder.backstage.io/v1beta3, kind: Template, metadata: {name: x}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {name: DB}}
---
{apiVersion: backstage.io/v1alpha1, kind: Resource, metadata: {nam: DB}}
---
{receivers: []}
"#;

    #[test]
    fn documents_become_items_and_what_leads_nowhere_is_told() {
        let checked = read_text(SHOP);
        let findings: Vec<_> = checked.findings.iter().map(|it| (it.line, it.code)).collect();
        assert_eq!(
            findings,
            [
                (19, "WK0205"),
                (19, "WK0204"),
                (19, "WK0204"),
                (34, "WK0205"),
                (36, "WK0206"),
                (38, "WK0206")
            ]
        );
        let hint = checked.findings[2].hint.as_deref().unwrap();
        assert_eq!(hint, "did you mean `component:shop/cart`?");
        let catalog = checked.value.expect("there are only warnings");
        let names: Vec<String> = catalog.items().map(|(_, it)| it.to_string()).collect();
        assert_eq!(
            names,
            [
                "component:shop/cart",
                "api:default/cart-api",
                "resource:default/db",
                "resource:default/db1",
                "system:shop/shop",
                "component:default/Web"
            ]
        );
        let name = |it: &[ItemId]| it.iter().map(|it| catalog.name(*it)).collect::<Vec<_>>();
        let [cart, db1, web] = ["cart", "db1", "WEB"].map(|it| catalog.find(it).unwrap());
        assert_eq!(name(catalog.dependencies(web)), ["cart", "cart-api"]);
        assert_eq!(name(catalog.dependencies(cart)), ["db"]);
        assert_eq!(name(catalog.hosts(cart)), ["db1"]);
        assert_eq!(name(catalog.residents(db1)), ["cart"]);
        assert_eq!(name(catalog.wholes(cart)), ["shop"]);
        assert_eq!(catalog.zone(cart), Some("a"));
        let item = catalog.item(web).unwrap();
        assert_eq!((item.owner.as_deref(), item.matchers.len()), (Some("shop"), 2));
        assert_eq!(item.tier, Some(1));
        assert_eq!((item.rule.file.as_str(), item.rule.line), ("c.yaml", 5));
        assert_eq!(catalog.item(cart).unwrap().owner.as_deref(), Some("user:jane"));
    }

    #[test]
    fn tiers_are_read_as_people_write_them() {
        for (text, tier) in [
            ("1", Some(1)),
            ("tier-2", Some(2)),
            ("Tier 0", Some(0)),
            ("T3", Some(3)),
            ("Mission-Critical", Some(1)),
            ("low", Some(4)),
            ("frontend", None),
            ("tier", None),
            ("v2", None),
            ("1000", None),
            ("", None),
        ] {
            assert_eq!(read_tier(text), tier, "{text}");
        }
    }

    #[test]
    fn a_bad_matcher_is_an_error() {
        for matchers in ["x=~\"(\"", "{}", "service"] {
            let text = SHOP.replace("site=\"shop\", env=\"prod\"", matchers);
            let checked = read_text(&text);
            let bad = |it: &&Finding| it.code == "WK0111" || it.code == "WK0112";
            assert_eq!(checked.findings.iter().filter(bad).count(), 1, "{matchers}");
            assert!(checked.value.is_none());
        }
    }
}
