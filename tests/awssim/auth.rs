//! Who is calling: SigV4, long-term keys and sessions.

use std::collections::HashMap;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use super::wire::{ApiError, Protocol, Request};
use super::world::World;

/// The credential scope and what was signed.
#[derive(Debug)]
pub struct Signature {
    pub access_key: String,
    pub date: String,
    pub region: String,
    pub service: String,
    signed_headers: Vec<String>,
    signature: String,
}

impl Signature {
    /// Reads the `Authorization` header; `None` where there is none that can be read.
    pub fn read(request: &Request) -> Option<Self> {
        let rest = request.header("authorization").strip_prefix("AWS4-HMAC-SHA256 ")?;
        let field = |name: &str| {
            rest.split(',')
                .map(str::trim)
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .map(str::to_owned)
        };
        let credential = field("Credential")?;
        let mut scope = credential.split('/');
        Some(Self {
            access_key: scope.next()?.to_owned(),
            date: scope.next()?.to_owned(),
            region: scope.next()?.to_owned(),
            service: scope.next()?.to_owned(),
            signed_headers: field("SignedHeaders")?.split(';').map(str::to_owned).collect(),
            signature: field("Signature")?,
        })
    }

    /// Whether the request was signed with this secret (AWS General Reference, Signature Version 4).
    pub fn is_right(&self, request: &Request, secret: &str) -> bool {
        let headers: String =
            self.signed_headers.iter().map(|name| format!("{name}:{}\n", squeeze(request.header(name)))).collect();
        let mut query: Vec<(String, String)> = url::form_urlencoded::parse(request.query.as_bytes())
            .map(|(name, value)| (encode(&name, false), encode(&value, false)))
            .collect();
        query.sort();
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let canonical = format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            request.method,
            encode(&request.path, true),
            query.join("&"),
            self.signed_headers.join(";"),
            hex(&Sha256::digest(&request.body))
        );
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let text = format!(
            "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
            request.header("x-amz-date"),
            hex(&Sha256::digest(canonical.as_bytes()))
        );
        let mut key = hmac(format!("AWS4{secret}").as_bytes(), &self.date);
        for part in [self.region.as_str(), &self.service, "aws4_request"] {
            key = hmac(&key, part);
        }
        hex(&hmac(&key, &text)) == self.signature
    }
}

fn squeeze(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn encode(text: &str, keep_slash: bool) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => (byte as char).to_string(),
            b'/' if keep_slash => "/".to_owned(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The long-term access key of an account. The account can be read from it, as from a real one.
pub fn access_key(account: &str) -> String {
    format!("AKIASIM0{account}")
}

pub fn secret_key(account: &str) -> String {
    format!("simulated+secret+of+account+{account}")
}

/// A session that AssumeRole gave out.
#[derive(Debug, Clone)]
pub struct Session {
    pub account: String,
    pub role: String,
    pub session_name: String,
    pub secret: String,
    pub token: String,
    /// Seconds since the epoch.
    pub expires: i64,
    /// The session policy's allowed actions; `None` where there was no policy.
    pub allowed: Option<Vec<String>>,
    /// Whether this session came from another session.
    pub chained: bool,
}

#[derive(Debug, Default)]
pub struct Sessions {
    by_key: HashMap<String, Session>,
    next: u64,
}

impl Sessions {
    pub fn add(&mut self, mut session: Session) -> (String, Session) {
        self.next += 1;
        let key = format!("ASIASIM{:013}", self.next);
        session.secret = format!("simulated+session+secret+{:015}", self.next);
        session.token = format!("FwoGZXIvYXdzSIM{}", hex(&Sha256::digest(key.as_bytes())));
        self.by_key.insert(key.clone(), session.clone());
        (key, session)
    }

    /// Every session that was given out ends now.
    pub fn expire_all(&mut self) {
        self.by_key.values_mut().for_each(|session| session.expires = 0);
    }

    pub fn forget_before(&mut self, instant: i64) {
        self.by_key.retain(|_, session| session.expires > instant);
    }
}

/// The caller of a request.
#[derive(Debug, Clone)]
pub struct Caller {
    pub account: String,
    pub session: Option<Session>,
}

impl Caller {
    pub fn arn(&self, partition: &str) -> String {
        match &self.session {
            None => format!("arn:{partition}:iam::{}:user/operator", self.account),
            Some(session) => {
                format!("arn:{partition}:sts::{}:assumed-role/{}/{}", self.account, session.role, session.session_name)
            }
        }
    }

    /// The ARN of the role that the caller's session is of.
    pub fn role_arn(&self, partition: &str) -> Option<String> {
        self.session.as_ref().map(|session| format!("arn:{partition}:iam::{}:role/{}", self.account, session.role))
    }

    pub fn is_allowed_by_session_policy(&self, action: &str) -> bool {
        let allowed = self.session.as_ref().and_then(|session| session.allowed.as_ref());
        allowed.is_none_or(|actions| {
            actions.iter().any(|pattern| {
                pattern == action || pattern.strip_suffix('*').is_some_and(|prefix| action.starts_with(prefix))
            })
        })
    }
}

/// A signature is good for five minutes (AWS General Reference, Signature Version 4).
const FRESH_SECONDS: i64 = 300;

/// Finds the caller, or the error that AWS gives to somebody it does not know.
pub fn authenticate(
    world: &World,
    sessions: &Sessions,
    request: &Request,
    signature: &Signature,
    protocol: Protocol,
    now: i64,
    verify: bool,
) -> Result<Caller, ApiError> {
    let denied = |query_code: &str, json_code: &str, message: &str| {
        let (code, status) = match protocol {
            Protocol::Query => (query_code, 403),
            Protocol::Json => (json_code, 400),
            Protocol::RestJson => (json_code, 403),
        };
        ApiError::new(status, code, message)
    };
    let unknown = || {
        let message = "The security token included in the request is invalid.";
        denied("InvalidClientTokenId", "UnrecognizedClientException", message)
    };
    let token = request.header("x-amz-security-token");
    let (caller, secret) = if let Some(session) = sessions.by_key.get(&signature.access_key) {
        if session.token != token {
            return Err(unknown());
        }
        if session.expires <= now {
            let message = "The security token included in the request is expired";
            return Err(denied("ExpiredToken", "ExpiredTokenException", message));
        }
        (Caller { account: session.account.clone(), session: Some(session.clone()) }, session.secret.clone())
    } else {
        let account = signature.access_key.strip_prefix("AKIASIM0").unwrap_or_default();
        if !world.accounts.contains_key(account) || !token.is_empty() {
            return Err(unknown());
        }
        (Caller { account: account.to_owned(), session: None }, secret_key(account))
    };
    let signed_at = chrono::NaiveDateTime::parse_from_str(request.header("x-amz-date"), "%Y%m%dT%H%M%SZ");
    if verify && signed_at.is_ok_and(|signed_at| (signed_at.and_utc().timestamp() - now).abs() > FRESH_SECONDS) {
        let message = "Signature expired: it was signed more than 5 minutes away from now";
        return Err(denied("SignatureDoesNotMatch", "InvalidSignatureException", message));
    }
    if verify && !signature.is_right(request, &secret) {
        let message = "The request signature we calculated does not match the signature you provided. Check your AWS \
                       Secret Access Key and signing method. Consult the service documentation for details.";
        return Err(denied("SignatureDoesNotMatch", "InvalidSignatureException", message));
    }
    Ok(caller)
}
