//! Help with words: the nearest known one, and a list of what is allowed.

/// The known word nearest to `word`, if one is near enough to be what was meant.
pub(super) fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A long word is no typing slip; the comparison costs the product of both lengths.
    if word.len() > 80 {
        return None;
    }
    let plain = |text: &str| text.to_lowercase().replace(['_', ' ', '.'], "-");
    let word = plain(word);
    let allowed = (word.chars().count() / 3).max(1);
    known
        .into_iter()
        .map(|candidate| {
            let other = plain(candidate);
            // `replicas` for `replication-factor`: no slip of a finger, but a start in common.
            let starts = word.len() >= 4 && (other.starts_with(&word) || word.starts_with(&other));
            let distance = strsim::damerau_levenshtein(&word, &other);
            (if starts { distance.min(allowed) } else { distance }, candidate)
        })
        .filter(|(distance, _)| *distance <= allowed && *distance < word.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`? ", or nothing.
pub(super) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    closest(word, known).map_or_else(String::new, |near| format!("did you mean `{near}`? "))
}

/// `a`, `b` and `c`.
pub(super) fn list<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("`{}`", item.as_ref())).collect();
    match items.split_last() {
        None => "nothing".to_string(),
        Some((only, [])) => only.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// `text`, cut to a length that fits an error message, control characters made visible.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text
        .chars()
        .take(60)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(60).is_some() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_word_and_nonsense_finds_none() {
        let known = ["replication-factor", "partitions", "name", "config"];
        assert_eq!(closest("replication_factor", known), Some("replication-factor"));
        assert_eq!(closest("partition", known), Some("partitions"));
        assert_eq!(closest("nmae", known), Some("name"));
        assert_eq!(closest("zebra", known), None);
        assert_eq!(closest(&"n".repeat(1000), known), None);
    }
}
