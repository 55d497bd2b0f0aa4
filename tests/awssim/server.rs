//! The HTTP server: reads a request, asks the weather, answers it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::auth::{Caller, Sessions, Signature, authenticate};
use super::control::{self, Change};
use super::counters::{Answer, Counters};
use super::findings::Findings;
use super::hub::{self, Hub};
use super::scenario::Scenario;
use super::truth::{Truth, truth};
use super::weather::{Call, Effect, Weather};
use super::wire::{ApiError, Protocol, Reply, Request, internal, throttled, unavailable};
use super::world::World;
use super::{analyzers, generate, management, organizations, sts};

type Body = BoxBody<Bytes, std::io::Error>;

/// A running simulation. Dropping it ends it.
pub struct Sim {
    pub address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    world: Mutex<World>,
    weather: Mutex<Weather>,
    sessions: Mutex<Sessions>,
    findings: Mutex<Findings>,
    hub: Mutex<Hub>,
    assumed: Mutex<Vec<Value>>,
    counters: Counters,
    verify_signatures: bool,
    /// How far AWS's clock is ahead of this machine's, in seconds.
    ahead: AtomicI64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the connection must do after, or instead of, an answer.
enum Outcome {
    Answer(Reply),
    Reset,
    Hang,
    /// The length of the whole, and half of it.
    Truncate(Reply),
}

impl Sim {
    /// Starts a simulation on a port of 127.0.0.1; 0 takes a free one.
    pub async fn start(scenario: &Scenario, port: u16) -> std::io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let address = listener.local_addr()?;
        let weather =
            Weather::new(scenario.seed, scenario.latency_ms, scenario.aws_rate_limits, scenario.weather.clone());
        let state = Arc::new(State {
            world: Mutex::new(generate::world(scenario)),
            weather: Mutex::new(weather),
            sessions: Mutex::default(),
            findings: Mutex::default(),
            hub: Mutex::default(),
            assumed: Mutex::default(),
            counters: Counters::default(),
            verify_signatures: scenario.verify_signatures,
            ahead: AtomicI64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&state)));
        Ok(Self { address, state, _tasks: tasks })
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        lock(&self.state.world)
    }

    /// The accounts that may not own analyzers of the organization.
    pub fn members(&self) -> Vec<String> {
        self.world().members()
    }

    pub fn world_caller(&self) -> String {
        self.world().caller.clone()
    }

    pub fn counters(&self) -> &Counters {
        &self.state.counters
    }

    /// What AssumeRole was asked for, newest last.
    pub fn assumed(&self) -> Vec<Value> {
        lock(&self.state.assumed).clone()
    }

    pub fn truth(&self, requirement: &str) -> Vec<Truth> {
        truth(&self.world(), requirement)
    }

    pub fn change(&self, change: &Change) {
        self.state.change(change).expect("a change that the world allows");
    }

    /// Somebody archives an active finding of an analyzer.
    pub fn archive_one(&self, analyzer: &str) {
        let world = self.world();
        let (seed, count) = (world.seed, world.switches.findings_per_analyzer);
        drop(world);
        lock(&self.state.findings).archive_one(seed, count, analyzer);
    }

    /// What Security Hub was told in an account and region.
    pub fn hub(&self, account: &str, region: &str) -> Vec<Value> {
        lock(&self.state.hub).of(account, region)
    }

    pub fn weather(&self, rules: Vec<super::weather::Rule>) {
        lock(&self.state.weather).set_rules(rules);
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                connections.spawn(connection(stream, Arc::clone(&state)));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: TcpStream, state: Arc<State>) {
    state.counters.connected();
    let _ = stream.set_nodelay(true);
    // A second handle to the socket, by which a reset can be sent instead of an orderly end.
    let handle = stream.into_std().and_then(|stream| Ok((stream.try_clone()?, TcpStream::from_std(stream)?)));
    if let Ok((socket, stream)) = handle {
        let socket = Arc::new(socket);
        let service = service_fn(|request| serve(Arc::clone(&state), Arc::clone(&socket), request));
        let mut http = hyper::server::conn::http1::Builder::new();
        let _ = http.timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
    }
    state.counters.disconnected();
}

async fn serve(
    state: Arc<State>,
    socket: Arc<std::net::TcpStream>,
    request: hyper::Request<Incoming>,
) -> Result<hyper::Response<Body>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes().to_vec();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let request = Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        headers,
        body,
    };
    let cut = || std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    if let Some(path) = request.path.strip_prefix("/_sim/") {
        return Ok(respond(state.control(path, &request), None));
    }
    match state.answer(&request).await {
        Outcome::Answer(mut reply) => {
            reply.headers.push(("date", state.now().format("%a, %d %b %Y %H:%M:%S GMT").to_string()));
            Ok(respond(reply, None))
        }
        Outcome::Truncate(reply) => {
            let half = reply.body.len() / 2;
            Ok(respond(reply, Some(half)))
        }
        Outcome::Reset => {
            let _ = socket2::SockRef::from(&*socket).set_linger(Some(Duration::ZERO));
            Err(cut())
        }
        Outcome::Hang => std::future::pending().await,
    }
}

