//! `watchkeeper.yaml`: the daemon's own settings.

use super::article::is_article;
use super::code::Code;
use super::fields::Fields;
use super::files::Files;
use super::notification::address;
use super::reader::{Reader, Source};
use super::rule_files::LISTS;
use super::secret;
use super::source;
use super::watched;
use super::yaml::{Node, Value, parse};
use super::{Checked, Role, SETTINGS_FILE, Settings, Token};
use crate::domain::rules::Mode;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The keys of `watchkeeper.yaml`, by which it is told from a rule file.
const KEYS: [&str; 8] =
    ["server", "store", "mode", "auth", "prometheus", "http_allow", "heartbeat_out", "executor"];

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9377)),
            external_url: None,
            data: PathBuf::from("data"),
            rules: PathBuf::from("rules"),
            engine: None,
            retention_seconds: 30 * 86_400,
            audit_retention_seconds: None,
            mode: Mode::Act,
            tokens: Vec::new(),
            http_allow: Vec::new(),
            prometheus: Vec::new(),
            heartbeat_out: None,
            executor: None,
            alertmanager_version: "0.25.0".to_owned(),
            alerts_max: 1_000_000,
            quotas: BTreeMap::new(),
        }
    }
}

/// How long the audit trail is kept unless told, in seconds: a year.
const AUDIT_RETENTION_SECONDS: u64 = 365 * 86_400;

impl Settings {
    /// How long the audit trail is kept, in seconds: as told, or else a year, and not shorter than
    /// the rest of the history.
    pub fn audit_retention(&self) -> u64 {
        let unless_told = AUDIT_RETENTION_SECONDS.max(self.retention_seconds);
        self.audit_retention_seconds.unwrap_or(unless_told)
    }

    /// Whether the daemon may start with these settings, command line included. Fails with the
    /// reason when it would listen to the network and anybody could drive it.
    pub fn validate(&self) -> Result<(), String> {
        if self.listen.ip().to_canonical().is_loopback() || !self.tokens.is_empty() {
            return Ok(());
        }
        Err(format!(
            "listening on a network needs `auth.tokens`, or anybody could drive this daemon; \
             listen on 127.0.0.1 or add a token: `{}`",
            self.listen
        ))
    }
}

/// Reads settings from a file that is in memory.
pub(super) fn collect(files: Files, now: Timestamp) -> Checked<Settings> {
    let mut reader = Reader::new(&files.sources, now);
    let mut settings = Settings::default();
    for (number, source) in files.sources.iter().enumerate() {
        reader.current = number;
        let (documents, errors) = parse(&source.text);
        if let Some(document) = documents.first() {
            read_document(&mut reader, document, &mut settings);
        }
        if let Some(second) = documents.get(1) {
            reader.report(second.place, Code::Syntax, "settings are one document");
        }
        reader.report_syntax(errors);
    }
    secret::hide(&mut reader.findings);
    let mut findings = files.findings;
    let count = files.sources.len() + findings.len();
    findings.append(&mut reader.findings);
    Checked::new(settings, findings, count)
}

fn read_document(reader: &mut Reader<'_>, document: &Node, settings: &mut Settings) {
    let Some(mut fields) = Fields::open(reader, document) else { return };
    let mut listen_node = None;
    if let Some(node) = filled(&mut fields, "server") {
        listen_node = server(reader, node, settings);
    }
    if let Some(node) = filled(&mut fields, "store") {
        store(reader, node, settings);
    }
    if let Some(node) = fields.optional("mode") {
        let words = [("act", Mode::Act), ("observe", Mode::Observe)];
        settings.mode = reader.word(node, &words).unwrap_or_default();
    }
    if let Some(node) = filled(&mut fields, "auth") {
        auth(reader, node, settings);
    }
    if let Some(node) = filled(&mut fields, "http_allow") {
        settings.http_allow = http_allow(reader, node);
    }
    if let Some(node) = filled(&mut fields, "prometheus") {
        let servers = reader.list(node).iter();
        settings.prometheus = servers.filter_map(|it| watched::server(reader, it)).collect();
    }
    if let Some(node) = filled(&mut fields, "heartbeat_out") {
        settings.heartbeat_out = watched::heartbeat_out(reader, node);
    }
    if let Some(node) = filled(&mut fields, "executor") {
        settings.executor = executor(reader, node);
    }
    fields.finish(reader);
    if let (Err(reason), Some(node)) = (settings.validate(), listen_node) {
        reader.report(node.place, Code::Unsafe, reason);
    }
}

/// A key that is there with something behind it.
fn filled<'n>(fields: &mut Fields<'n>, name: &'static str) -> Option<&'n Node> {
    fields.optional(name).filter(|it| !it.is_null())
}

