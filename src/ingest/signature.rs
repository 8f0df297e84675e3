//! Whether a sender may send to a declared source: its token, or the HMAC of what it sent.

use crate::domain::source::{Proof, ProofStyle};
use axum::http::HeaderMap;
use jiff::Timestamp;
use ring::hmac;
use subtle::ConstantTimeEq;

/// Checks a sender's proof. Fails with a reason that tells nothing of the secret.
pub(super) fn check(
    proof: &Proof,
    secret: &str,
    (headers, body): (&HeaderMap, &[u8]),
    now: Timestamp,
) -> Result<(), &'static str> {
    if secret.is_empty() {
        return Err("the secret of this source cannot be read");
    }
    match &proof.style {
        ProofStyle::Token { header } => check_token(header, secret, headers),
        ProofStyle::Sns { .. } => Err("the signature of SNS is not one by a secret"),
        ProofStyle::Github { header } => {
            let signature = single(headers, header)?;
            let hex = signature.strip_prefix("sha256=").unwrap_or(signature);
            verify(secret, &[body], hex)
        }
        ProofStyle::Slack => {
            let time = single(headers, "x-slack-request-timestamp")?;
            check_time(time, proof.replay_window_seconds, now)?;
            let signature = single(headers, "x-slack-signature")?;
            let hex = signature.strip_prefix("v0=").ok_or("the signature is not of version 0")?;
            verify(secret, &[b"v0:", time.as_bytes(), b":", body], hex)
        }
        ProofStyle::Standard => {
            let (id, time) =
                (single(headers, "webhook-id")?, single(headers, "webhook-timestamp")?);
            check_time(time, proof.replay_window_seconds, now)?;
            let key = match secret.strip_prefix("whsec_") {
                Some(text) => base64(text).ok_or("the secret of this source is no Base64")?,
                None => secret.as_bytes().to_vec(),
            };
            let signed = [id.as_bytes(), b".", time.as_bytes(), b".", body].concat();
            let signatures = single(headers, "webhook-signature")?.split(' ').take(8);
            let mut given = signatures.filter_map(|it| base64(it.strip_prefix("v1,")?));
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            let fits = given.any(|it| hmac::verify(&key, &signed, &it).is_ok());
            if fits { Ok(()) } else { Err(WRONG) }
        }
        ProofStyle::Stripe { header } => {
            let value = single(headers, header)?;
            let find = |key: &str| {
                let parts = value.split(',').filter_map(|it| it.trim().split_once('='));
                parts.filter(|it| it.0 == key).map(|it| it.1).collect::<Vec<_>>()
            };
            let (times, signatures) = (find("t"), find("v1"));
            let [time] = times.as_slice() else { return Err("the signature has no one time") };
            check_time(time, proof.replay_window_seconds, now)?;
            // While a secret is being changed there are several.
            let fits = |hex: &&str| verify(secret, &[time.as_bytes(), b".", body], hex).is_ok();
            if signatures.iter().take(8).any(fits) { Ok(()) } else { Err(WRONG) }
        }
    }
}

const WRONG: &str = "the signature does not fit";

fn check_token(header: &str, secret: &str, headers: &HeaderMap) -> Result<(), &'static str> {
    let given = if header.is_empty() {
        let value = single(headers, "authorization")?;
        let (scheme, token) = value.split_once(' ').ok_or("send `Authorization: Bearer TOKEN`")?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err("send `Authorization: Bearer TOKEN`");
        }
        token.trim()
    } else {
        single(headers, header)?
    };
    let equal: bool = given.as_bytes().ct_eq(secret.as_bytes()).into();
    if equal { Ok(()) } else { Err("the token is not that of this source") }
}

/// The only value of a header: of two nobody knows which counts.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Result<&'h str, &'static str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().map_err(|_| "the header of the proof is no text"),
        (None, _) => Err("the header with the proof is missing"),
        _ => Err("the header with the proof is there twice"),
    }
}

/// What was signed long ago, or for later, may be a copy of what somebody overheard.
fn check_time(time: &str, window_seconds: u32, now: Timestamp) -> Result<(), &'static str> {
    let time: i64 = time.parse().map_err(|_| "the signed time is no number of seconds")?;
    let apart = now.as_second().abs_diff(time);
    if apart <= u64::from(window_seconds) { Ok(()) } else { Err("the signed time is too far off") }
}

/// Compares in constant time.
fn verify(secret: &str, parts: &[&[u8]], hex: &str) -> Result<(), &'static str> {
    let signature = bytes_of(hex).ok_or("the signature is not hexadecimal")?;
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    hmac::verify(&key, &parts.concat(), &signature).map_err(|_| WRONG)
}

