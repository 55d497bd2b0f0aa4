//! Numbers and texts as a person reads them.

/// `1,234,567`
pub fn grouped(number: impl TryInto<i64>) -> String {
    // What is more than that is not counted here.
    let number = number.try_into().unwrap_or(i64::MAX);
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// `1 account`, `2 accounts`.
pub fn counted(number: impl TryInto<i64>, one: &str) -> String {
    let number = number.try_into().unwrap_or(i64::MAX);
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", grouped(number))
}

/// A part of a whole, from 0 to 1; `None` of nothing.
#[expect(clippy::cast_precision_loss, reason = "numbers of accounts and regions are far below 2^53")]
pub fn ratio(part: impl TryInto<i64>, whole: impl TryInto<i64>) -> Option<f64> {
    let [part, whole] = [part.try_into().ok(), whole.try_into().ok()].map(|number| number.unwrap_or(i64::MAX));
    (whole > 0).then(|| part as f64 / whole as f64)
}

/// A share in per cent with one decimal: only all is 100 %, and only nothing is 0 %.
pub fn percent(share: Option<f64>) -> String {
    match share {
        None => "–".to_owned(),
        Some(share) if share > 0.0 && share < 1.0 => format!("{:.1} %", (share * 100.0).clamp(0.1, 99.9)),
        Some(share) => format!("{:.1} %", share * 100.0),
    }
}

/// The text, or as much of it as has so many characters, its end marked.
pub fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A text as a cell of CSV: what a spreadsheet would take for a formula is text (OWASP, "CSV Injection").
pub fn inert(text: String) -> String {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_per_cent() {
        assert_eq!(percent(Some(0.9999)), "99.9 %");
        assert_eq!(percent(Some(0.0001)), "0.1 %");
        assert_eq!(percent(Some(0.9008)), "90.1 %");
        assert_eq!(percent(Some(1.0)), "100.0 %");
        assert_eq!(percent(None), "–");
    }

    #[test]
    fn thousands_are_grouped() {
        assert_eq!([grouped(0), grouped(999), grouped(1000), grouped(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "account"), counted(2, "account")], ["1 account", "2 accounts"]);
        assert_eq!([grouped(1_000_usize), grouped(u64::MAX)], ["1,000", "9,223,372,036,854,775,807"]);
    }
}
