//! `prometheus:` and `heartbeat_out:`: whom the daemon watches over, and who watches over it.

use super::fields::Fields;
use super::notification::address;
use super::reader::Reader;
use super::secret;
use super::yaml::{Node, Value, parse};
use crate::domain::label::Labels;
use crate::domain::rules::SecretText;

/// How often a server is asked unless told.
const POLL_EVERY_SECONDS: u32 = 30;
/// How often the outer watch is told unless told otherwise.
const OUT_EVERY_SECONDS: u32 = 60;

/// A Prometheus that is asked what fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusServer {
    /// The name of the source that its answers are.
    pub name: String,
    /// Its address, without a slash at the end.
    pub url: String,
    /// How often it is asked, in seconds.
    pub poll_every_seconds: u32,
    /// What it adds to the labels of the alerts that it sends; `None` = it is asked.
    pub external_labels: Option<Labels>,
    /// What it wants to see.
    pub credentials: Option<Credentials>,
}

/// What a server wants to see before it answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer`.
    Bearer(SecretText),
    /// `Authorization: Basic`.
    Basic {
        /// Who asks.
        username: String,
        /// His password.
        password: SecretText,
    },
}

/// A watch outside that raises the alarm when it is told nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatOut {
    /// What is asked for; such addresses are often secrets.
    pub url: SecretText,
    /// How often, in seconds.
    pub every_seconds: u32,
}

/// An entry of `prometheus`.
pub(super) fn server(reader: &mut Reader<'_>, node: &Node) -> Option<PrometheusServer> {
    let mut fields = Fields::open(reader, node)?;
    let name = reader.name("prometheus", &mut fields).name.clone();
    let url = fields.required(reader, "url").map(|node| {
        let url = reader.text(node);
        address(reader, node, &url);
        url.trim_end_matches('/').to_owned()
    });
    let poll_every = fields.optional("poll_every").map(|it| reader.positive_duration(it));
    let external_labels =
        fields.optional("external_labels").map(|it| Labels::from_pairs(reader.pairs(it)));
    let token = fields.optional("token").map(|it| secret::read_hidden(reader, it));
    let basic = fields.optional("basic_auth").and_then(|it| basic(reader, it));
    fields.finish(reader);
    Some(PrometheusServer {
        name,
        url: url?,
        poll_every_seconds: poll_every.unwrap_or(POLL_EVERY_SECONDS),
        external_labels,
        credentials: token.map(Credentials::Bearer).or(basic),
    })
}

fn basic(reader: &mut Reader<'_>, node: &Node) -> Option<Credentials> {
    let mut fields = Fields::open_like(reader, node, "username: a, password: {file: …}")?;
    let username = fields.required(reader, "username").map(|it| reader.filled_text(it));
    let password = fields.required(reader, "password").map(|it| secret::read_hidden(reader, it));
    fields.finish(reader);
    Some(Credentials::Basic { username: username?, password: password? })
}

/// `heartbeat_out`.
pub(super) fn heartbeat_out(reader: &mut Reader<'_>, node: &Node) -> Option<HeartbeatOut> {
    let mut fields = Fields::open_like(reader, node, "url: https://…, every: 1m")?;
    let url = fields.required(reader, "url").map(|node| {
        let url = secret::read(reader, node);
        if let SecretText::Text(text) = &url {
            address(reader, node, text);
        }
        url
    });
    let every = fields.optional("every").map(|it| reader.positive_duration(it));
    fields.finish(reader);
    Some(HeartbeatOut { url: url?, every_seconds: every.unwrap_or(OUT_EVERY_SECONDS) })
}

