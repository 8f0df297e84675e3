//! `CDEvents` inside of `CloudEvents`: what pipelines tell of the services that they change.

use super::cloudevents::attribute;
use super::details;
use super::mapped::{Kind, Mapped};
use serde_json::Value;
use std::collections::BTreeMap;

/// What is done to a service, by the word of a type, and what that is called.
const DEEDS: [(&str, &str); 5] = [
    ("deployed", "deployment"),
    ("upgraded", "upgrade"),
    ("rolledback", "rollback"),
    ("removed", "removal"),
    ("published", "publication"),
];

/// The change or the alert that an event is, if it is one of `CDEvents`' on services or incidents.
pub(super) fn entry(event: &Value) -> Option<Mapped> {
    let rest = attribute(event, "type").strip_prefix("dev.cdevents.")?;
    let mut words = rest.split('.');
    let (thing, deed) = (words.next()?, words.next()?);
    let subject = event.get("data")?.get("subject")?;
    let content = subject.get("content").unwrap_or(&Value::Null);
    match thing {
        "service" => {
            let name = DEEDS.iter().find(|it| it.0 == deed)?.1;
            Some(service(event, name, (subject, content)))
        }
        "incident" => Some(incident(deed != "resolved", (subject, content))),
        _ => None,
    }
}

/// A name that stands there alone, or as the `id` of an object.
fn name(content: &Value, field: &str) -> String {
    let value = content.get(field).unwrap_or(&Value::Null);
    if value.is_object() { details::field(value, "id") } else { details::text_of(value) }
}

fn service(event: &Value, deed: &str, (subject, content): (&Value, &Value)) -> Mapped {
    let service = details::field(subject, "id");
    let environment = name(content, "environment");
    let version = details::field(content, "artifactId");
    let mut labels = BTreeMap::new();
    for (name, text) in
        [("service", &service), ("environment", &environment), ("version", &version)]
    {
        details::set(&mut labels, name, text);
    }
    let place = if environment.is_empty() { String::new() } else { format!(" to {environment}") };
    Mapped {
        kind: Kind::Change,
        title: format!("{deed} of {service}{place}"),
        is_firing: false,
        known_by: [("source", attribute(event, "source")), ("id", attribute(event, "id"))]
            .map(|(name, text)| (name.to_owned(), text.to_owned()))
            .into(),
        labels,
        annotations: BTreeMap::new(),
        starts_at: None,
        ends_at: None,
        link: String::new(),
        confidence: 1000,
    }
}

fn incident(is_firing: bool, (subject, content): (&Value, &Value)) -> Mapped {
    let id = details::field(subject, "id");
    let description = details::field(content, "description");
    let title = if description.is_empty() { id.clone() } else { description };
    let mut labels = BTreeMap::new();
    details::set(&mut labels, "alertname", &title);
    details::set(&mut labels, "severity", "warning");
    for field in ["service", "environment"] {
        details::set(&mut labels, field, &name(content, field));
    }
    let known_by = [("source", details::field(subject, "source")), ("id", id)];
    Mapped {
        kind: Kind::Alert,
        title: title.clone(),
        is_firing,
        known_by: known_by.map(|(name, text)| (name.to_owned(), text)).into(),
        labels,
        annotations: BTreeMap::from([("summary".to_owned(), title)]),
        starts_at: None,
        ends_at: None,
        link: details::field(content, "ticketURI"),
        confidence: 1000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(kind: &str, content: &Value) -> Value {
        json!({"specversion": "1.0", "id": "7", "source": "/ci", "type": kind,
            "data": {"context": {}, "subject": {"id": "shop", "content": content}}})
    }

    #[test]
    fn a_deployment_is_a_change_and_an_incident_an_alert() {
        let content = json!({"environment": {"id": "prod"}, "artifactId": "pkg:oci/shop@sha256:1"});
        let found = entry(&event("dev.cdevents.service.deployed.0.2.0", &content)).unwrap();
        assert_eq!(
            (found.kind, found.title.as_str()),
            (Kind::Change, "deployment of shop to prod")
        );
        assert_eq!(found.labels["version"], "pkg:oci/shop@sha256:1");
        let content = json!({"description": "slow", "service": {"id": "shop"}});
        let begun = entry(&event("dev.cdevents.incident.detected.0.2.0", &content)).unwrap();
        let over = entry(&event("dev.cdevents.incident.resolved.0.2.0", &json!({}))).unwrap();
        assert_eq!((begun.kind, begun.is_firing, over.is_firing), (Kind::Alert, true, false));
        assert_eq!(begun.fingerprint(), over.fingerprint());
        assert_eq!((begun.title.as_str(), begun.labels["service"].as_str()), ("slow", "shop"));
        for other in ["dev.cdevents.build.finished.0.1.0", "dev.cdevents.service", "com.example"] {
            assert!(entry(&event(other, &json!({}))).is_none(), "{other}");
        }
    }
}
