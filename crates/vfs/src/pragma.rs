//! Which PRAGMAs a page store cannot honour: refused with a message when the statement is prepared, before anything is lost.

/// Why `PRAGMA name = value` is refused, if it is.
pub(crate) fn refusal(name: &str, value: &str, page_size: u32) -> Option<String> {
    if name.eq_ignore_ascii_case("journal_mode") && !value.eq_ignore_ascii_case("memory") {
        return Some("this database saves whole commits itself: journal_mode stays MEMORY".to_owned());
    }
    if name.eq_ignore_ascii_case("page_size") && value.parse() != Ok(page_size) {
        return Some(format!("this database is saved in pages of {page_size} bytes: page_size cannot be changed"));
    }
    None
}
