//! The pages: what the store knows, for people. They read and change nothing, load nothing from elsewhere, and work without
//! JavaScript but for the sorting and filtering of a table that is there.

mod account;
mod changes;
mod findings;
mod frame;
mod matrix;
mod overview;
mod scans;
mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Router;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use tokio::sync::Semaphore;

use super::{Served, session};
use crate::store::StoreError;
use frame::Frame;
use table::TableQuery;

/// No script, style or frame but our own, and nothing from elsewhere (Content Security Policy Level 3).
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// Pages that are made at once: a scan needs the database more.
const AT_ONCE: usize = 2;

/// What a request asks for, beside its path.
type Params = Query<BTreeMap<String, String>>;

/// Every page, behind the rules of exposure.
pub fn router(served: &Arc<Served>) -> Router<Arc<Served>> {
    Router::new()
        .route("/", get(overview::page))
        .route("/matrix", get(matrix::page))
        .route("/accounts/{id}", get(account::page))
        .route("/changes", get(changes::page))
        .route("/scans", get(scans::page))
        .route("/findings", get(findings::page))
        .route_layer(middleware::from_fn_with_state(Arc::new(Semaphore::new(AT_ONCE)), in_turn))
        .route_layer(middleware::from_fn_with_state(Arc::clone(served), session::admit))
        .route("/login", get(session::form).post(session::log_in))
        .route("/assets/{name}", get(asset))
        .fallback(nothing)
        .layer(middleware::from_fn(harden))
}

/// What the browser is told of every page.
async fn harden(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn nothing() -> PageError {
    PageError::NotFound("There is no such page.".to_owned())
}

/// The style and the script, which are part of the program.
async fn asset(Path(name): Path<String>) -> Response {
    let (kind, text) = match name.as_str() {
        "page.css" => ("text/css; charset=utf-8", include_str!("../assets/page.css")),
        "page.js" => ("text/javascript; charset=utf-8", include_str!("../assets/page.js")),
        _ => return StatusCode::NOT_FOUND.into_response(),
    };
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

/// Why there is no page.
enum PageError {
    /// The store does not answer.
    Store(StoreError),
    /// There is no such thing; what.
    NotFound(String),
    /// The request cannot be; why.
    Request(String),
    /// A template failed.
    Template(askama::Error),
}

impl From<StoreError> for PageError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<askama::Error> for PageError {
    fn from(error: askama::Error) -> Self {
        Self::Template(error)
    }
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage {
    frame: Frame,
    said: String,
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let (status, said) = match self {
            Self::Store(error) => {
                tracing::warn!("a page cannot be shown: {error}");
                (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The database does not answer; /readyz and the log say why.".to_owned(),
                )
            }
            Self::NotFound(what) => (StatusCode::NOT_FOUND, what),
            Self::Request(why) => (StatusCode::BAD_REQUEST, why),
            Self::Template(error) => {
                tracing::error!("a page cannot be rendered: {error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "The page cannot be rendered; the log says why.".to_owned())
            }
        };
        let page = ProblemPage { frame: Frame::bare("Not shown"), said };
        (status, page.render().map_or_else(|_| page.said.clone().into_response(), |text| Html(text).into_response()))
            .into_response()
    }
}

type PageResult = Result<Response, PageError>;

/// A page.
fn shown(page: &impl Template) -> PageResult {
    Ok(Html(page.render()?).into_response())
}

/// The table that was asked for as CSV, if one was.
async fn csv(
    served: &Served,
    asks: &BTreeMap<String, String>,
    tables: &[TableQuery],
) -> Result<Option<Response>, PageError> {
    let Some(id) = asks.get("csv") else { return Ok(None) };
    let Some(table) = tables.iter().find(|table| table.id == id) else {
        let known: Vec<&str> = tables.iter().map(|table| table.id).collect();
        return Err(PageError::Request(format!(
            "csv={id}: there is no such table here; there are: {}",
            known.join(", ")
        )));
    };
    let text = table.csv(served.store.as_ref()).await?;
    let name = format!("attachment; filename=\"trustwatch-{}.csv\"", table.id);
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
    if let Ok(name) = HeaderValue::try_from(name) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(Some((headers, text).into_response()))
}

/// One of few at a time: people who look must not keep a scan from its database.
async fn in_turn(State(turns): State<Arc<Semaphore>>, request: Request, next: Next) -> Response {
    let Ok(_turn) = turns.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
    next.run(request).await
}

/// What every handler is given.
type AppState = State<Arc<Served>>;
