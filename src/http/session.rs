//! Who may see the pages: as with everything else on the port, whoever bears the token, or everybody where none is asked for. A
//! browser cannot bear a token by itself, so it is given a cookie for it.

use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Redirect, Response};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Served;
use crate::config::Secret;
use crate::model::hex;

/// The name of the cookie.
const COOKIE: &str = "trustwatch";

/// Lets a request in that may see the pages.
pub async fn admit(State(served): State<Arc<Served>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    if served.trusts(headers) || served.token.as_ref().is_some_and(|token| bears(headers, token)) {
        return match misdirected(&served, headers) {
            Some(refused) => refused,
            None => next.run(request).await,
        };
    }
    let to = request.uri().path_and_query().map_or("/", |to| to.as_str()).to_owned();
    let mut response = page(false, to);
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"trustwatch\""));
    response
}

/// The answer to a request for another machine, where no token is asked for: a page from elsewhere may have its own name lead to
/// this machine, and then read what is served here.
pub fn misdirected(served: &Served, headers: &HeaderMap) -> Option<Response> {
    if served.token.is_some() || served.is_open || names_this_machine(headers) {
        return None;
    }
    let said = "this port answers to 127.0.0.1 and localhost; to be reached by another name it needs `http.token_file`, or \
                `http.without_token = true`\n";
    Some((StatusCode::MISDIRECTED_REQUEST, said).into_response())
}

/// What the cookie holds: nothing from which the token could be told.
fn cookie(token: &Secret) -> String {
    let digest = Sha256::new().chain_update(b"trustwatch pages\0").chain_update(token.expose()).finalize();
    hex(&digest)
}

fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = cookies.flat_map(|line| line.split(';')).filter_map(|one| one.trim().split_once('='));
    let expected = Sha256::digest(cookie(token));
    // Digests are compared, so that the time this takes says nothing of the cookie.
    values.any(|(name, value)| name == COOKIE && Sha256::digest(value) == expected)
}

/// Whether a request is for this machine by its address or as `localhost`.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let Some(authority) = host.and_then(|host| host.parse::<Authority>().ok()) else { return false };
    let host = authority.host().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok()
}

#[derive(Template)]
#[template(path = "login.html")]
struct Login {
    has_failed: bool,
    /// The page that was asked for.
    to: String,
}

fn page(has_failed: bool, to: String) -> Response {
    match (Login { has_failed, to }).render() {
        Ok(text) => Html(text).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Asks for the token.
pub async fn form() -> Response {
    page(false, "/".to_owned())
}

/// What was typed in.
#[derive(Deserialize)]
pub struct LoginForm {
    token: String,
    #[serde(default)]
    to: String,
}

impl LoginForm {
    /// The page to go on with: one of ours.
    fn to(&self) -> &str {
        let is_ours = self.to.starts_with('/') && !self.to.starts_with("//") && !self.to.contains(['\\', '\r', '\n']);
        if is_ours { &self.to } else { "/" }
    }
}

/// Takes a token, and gives a cookie for it.
pub async fn log_in(State(served): State<Arc<Served>>, Form(typed): Form<LoginForm>) -> Response {
    let Some(token) = &served.token else { return Redirect::to("/").into_response() };
    if Sha256::digest(typed.token.trim()) != Sha256::digest(token.expose()) {
        let mut response = page(true, typed.to().to_owned());
        *response.status_mut() = StatusCode::UNAUTHORIZED;
        return response;
    }
    let mut response = Redirect::to(typed.to()).into_response();
    // Until the browser is closed, and never to a script. A link in a message may lead here; what changes something, nothing does.
    let cookie = format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", cookie(token));
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_name_does_not_lead_here() {
        let named = |host: &str| names_this_machine(&HeaderMap::from_iter([(header::HOST, host.parse().unwrap())]));
        for host in ["127.0.0.1:9464", "localhost:9464", "[::1]:9464", "localhost"] {
            assert!(named(host), "{host}");
        }
        for host in ["evil.example.com:9464", "localhost.evil.example.com", ""] {
            assert!(!named(host), "{host}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }

    #[test]
    fn who_has_logged_in_goes_on_within() {
        let to = |to: &str| LoginForm { token: String::new(), to: to.to_owned() }.to().to_owned();
        assert_eq!(to("/matrix?q=a"), "/matrix?q=a");
        for elsewhere in
            ["//evil.example.com", "https://evil.example.com", "/\\evil.example.com", "", "/a\r\nSet-Cookie: x"]
        {
            assert_eq!(to(elsewhere), "/", "{elsewhere}");
        }
    }

    #[test]
    fn a_cookie_is_good_for_its_token_alone() {
        let token = Secret::new("0123456789abcdef".to_owned());
        let with =
            |value: &str| HeaderMap::from_iter([(header::COOKIE, format!("a=b; trustwatch={value}").parse().unwrap())]);
        assert!(bears(&with(&cookie(&token)), &token));
        assert!(!bears(&with(token.expose()), &token));
        assert!(!bears(&with(&cookie(&Secret::new("another".to_owned()))), &token));
        assert!(!bears(&HeaderMap::new(), &token));
    }
}
