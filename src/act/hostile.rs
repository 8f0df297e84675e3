//! Hostile values, thrown at every kind of step: each is passed on literally or refused, and does nothing.

use super::http::{self, Call};
use super::output::Secrets;
use super::program::{self, Place, Program};
use super::query;
use super::test_server::TestServer;
use crate::config::PrometheusServer;
use crate::domain::State;
use crate::domain::effect::{Effect, EffectKey, Outcome, OutcomeKind};
use crate::domain::event::{Command, Event};
use crate::domain::execution::Context;
use crate::domain::label::Labels;
use crate::domain::rules::{
    Action, Bounds, Parameter, Receiver, RuleRef, RuleSet, Runbook, RunbookMode, SecretText, Step,
    Tool, arguments,
};
use crate::domain::template;
use jiff::Timestamp;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// What is tried; `@` stands for a command that would leave the canary.
const PAYLOADS: [&str; 44] = [
    "$(@)",
    "`@`",
    "; @",
    "| @",
    "& @ &",
    "&& @",
    "|| @",
    "\n@\n",
    "\r\n@",
    "> @",
    "< <(@)",
    "${IFS}@",
    "$((1)); @",
    "'; @; '",
    "\"; @; \"",
    "\\'; @; \\'",
    "--exec=@",
    "-oProxyCommand=@",
    "-e @",
    "--",
    "-",
    "--help",
    "@\0more",
    "{{ 7 * 7 }}@",
    "{% for a in labels %}@{% endfor %}",
    "{{ labels.__class__ }}@",
    "{# @ #}",
    "${7*7}@",
    "#{@}",
    "<%= @ %>",
    "%0a@",
    "%24(@)",
    "\u{202e}@",
    "\u{2066}@\u{2069}",
    "\u{feff}@",
    "\u{200b}@",
    "\u{1b}[2J@",
    "../../../../@",
    "/etc/passwd\n@",
    "http://evil.example/@",
    "@evil.example",
    "\\\\evil.example\\@",
    "a\tb @",
    "X-A: b\r\nHost: evil.example\r\n\r\n@",
];
/// What stands around it.
const AROUND: [(&str, &str); 7] =
    [("", ""), ("web", ""), ("", "web"), (" ", " "), ("\"", "\""), ("'", "'"), ("-", "-")];

/// More than 300 values, some of 64 KiB.
fn corpus(canary: &Path) -> Vec<String> {
    let touch = format!("touch {}", canary.display());
    let wrapped = |payload: &str| {
        let payload = payload.replace('@', &touch);
        AROUND.map(|(before, after)| format!("{before}{payload}{after}"))
    };
    let mut values: Vec<String> = PAYLOADS.iter().flat_map(|it| wrapped(it)).collect();
    values.extend(["a", "$(", "\u{10ffff}"].map(|it| it.repeat(60_000 / it.len())));
    assert!(values.len() > 300);
    values
}

fn context(value: &str) -> Context {
    Context { labels: Labels::from_pairs([("x", value)]), ..Context::default() }
}

fn render(text: &str, value: &str) -> String {
    template::render(text, &context(value), &BTreeMap::new()).unwrap()
}

#[tokio::test]
async fn an_argument_stays_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (canary, file) = (folder.path().join("canary"), folder.path().join("value"));
    let mut refused = 0;
    for value in corpus(&canary) {
        std::fs::write(&file, &value).unwrap();
        let compare = "printf %s \"$1\" | cmp -s - \"$2\" && [ \"$V\" = \"$1\" ]";
        let fixed = ["sh", "-c", compare, "sh"].map(str::to_owned).into_iter();
        let value = render("{{ labels.x }}", &value);
        let argv: Vec<String> = fixed.chain([value.clone(), file.display().to_string()]).collect();
        let program = Program {
            argv: &argv,
            bounds: &Bounds::default(),
            environment: &[("V", value.clone())],
            secrets: &Secrets::default(),
            place: &Place::Here { keeper_mark: None },
            board: None,
        };
        let stop = CancellationToken::new();
        let outcome = program::run(&program, Duration::from_secs(20), &stop).await.unwrap();
        if value.contains('\0') {
            assert!(outcome.detail.contains("cannot start"), "{value:?}: {}", outcome.detail);
            refused += 1;
        } else {
            assert_eq!(outcome.result, OutcomeKind::Succeeded, "{value:?}: {}", outcome.detail);
        }
    }
    assert_eq!(refused, AROUND.len());
    assert!(!canary.exists(), "something was executed");
}

