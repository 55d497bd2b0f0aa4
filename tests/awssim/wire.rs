//! Requests, answers and errors, in the shape that each AWS protocol gives them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The protocols of the services served here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// STS: form in, XML out.
    Query,
    /// Organizations: JSON 1.1 with `X-Amz-Target`.
    Json,
    /// Account Management and Access Analyzer.
    RestJson,
}

impl Protocol {
    pub fn of(service: &str) -> Option<Self> {
        match service {
            "sts" => Some(Self::Query),
            "organizations" => Some(Self::Json),
            "account" | "access-analyzer" | "securityhub" => Some(Self::RestJson),
            _ => None,
        }
    }
}

/// One HTTP request, read to its end.
#[derive(Debug, Clone)]
pub struct Request {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub fn query_parameters(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(self.query.as_bytes()).into_owned().collect()
    }

    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    pub fn json(&self) -> Result<Value, ApiError> {
        if self.body.is_empty() {
            return Ok(json!({}));
        }
        serde_json::from_slice(&self.body)
            .map_err(|error| ApiError::new(400, "SerializationException", &error.to_string()))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn json(value: &Value) -> Self {
        Self { status: 200, headers: Vec::new(), body: value.to_string().into_bytes() }
    }

    pub fn text(status: u16, text: &str) -> Self {
        Self { status, headers: Vec::new(), body: text.as_bytes().to_vec() }
    }
}

/// An error as AWS names it.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiError {
    pub status: u16,
    pub code: String,
    pub message: String,
    /// Further members of the error's shape.
    pub extra: Box<Value>,
    pub retry_after: Option<u64>,
}

impl ApiError {
    pub fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.into(), message: message.into(), extra: Box::new(json!({})), retry_after: None }
    }

    pub fn with(mut self, extra: Value) -> Self {
        self.extra = Box::new(extra);
        self
    }

    /// Renders the error as the service's protocol does.
    pub fn render(&self, protocol: Protocol, request_id: &str) -> Reply {
        let mut headers = Vec::new();
        if let Some(seconds) = self.retry_after {
            headers.push(("retry-after", seconds.to_string()));
        }
        let mut members = Value::clone(&self.extra);
        let body = match protocol {
            Protocol::Query => {
                let kind = if self.status < 500 { "Sender" } else { "Receiver" };
                format!(
                    "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>{kind}</Type>\
                     <Code>{}</Code><Message>{}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>",
                    escape(&self.code),
                    escape(&self.message)
                )
            }
            Protocol::Json => {
                members["__type"] = json!(self.code);
                members["Message"] = json!(self.message);
                members.to_string()
            }
            Protocol::RestJson => {
                headers.push(("x-amzn-errortype", self.code.clone()));
                members["message"] = json!(self.message);
                members.to_string()
            }
        };
        Reply { status: self.status, headers, body: body.into_bytes() }
    }
}

/// The text with XML's special characters replaced.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Seconds since the epoch as ISO 8601, as REST JSON services write timestamps.
pub fn iso(seconds: i64) -> String {
    chrono::DateTime::from_timestamp(seconds, 0).unwrap_or_default().format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub fn throttled(service: &str) -> ApiError {
    match service {
        "sts" => ApiError::new(400, "Throttling", "Rate exceeded"),
        "organizations" => ApiError::new(
            400,
            "TooManyRequestsException",
            "AWS Organizations can't process your request at this time. Please try again later.",
        )
        .with(json!({"Type": "RATE_LIMIT_EXCEEDED"})),
        "account" => ApiError::new(429, "TooManyRequestsException", "Too Many Requests"),
        _ => ApiError { retry_after: Some(1), ..ApiError::new(429, "ThrottlingException", "Rate exceeded") },
    }
}

pub fn internal(service: &str) -> ApiError {
    let (code, message) = match service {
        "sts" => ("InternalFailure", "The request processing has failed because of an unknown error."),
        "organizations" => {
            ("ServiceException", "AWS Organizations can't complete your request because of an internal service error.")
        }
        _ => ("InternalServerException", "Internal server error"),
    };
    ApiError::new(500, code, message)
}

pub fn unavailable() -> ApiError {
    ApiError::new(503, "ServiceUnavailable", "Service is unable to handle request.")
}
