//! Amazon SNS: whether a message is signed by it, and the subscriptions that it asks to confirm.
//!
//! A subscription is confirmed by visiting the address that its message names, aside from the answer
//! to the message: SNS does not wait long. Addresses that do not lead to SNS are never visited.

use super::poll::{client, read_answer, reason};
use super::signature;
use crate::domain::source::{Proof, ProofStyle};
use crate::telemetry::Metrics;
use jiff::Timestamp;
use reqwest::{Client, Url};
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The longest body that may be a message of SNS, in bytes: its text has 256 KiB, before escaping.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// The longest certificate that is read, in bytes.
const CERTIFICATE_BYTES_MAX: usize = 16 << 10;
/// How many certificates are remembered. SNS changes its own about once a year.
const CERTIFICATES_MAX: usize = 16;
/// How many addresses are visited at a time, so that no sender makes us visit without end.
const VISITS_MAX: usize = 4;
/// How often a subscription's address is visited before it is given up.
const TRIES_MAX: u32 = 6;
/// The pause after the first try; it doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// What is needed to talk with SNS.
pub(super) struct Sns {
    /// Made when it is first needed.
    client: OnceLock<Result<Client, String>>,
    metrics: Metrics,
    visits: Arc<Semaphore>,
    /// The public keys of certificates, by address.
    keys: Mutex<BTreeMap<String, Arc<[u8]>>>,
}

/// Why a message does not get in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unproven {
    /// It is not what it should be.
    Wrong(&'static str),
    /// That cannot be found out at the moment.
    Later(String),
}

/// A message of SNS, as it is signed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Message {
    r#type: String,
    #[serde(rename = "MessageId")]
    number: String,
    topic_arn: String,
    #[serde(rename = "Message")]
    text: String,
    timestamp: String,
    subject: Option<String>,
    token: Option<String>,
    #[serde(rename = "SubscribeURL")]
    subscribe_url: Option<String>,
    signature: Option<String>,
    signature_version: Option<String>,
    #[serde(rename = "SigningCertURL")]
    signing_cert_url: Option<String>,
}

/// What SNS says of a subscription rather than of what happened.
pub(super) struct Subscription {
    /// What it says, and of which topic.
    pub(super) title: String,
    topic: String,
    /// Where it is confirmed; `None` = there is nothing to confirm.
    confirmed_at: Option<String>,
}

/// What a body says of a subscription; `None` = it is about something else.
pub(super) fn subscription(body: &[u8]) -> Option<Subscription> {
    let message = read(body)?;
    let is_new = message.r#type == "SubscriptionConfirmation";
    if !is_new && message.r#type != "UnsubscribeConfirmation" {
        return None;
    }
    Some(Subscription {
        title: format!("{} {}", message.r#type, message.topic_arn),
        topic: message.topic_arn,
        confirmed_at: message.subscribe_url.filter(|_| is_new),
    })
}

/// The number of a message, which is signed with it.
pub(super) fn number(body: &[u8]) -> Option<String> {
    read(body).map(|it| it.number)
}

fn read(body: &[u8]) -> Option<Message> {
    if body.len() > MESSAGE_BYTES_MAX { None } else { serde_json::from_slice(body).ok() }
}

impl Sns {
    pub(super) fn new(metrics: Metrics) -> Self {
        let visits = Arc::new(Semaphore::new(VISITS_MAX));
        Self { client: OnceLock::new(), metrics, visits, keys: Mutex::default() }
    }

