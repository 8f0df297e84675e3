//! The words by which texts are compared: masked, without endings, and without those that every text has.

use super::mask::mask;

/// Words of no meaning of their own.
const STOP_WORDS: [&str; 90] = [
    "about", "after", "all", "also", "an", "and", "any", "are", "as", "at", "be", "because",
    "been", "before", "being", "both", "but", "by", "can", "could", "did", "do", "does", "each",
    "for", "from", "had", "has", "have", "here", "how", "if", "in", "into", "is", "it", "its",
    "just", "many", "may", "more", "most", "much", "no", "not", "of", "on", "only", "or", "other",
    "our", "out", "same", "should", "so", "some", "such", "than", "that", "the", "their", "them",
    "then", "there", "these", "they", "this", "those", "to", "too", "use", "used", "very", "was",
    "we", "were", "what", "when", "where", "which", "while", "who", "why", "will", "with", "would",
    "yet", "you", "your", "yours",
];

/// The words of a text in their order, each as it is compared and as it is written there.
pub(super) fn terms(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for part in mask(text).split(|it: char| !it.is_alphabetic()) {
        for word in words(part) {
            if word.chars().count() > 1 && STOP_WORDS.binary_search(&word.as_str()).is_err() {
                found.push((stem(&word), word));
            }
        }
    }
    found
}

/// The words of a name, in small letters: `KubeAPIErrors` is three.
fn words(name: &str) -> Vec<String> {
    let letters: Vec<char> = name.chars().collect();
    let mut words = Vec::new();
    let mut word = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|it| letters.get(it));
        let begins = letter.is_uppercase()
            && (before.is_some_and(|it| it.is_lowercase())
                || before.is_some() && letters.get(at + 1).is_some_and(|it| it.is_lowercase()));
        if begins {
            words.push(std::mem::take(&mut word));
        }
        word.extend(letter.to_lowercase());
    }
    words.push(word);
    words
}

/// A word without the endings of plurals and of what was or is done; a light form of Harman 1991, "How effective
/// is suffixing?". Words of other alphabets stay.
fn stem(word: &str) -> String {
    if !word.is_ascii() || word.len() < 4 {
        return word.to_owned();
    }
    if let Some(rest) = word.strip_suffix("ies").filter(|it| it.len() > 1) {
        return format!("{rest}y");
    }
    for ending in ["ing", "ed", "es", "s"] {
        let Some(rest) = word.strip_suffix(ending).filter(|it| it.len() > 2) else { continue };
        if ending == "s" && rest.ends_with('s') {
            return word.to_owned();
        }
        return undoubled(rest, ending).trim_end_matches('e').to_owned();
    }
    word.strip_suffix('e').filter(|it| it.len() > 3).unwrap_or(word).to_owned()
}

/// `stopp` of `stopped` is `stop`; `fill` of `filling` stays.
fn undoubled<'a>(rest: &'a str, ending: &str) -> &'a str {
    let mut letters = rest.chars().rev();
    let doubled = letters.next().filter(|it| letters.next() == Some(*it));
    let is_doubled = doubled.is_some_and(|it| !matches!(it, 'l' | 's'));
    if is_doubled && matches!(ending, "ing" | "ed") && rest.len() > 3 {
        return rest.get(..rest.len() - 1).unwrap_or(rest);
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_one_meaning_are_one() {
        for (text, expected) in [
            ("Filesystems are filling up", "filesystem fill up"),
            ("the queries stopped", "query stop"),
            ("process crashing, crashed, crashes", "process crash crash crash"),
            ("node-042 has errors: HTTPRequests", "node error http request"),
            ("KubeAPIErrorBudgetBurn", "kube api error budget burn"),
            ("over über", "over über"),
            ("", ""),
        ] {
            let found: Vec<String> = terms(text).into_iter().map(|it| it.0).collect();
            assert_eq!(found.join(" "), expected, "{text}");
        }
    }

    #[test]
    fn the_words_of_no_meaning_are_in_order() {
        assert!(STOP_WORDS.is_sorted());
    }
}
