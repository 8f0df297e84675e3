//! What names look like: replica suffixes, ports, domains, words that mean too much.

/// Words that stand for a thing in many texts that do not speak of it.
const COMMON: [&str; 64] = [
    "account",
    "accounts",
    "admin",
    "agent",
    "api",
    "app",
    "auth",
    "backend",
    "batch",
    "cache",
    "client",
    "config",
    "core",
    "cron",
    "data",
    "database",
    "db",
    "default",
    "dev",
    "email",
    "event",
    "events",
    "external",
    "frontend",
    "gateway",
    "grpc",
    "health",
    "host",
    "http",
    "https",
    "index",
    "ingress",
    "internal",
    "job",
    "jobs",
    "log",
    "logs",
    "mail",
    "main",
    "metrics",
    "monitoring",
    "network",
    "node",
    "prod",
    "production",
    "proxy",
    "public",
    "queue",
    "search",
    "server",
    "service",
    "stage",
    "staging",
    "status",
    "storage",
    "store",
    "system",
    "task",
    "test",
    "user",
    "users",
    "web",
    "worker",
    "www",
];
/// Words that are added to a service's name without making it another service.
const ADDED: [&str; 30] = [
    "app",
    "blue",
    "canary",
    "cluster",
    "container",
    "deploy",
    "deployment",
    "dev",
    "exporter",
    "external",
    "green",
    "grpc",
    "headless",
    "http",
    "internal",
    "local",
    "main",
    "master",
    "metrics",
    "pod",
    "preview",
    "primary",
    "prod",
    "production",
    "replica",
    "server",
    "service",
    "stable",
    "staging",
    "svc",
];
/// What is watched through these is something else.
const WATCHERS: [&str; 6] =
    ["kube-state-metrics", "cadvisor", "kubelet", "blackbox", "telegraf", "node-problem-detector"];
/// A single word with so many letters is no everyday word.
const DISTINCTIVE_LETTERS: usize = 7;

/// How well a name is told from other words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Clarity {
    /// It is one word that means something else as often as not.
    Common,
    /// It is one short word.
    #[default]
    Plain,
    /// It is found anywhere in a text without being mistaken: it has several words, a digit, or many
    /// letters.
    Distinctive,
}

/// How well a name is told from other words.
pub(super) fn clarity(name: &str) -> Clarity {
    let lower = name.to_ascii_lowercase();
    if name.len() < 3 || COMMON.binary_search(&lower.as_str()).is_ok() {
        return Clarity::Common;
    }
    let words = name.split(['-', '_', '.']).filter(|it| !it.is_empty()).count();
    let has_letter = name.bytes().any(|it| it.is_ascii_alphabetic());
    let has_digit = name.bytes().any(|it| it.is_ascii_digit());
    if has_letter && (words > 1 || name.len() >= DISTINCTIVE_LETTERS || has_digit) {
        Clarity::Distinctive
    } else {
        Clarity::Plain
    }
}

/// Whether a name is that of something that only watches others.
pub(super) fn is_watcher(name: &str) -> bool {
    let last = name.rsplit(['-', '_', '.']).next();
    last.is_some_and(|it| it.eq_ignore_ascii_case("exporter"))
        || WATCHERS.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// The part of a value that names something: the host of an address, the name behind a namespace.
pub(super) fn subject(value: &str) -> &str {
    let is_plain = |it: u8| it.is_ascii_alphanumeric() || matches!(it, b'-' | b'_' | b'.' | b':');
    if value.bytes().all(is_plain) {
        return value;
    }
    let value = value.trim();
    let address = value.split_once("://").map(|(_, it)| it);
    let Some((first, rest)) = address.unwrap_or(value).split_once(['/', '?', '#']) else {
        return without_user(address.unwrap_or(value));
    };
    // `shop/cart` is a name in a namespace, `cart.shop:80/health` a path on a host.
    if address.is_some() || first.contains(['.', ':']) {
        return without_user(first);
    }
    rest.rsplit('/').find(|it| !it.is_empty()).unwrap_or(first)
}

fn without_user(host: &str) -> &str {
    host.rsplit_once('@').map_or(host, |(_, it)| it)
}

/// A host without its port and without the brackets of an IPv6 address.
pub(super) fn without_port(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|it| it.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !name.contains(':') && is_number(port) => name,
        _ => host,
    }
}

/// The name of a host without its domain; an address is left as it is.
pub(super) fn without_domain(host: &str) -> &str {
    if host.bytes().all(|it| it.is_ascii_digit() || it == b'.') || host.contains(':') {
        return host;
    }
    host.split_once('.').map_or(host, |(name, _)| name)
}

