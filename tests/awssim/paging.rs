//! Pages, with opaque tokens, and now and then an empty one.

use super::rng;
use super::wire::ApiError;

/// The page of `items` that a token asks for, and the token of the next.
///
/// With `seed`, about one page in four comes empty with a NextToken first, as Organizations documents that it may.
pub fn page<'a, T>(
    items: &'a [T],
    token: Option<&str>,
    size: usize,
    seed: Option<u64>,
    invalid: impl Fn() -> ApiError,
) -> Result<(&'a [T], Option<String>), ApiError> {
    let (offset, after_empty) = match token {
        None | Some("") => (0, false),
        Some(token) => decode(token).filter(|(offset, _)| *offset <= items.len()).ok_or_else(&invalid)?,
    };
    let empty_now = seed.is_some_and(|seed| rng::hash(seed, &["page", &offset.to_string()]).is_multiple_of(4));
    if empty_now && !after_empty {
        return Ok((&[], Some(encode(offset, true))));
    }
    let end = (offset + size.max(1)).min(items.len());
    let next = (end < items.len()).then(|| encode(end, false));
    Ok((&items[offset..end], next))
}

fn encode(offset: usize, after_empty: bool) -> String {
    format!("AAIA{:08x}{}", (offset as u32) ^ 0x5EED_CAFE, if after_empty { "e" } else { "n" })
}

fn decode(token: &str) -> Option<(usize, bool)> {
    let hex = token.strip_prefix("AAIA")?;
    let offset = u32::from_str_radix(hex.get(..8)?, 16).ok()? ^ 0x5EED_CAFE;
    match hex.get(8..)? {
        "e" => Some((offset as usize, true)),
        "n" => Some((offset as usize, false)),
        _ => None,
    }
}
