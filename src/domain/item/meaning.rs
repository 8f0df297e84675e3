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
    // It is asked for each label of each alert, and most are spelt as they stand in the table.
    known(label).unwrap_or_else(|| by_word(&plain(label)))
}

/// Whether a label names the side that was called.
pub(super) fn is_called(label: &str) -> bool {
    plain(label).split('_').any(|it| CALLED.binary_search(&it).is_ok())
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
    if let Some(meaning) = known(name) {
        meaning
    } else if name.starts_with("__") {
        Meaning::Nothing
    } else if name.split('_').any(|it| PARTIES.binary_search(&it).is_ok()) {
        Meaning::Party
    } else {
        Meaning::Other
    }
}

fn known(name: &str) -> Option<Meaning> {
    let letter = usize::from(name.bytes().next()?.checked_sub(b'a')?);
    let (from, until) = (*STARTS.get(letter)?, *STARTS.get(letter + 1)?);
    let same = KNOWN.get(from..until)?.iter().find(|(word, _)| *word == name);
    same.map(|(_, meaning)| *meaning)
}

/// Where the words of each letter begin in [`KNOWN`], from `a` on.
#[expect(clippy::indexing_slicing, reason = "a panic here would be an error of the build")]
const STARTS: [usize; 27] = {
    let mut starts = [0; 27];
    let mut word = 0;
    while word < KNOWN.len() {
        let mut later = (KNOWN[word].0.as_bytes()[0] - b'a') as usize + 1;
        while later < starts.len() {
            starts[later] += 1;
            later += 1;
        }
        word += 1;
    }
    starts
};

/// The labels whose meaning is known, sorted, as [`plain`] writes them.
const KNOWN: [(&str, Meaning); 94] = [
    ("account", Meaning::Nothing),
    ("addr", Meaning::Host(2)),
    ("address", Meaning::Host(2)),
    ("alert", Meaning::Text),
    ("alertname", Meaning::Text),
    ("app", Meaning::Service(1)),
    ("app_kubernetes_io", Meaning::Service(1)),
    ("app_kubernetes_io_component", Meaning::Service(4)),
    ("app_kubernetes_io_instance", Meaning::Service(1)),
    ("application", Meaning::Service(1)),
    ("area", Meaning::Nothing),
    ("availability_zone", Meaning::Nothing),
    ("az", Meaning::Nothing),
    ("cluster", Meaning::Nothing),
    ("code", Meaning::Nothing),
    ("component", Meaning::Service(4)),
    ("computer", Meaning::Host(1)),
    ("condition", Meaning::Nothing),
    ("container", Meaning::Service(6)),
    ("cpu", Meaning::Nothing),
    ("created_by", Meaning::Service(2)),
    ("cronjob", Meaning::Service(2)),
    ("daemonset", Meaning::Service(2)),
    ("datacenter", Meaning::Nothing),
    ("dc", Meaning::Nothing),
    ("dd_service", Meaning::Service(0)),
    ("deployment", Meaning::Service(2)),
    ("deploymentconfig", Meaning::Service(2)),
    ("description", Meaning::Text),
    ("device", Meaning::Nothing),
    ("env", Meaning::Nothing),
    ("environment", Meaning::Nothing),
    ("fqdn", Meaning::Host(1)),
    ("fstype", Meaning::Nothing),
    ("host", Meaning::Host(0)),
    ("hostname", Meaning::Host(0)),
    ("id", Meaning::Nothing),
    ("instance", Meaning::Host(2)),
    ("interface", Meaning::Nothing),
    ("job", Meaning::Service(5)),
    ("job_id", Meaning::Nothing),
    ("knative_service", Meaning::Service(2)),
    ("le", Meaning::Nothing),
    ("level", Meaning::Nothing),
    ("machine", Meaning::Host(1)),
    ("message", Meaning::Text),
    ("method", Meaning::Nothing),
    ("microservice", Meaning::Service(0)),
    ("mode", Meaning::Nothing),
    ("module", Meaning::Service(4)),
    ("monitor", Meaning::Nothing),
    ("mountpoint", Meaning::Nothing),
    ("namespace", Meaning::Whole),
    ("node", Meaning::Host(0)),
    ("nodename", Meaning::Host(0)),
    ("owner", Meaning::Nothing),
    ("phase", Meaning::Nothing),
    ("pod", Meaning::Pod(3)),
    ("pod_ip", Meaning::Nothing),
    ("podname", Meaning::Pod(3)),
    ("priority", Meaning::Nothing),
    ("project", Meaning::Whole),
    ("prometheus", Meaning::Nothing),
    ("prometheus_replica", Meaning::Nothing),
    ("quantile", Meaning::Nothing),
    ("reason", Meaning::Nothing),
    ("receiver", Meaning::Nothing),
    ("region", Meaning::Nothing),
    ("replica", Meaning::Nothing),
    ("replicaset", Meaning::Service(2)),
    ("revision", Meaning::Nothing),
    ("rollout", Meaning::Service(2)),
    ("server", Meaning::Host(1)),
    ("service", Meaning::Service(0)),
    ("servicename", Meaning::Service(0)),
    ("severity", Meaning::Nothing),
    ("stage", Meaning::Nothing),
    ("state", Meaning::Nothing),
    ("statefulset", Meaning::Service(2)),
    ("status", Meaning::Nothing),
    ("summary", Meaning::Text),
    ("svc", Meaning::Service(0)),
    ("system", Meaning::Whole),
    ("team", Meaning::Nothing),
    ("tenant", Meaning::Nothing),
    ("text", Meaning::Text),
    ("tier", Meaning::Nothing),
    ("title", Meaning::Text),
    ("type", Meaning::Nothing),
    ("uid", Meaning::Nothing),
    ("version", Meaning::Nothing),
    ("vm", Meaning::Host(1)),
    ("workload", Meaning::Service(2)),
    ("zone", Meaning::Nothing),
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

/// Those of them that name the side that is called.
const CALLED: [&str; 8] =
    ["backend", "callee", "dependency", "destination", "dst", "peer", "remote", "upstream"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(KNOWN.is_sorted_by_key(|it| it.0) && PARTIES.is_sorted());
        assert!(CALLED.is_sorted() && CALLED.iter().all(|it| PARTIES.contains(it)));
        assert!(KNOWN.iter().all(|it| plain(it.0) == it.0));
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