/// Returns where `listen` is written.
fn server<'n>(
    reader: &mut Reader<'_>,
    node: &'n Node,
    settings: &mut Settings,
) -> Option<&'n Node> {
    let mut fields = Fields::open(reader, node)?;
    let listen = fields.optional("listen");
    if let Some(node) = listen {
        let text = reader.text(node);
        match text.replace("localhost", "127.0.0.1").parse() {
            Ok(address) => settings.listen = address,
            Err(_) => reader.report_hint(
                node.place,
                Code::BadAddress,
                format!("not an address to listen on: `{text}`"),
                "write it as `127.0.0.1:9377`, `0.0.0.0:9377` or `[::1]:9377`",
            ),
        }
    }
    if let Some(node) = fields.optional("external_url") {
        let url = reader.text(node);
        address(reader, node, &url);
        settings.external_url = Some(url.trim_end_matches('/').to_owned());
    }
    if let Some(node) = fields.optional("alertmanager_version") {
        settings.alertmanager_version = reader.filled_text(node);
    }
    if let Some(node) = fields.optional("alerts_max") {
        let count = reader.integer(node, 1, u64::from(u32::MAX));
        settings.alerts_max = usize::try_from(count).unwrap_or(usize::MAX);
    }
    if let Some(node) = filled(&mut fields, "quotas") {
        for (key, node) in reader.map(node) {
            if let Some(quota) = source::quota(reader, node) {
                settings.quotas.insert(key.text.clone(), quota);
            }
        }
    }
    fields.finish(reader);
    listen
}

fn store(reader: &mut Reader<'_>, node: &Node, settings: &mut Settings) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    if let Some(node) = fields.optional("engine") {
        let engine = reader.text(node);
        if matches!(engine.as_str(), "postgres" | "postgresql") {
            reader.report_hint(
                node.place,
                Code::NotSupported,
                format!("not supported yet by this version: the engine `{engine}`"),
                "write `engine: redb` or `engine: sled`, or leave it out",
            );
        } else if let Some(engine) = reader.word(node, &[("sled", "sled"), ("redb", "redb")]) {
            settings.engine = Some(engine.to_owned());
        }
    }
    if let Some(node) = fields.optional("retention") {
        settings.retention_seconds = reader.positive_duration(node).into();
    }
    if let Some(node) = fields.optional("audit_retention") {
        settings.audit_retention_seconds = Some(reader.positive_duration(node).into());
    }
    fields.later(reader, "url");
    fields.later(reader, "partition_by");
    fields.finish(reader);
}

/// Where the executor listens. A path from the root: who starts the daemon where is chance.
fn executor(reader: &mut Reader<'_>, node: &Node) -> Option<PathBuf> {
    let mut fields = Fields::open(reader, node)?;
    let socket = fields.required(reader, "socket").and_then(|node| {
        let path = PathBuf::from(reader.filled_text(node));
        if path.is_absolute() {
            return Some(path);
        }
        reader.report_hint(
            node.place,
            Code::BadValue,
            format!("not a whole path: `{}`", path.display()),
            "write it as `/run/watchkeeper-executor/socket`",
        );
        None
    });
    fields.finish(reader);
    socket
}

fn auth(reader: &mut Reader<'_>, node: &Node, settings: &mut Settings) {
    let Some(mut fields) = Fields::open(reader, node) else { return };
    if let Some(node) = filled(&mut fields, "tokens") {
        settings.tokens = reader.list(node).iter().filter_map(|it| token(reader, it)).collect();
    }
    fields.finish(reader);
}

fn token(reader: &mut Reader<'_>, node: &Node) -> Option<Token> {
    let mut fields = Fields::open(reader, node)?;
    let name = reader.name("token", &mut fields).name.clone();
    let words = [
        ("ingest", Role::Ingest),
        ("viewer", Role::Viewer),
        ("responder", Role::Responder),
        ("admin", Role::Admin),
    ];
    let role = fields.required(reader, "role").and_then(|it| reader.word(it, &words));
    let token = fields.required(reader, "token").map(|it| secret::read_hidden(reader, it));
    fields.finish(reader);
    Some(Token { name, role: role?, token: token? })
}

fn http_allow(reader: &mut Reader<'_>, node: &Node) -> Vec<String> {
    let mut destinations = Vec::new();
    for item in reader.list(node) {
        let text = reader.text(item);
        // A range of addresses that names may lead to.
        if let Some((base, bits)) = text.split_once('/')
            && base.parse::<std::net::IpAddr>().is_ok_and(|it| {
                bits.parse::<u8>().is_ok_and(|bits| bits <= if it.is_ipv4() { 32 } else { 128 })
            })
        {
            destinations.push(text);
            continue;
        }
        let good = text.rsplit_once(':').is_some_and(|(host, port)| {
            port.parse::<u16>().is_ok_and(|it| it > 0)
                && reqwest::Url::parse(&format!("http://{text}/"))
                    .is_ok_and(|it| it.host_str() == Some(host) && it.path() == "/")
        });
        if !good {
            reader.report_hint(
                item.place,
                Code::BadAddress,
                format!("not a destination: `{text}`"),
                "write it as `host:port`, in small letters and without `http://`",
            );
        }
        destinations.push(text);
    }
    destinations
}

/// Whether a file holds settings rather than rules: by its name, or by its keys.
pub(super) fn is_settings(source: &Source) -> bool {
    let by_name = Path::new(&source.name).file_name().is_some_and(|it| it == SETTINGS_FILE);
    if is_article(&source.name) {
        return false;
    }
    let (documents, _) = parse(&source.text);
    let has = |keys: &[&str]| {
        documents.iter().any(|it| match &it.value {
            Value::Map(entries) => entries.iter().any(|(key, _)| keys.contains(&key.text.as_str())),
            Value::List(_) | Value::Scalar { .. } => false,
        })
    };
    by_name || (has(&KEYS) && !has(&LISTS))
}