#[test]
fn an_option_gets_into_no_argument() {
    let argv = |texts: &[&str], value: &str| {
        let texts: Vec<String> = texts.iter().map(|it| (*it).to_owned()).collect();
        arguments(&texts, &|text| Ok(render(text, value)), &BTreeMap::new())
    };
    let mut refused = 0;
    for value in corpus(Path::new("/tmp/canary")) {
        match argv(&["rm", "{{ labels.x }}"], &value) {
            Ok(argv) => assert!(argv == ["rm", &value] && !value.starts_with('-'), "{value:?}"),
            Err(error) => {
                let is_option = value.starts_with('-') && error.contains("looks like an option");
                assert!(is_option || error.contains("NUL"), "{value:?}: {error}");
                refused += 1;
            }
        }
        if !value.contains('\0') {
            let argv = argv(&["rm", "--", "{{ labels.x }}"], &value).unwrap();
            assert_eq!(argv, ["rm", "--", &value]);
        }
    }
    assert!(refused > 50, "{refused}");
}

#[tokio::test]
async fn an_argument_stays_what_it_is_on_the_other_side_of_ssh() {
    let folder = tempfile::tempdir().unwrap();
    let (canary, file) = (folder.path().join("canary"), folder.path().join("value"));
    for value in corpus(&canary) {
        std::fs::write(&file, &value).unwrap();
        let compare = "printf %s \"$1\" | cmp -s - \"$2\"";
        let words = ["sh", "-c", compare, "sh", "VALUE", "FILE"].map(str::to_owned).to_vec();
        let (host, user) = ("web-1".to_owned(), String::new());
        let tool = Tool::Ssh { host, user, port: None, argv: words };
        let filled = |text: &String| {
            Ok(match text.as_str() {
                "VALUE" => value.clone(),
                "FILE" => file.display().to_string(),
                text => text.to_owned(),
            })
        };
        let Ok(argv) = tool.argv(&filled, &BTreeMap::new()) else {
            assert!(value.starts_with('-') || value.contains('\0'), "{value:?}");
            continue;
        };
        // The daemon on the other side gives the line to a shell.
        let argv = ["sh", "-c", argv.last().unwrap()].map(str::to_owned);
        let program = Program {
            argv: &argv,
            bounds: &Bounds::default(),
            environment: &[],
            secrets: &Secrets::default(),
            place: &Place::Here { keeper_mark: None },
            board: None,
        };
        let stop = CancellationToken::new();
        let outcome = program::run(&program, Duration::from_secs(20), &stop).await.unwrap();
        assert_eq!(outcome.result, OutcomeKind::Succeeded, "{value:?}: {}", outcome.detail);
    }
    assert!(!canary.exists(), "something was executed");
}

#[tokio::test]
async fn a_question_is_asked_as_it_is() {
    let server = TestServer::start().await;
    let settings = PrometheusServer {
        name: "prod".to_owned(),
        url: format!("http://{}/status/200", server.address),
        poll_every_seconds: 30,
        external_labels: None,
        credentials: None,
    };
    let servers = [("prod".to_owned(), settings)].into();
    let client = http::client().unwrap();
    for value in corpus(Path::new("/tmp/canary")).into_iter().filter(|it| it.len() < 4096) {
        let promql = format!("up{{a=\"{value}\"}}");
        let question = query::Question { source: "prod", promql: &promql, assert: "" };
        let stop = CancellationToken::new();
        query::ask(&client, &servers, &question, (Duration::from_secs(20), &stop)).await;
        let seen = server.seen().pop().unwrap();
        assert_eq!(
            (seen.path.as_str(), seen.query.as_str()),
            ("/status/200/api/v1/query", promql.as_str())
        );
    }
}

