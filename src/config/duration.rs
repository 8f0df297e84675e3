//! Durations as Prometheus writes them: `30s`, `1h30m`, `2w`.

/// The units, from the largest to the smallest, in seconds.
const UNITS: [(&str, u64); 6] =
    [("y", 31_536_000), ("w", 604_800), ("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)];

/// Reads a duration of whole seconds. Fails with a message and a hint.
pub(super) fn parse(text: &str) -> Result<u32, (String, String)> {
    let refuse = |hint: &str| (format!("not a duration: `{text}`"), hint.to_owned());
    if !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit()) {
        let hint = format!("say the unit: `{text}s` or `{text}m`?");
        return Err((format!("a duration needs a unit: `{text}`"), hint));
    }
    let example = "write it as `30s`, `5m`, `1h30m`, `30d` or `2w`";
    let (mut rest, mut total, mut next_unit) = (text, 0_u64, 0);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse(example))?;
        let letters = after.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, after) = after.split_at(letters);
        if unit == "ms" {
            return Err(refuse("whole seconds are the finest unit"));
        }
        let at =
            UNITS.iter().position(|(name, _)| *name == unit).ok_or_else(|| match meant(text) {
                Some(it) => refuse(&format!("did you mean `{it}`?")),
                None => refuse("the units are `y`, `w`, `d`, `h`, `m` and `s`"),
            })?;
        if at < next_unit {
            return Err(refuse("units go from the largest to the smallest, each once: `1h30m`"));
        }
        let seconds = UNITS.get(at).map_or(1, |(_, seconds)| *seconds);
        total = number
            .checked_mul(seconds)
            .and_then(|it| it.checked_add(total))
            .ok_or_else(|| refuse("this is longer than can be counted"))?;
        (rest, next_unit) = (after, at + 1);
    }
    if text.is_empty() {
        return Err(refuse(example));
    }
    u32::try_from(total).map_err(|_| refuse("136 years are the most"))
}

/// What `5 minutes`, `2hrs` or `1 day` stand for.
fn meant(text: &str) -> Option<String> {
    const WORDS: [&str; 9] =
        ["seconds", "secs", "minutes", "mins", "hours", "hrs", "days", "weeks", "years"];
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, word) = text.split_at_checked(digits).filter(|(it, _)| !it.is_empty())?;
    let word = word.trim().to_ascii_lowercase();
    let is_unit = word.len() == 1 && UNITS.iter().any(|(name, _)| *name == word);
    let is_word = WORDS.iter().any(|it| *it == word || it.strip_suffix('s') == Some(&word));
    (is_unit || is_word).then(|| format!("{number}{}", word.chars().next().unwrap_or('s')))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn durations_are_read_as_prometheus_does() {
        for (text, seconds) in [
            ("0s", 0),
            ("10s", 10),
            ("5m", 300),
            ("1h30m", 5400),
            ("30d", 2_592_000),
            ("2w", 1_209_600),
            ("1y", 31_536_000),
        ] {
            assert_eq!(parse(text), Ok(seconds), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused_with_a_hint() {
        for (text, hint) in [
            ("", "write it as"),
            ("5", "`5s` or `5m`"),
            ("m", "write it as"),
            ("5 m", "did you mean `5m`?"),
            ("5 minutes", "did you mean `5m`?"),
            ("1 day", "did you mean `1d`?"),
            ("30m1h", "largest to the smallest"),
            ("1h1h", "largest to the smallest"),
            ("100ms", "whole seconds"),
            ("-5m", "write it as"),
            ("2hrs", "did you mean `2h`?"),
            ("5 monthes", "the units are"),
            ("99999999999999999999s", "write it as"),
            ("999999999999y", "longer than"),
            ("200y", "136 years"),
        ] {
            let (_, found) = parse(text).unwrap_err();
            assert!(found.contains(hint), "{text}: {found}");
        }
    }
}
