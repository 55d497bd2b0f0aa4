//! What every page has around it, and how pages name each other.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};
use url::form_urlencoded;

use super::super::Served;
use super::PageError;
use crate::store::query::{ask, literal};

/// The pages, as the navigation has them.
const PAGES: [(&str, &str); 5] =
    [("Overview", "/"), ("Matrix", "/matrix"), ("Changes", "/changes"), ("Scans", "/scans"), ("Findings", "/findings")];

/// A link of the navigation.
pub struct Link {
    pub text: String,
    pub href: String,
    pub is_here: bool,
}

/// What a page has around it.
pub struct Frame {
    pub title: String,
    pub pages: Vec<Link>,
    pub organizations: Vec<Link>,
    /// The organization that the page is about, and AWS's id of it.
    pub organization: String,
    pub organization_id: String,
    pub now: DateTime<Utc>,
    pub at: String,
}

impl Frame {
    /// Around a page that is about no organization.
    pub fn bare(title: &str) -> Self {
        Self {
            title: title.to_owned(),
            pages: Vec::new(),
            organizations: Vec::new(),
            organization: String::new(),
            organization_id: String::new(),
            now: DateTime::UNIX_EPOCH,
            at: String::new(),
        }
    }

    /// Around a page about the organization that was asked for, or the first one.
    pub async fn of(
        served: &Served,
        asks: &BTreeMap<String, String>,
        title: &str,
        path: &str,
    ) -> Result<Self, PageError> {
        if let Some((key, _)) = asks.iter().find(|(_, value)| value.chars().any(char::is_control)) {
            return Err(PageError::Request(format!("{key}: expected a text without control characters.")));
        }
        let names = &served.organizations;
        let organization = match asks.get("organization") {
            None => names.first().cloned().unwrap_or_default(),
            Some(name) if names.contains(name) => name.clone(),
            Some(name) => {
                let known = names.join(", ");
                return Err(PageError::NotFound(format!("No organization is named {name}; configured: {known}.")));
            }
        };
        let sql = format!(
            "SELECT organization_id FROM scan_summary WHERE organization_name = {} AND organization_id IS NOT NULL
             ORDER BY scan_id DESC LIMIT 1",
            literal(&organization)
        );
        let rows = ask(served.store.as_ref(), &sql).await?.rows;
        let organization_id = rows.first().map_or("", |row| row[0].text()).to_owned();
        let several = names.len() > 1;
        let own: Vec<(&str, &str)> = if several { vec![("organization", &organization)] } else { Vec::new() };
        let now = served.clock.now();
        Ok(Self {
            title: title.to_owned(),
            pages: PAGES
                .iter()
                .map(|(text, page)| Link { text: (*text).to_owned(), href: href(page, &own), is_here: *page == path })
                .collect(),
            organizations: names
                .iter()
                .filter(|_| several)
                .map(|name| Link {
                    text: name.clone(),
                    href: href("/", &[("organization", name)]),
                    is_here: *name == organization,
                })
                .collect(),
            organization,
            organization_id,
            now,
            at: now.to_rfc3339_opts(SecondsFormat::Secs, true),
        })
    }

    /// A page about the same organization.
    pub fn to(&self, path: &str, more: &[(&str, &str)]) -> String {
        let mut asks = more.to_vec();
        if !self.organizations.is_empty() {
            asks.insert(0, ("organization", self.organization.as_str()));
        }
        href(path, &asks)
    }

    /// The page of an account.
    pub fn account(&self, id: &str) -> String {
        self.to(&format!("/accounts/{id}"), &[])
    }

    /// That a row is of this organization, by the name that the configuration has for it.
    pub fn name_condition(&self) -> String {
        format!("organization_name = {}", literal(&self.organization))
    }

    /// The same by AWS's id: for what is looked up account by account.
    pub fn id_condition(&self) -> String {
        format!("organization_id = {}", literal(&self.organization_id))
    }
}

/// A path and what it is asked for.
pub fn href(path: &str, asks: &[(&str, &str)]) -> String {
    if asks.is_empty() {
        return path.to_owned();
    }
    let asks = form_urlencoded::Serializer::new(String::new()).extend_pairs(asks).finish();
    format!("{path}?{asks}")
}

/// The same page, asked for something else as well: a table as CSV, another part of a long one.
pub fn same(path: &str, asks: &BTreeMap<String, String>, more: &[(&str, &str)]) -> String {
    let mut asks: BTreeMap<&str, &str> = asks.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    asks.extend(more.iter().copied());
    href(path, &asks.into_iter().collect::<Vec<_>>())
}
