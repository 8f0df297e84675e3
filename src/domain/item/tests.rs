//! What labels are bound to what, and how far faults travel.

use super::*;
use crate::domain::label::Labels;

fn item(kind: ItemKind, item_type: &str, name: &str) -> Item {
    Item { item_type: item_type.to_owned(), ..Item::named(kind, name) }
}

fn service(name: &str) -> Item {
    item(ItemKind::Component, "service", name)
}

fn host(name: &str) -> Item {
    item(ItemKind::Resource, "host", name)
}

/// `from depends on to` for each pair, by place.
fn catalog(items: Vec<Item>, needs: &[(u32, u32)]) -> Catalog {
    let relation = |(from, to): &(u32, u32)| Relation {
        from: ItemId(*from),
        kind: RelationKind::DependsOn,
        to: ItemId(*to),
    };
    Catalog::new(items, &needs.iter().map(relation).collect::<Vec<_>>())
}

fn shop() -> Catalog {
    let mut annotated = service("legacy");
    annotated.matchers =
        vec![r#"site="old",env=~"p.*""#.parse().unwrap(), r#"check=~"old-.*""#.parse().unwrap()];
    let mut elsewhere = service("cart-api");
    elsewhere.namespace = "eu".to_owned();
    let names = ["cart-api", "cart-api-2", "order-worker", "orders", "user", "cartservice"];
    let others = ["redis-exporter", "auth", "quote-service", "db"];
    let mut items: Vec<Item> = names.into_iter().chain(others).map(service).collect();
    items.extend([annotated, elsewhere]);
    items.extend(["db1", "node-001", "eu-west.example.com", "node"].map(host));
    items.push(item(ItemKind::System, "", "shop"));
    items.push(item(ItemKind::System, "", "orders"));
    items.push(item(ItemKind::Api, "openapi", "cart-api"));
    catalog(items, &[])
}

fn labels(text: &str) -> Labels {
    let pairs = text.split(' ').filter_map(|it| it.split_once('='));
    Labels::from_pairs(pairs.map(|(name, value)| (name, value.replace('+', " "))))
}

/// The items in their order, each with how it was told.
fn bound(catalog: &Catalog, text: &str) -> String {
    let labels = labels(text);
    let bindings = catalog.bind(&labels);
    let told = bindings.iter().map(|it| format!("{}:{}", catalog.name(it.item), it.how.as_str()));
    told.collect::<Vec<_>>().join(" ")
}

#[test]
fn untidy_labels_are_bound() {
    let catalog = shop();
    for (labels, expected) in [
        ("service=cart-api", "cart-api:exact"),
        ("service=Cart_API", "cart-api:exact"),
        ("service=OrderWorker", "order-worker:exact"),
        ("app.kubernetes.io/name=orders", "orders:exact"),
        ("job=shop/cart-api instance=10.0.0.1:8080", "cart-api:exact"),
        ("service_name=cart-api.shop.svc.cluster.local:80", "cart-api:host"),
        ("pod=cart-api-5d4f9c7b8-x2x4q namespace=shop", "cart-api:pod"),
        ("pod=cart-api-2-5d4f9c7b8-x2x4q", "cart-api-2:pod"),
        ("pod=cart-api-2", "cart-api-2:exact"),
        ("pod=order-worker-0", "order-worker:pod"),
        ("pod=orders-extra-5d4f9c7b8-x2x4q", "orders:inside"),
        ("pod=release-order-worker-5d4f9c7b8-x2x4q", "order-worker:inside"),
        ("deployment=cart-api-canary", "cart-api:inside"),
        ("service=quote", "quote-service:inside"),
        ("pod=quote-5d4f9c7b8-x2x4q", "quote-service:pod"),
        ("pod=quote-worker-5d4f9c7b8-x2x4q", ""),
        ("pod=cartservice2-0", "cartservice:inside"),
        ("pod=user2 host=db7", "user:inside"),
        ("instance=db1.eu.example.com:9100", "db1:host"),
        ("instance=eu-west.example.com:9100", "eu-west.example.com:host"),
        ("host=db1", "db1:exact"),
        ("node=node-007", ""),
        ("instance=http://cart-api.example.com/health", "cart-api:host"),
        ("instance=node-001:9100 service=orders", "orders:exact node-001:host"),
        ("url=https://auth.example.com/x", "auth:host"),
        ("url=https://x.example.com/cart-api/7", "cart-api:inside"),
        ("x-consumer=orders", "orders:inside"),
        ("queue=orders-worker", "orders:inside"),
        ("queue=shop.order-worker.dead", "order-worker:inside"),
        ("rpc=hipstershop.CartService/GetCart", "cartservice:inside"),
        ("alertname=order-worker+is+slow", "order-worker:inside"),
        ("alertname=user+is+slow", ""),
        ("alertname=orders+fail", ""),
        ("alertname=my-order-worker-test+fails", ""),
        ("msg=the+auth+of+orders+failed", ""),
        ("message=db1+is+down service=cart-api", "cart-api:exact"),
        ("kind_of=user", ""),
        ("cluster=orders zone=auth severity=user", ""),
        ("namespace=shop", "shop:exact"),
        ("namespace=shop service=auth", "auth:exact"),
        ("site=old env=prod service=auth", "legacy:annotation auth:exact"),
        ("site=old env=test", ""),
        ("check=old-7", "legacy:annotation"),
        ("service=redis-exporter instance=node-001:9121", "node-001:host redis-exporter:exact"),
        ("pod=order-worker-0 exported_pod=cart-api-0", "cart-api:pod order-worker:pod"),
        ("service=", ""),
        ("pod=-", ""),
    ] {
        assert_eq!(bound(&catalog, labels), expected, "{labels}");
    }
    assert_eq!(bound(&Catalog::default(), "service=cart-api"), "");
}

#[test]
fn the_namespace_chooses_among_items_of_one_name() {
    let catalog = shop();
    for (text, namespace) in [
        ("service=cart-api", "default"),
        ("service=cart-api namespace=eu", "eu"),
        ("service=cart-api namespace=us", "default"),
    ] {
        let labels = labels(text);
        let item = catalog.bind(&labels).primary().and_then(|it| catalog.item(it.item)).unwrap();
        assert_eq!(
            (item.kind, item.namespace.as_str()),
            (ItemKind::Component, namespace),
            "{text}"
        );
    }
}

#[test]
fn no_more_than_eight_are_told() {
    let catalog = catalog((0..20).map(|it| service(&format!("item-{it}"))).collect(), &[]);
    let text: Vec<String> = (0..20).map(|it| format!("l{it}=item-{it}")).collect();
    assert_eq!(catalog.bind(&labels(&text.join(" "))).iter().count(), 8);
}

#[test]
fn names_are_guessed_without_a_catalog() {
    for (text, service, host) in [
        ("service=cart job=x instance=db1.example.com:9100", Some("cart"), Some("db1")),
        ("job=node-exporter instance=10.0.0.1:9100", Some("node-exporter"), Some("10.0.0.1")),
        ("job=kube-state-metrics pod=cart-5d4f9c7b8-x2x4q", Some("cart"), None),
        ("job=shop/cart", Some("cart"), None),
        ("service=cart.shop.svc:80", Some("cart"), None),
        ("severity=page", None, None),
    ] {
        let labels = labels(text);
        assert_eq!(Bindings::guess(&labels), Guess { service, host }, "{text}");
    }
}

#[test]
fn items_are_found_by_name_or_reference() {
    let catalog = shop();
    for (name, expected) in [
        ("Cart-API", "component:default/cart-api"),
        ("api:default/cart-api", "api:default/cart-api"),
        ("eu/cart-api", "component:eu/cart-api"),
        ("system:orders", "system:default/orders"),
        ("resource:db1", "resource:default/db1"),
    ] {
        let found = catalog.find(name).and_then(|it| catalog.item(it)).map(ToString::to_string);
        assert_eq!(found.as_deref(), Some(expected), "{name}");
    }
    for name in ["nothing", "", "resource:orders", "what:orders", "us/orders"] {
        assert_eq!(catalog.find(name), None, "{name}");
    }
}

#[test]
fn a_fault_travels_from_what_is_called_to_its_callers() {
    // web → cart → store, a cycle between cart and rank, and two on one host.
    let items = ["web", "cart", "store", "rank"].map(service).into_iter().chain([host("node")]);
    let catalog =
        catalog(items.collect(), &[(0, 1), (1, 2), (1, 3), (3, 1), (2, 4), (0, 4), (0, 0)]);
    let id = |name: &str| catalog.find(name).unwrap();
    let way = |from: &str, to: &str, hops: u8, paths: Paths| {
        let found = catalog.distance(id(from), id(to), hops, paths)?;
        let names: Vec<&str> = found.path.iter().map(|it| catalog.name(*it)).collect();
        assert_eq!(usize::from(found.hops) + 1, names.len());
        Some(names.join(" "))
    };
    let told = |it: &str| Some(it.to_owned());
    assert_eq!(way("store", "web", 2, Paths::Calls), told("store cart web"));
    assert_eq!(way("store", "web", 1, Paths::Calls), None);
    assert_eq!(way("web", "store", 9, Paths::CallsAndHosts), None, "never to what is called");
    assert_eq!(way("rank", "web", 9, Paths::Calls), told("rank cart web"));
    assert_eq!(way("web", "web", 0, Paths::Calls), told("web"));
    assert_eq!(way("node", "web", 9, Paths::Calls), None);
    assert_eq!(way("node", "web", 9, Paths::CallsAndHosts), told("node web"));
    assert_eq!(way("node", "cart", 9, Paths::CallsAndHosts), told("node store cart"));
    assert_eq!(catalog.distance(ItemId(99), id("web"), 9, Paths::Calls), None);
    assert_eq!(catalog.dependencies(id("web")), [id("cart")]);
    assert_eq!(catalog.hosts(id("web")), [id("node")]);
}

#[test]
fn a_hub_costs_no_more_than_a_thousand_items() {
    let count = 5_000;
    let items = (0..count).map(|it| service(&format!("s{it:05}"))).collect();
    let catalog = catalog(items, &(1..count).map(|it| (it, 0)).collect::<Vec<_>>());
    assert!(catalog.distance(ItemId(0), ItemId(1000), 1, Paths::Calls).is_some());
    assert!(catalog.distance(ItemId(0), ItemId(4999), 1, Paths::Calls).is_none());
}

#[test]
fn a_stored_catalog_is_the_same() {
    let catalog = shop();
    let text = serde_json::to_string(&catalog).unwrap();
    let read: Catalog = serde_json::from_str(&text).unwrap();
    assert_eq!(read, catalog);
    assert_eq!(bound(&read, "pod=cart-api-2-5d4f9c7b8-x2x4q"), "cart-api-2:pod");
}

#[test]
fn machines_are_known_by_their_type() {
    for (item_type, is_host) in [
        ("host", true),
        ("k8s-node", true),
        ("Virtual Machine", true),
        ("server", true),
        ("sql-server", false),
        ("database", false),
        ("", false),
    ] {
        assert_eq!(item(ItemKind::Resource, item_type, "x").is_host(), is_host, "{item_type}");
    }
    assert!(!item(ItemKind::Component, "host", "x").is_host());
}