/// What a Prometheus' own configuration says of the alerts that it sends: its external labels, and
/// whether it changes their labels further. Fails when the text is no such configuration.
pub fn read_prometheus_configuration(text: &str) -> Result<(Labels, bool), String> {
    let (documents, errors) = parse(text);
    let document = documents.first().filter(|_| errors.is_empty());
    let document = document.ok_or("the configuration cannot be read")?;
    let Value::Map(_) = &document.value else {
        return Err("the configuration is no map".to_owned());
    };
    let labels = field(document, "global").and_then(|it| field(it, "external_labels"));
    let pairs = match labels.map(|it| &it.value) {
        Some(Value::Map(entries)) => entries
            .iter()
            .filter_map(|(key, node)| match &node.value {
                Value::Scalar { text, .. } => Some((key.text.clone(), text.clone())),
                Value::List(_) | Value::Map(_) => None,
            })
            .collect(),
        _ => Vec::new(),
    };
    let relabels = field(document, "alerting").and_then(|it| field(it, "alert_relabel_configs"));
    Ok((Labels::from_pairs(pairs), relabels.is_some()))
}

fn field<'n>(node: &'n Node, name: &str) -> Option<&'n Node> {
    match &node.value {
        Value::Map(entries) => {
            entries.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
        }
        Value::List(_) | Value::Scalar { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::settings_from_text;

    #[test]
    fn servers_and_the_outer_watch_are_read() {
        let text = "
prometheus:
  - {name: prod, url: 'http://127.0.0.1:9090/', poll_every: 10s, external_labels: {cluster: eu}}
  - {name: lab, url: 'https://lab.example.org/prometheus', token: {env: LAB}}
  - {name: old, url: 'http://old:9090', basic_auth: {username: ann, password: {file: /p}}}
heartbeat_out: {url: 'https://hc.example.org/ping/1', every: 2m}
";
        let checked = settings_from_text(text);
        assert_eq!(checked.findings, []);
        let settings = checked.value.unwrap();
        let [prod, lab, old] = settings.prometheus.as_slice() else { panic!("not three") };
        assert_eq!((prod.url.as_str(), prod.poll_every_seconds), ("http://127.0.0.1:9090", 10));
        assert_eq!(prod.external_labels, Some(Labels::from_pairs([("cluster", "eu")])));
        assert_eq!((lab.poll_every_seconds, &lab.external_labels), (30, &None));
        let bearer = Credentials::Bearer(SecretText::Env("LAB".to_owned()));
        assert_eq!(lab.credentials, Some(bearer));
        assert!(
            matches!(&old.credentials, Some(Credentials::Basic { username, .. }) if username == "ann")
        );
        assert_eq!(settings.heartbeat_out.unwrap().every_seconds, 120);
        for (bad, message) in [
            ("prometheus: [{name: a}]", "missing field `url`"),
            ("prometheus: [{name: a, url: x}]", "not an address: `x`"),
            (
                "prometheus: [{name: a, url: 'http://a', token: plain}]",
                "must not stand in this file",
            ),
            ("heartbeat_out: {every: 1m}", "missing field `url`"),
            ("heartbeat_out: {url: 'http://a', every: 0s}", "cannot be zero"),
        ] {
            let findings = settings_from_text(bad).findings;
            assert!(findings.iter().any(|it| it.message.contains(message)), "{bad}: {findings:?}");
        }
    }

    #[test]
    fn the_external_labels_are_found_in_a_configuration() {
        let text = "
global:
  scrape_interval: 15s
  external_labels:
    cluster: eu
    replica: '0'
alerting:
  alert_relabel_configs:
  - {separator: ;, regex: replica, replacement: $1, action: labeldrop}
";
        let expected = Labels::from_pairs([("cluster", "eu"), ("replica", "0")]);
        assert_eq!(read_prometheus_configuration(text), Ok((expected, true)));
        let none = Ok((Labels::default(), false));
        assert_eq!(read_prometheus_configuration("global: {scrape_interval: 1m}"), none);
        for bad in ["", "- a", "a: [", "x"] {
            assert!(read_prometheus_configuration(bad).is_err(), "{bad}");
        }
    }
}
