//! Amazon SNS in front of a source: its signature, and subscriptions that are confirmed.

use crate::http::{self, Receiver};
use crate::support::{Daemon, SOON, eventually, free_port};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use tempfile::TempDir;

const TOPIC: &str = "arn:aws:sns:eu-west-1:123456789012:alarms";
const CONFIRMATIONS: &str = "watchkeeper_sns_subscriptions_total";

/// Runs a program to its good end and gives what it wrote.
fn openssl(arguments: &[&str], folder: &Path, input: &str) -> Vec<u8> {
    let mut child = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start `openssl`: {error}; see tests/run"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

/// Somebody who signs as SNS does.
struct Topic {
    folder: TempDir,
    server: Receiver,
}

impl Topic {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let subject = "/CN=sns.amazonaws.com";
        let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", subject];
        let files = ["-days", "2", "-keyout", "key.pem", "-out", "certificate.pem"];
        openssl(&[&make[..], &files].concat(), folder.path(), "");
        let server = Receiver::start();
        server.answer(200, &fs::read_to_string(folder.path().join("certificate.pem")).unwrap());
        Self { folder, server }
    }

    fn alarm(&self, number: &str, state: &str) -> Value {
        let alarm = json!({"AlarmName": "Queue", "NewStateValue": state, "Region": "EU (Ireland)",
            "AWSAccountId": "123456789012", "StateChangeTime": "2026-11-22T10:00:00.000+0000"});
        json!({"Type": "Notification", "MessageId": number, "TopicArn": TOPIC,
            "Subject": format!("{state}: \"Queue\""), "Message": alarm.to_string(),
            "Timestamp": Timestamp::now().to_string(), "SignatureVersion": "2",
            "SigningCertURL": self.server.url("/certificate.pem")})
    }

    fn asks(&self, subscribe_url: &str) -> Value {
        json!({"Type": "SubscriptionConfirmation", "MessageId": "9", "TopicArn": TOPIC,
            "Message": "You have chosen to subscribe", "Token": "2336412f37fb",
            "SubscribeURL": subscribe_url, "Timestamp": Timestamp::now().to_string(),
            "SignatureVersion": "1", "SigningCertURL": self.server.url("/certificate.pem")})
    }

    /// Puts the signature into a message, made of its keys in their order, but for those about the
    /// signature itself.
    fn sign(&self, mut message: Value) -> Value {
        let digest = if message["SignatureVersion"] == "1" { "-sha1" } else { "-sha256" };
        let signed: String = (message.as_object().unwrap().iter())
            .filter(|(name, _)| !name.starts_with("Sign"))
            .flat_map(|(name, value)| [name.as_str(), "\n", value.as_str().unwrap(), "\n"])
            .collect();
        let folder = self.folder.path();
        let signature = openssl(&["dgst", digest, "-sign", "key.pem"], folder, &signed);
        message["Signature"] = json!(crate::webhooks::base64(&signature));
        message
    }
}

fn send(daemon: &Daemon, path: &str, message: &Value) -> http::Reply {
    let headers = [("content-type", "text/plain; charset=UTF-8")];
    http::send(daemon.address, "POST", path, &headers, message.to_string().as_bytes()).unwrap()
}

