//! The demo's temporary folder: settings, rules and models for the shop, and the daemon's data.

use crate::cli::serve;
use anyhow::Context;
use jiff::{SignedDuration, Timestamp};
use std::path::{Path, PathBuf};

/// The rules of the shop, with places for addresses and times.
const RULES: &str = include_str!("rules.yaml");

/// Looks for what recurs every minute, because the day is short.
const MODELS: &str = "problem_detection:
  - name: demo
    schedule: {cron: \"* * * * *\", time_zone: UTC}
    look_back: 1d
    algorithm: dbscan
    min_incidents: 3
    seed: 7
";

/// Writes the files, and says with which options the daemon finds them.
pub fn prepare(
    folder: &Path,
    shop: &str,
    speed: u32,
    listen: &str,
) -> anyhow::Result<serve::Options> {
    let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
        let file = folder.join(name);
        let parent = file.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent)
            .and_then(|()| std::fs::write(&file, text))
            .with_context(|| format!("cannot write the demo's files: `{}`", file.display()))?;
        Ok(file)
    };
    let config = write("watchkeeper.yaml", format!("http_allow: [\"{shop}\"]\n"))?;
    write("rules/shop.yaml", rules(shop, speed, Timestamp::now()))?;
    write("models/demo.yaml", MODELS.to_owned())?;
    Ok(serve::Options {
        config: Some(config),
        data: Some(folder.join("data")),
        rules: Some(folder.join("rules")),
        listen: Some(listen.to_owned()),
        log_json: false,
    })
}

/// Fills in the places of the rules.
fn rules(shop: &str, speed: u32, now: Timestamp) -> String {
    // In real seconds, from minutes of the shop's day; the correlation times are at least so long
    // that the storm stays in one piece whatever the speed.
    let scaled =
        |minutes: u32, least: u32| format!("{}s", (minutes * 60).div_ceil(speed).max(least));
    let tomorrow = now + SignedDuration::from_hours(24);
    let mut text = RULES.to_owned();
    for (place, value) in [
        ("@shop@", shop.to_owned()),
        ("@now@", now.to_string()),
        ("@tomorrow@", tomorrow.to_string()),
        ("@gap@", scaled(30, 2)),
        ("@max@", scaled(240, 4)),
        ("@reopen@", scaled(20, 1)),
        ("@10m@", scaled(10, 1)),
        ("@20m@", scaled(20, 1)),
        ("@45m@", scaled(45, 1)),
        ("@60m@", scaled(60, 2)),
        ("@90m@", scaled(90, 2)),
    ] {
        text = text.replace(place, &value);
    }
    text
}

/// The address in the file that the daemon writes when it listens.
pub fn listen_address(folder: &Path) -> Option<String> {
    let text = std::fs::read_to_string(folder.join("data/listen")).ok()?;
    let address = text.trim().rsplit("://").next()?.trim_end_matches('/');
    (!address.is_empty()).then(|| format!("http://{address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_place_of_the_rules_is_filled_in() {
        for speed in [1, 720, 3600] {
            let text = rules("127.0.0.1:1", speed, Timestamp::UNIX_EPOCH);
            assert!(!text.contains('@'), "{text}");
            let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
            let gap = value["correlations"][0]["window"]["gap"].as_str().unwrap();
            let expected = [(1, "1800s"), (720, "3s"), (3600, "2s")];
            assert!(expected.contains(&(speed, gap)), "{speed} {gap}");
            assert_eq!(value["runbooks"].as_array().unwrap().len(), 2);
        }
        serde_saphyr::from_str::<serde_json::Value>(MODELS).unwrap();
    }

    #[test]
    fn the_address_is_read_in_any_form() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(listen_address(folder.path()), None);
        let options = prepare(folder.path(), "127.0.0.1:1", 720, "127.0.0.1:0").unwrap();
        assert!(options.config.unwrap().is_file() && options.rules.unwrap().is_dir());
        std::fs::create_dir(folder.path().join("data")).unwrap();
        for text in ["127.0.0.1:5", "http://127.0.0.1:5\n", "listening on http://127.0.0.1:5/\n"] {
            std::fs::write(folder.path().join("data/listen"), text).unwrap();
            assert_eq!(listen_address(folder.path()).unwrap(), "http://127.0.0.1:5", "{text}");
        }
    }
}