/// Whether what follows a name ends it as the name of a host: nothing, a port, a domain.
pub(super) fn is_domain_or_port(rest: &str) -> bool {
    rest.is_empty()
        || rest.strip_prefix(':').is_some_and(is_number)
        || rest.strip_prefix('.').is_some_and(|it| !it.is_empty())
}

/// Whether what follows a name only says which copy of it: `-5d4f9c7b8-x2x4q`, `-0`, `-v2`, `-canary`.
pub(super) fn is_added(rest: &str) -> bool {
    let mut words = rest.split(['-', '_', '.']).filter(|it| !it.is_empty());
    words.all(|word| {
        let version = word.strip_prefix(['v', 'V']).unwrap_or(word);
        is_number(version) || ADDED.binary_search(&word.to_ascii_lowercase().as_str()).is_ok()
    })
}

/// The workload that a pod belongs to, by the suffixes that Kubernetes gives: `-5d4f9c7b8-x2x4q` of a
/// Deployment, `-0` of a `StatefulSet`, `-x2x4q` of a `DaemonSet` or Job, `-28374650-x2x4q` of a
/// `CronJob`.
pub(super) fn without_replica(pod: &str) -> &str {
    match replica_start(pod) {
        Some(start @ 1..) => pod.get(..start).unwrap_or(pod),
        _ => pod,
    }
}

/// Whether what follows a name is nothing but the suffix of a replica.
pub(super) fn is_replica_suffix(rest: &str) -> bool {
    replica_start(rest) == Some(0)
}

/// Where the suffix of a replica begins, with its `-`.
fn replica_start(pod: &str) -> Option<usize> {
    let (before, last) = pod.rsplit_once('-')?;
    if is_number(last) && last.len() <= 4 {
        return Some(before.len());
    }
    if !is_random(last) {
        return None;
    }
    match before.rsplit_once('-') {
        Some((name, hash)) if is_template_hash(hash) => Some(name.len()),
        _ if last.bytes().any(|it| it.is_ascii_digit()) || !last.contains(is_vowel) => {
            Some(before.len())
        }
        _ => None,
    }
}

/// Five letters and digits, as Kubernetes draws them.
fn is_random(text: &str) -> bool {
    text.len() == 5 && is_lower_alphanumeric(text)
}

/// The hash of a `ReplicaSet`, or the minute of a `CronJob`: eight to ten letters and digits (six are
/// met in older clusters), with a digit among them or without vowels.
fn is_template_hash(text: &str) -> bool {
    let is_drawn = text.bytes().any(|it| it.is_ascii_digit()) || !text.contains(is_vowel);
    (6..=10).contains(&text.len()) && is_lower_alphanumeric(text) && is_drawn
        || text.len() < 6 && is_number(text)
}

fn is_lower_alphanumeric(text: &str) -> bool {
    text.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit())
}

fn is_vowel(letter: char) -> bool {
    matches!(letter, 'a' | 'e' | 'i' | 'o' | 'u')
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_sorted() {
        assert!(COMMON.is_sorted() && ADDED.is_sorted());
    }

    #[test]
    fn a_pod_is_known_without_its_replica() {
        for (pod, workload) in [
            ("cart-5d4f9c7b8-x2x4q", "cart"),
            ("cart-worker-2-a2f6dd9f4-60812", "cart-worker-2"),
            ("db-0", "db"),
            ("fluentd-x2x4q", "fluentd"),
            ("backup-28374650-bcd4z", "backup"),
            ("indexed-3-bcd4z", "indexed"),
            ("cart-queue", "cart-queue"),
            ("cart-service-store", "cart-service-store"),
            ("cart", "cart"),
            ("", ""),
            ("-", "-"),
        ] {
            assert_eq!(without_replica(pod), workload, "{pod}");
        }
        assert!(is_replica_suffix("-5d4f9c7b8-x2x4q") && !is_replica_suffix("-api-0"));
    }

    #[test]
    fn an_address_is_known_by_its_host() {
        for (value, named) in [
            ("http://cart.shop.svc:8080/health?x=1", "cart.shop.svc:8080"),
            ("https://me:secret@cart/", "cart"),
            ("cart.example.com/health", "cart.example.com"),
            ("shop/cart", "cart"),
            ("registry/shop/cart", "cart"),
            (" cart ", "cart"),
            ("/", ""),
        ] {
            assert_eq!(subject(value), named, "{value}");
        }
        for (host, name) in [
            ("db1.eu.example.com:9100", "db1"),
            ("[::1]:9100", "::1"),
            ("10.1.2.3:9100", "10.1.2.3"),
            ("db1", "db1"),
        ] {
            assert_eq!(without_domain(without_port(host)), name, "{host}");
        }
    }
}