    /// Checks that a body is a message of one of the topics, signed by SNS, and not an old one.
    pub(super) async fn check(
        &self,
        proof: &Proof,
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Unproven> {
        use Unproven::Wrong;
        let ProofStyle::Sns { topics, endpoint } = &proof.style else {
            return Err(Wrong("this source is not one of SNS"));
        };
        let message = read(body).ok_or(Wrong("the body is no message of SNS"))?;
        if !topics.contains(&message.topic_arn) {
            return Err(Wrong("the topic is not one of this source"));
        }
        let time: Timestamp =
            message.timestamp.parse().map_err(|_| Wrong("the signed time is no time"))?;
        let apart = now.duration_since(time).abs().as_secs();
        if apart > i64::from(proof.replay_window_seconds) {
            return Err(Wrong("the signed time is too far off"));
        }
        let signature = message.signature.as_deref().and_then(signature::base64);
        let signature = signature.ok_or(Wrong("the signature is no Base64"))?;
        let algorithm = match message.signature_version.as_deref() {
            Some("1") => &RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
            Some("2") => &RSA_PKCS1_2048_8192_SHA256,
            _ => return Err(Wrong("the signature is not of version 1 or 2")),
        };
        let address = message.signing_cert_url.as_deref().unwrap_or_default();
        let address = address_of_sns(address, endpoint)
            .filter(|it| Path::new(it.path()).extension().is_some_and(|it| it == "pem"))
            .ok_or(Wrong("the certificate's address does not lead to SNS"))?;
        let key = self.key(address).await?;
        let signed = message.signed().ok_or(Wrong("the message lacks what is signed"))?;
        let key = UnparsedPublicKey::new(algorithm, &key);
        key.verify(signed.as_bytes(), &signature).map_err(|_| Wrong("the signature does not fit"))
    }

    /// The public key of the certificate at an address. That SNS made it is known by whose address
    /// it is: its host proves itself by TLS.
    async fn key(&self, address: Url) -> Result<Arc<[u8]>, Unproven> {
        let known = |keys: &Mutex<BTreeMap<String, Arc<[u8]>>>| {
            keys.lock().unwrap_or_else(PoisonError::into_inner).get(address.as_str()).cloned()
        };
        if let Some(key) = known(&self.keys) {
            return Ok(key);
        }
        let visit = self.visits.acquire().await;
        let _visit = visit.map_err(|error| Unproven::Later(error.to_string()))?;
        if let Some(key) = known(&self.keys) {
            return Ok(key);
        }
        let pem = self.fetch(address.clone()).await.map_err(|reason| {
            Unproven::Later(format!("the certificate of SNS cannot be read: {reason}"))
        })?;
        let key = public_key(&pem).ok_or(Unproven::Wrong("the certificate has no RSA key"))?;
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= CERTIFICATES_MAX {
            keys.clear();
        }
        keys.insert(address.into(), Arc::clone(&key));
        Ok(key)
    }

    fn client(&self) -> Result<Client, String> {
        self.client.get_or_init(client).clone()
    }

    async fn fetch(&self, address: Url) -> Result<Vec<u8>, String> {
        let answer = self.client()?.get(address).send().await;
        let answer = answer.map_err(|it| reason(&it))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("answered with status `{}`", status.as_u16()));
        }
        read_answer(answer, CERTIFICATE_BYTES_MAX).await
    }

    /// Confirms a subscription if that is what SNS asks for: begins to, and does not wait for it.
    pub(super) fn answer(&self, source: &str, asked: &Subscription, endpoint: &str) {
        let (topic, Some(address)) = (&asked.topic, &asked.confirmed_at) else { return };
        let refuse = |reason: &str| {
            self.metrics.subscription("refused");
            tracing::warn!(source, topic, reason, "a subscription of SNS is not confirmed");
        };
        let Some(address) = address_of_sns(address, endpoint) else {
            return refuse("the address of its confirmation does not lead to SNS");
        };
        let client = match self.client() {
            Ok(client) => client,
            Err(reason) => return refuse(&reason),
        };
        let Ok(visit) = Arc::clone(&self.visits).try_acquire_owned() else {
            return refuse("too many are being confirmed; let SNS ask again");
        };
        let (source, topic, metrics) = (source.to_owned(), topic.clone(), self.metrics.clone());
        tokio::spawn(async move {
            let result = confirm(&client, &address).await;
            metrics.subscription(if result.is_ok() { "confirmed" } else { "failed" });
            match result {
                Ok(()) => tracing::info!(source, topic, "a subscription of SNS is confirmed"),
                Err(reason) => tracing::warn!(
                    source,
                    topic,
                    reason,
                    "a subscription of SNS could not be confirmed; let SNS ask again"
                ),
            }
            drop(visit);
        });
    }
}

