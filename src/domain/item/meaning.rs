//! What the names of labels mean: which of them name a service, a pod, a host, or nothing at all.

use std::borrow::Cow;

/// What a label's value names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A service or what it runs as. Of several labels the lowest number is believed first.
    Service(u8),
    /// One copy of a service: a pod.
    Pod(u8),
    /// A machine, or an address on it. The lowest number is believed first.
    Host(u8),
    /// Somebody who takes part: a consumer, a queue, the other side of a call.
    Party,
    /// What many services share: a namespace, a system.
    Whole,
    /// Unknown; its value may hold a name.
    Other,
    /// Words in which a name would be chance: the alert's name.
    Text,
    /// Nothing that is an item.
    Nothing,
}

/// What a label means, by its name in the spellings of many tools.
pub(super) fn meaning_of(label: &str) -> Meaning {
    by_word(&plain(label))
}

/// A name in lower case with `_` between its words, without what tools put around it:
/// `exported_pod`, `k8s.pod.name` and `podName` are `pod`.
fn plain(label: &str) -> Cow<'_, str> {
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'_';
    let name = if label.bytes().all(is_plain) {
        Cow::Borrowed(label)
    } else {
        Cow::Owned(snake_case(label))
    };
    match name {
        Cow::Borrowed(it) => Cow::Borrowed(bare(it)),
        Cow::Owned(it) => Cow::Owned(bare(&it).to_owned()),
    }
}

fn snake_case(label: &str) -> String {
    let mut name = String::with_capacity(label.len() + 2);
    let mut after_lower = false;
    for letter in label.chars() {
        if letter.is_ascii_uppercase() && after_lower {
            name.push('_');
        }
        after_lower = letter.is_ascii_lowercase();
        name.push(if letter.is_alphanumeric() { letter.to_ascii_lowercase() } else { '_' });
    }
    name
}

/// What tools put in front of a name.
const BEFORE: [&str; 6] = ["exported_", "label_", "kubernetes_", "k8s_", "kube_", "tag_"];

fn bare(name: &str) -> &str {
    let mut name = name;
    while let Some(rest) = BEFORE.iter().find_map(|it| name.strip_prefix(it)) {
        name = rest;
    }
    name.strip_suffix("_name").unwrap_or(name)
}

fn by_word(name: &str) -> Meaning {
    match name {
        "service" | "svc" | "microservice" | "servicename" | "dd_service" => Meaning::Service(0),
        "app" | "application" | "app_kubernetes_io" | "app_kubernetes_io_instance" => {
            Meaning::Service(1)
        }
        "workload" | "deployment" | "statefulset" | "daemonset" | "replicaset" | "cronjob"
        | "owner_name" | "created_by" | "rollout" | "deploymentconfig" | "knative_service" => {
            Meaning::Service(2)
        }
        "pod" | "podname" => Meaning::Pod(3),
        "component" | "app_kubernetes_io_component" | "module" => Meaning::Service(4),
        "job" => Meaning::Service(5),
        "container" => Meaning::Service(6),
        "host" | "hostname" | "node" | "nodename" => Meaning::Host(0),
        "server" | "machine" | "vm" | "computer" | "device_host" | "fqdn" => Meaning::Host(1),
        "instance" | "address" | "addr" => Meaning::Host(2),
        "namespace" | "system" | "project" => Meaning::Whole,
        "alertname" | "alert" | "summary" | "description" | "message" | "title" | "text" => {
            Meaning::Text
        }
        _ if NOTHING.binary_search(&name).is_ok() || name.starts_with("__") => Meaning::Nothing,
        _ if name.split('_').any(|it| PARTIES.binary_search(&it).is_ok()) => Meaning::Party,
        _ => Meaning::Other,
    }
}

/// Labels that tell of something else than an item.
const NOTHING: [&str; 46] = [
    "account",
    "area",
    "availability_zone",
    "az",
    "cluster",
    "code",
    "condition",
    "cpu",
    "datacenter",
    "dc",
    "device",
    "env",
    "environment",
    "fstype",
    "id",
    "interface",
    "job_id",
    "le",
    "level",
    "method",
    "mode",
    "monitor",
    "mountpoint",
    "owner",
    "phase",
    "pod_ip",
    "priority",
    "prometheus",
    "prometheus_replica",
    "quantile",
    "reason",
    "receiver",
    "region",
    "replica",
    "revision",
    "severity",
    "stage",
    "state",
    "status",
    "team",
    "tenant",
    "tier",
    "type",
    "uid",
    "version",
    "zone",
];

/// Words in the names of labels that name somebody who takes part.
const PARTIES: [&str; 22] = [
    "backend",
    "callee",
    "caller",
    "client",
    "consumer",
    "dependency",
    "destination",
    "downstream",
    "dst",
    "peer",
    "producer",
    "queue",
    "remote",
    "source",
    "src",
    "subscription",
    "target",
    "topic",
    "upstream",
    "uri",
    "url",
    "vhost",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(NOTHING.is_sorted() && PARTIES.is_sorted());
    }

    #[test]
    fn labels_are_known_in_many_spellings() {
        for (labels, meaning) in [
            (&["service", "service_name", "service.name", "serviceName"][..], Meaning::Service(0)),
            (
                &["app", "app_kubernetes_io_name", "label_app", "app.kubernetes.io/name"],
                Meaning::Service(1),
            ),
            (
                &["pod", "pod_name", "exported_pod", "k8s.pod.name", "kubernetes_pod_name"],
                Meaning::Pod(3),
            ),
            (&["node", "kubernetes_node", "nodename", "host.name", "Hostname"], Meaning::Host(0)),
            (&["x-consumer", "queue", "destination_workload", "targetUrl"], Meaning::Party),
            (&["zone", "cluster", "severity", "__name__"], Meaning::Nothing),
            (&["alertname"], Meaning::Text),
            (&["mystery", ""], Meaning::Other),
        ] {
            for label in labels {
                assert_eq!(meaning_of(label), meaning, "{label}");
            }
        }
    }
}