#[test]
fn what_is_signed_is_taken_and_nothing_else() {
    let topic = Topic::new();
    let endpoint = topic.server.url("");
    let daemon = Daemon::start(&format!(
        "sources: [{{name: cloudwatch, sns: {{topics: ['{TOPIC}'], endpoint: '{endpoint}'}}}}]\n"
    ));
    let taken = |message: &Value| send(&daemon, "/ingest/cloudwatch", message).status;
    let firing = topic.sign(topic.alarm("1", "ALARM"));
    assert_eq!(taken(&firing), 200);
    assert_eq!(daemon.items("/api/v1/alerts")[0]["labels"]["alertname"], "Queue");
    let mut first = topic.alarm("2", "OK");
    first["SignatureVersion"] = json!("1");
    assert_eq!(taken(&topic.sign(first)), 200);
    let reply = send(&daemon, "/ingest/cloudwatch", &firing);
    assert_eq!(reply.json()["duplicate"], true, "it was taken before");
    eventually("the alert is over", SOON, || {
        (daemon.items("/api/v1/alerts")[0]["state"] == "resolved").then_some(())
    });
    assert_eq!(topic.server.received().len(), 1, "the certificate is fetched once");

    let changed = |name: &str, value: Value| {
        let mut message = topic.alarm("3", "ALARM");
        message[name] = value;
        topic.sign(message)
    };
    let mut tampered = topic.sign(topic.alarm("3", "ALARM"));
    tampered["Message"] = json!("{}");
    let elsewhere = format!("http://127.0.0.1:{}/certificate.pem", free_port());
    let old = Timestamp::now() - SignedDuration::from_mins(61);
    for (what, message) in [
        ("unsigned", topic.alarm("3", "ALARM")),
        ("tampered", tampered),
        ("another topic", changed("TopicArn", json!(TOPIC.replace("alarms", "evil")))),
        ("another host", changed("SigningCertURL", json!(elsewhere))),
        ("no certificate", changed("SigningCertURL", json!(topic.server.url("/certificate")))),
        ("old", changed("Timestamp", json!(old.to_string()))),
        ("unknown version", changed("SignatureVersion", json!("3"))),
        ("no message", json!({"AlarmName": "Queue", "NewStateValue": "ALARM"})),
    ] {
        assert_eq!(taken(&message), 401, "{what}");
    }
    topic.server.answer(404, "");
    let away = changed("SigningCertURL", json!(topic.server.url("/new.pem")));
    assert_eq!(taken(&away), 503, "it may be there later");
    topic.server.answer(200, &"x".repeat(20_000));
    assert_eq!(taken(&away), 503, "too long");
    topic.server.answer(200, "no certificate");
    assert_eq!(taken(&away), 401);
    assert_eq!(daemon.items("/api/v1/alerts")[0]["state"], "resolved");
}

#[test]
fn a_subscription_is_confirmed_once_its_sender_is_known() {
    let topic = Topic::new();
    let endpoint = topic.server.url("");
    // A mapping of one's own knows nothing of subscriptions.
    let daemon = Daemon::start(&format!(
        "
sources:
  - name: shop
    sns: {{topics: ['{TOPIC}'], endpoint: '{endpoint}'}}
    map: {{status: \"'firing'\", title: body.Message.title}}
"
    ));
    let url = topic.server.url("/?Action=ConfirmSubscription&Token=2336412f37fb");
    assert_eq!(send(&daemon, "/ingest/shop", &topic.asks(&url)).status, 401, "not signed");
    let asks = topic.sign(topic.asks(&url));
    let visits = || topic.server.received().iter().filter(|it| it.path.starts_with("/?")).count();
    let certificate = fs::read_to_string(topic.folder.path().join("certificate.pem")).unwrap();
    // What fails is tried again, aside from the answer.
    topic.server.answer(200, &certificate);
    let reply = send(&daemon, "/ingest/shop", &asks);
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(reply.json()["left_out"], 1);
    daemon.metric_becomes(CONFIRMATIONS, &[("outcome", "confirmed")], 1.0);
    assert_eq!(visits(), 1);
    topic.server.answer(500, "");
    let mut asks = topic.asks(&url);
    asks["MessageId"] = json!("10");
    assert_eq!(send(&daemon, "/ingest/shop", &topic.sign(asks)).status, 200);
    eventually("it is tried again", SOON, || (visits() > 2).then_some(()));
    topic.server.answer(200, "ok");
    daemon.metric_becomes(CONFIRMATIONS, &[("outcome", "confirmed")], 2.0);
    assert!(daemon.log().contains("a subscription of SNS is confirmed"));
    assert!(!daemon.log().contains("2336412f37fb"), "its token is nobody's business");

    // Without a declaration only Amazon's own addresses are visited.
    let before = visits();
    let reply = send(&daemon, "/ingest/cloudwatch", &topic.asks(&url));
    assert_eq!(reply.json()["left_out"], 1, "{}", reply.body);
    daemon.metric_becomes(CONFIRMATIONS, &[("outcome", "refused")], 1.0);
    let mut goodbye = topic.asks(&url);
    goodbye["Type"] = json!("UnsubscribeConfirmation");
    goodbye["MessageId"] = json!("11");
    assert_eq!(send(&daemon, "/ingest/shop", &topic.sign(goodbye)).json()["left_out"], 1);
    assert_eq!(visits(), before, "nothing else was visited");
}
