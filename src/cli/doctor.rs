//! The command `doctor`: whether the daemon is well, and what to do where it is not.

use super::client::Client;
use super::failure::{Failure, Result};
use super::output::{self, Output, counted, field};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Looks at everything, prints it, and fails when something is wrong.
pub async fn run(client: &Client, output: Output) -> Result<()> {
    let status = client.get(&["status"], &[]).await?;
    let checks = client.get(&["doctor"], &[]).await?;
    let all = joined(client.server(), &status, &checks);
    output::show(&all, output, table)?;
    match wrong(&all) {
        0 => Ok(()),
        count => Err(Failure::Findings(counted(count, "thing") + " to look at")),
    }
}

/// What the server says of itself, after what is seen from here.
fn joined(server: &str, status: &Value, checks: &Value) -> Value {
    let (theirs, ours) = (field(status, "version"), env!("CARGO_PKG_VERSION"));
    let is_same = theirs == ours;
    let hint = "use the command of the server's version";
    let mut items = vec![
        json!({"check": "server", "verdict": "good", "detail": format!("{server} answers"), "hint": null}),
        json!({
            "check": "version", "verdict": if is_same { "good" } else { "warning" },
            "detail": format!("server {theirs}, this command {ours}"),
            "hint": if is_same { Value::Null } else { json!(hint) },
        }),
    ];
    items.extend(output::items(checks).iter().cloned());
    json!({"items": items, "next_cursor": null})
}

fn wrong(all: &Value) -> usize {
    output::items(all).iter().filter(|it| field(it, "verdict") != "good").count()
}

fn table(all: &Value, _: Timestamp) -> String {
    let rows = output::items(all).iter();
    let rows = rows.map(|it| vec![field(it, "check"), field(it, "verdict"), field(it, "detail")]);
    let mut out = output::table(&["CHECK", "VERDICT", "DETAIL"], rows.collect());
    let hints = output::items(all).iter().filter(|it| !field(it, "hint").is_empty());
    let hints: Vec<String> =
        hints.map(|it| format!("{}: {}", field(it, "check"), field(it, "hint"))).collect();
    out.push('\n');
    out.push_str(&output::section("what to do", &hints));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_counted_and_told_what_to_do_about() {
        let ours = json!({"version": env!("CARGO_PKG_VERSION")});
        let bad = json!({"check": "rules", "verdict": "bad", "detail": "old", "hint": "fix them"});
        let good = json!({"check": "store", "verdict": "good", "detail": "ok", "hint": null});
        let all = joined("http://x", &ours, &json!({"items": [bad, good]}));
        assert_eq!(wrong(&all), 1);
        let text = table(&all, Timestamp::UNIX_EPOCH);
        for part in ["http://x answers", "rules", "bad", "what to do\n  rules: fix them"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let old = joined("http://x", &json!({"version": "0.0.1"}), &json!({"items": []}));
        assert_eq!(wrong(&old), 1);
    }
}