fn respond(reply: Reply, cut_at: Option<usize>) -> hyper::Response<Body> {
    let is_xml = reply.body.starts_with(b"<");
    let mut response = hyper::Response::builder()
        .status(reply.status)
        .header("content-type", if is_xml { "text/xml" } else { "application/json" })
        .header("x-amzn-requestid", "00000000-0000-0000-0000-000000000000");
    for (name, value) in &reply.headers {
        response = response.header(*name, value);
    }
    let body = match cut_at {
        None => Full::new(Bytes::from(reply.body)).map_err(|never: Infallible| match never {}).boxed(),
        Some(half) => {
            response = response.header("content-length", reply.body.len());
            let part = Bytes::from(reply.body).slice(..half);
            BodyExt::boxed(CutBody { part: Some(part) })
        }
    };
    response.body(body).expect("a response of known parts")
}

/// A body that breaks off in the middle.
struct CutBody {
    part: Option<Bytes>,
}

impl hyper::body::Body for CutBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        let broken = || std::io::Error::from(std::io::ErrorKind::ConnectionAborted);
        Poll::Ready(Some(self.part.take().map(Frame::data).ok_or_else(broken)))
    }
}

impl State {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        chrono::Utc::now() + chrono::TimeDelta::seconds(self.ahead.load(Ordering::Relaxed))
    }

    async fn answer(&self, request: &Request) -> Outcome {
        let Some(signature) = Signature::read(request) else {
            return Outcome::Answer(missing_token(request));
        };
        let Some(protocol) = Protocol::of(&signature.service) else {
            return Outcome::Answer(Reply::text(404, "{\"message\":\"no such service is simulated\"}"));
        };
        let operation = operation_of(&signature.service, request);
        let now = self.now().timestamp();
        let caller = {
            let (world, sessions) = (lock(&self.world), lock(&self.sessions));
            authenticate(&world, &sessions, request, &signature, protocol, now, self.verify_signatures)
        };
        let account = caller.as_ref().map_or("", |caller| caller.account.as_str()).to_owned();
        let call =
            Call { service: &signature.service, operation: &operation, account: &account, region: &signature.region };
        let strike = lock(&self.weather).strike(&call, Instant::now());

        self.counters.begin();
        if !strike.latency.is_zero() {
            tokio::time::sleep(strike.latency).await;
        }
        self.counters.end();

        let render = |error: ApiError| error.render(protocol, REQUEST_ID);
        let fault = match strike.fault {
            Some(Effect::Reset) => {
                self.counters.count(&signature.service, &operation, Answer::Fault);
                return Outcome::Reset;
            }
            Some(Effect::Hang) => {
                self.counters.count(&signature.service, &operation, Answer::Fault);
                return Outcome::Hang;
            }
            Some(effect) => refusal(effect, &signature.service, protocol).map(render),
            None => None,
        };
        if let Some(reply) = fault {
            let throttle = strike.fault == Some(Effect::Throttle);
            let answer = if throttle { Answer::Throttled } else { Answer::Fault };
            self.counters.count(&signature.service, &operation, answer);
            return Outcome::Answer(reply);
        }

        let result = caller.and_then(|caller| self.dispatch(&caller, &signature, &operation, request, now));
        let answer = match (&result, strike.fault) {
            (_, Some(_)) => Answer::Fault,
            (Ok(_), None) => Answer::Ok,
            (Err(_), None) => Answer::Error,
        };
        self.counters.count(&signature.service, &operation, answer);
        if operation == "ListAnalyzers" && answer == Answer::Ok && !request.query.contains("nextToken") {
            self.counters.listed(&account, &signature.region);
        }
        let mut reply = result.unwrap_or_else(render);
        match strike.fault {
            Some(Effect::Truncate) => return Outcome::Truncate(reply),
            Some(Effect::CutShort) => reply.body.truncate(reply.body.len() / 2),
            Some(Effect::Malformed) => reply.body = b"<html>an answer from a proxy".to_vec(),
            Some(Effect::EmptyObject) => reply = Reply::text(200, "{}"),
            _ => {}
        }
        Outcome::Answer(reply)
    }

    fn dispatch(
        &self,
        caller: &Caller,
        signature: &Signature,
        operation: &str,
        request: &Request,
        now: i64,
    ) -> Result<Reply, ApiError> {
        let mut world = lock(&self.world);
        match signature.service.as_str() {
            "sts" if operation == "AssumeRole" => {
                let mut sessions = lock(&self.sessions);
                sessions.forget_before(now - 60);
                let (reply, record) = sts::assume_role(&world, &mut sessions, caller, request, REQUEST_ID, now)?;
                lock(&self.assumed).push(record);
                Ok(reply)
            }
            "sts" if operation == "GetCallerIdentity" => Ok(sts::get_caller_identity(&world, caller, REQUEST_ID)),
            "sts" => Err(ApiError::new(400, "InvalidAction", &format!("Could not find operation {operation}"))),
            "organizations" => {
                organizations::call(&world, caller, operation, &request.json()?).map(|value| Reply::json(&value))
            }
            "account" => management::call(&world, caller, operation, &request.json()?).map(|value| Reply::json(&value)),
            "securityhub" => {
                let mut held = lock(&self.hub);
                hub::call(&world, &mut held, caller, &signature.region, operation, &request.json()?)
                    .map(|value| Reply::json(&value))
            }
            _ => {
                let mut findings = lock(&self.findings);
                analyzers::call(&mut world, &mut findings, caller, &signature.region, operation, request)
                    .map(|value| Reply::json(&value))
            }
        }
    }

    fn change(&self, change: &Change) -> Result<(), String> {
        match change {
            Change::ExpireSessions {} => lock(&self.sessions).expire_all(),
            Change::StepClock { ahead } => self.ahead.store(*ahead, Ordering::Relaxed),
            Change::Weather { rules } => lock(&self.weather).set_rules(rules.clone()),
            _ => {}
        }
        control::apply(&mut lock(&self.world), change)
    }

    fn control(&self, path: &str, request: &Request) -> Reply {
        match (request.method.as_str(), path) {
            ("GET", "world") => Reply::json(&serde_json::to_value(&*lock(&self.world)).unwrap_or_default()),
            ("GET", "truth") => {
                let parameters = request.query_parameters();
                let requirement = parameters.get("requirement").map_or("either", String::as_str);
                Reply::json(&serde_json::to_value(truth(&lock(&self.world), requirement)).unwrap_or_default())
            }
            ("GET", "counters") => Reply::json(&self.counters.json()),
            ("DELETE", "counters") => {
                self.counters.reset();
                Reply::json(&json!({}))
            }
            ("GET", "assumed") => Reply::json(&json!(*lock(&self.assumed))),
            ("POST", "change") => match serde_json::from_slice::<Vec<Change>>(&request.body) {
                Err(error) => Reply::text(400, &format!("{error}\n")),
                Ok(changes) => match changes.iter().try_for_each(|change| self.change(change)) {
                    Err(error) => Reply::text(400, &format!("{error}\n")),
                    Ok(()) => Reply::json(&json!({"changes": changes.len()})),
                },
            },
            _ => Reply::text(404, "known: world, truth, counters, assumed, change\n"),
        }
    }
}