/// The bytes that a text in Base64 stands for.
pub(super) fn base64(text: &str) -> Option<Vec<u8>> {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let text = text.trim_end_matches('=');
    let (mut bytes, mut bits, mut count) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for letter in text.bytes() {
        let value = LETTERS.iter().position(|it| *it == letter)?;
        bits = (bits << 6 | u32::try_from(value).ok()?) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    Some(bytes)
}

/// By what a delivery with a signed time is known when it comes again: its signature, or its signed
/// number.
pub(super) fn number(style: &ProofStyle, headers: &HeaderMap) -> Option<String> {
    let header = match style {
        ProofStyle::Slack => "x-slack-signature",
        ProofStyle::Stripe { header } => header,
        ProofStyle::Standard => "webhook-id",
        // Without a time two deliveries may be alike.
        ProofStyle::Token { .. } | ProofStyle::Github { .. } | ProofStyle::Sns { .. } => {
            return None;
        }
    };
    single(headers, header).ok().map(str::to_owned)
}

fn bytes_of(hex: &str) -> Option<Vec<u8>> {
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    let pairs = (0..32).map(|it| hex.get(it * 2..it * 2 + 2));
    pairs.map(|it| u8::from_str_radix(it?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rules::SecretText;
    use axum::http::{HeaderName, HeaderValue};

    const SECRET: &str = "It's a Secret to Everybody";

    fn try_with(style: ProofStyle, headers: &[(&str, &str)], body: &str, at: i64) -> bool {
        let secret = SecretText::Text(String::new());
        let proof = Proof { style, secret, replay_window_seconds: 300 };
        let map: HeaderMap = headers
            .iter()
            .map(|(name, value)| {
                let name: HeaderName = name.parse().unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let now = Timestamp::from_second(at).unwrap();
        check(&proof, SECRET, (&map, body.as_bytes()), now).is_ok()
    }

    fn sign(text: &str) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
        let bytes = hmac::sign(&key, text.as_bytes());
        let digits = bytes.as_ref().iter().flat_map(|it| [it >> 4, it & 15]);
        digits.map(|it| char::from_digit(it.into(), 16).unwrap()).collect()
    }

    #[test]
    fn github_signs_the_body() {
        let style = || ProofStyle::Github { header: "x-hub-signature-256".to_owned() };
        // The example of GitHub's documentation.
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let header = |it| [("x-hub-signature-256", it)];
        assert!(try_with(style(), &header(good), "Hello, World!", 0));
        assert!(!try_with(style(), &header(good), "Hello, World?", 0));
        assert!(!try_with(style(), &header("sha256=00"), "Hello, World!", 0));
        assert!(!try_with(style(), &[], "Hello, World!", 0));
        let twice = [("x-hub-signature-256", good), ("x-hub-signature-256", good)];
        assert!(!try_with(style(), &twice, "Hello, World!", 0));
    }

    #[test]
    fn slack_and_stripe_sign_the_time_as_well() {
        let at = 1_795_341_600;
        let slack = format!("v0={}", sign(&format!("v0:{at}:body")));
        let stripe = format!("t={at},v1={},v1={}", "0".repeat(64), sign(&format!("{at}.body")));
        let text = at.to_string();
        let slack = [("x-slack-request-timestamp", text.as_str()), ("x-slack-signature", &slack)];
        let stripe = [("stripe-signature", stripe.as_str())];
        let stripe_style = || ProofStyle::Stripe { header: "stripe-signature".to_owned() };
        for (now, body, expected) in [
            (at, "body", true),
            (at + 300, "body", true),
            (at + 301, "body", false),
            (at - 301, "body", false),
            (at, "other", false),
        ] {
            assert_eq!(try_with(ProofStyle::Slack, &slack, body, now), expected, "{now} {body}");
            assert_eq!(try_with(stripe_style(), &stripe, body, now), expected, "{now} {body}");
        }
    }

    #[test]
    fn the_standard_signs_the_number_as_well() {
        // By `printf 'msg_1.1795341600.body' | openssl dgst -sha256 -hmac key -binary | base64`.
        const KEY: &str = "whsec_a2V5";
        let signature = "Fxc31tYLZr72uqNLk2ckVK2BFsmtYsLN1GuPuEVypAk=";
        let headers = |signature: &str, id: &str| {
            let pairs = [
                ("webhook-id", id),
                ("webhook-timestamp", "1795341600"),
                ("webhook-signature", signature),
            ];
            let parse = |(name, value): (&'static str, &str)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            };
            pairs.map(parse).into_iter().collect::<HeaderMap>()
        };
        let both = format!("v1,AAAA v1,{signature}");
        for (id, signature, body, now, expected) in [
            ("msg_1", both.as_str(), "body", 1_795_341_600, true),
            ("msg_1", &both, "body", 1_795_341_901, false),
            ("msg_2", &both, "body", 1_795_341_600, false),
            ("msg_1", &both, "other", 1_795_341_600, false),
            ("msg_1", signature, "body", 1_795_341_600, false),
            ("msg_1", "v1,?", "body", 1_795_341_600, false),
        ] {
            let secret = SecretText::Text(String::new());
            let style = ProofStyle::Standard;
            let proof = Proof { style, secret, replay_window_seconds: 300 };
            let now = Timestamp::from_second(now).unwrap();
            let found = check(&proof, KEY, (&headers(signature, id), body.as_bytes()), now);
            assert_eq!(found.is_ok(), expected, "{id} {signature} {body}: {found:?}");
        }
        assert_eq!(base64("YW55IGNhcm5hbCBwbGVhcw==").unwrap(), b"any carnal pleas");
        assert_eq!(base64("a b"), None);
    }

    #[test]
    fn a_token_is_compared_whole() {
        let bearer = || ProofStyle::Token { header: String::new() };
        let header = || ProofStyle::Token { header: "x-gitlab-token".to_owned() };
        let good = format!("Bearer {SECRET}");
        assert!(try_with(bearer(), &[("authorization", &good)], "", 0));
        assert!(try_with(header(), &[("x-gitlab-token", SECRET)], "", 0));
        for wrong in ["", "It's", "It's a Secret to Everybody!", "x"] {
            assert!(!try_with(header(), &[("x-gitlab-token", wrong)], "", 0), "{wrong}");
            let value = format!("Bearer {wrong}");
            assert!(!try_with(bearer(), &[("authorization", &value)], "", 0), "{wrong}");
        }
    }
}