#[test]
fn a_request_goes_where_it_should_whatever_is_in_it() {
    let canary = Path::new("/tmp/canary");
    let client = http::client().unwrap();
    let allow = ["good.example:80".parse().unwrap()].into();
    let key = EffectKey("k".into());
    for value in corpus(canary) {
        for place in
            ["http://good.example/{{ labels.x }}", "http://good.example/a?b={{ labels.x }}#"]
        {
            let (url, headers) = (render(place, &value), BTreeMap::new());
            let body = Some(value.as_str());
            let call =
                Call { method: "POST", url: &url, headers: &headers, body, expect_status: &[] };
            if let Ok((request, _)) = http::request(&client, &allow, &call, &key) {
                assert_eq!(request.url().host_str(), Some("good.example"), "{value:?}");
                assert_eq!(request.body().and_then(|it| it.as_bytes()), Some(value.as_bytes()));
            }
        }
        let headers = [("X-Note".to_owned(), value.clone())].into();
        let url = "http://good.example/";
        let call = Call { method: "POST", url, headers: &headers, body: None, expect_status: &[] };
        match http::request(&client, &allow, &call, &key) {
            Ok((request, _)) => {
                let header = request.headers().get("x-note").map(|it| it.as_bytes().to_vec());
                assert_eq!(header.as_deref(), Some(value.as_bytes()), "{value:?}");
                assert_eq!(request.headers().len(), 2);
            }
            Err(reason) => assert!(reason.contains("X-Note") || reason.contains("x-note")),
        }
        // An alert that names the host reaches nothing that is not allowed.
        let (url, headers) = (render("http://{{ labels.x }}", &value), BTreeMap::new());
        let call =
            Call { method: "GET", url: &url, headers: &headers, body: None, expect_status: &[] };
        assert!(http::request(&client, &allow, &call, &key).is_err(), "{value:?}");
    }
}

/// What a state orders when a step printed something: programs' arguments, and what receivers are told.
fn after_output(output: &str) -> (Vec<String>, Option<String>) {
    let rule = |name: &str| Arc::new(RuleRef { name: name.to_owned(), ..RuleRef::default() });
    let command = |argv: &[&str]| Action::command(argv.iter().map(|it| (*it).to_owned()).collect());
    let value = "{{ steps.look.output }}".to_owned();
    let taken = Parameter { value, pattern: "(?s).*".to_owned() };
    let (receiver, text) = ("hook".to_owned(), "{{ parameters.x }}".to_owned());
    let steps = vec![
        Step::new("look", command(&["look"])),
        Step::new("take", Action::Set { values: [("x".to_owned(), taken)].into() }),
        Step::new("tell", Action::Notify { receiver, text }),
        Step::new("use", command(&["use", "{{ parameters.x }}"])),
    ];
    let runbook =
        Runbook { rule: rule("mend"), mode: RunbookMode::Auto, steps, ..Runbook::default() };
    let webhook_url = SecretText::Text("http://hook/".to_owned());
    let receivers = vec![Receiver { rule: rule("hook"), webhook_url }];
    let rules = RuleSet { runbooks: vec![runbook], receivers, ..RuleSet::default() };
    let order = Command::RunRunbook {
        runbook: "mend".to_owned(),
        parameters: BTreeMap::new(),
        incident: None,
        dry_run: false,
        emergency: false,
    };
    let outcome =
        Outcome { output_tail: output.to_owned(), ..super::outcome(OutcomeKind::Succeeded, "") };
    let key = EffectKey("EXE-1/look/1".into());
    let (mut state, mut argv, mut told) = (State::default(), Vec::new(), None);
    for event in [
        Event::RulesLoaded(Arc::new(rules)),
        Event::CommandGiven { by: "ann".to_owned(), command: order },
        Event::EffectFinished { key, outcome },
    ] {
        for planned in state.apply(Timestamp::UNIX_EPOCH, &event).effects {
            match planned.effect {
                Effect::RunStep { action, .. } => argv = action.argv().unwrap().to_vec(),
                Effect::Deliver { body, .. } => {
                    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
                    told = body["text"].as_str().map(str::to_owned);
                }
                other => panic!("{other:?}"),
            }
        }
    }
    (argv, told)
}

#[test]
fn what_is_set_or_told_stays_what_it_is() {
    let mut passed = 0;
    for value in corpus(Path::new("/tmp/canary")) {
        let (argv, told) = after_output(&value);
        if argv == ["look"] {
            let is_odd = value.chars().any(char::is_control) || value.len() > 1024;
            assert!(is_odd || value.starts_with('-'), "{value:?} was refused");
            assert_eq!(told, None);
        } else {
            assert_eq!(argv, ["use", value.trim_end()], "{value:?}");
            assert_eq!(told.as_deref(), Some(value.trim_end()));
            passed += 1;
        }
    }
    assert!(passed > 150, "{passed}");
}

proptest! {
    #[test]
    fn what_is_rendered_into_an_argument_is_that_argument(value in any::<String>()) {
        prop_assume!(!value.is_empty());
        prop_assert_eq!(render("{{ labels.x }}", &value), value.clone());
        let order = crate::act::launch::Order { argv: vec![value.clone()], ..Default::default() };
        let order = crate::act::launch::arguments(&order);
        prop_assert_eq!(order.last(), Some(&value));
    }
}