const REQUEST_ID: &str = "00000000-0000-0000-0000-000000000000";

/// The error that a service answers with under an effect; `None` where the effect is none of that kind.
fn refusal(effect: Effect, service: &str, protocol: Protocol) -> Option<ApiError> {
    Some(match effect {
        Effect::Throttle => throttled(service),
        Effect::Error500 => internal(service),
        Effect::Error503 => unavailable(),
        Effect::StsDisabled => {
            ApiError::new(403, "RegionDisabledException", "STS is not activated in this region for account")
        }
        Effect::BadCredentials => {
            ApiError::new(403, "UnrecognizedClientException", "The security token included in the request is invalid.")
        }
        Effect::ExpiredToken => {
            let code = if protocol == Protocol::Query { "ExpiredToken" } else { "ExpiredTokenException" };
            ApiError::new(403, code, "The security token included in the request is expired")
        }
        Effect::SubscriptionRequired => ApiError::new(
            403,
            "SubscriptionRequiredException",
            "The AWS Access Key Id needs a subscription for the service",
        ),
        Effect::PackedPolicyTooLarge => {
            ApiError::new(400, "PackedPolicyTooLarge", "Packed policy consumes 112% of allotted space")
        }
        _ => return None,
    })
}

fn operation_of(service: &str, request: &Request) -> String {
    let name = match service {
        "sts" => request.form().get("Action").cloned(),
        "organizations" => request.header("x-amz-target").rsplit('.').next().map(str::to_owned),
        "account" => match request.path.as_str() {
            "/listRegions" => Some("ListRegions".to_owned()),
            "/getRegionOptStatus" => Some("GetRegionOptStatus".to_owned()),
            _ => None,
        },
        "securityhub" => hub::operation(&request.method, &request.path).map(str::to_owned),
        _ => analyzers::operation(&request.method, &request.path).map(str::to_owned),
    };
    name.unwrap_or_else(|| "Unknown".to_owned())
}

fn missing_token(request: &Request) -> Reply {
    let is_json = request.header("content-type").contains("json");
    let protocol = if is_json { Protocol::Json } else { Protocol::RestJson };
    ApiError::new(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
        .render(protocol, REQUEST_ID)
}

/// The environment by which an AWS client reaches a simulation as an account.
pub fn environment(url: &str, account: &str) -> Vec<(&'static str, String)> {
    vec![
        ("AWS_ENDPOINT_URL", url.to_owned()),
        ("AWS_ACCESS_KEY_ID", super::auth::access_key(account)),
        ("AWS_SECRET_ACCESS_KEY", super::auth::secret_key(account)),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("AWS_DEFAULT_REGION", "us-east-1".to_owned()),
        ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
    ]
}
