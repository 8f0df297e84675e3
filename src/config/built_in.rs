//! The mappings that come with us: data files beside this one, read as those of users are.

use super::reader::{Reader, Source as File};
use super::{fields::Fields, source, yaml};
use crate::domain::source::{Mapping, Source};
use jiff::Timestamp;
use std::sync::LazyLock;

/// The files, by the name of the source.
const FILES: &[(&str, &str)] = &[
    ("argocd", include_str!("sources/argocd.yaml")),
    ("aws", include_str!("sources/cloudwatch.yaml")),
    ("azuremonitor", include_str!("sources/azuremonitor.yaml")),
    ("checkmk", include_str!("sources/checkmk.yaml")),
    ("cloudwatch", include_str!("sources/cloudwatch.yaml")),
    ("datadog", include_str!("sources/datadog.yaml")),
    ("gcpmonitoring", include_str!("sources/gcpmonitoring.yaml")),
    ("github", include_str!("sources/github.yaml")),
    ("gitlab", include_str!("sources/gitlab.yaml")),
    ("grafana", include_str!("sources/grafana.yaml")),
    ("icinga", include_str!("sources/icinga.yaml")),
    ("kibana", include_str!("sources/kibana.yaml")),
    ("nagios", include_str!("sources/nagios.yaml")),
    ("newrelic", include_str!("sources/newrelic.yaml")),
    ("opsgenie", include_str!("sources/opsgenie.yaml")),
    ("pagerduty", include_str!("sources/pagerduty.yaml")),
    ("pingdom", include_str!("sources/pingdom.yaml")),
    ("sentry", include_str!("sources/sentry.yaml")),
    ("splunk", include_str!("sources/splunk.yaml")),
    ("statuspage", include_str!("sources/statuspage.yaml")),
    ("uptimekuma", include_str!("sources/uptimekuma.yaml")),
    ("zabbix", include_str!("sources/zabbix.yaml")),
];

/// A mapping that comes with us.
struct BuiltIn {
    name: &'static str,
    map: Mapping,
    /// What is wrong with its file; nothing, says a test.
    #[cfg(test)]
    findings: Vec<String>,
}

static ALL: LazyLock<Vec<BuiltIn>> =
    LazyLock::new(|| FILES.iter().map(|(name, text)| read(name, text)).collect());

fn read(name: &'static str, text: &str) -> BuiltIn {
    let file =
        File { name: format!("{name}.yaml"), relative: String::new(), text: text.to_owned() };
    let files = [file];
    let mut reader = Reader::new(&files, Timestamp::UNIX_EPOCH);
    let (documents, errors) = yaml::parse(text);
    reader.report_syntax(errors);
    let mut map = Mapping::default();
    for document in &documents {
        let Some(mut fields) = Fields::open(&mut reader, document) else { continue };
        if let Some(node) = fields.required(&mut reader, "map") {
            map = source::mapping(&mut reader, node);
        }
        fields.finish(&mut reader);
    }
    BuiltIn {
        name,
        map,
        #[cfg(test)]
        findings: reader
            .findings
            .iter()
            .map(|it| format!("{name}:{}: {}", it.line, it.message))
            .collect(),
    }
}

/// The mapping of a name.
pub(super) fn mapping(name: &str) -> Option<Mapping> {
    ALL.iter().find(|it| it.name == name).map(|it| it.map.clone())
}

/// The names, in their order.
pub(super) fn names() -> Vec<&'static str> {
    FILES.iter().map(|it| it.0).collect()
}

/// The sources that are there without any file: one for each mapping that comes with us.
pub fn built_in_sources() -> Vec<Source> {
    let source = |it: &BuiltIn| {
        let rule = crate::domain::rules::RuleRef { name: it.name.to_owned(), ..Default::default() };
        Source { rule: rule.into(), map: it.map.clone(), proof: None, quota: None }
    };
    ALL.iter().map(source).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_sound() {
        for it in ALL.iter() {
            assert_eq!(it.findings, Vec::<String>::new());
            assert!(!it.map.status.is_empty(), "{}", it.name);
        }
        assert!(names().is_sorted());
    }
}