/// Visits an address until it answers well, a few times at most. Its answer is not read.
async fn confirm(client: &Client, address: &Url) -> Result<(), String> {
    let mut pause = FIRST_PAUSE;
    let mut tries = 1;
    loop {
        // The address holds the token of the confirmation, so that it is not told.
        let failed = match client.get(address.clone()).send().await {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => format!("answered with status `{}`", answer.status().as_u16()),
            Err(error) => reason(&error.without_url()),
        };
        if tries == TRIES_MAX {
            return Err(failed);
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
        tries += 1;
    }
}

impl Message {
    /// What is signed: names and values by lines, in the order of the names. Source: the page
    /// "Verifying the signatures of Amazon SNS messages" of its developer guide.
    fn signed(&self) -> Option<String> {
        let mut pairs = vec![("Message", self.text.as_str()), ("MessageId", &self.number)];
        if self.r#type == "Notification" {
            pairs.extend(self.subject.as_deref().map(|it| ("Subject", it)));
        } else {
            pairs.push(("SubscribeURL", self.subscribe_url.as_deref()?));
        }
        pairs.push(("Timestamp", &self.timestamp));
        if self.r#type != "Notification" {
            pairs.push(("Token", self.token.as_deref()?));
        }
        pairs.extend([("TopicArn", self.topic_arn.as_str()), ("Type", &self.r#type)]);
        Some(pairs.iter().flat_map(|(name, value)| [*name, "\n", *value, "\n"]).collect())
    }
}

/// An address, if it leads to SNS: to the declared endpoint where there is one, else by TLS to a
/// region of Amazon's.
fn address_of_sns(text: &str, endpoint: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_plain = url.username().is_empty() && url.password().is_none();
    let leads_there = if endpoint.is_empty() {
        url.scheme() == "https" && url.port().is_none() && is_host_of_sns(url.host_str()?)
    } else {
        Url::parse(endpoint).ok()?.origin() == url.origin()
    };
    (is_plain && leads_there).then_some(url)
}

/// `sns.REGION.amazonaws.com`, or `.com.cn`.
fn is_host_of_sns(host: &str) -> bool {
    let rest = host.strip_prefix("sns.");
    let region = rest.and_then(|it| {
        it.strip_suffix(".amazonaws.com").or_else(|| it.strip_suffix(".amazonaws.com.cn"))
    });
    region.is_some_and(|it| {
        let is_good = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        !it.is_empty() && it.bytes().all(is_good)
    })
}

/// The RSA key in a certificate that is written as PEM.
fn public_key(pem: &[u8]) -> Option<Arc<[u8]>> {
    /// What stands before the key in what a certificate says of it (RFC 3279, 2.3.1): the name of
    /// the algorithm, and that a string of bits comes.
    const ALGORITHM: [u8; 16] = [
        0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00,
        0x03,
    ];
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = webpki::EndEntityCert::try_from(&certificate).ok()?;
    let info = certificate.subject_public_key_info();
    let rest = after_length(info.strip_prefix(&[0x30])?)?.strip_prefix(&ALGORITHM)?;
    // The string begins with how many of its last bits do not count.
    Some(after_length(rest)?.strip_prefix(&[0])?.into())
}

/// What comes after the length of a value of DER (X.690, 8.1.3).
fn after_length(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.split_first()?;
    let digits = if *first < 0x80 { 0 } else { usize::from(*first & 0x7f) };
    rest.get(digits..)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_sns_are_visited() {
        for (text, endpoint, expected) in [
            ("https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription", "", true),
            ("https://sns.cn-north-1.amazonaws.com.cn/a.pem", "", true),
            ("https://sns.eu-west-1.amazonaws.com:443/", "", true),
            ("http://sns.eu-west-1.amazonaws.com/", "", false),
            ("https://sns.eu-west-1.amazonaws.com:8443/", "", false),
            ("https://sns.eu-west-1.amazonaws.com.evil.example/", "", false),
            ("https://evil.example/sns.eu-west-1.amazonaws.com/", "", false),
            ("https://sns.eu-west-1.amazonaws.com@evil.example/", "", false),
            ("https://evil.example@sns.eu-west-1.amazonaws.com/", "", false),
            ("https://sns.a.b.amazonaws.com/", "", false),
            ("https://sns..amazonaws.com/", "", false),
            ("https://bucket.s3.amazonaws.com/", "", false),
            ("https://sns.eu-west-1.amazonaws.com\\@evil.example/", "", true),
            ("https://169.254.169.254/", "", false),
            ("file:///etc/passwd", "", false),
            ("", "", false),
            ("http://127.0.0.1:4566/?Token=1", "http://127.0.0.1:4566", true),
            ("http://127.0.0.1:4567/", "http://127.0.0.1:4566", false),
            ("https://sns.eu-west-1.amazonaws.com/", "http://127.0.0.1:4566", false),
        ] {
            let found = address_of_sns(text, endpoint);
            assert_eq!(found.is_some(), expected, "{text}: {found:?}");
            if let Some(url) = found.filter(|_| endpoint.is_empty()) {
                assert!(is_host_of_sns(url.host_str().unwrap()), "{url}");
            }
        }
    }

    #[test]
    fn what_is_signed_stands_in_the_order_of_its_names() {
        let body = br#"{"Type": "Notification", "MessageId": "1", "TopicArn": "arn:t",
            "Subject": "S", "Message": "m\nn", "Timestamp": "2026-11-22T10:00:00.000Z"}"#;
        let message = read(body).unwrap();
        let expected = "Message\nm\nn\nMessageId\n1\nSubject\nS\nTimestamp\n\
             2026-11-22T10:00:00.000Z\nTopicArn\narn:t\nType\nNotification\n";
        assert_eq!(message.signed().unwrap(), expected);
        assert!(subscription(body).is_none());
        let body = br#"{"Type": "SubscriptionConfirmation", "MessageId": "1", "TopicArn": "arn:t",
            "Message": "m", "Timestamp": "t", "Token": "k", "SubscribeURL": "u"}"#;
        let expected = "Message\nm\nMessageId\n1\nSubscribeURL\nu\nTimestamp\nt\nToken\nk\n\
             TopicArn\narn:t\nType\nSubscriptionConfirmation\n";
        assert_eq!(read(body).unwrap().signed().unwrap(), expected);
        assert_eq!(subscription(body).unwrap().confirmed_at.as_deref(), Some("u"));
        for other in ["{}", "[]", "", r#"{"Type": "SubscriptionConfirmation"}"#] {
            assert!(subscription(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_key() {
        const EMPTY: &str = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
        for text in ["", "x", EMPTY] {
            assert!(public_key(text.as_bytes()).is_none(), "{text}");
        }
        for bytes in [&[][..], &[0x82], &[0xff, 1]] {
            assert!(after_length(bytes).is_none());
        }
    }
}
