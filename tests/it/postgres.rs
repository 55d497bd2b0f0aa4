//! A throwaway Postgres for the tests: one server for each test process, a database for each story.
//!
//! It is made from the binaries that are installed. `TRUSTWATCH_TEST_POSTGRES_URL` names a server to use instead: that of
//! a user who may create databases.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};

const HOW_TO_INSTALL: &str = "no Postgres is installed: the tests need its server's binaries (initdb, postgres). Install \
                              them (Debian and Ubuntu: apt-get install postgresql; macOS: brew install postgresql), or \
                              name a server with TRUSTWATCH_TEST_POSTGRES_URL=postgres://USER@HOST/DATABASE?sslmode=…";

/// A running server.
pub struct Server {
    /// `postgres://owner@127.0.0.1:PORT/postgres?sslmode=disable`
    pub url: String,
    /// What a test of TLS or of a restart needs; `None` of a server that was given.
    pub own: Option<Own>,
}

/// A server that the tests started.
pub struct Own {
    /// Where `ca.crt`, `client.crt` and `client.key` are, among the rest.
    pub folder: PathBuf,
    /// Where the server's programs are, and psql.
    pub binaries: PathBuf,
    /// Ends the server when its input ends: when this process does, however it does.
    _watch: Child,
}

impl Own {
    /// Stops the server: every connection breaks.
    pub fn stop(&self) {
        control(&self.binaries, &self.folder, &["stop", "-m", "fast", "-w"]);
    }

    /// Starts the server that was stopped.
    pub fn start(&self) {
        control(&self.binaries, &self.folder, &["start", "-w"]);
    }

    /// Stops and starts the server.
    pub fn restart(&self) {
        self.stop();
        self.start();
    }
}

/// The common server, started by the first test that needs it.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(|| match std::env::var("TRUSTWATCH_TEST_POSTGRES_URL") {
        Ok(url) => Server { url, own: None },
        Err(_) => start(),
    })
}

/// A database of its own on the common server; the URL that names it.
pub async fn database() -> String {
    database_on(server()).await
}

/// A database of its own; the URL that names it.
pub async fn database_on(server: &Server) -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("story_{}_{number}", std::process::id());
    let options: PgConnectOptions = server.url.parse().expect("a URL of Postgres");
    let mut connection = options.connect().await.expect("the server answers");
    connection.execute(AssertSqlSafe(format!("CREATE DATABASE {name}"))).await.expect("a database is created");
    connection.close().await.expect("the connection ends");
    let mut url = url::Url::parse(&server.url).expect("a URL");
    url.set_path(&name);
    url.to_string()
}

fn binaries() -> PathBuf {
    let mut candidates: Vec<PathBuf> = Vec::new();
    if let Ok(folders) = std::fs::read_dir("/usr/lib/postgresql") {
        candidates.extend(folders.flatten().map(|entry| entry.path().join("bin")));
    }
    // The newest first.
    candidates.sort();
    candidates.reverse();
    if let Ok(output) = Command::new("pg_config").arg("--bindir").output() {
        candidates.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    candidates.extend(std::env::var("PATH").iter().flat_map(|path| std::env::split_paths(path).collect::<Vec<_>>()));
    let found =
        candidates.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("postgres").exists());
    found.unwrap_or_else(|| panic!("{HOW_TO_INSTALL}"))
}

/// A command as a user that Postgres accepts: it refuses root.
fn as_user(program: &Path) -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let user = user.expect("there is a user postgres, as which the server runs where the tests run as root");
    let mut command = Command::new("setpriv");
    command.arg(format!("--reuid={}", user.uid)).arg(format!("--regid={}", user.gid)).arg("--clear-groups").arg("--");
    command.arg(program);
    command
}

fn run(command: &mut Command) {
    let output = command.current_dir("/").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn control(binaries: &Path, folder: &Path, arguments: &[&str]) {
    let log = folder.join("log");
    let mut command = as_user(&binaries.join("pg_ctl"));
    // The server inherits what pg_ctl has: a pipe would not end before it does.
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-l")
        .arg(log)
        .args(arguments)
        .stdout(Stdio::null())
        .current_dir("/");
    let status = command.stderr(Stdio::null()).status().expect("pg_ctl runs");
    assert!(status.success(), "pg_ctl {arguments:?} ended with {status}: see {}", folder.display());
}

/// An authority, and what it vouches for: the server as `localhost`, and a client named `with_certificate`.
fn certificates(folder: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a certificate is written");
        if name.starts_with("server") && nix::unistd::geteuid().is_root() {
            let user = nix::unistd::User::from_name("postgres").ok().flatten().expect("there is a user postgres");
            nix::unistd::chown(&path, Some(user.uid), Some(user.gid)).expect("the file is given away");
        }
        let mode = std::os::unix::fs::PermissionsExt::from_mode(if name.starts_with("server") { 0o600 } else { 0o644 });
        std::fs::set_permissions(&path, mode).expect("its mode is set");
    };
    let authority_key = KeyPair::generate().expect("a key");
    let mut authority = CertificateParams::new(Vec::new()).expect("an authority");
    authority.distinguished_name.push(DnType::CommonName, "throwaway authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    write("ca.crt", authority.self_signed(&authority_key).expect("a certificate").pem());
    let issuer = Issuer::new(authority, authority_key);
    for (file, name, alternative) in
        [("server", "localhost", vec!["localhost".to_owned()]), ("client", "with_certificate", vec![])]
    {
        let key = KeyPair::generate().expect("a key");
        let mut parameters = CertificateParams::new(alternative).expect("a name");
        parameters.distinguished_name.push(DnType::CommonName, name);
        write(&format!("{file}.crt"), parameters.signed_by(&key, &issuer).expect("a certificate").pem());
        write(&format!("{file}.key"), key.serialize_pem());
    }
}

/// Starts a server of its own, for a test that would disturb the others.
pub fn start() -> Server {
    let binaries = binaries();
    let folder = tempfile::Builder::new().prefix("trustwatch-postgres-").tempdir().expect("a folder").keep();
    if nix::unistd::geteuid().is_root() {
        let user = nix::unistd::User::from_name("postgres").ok().flatten().expect("there is a user postgres");
        nix::unistd::chown(&folder, Some(user.uid), Some(user.gid)).expect("the folder is given away");
    }
    let data = folder.join("data");
    run(as_user(&binaries.join("initdb"))
        .args(["--no-sync", "--auth=trust", "--username=owner", "--encoding=UTF8", "--locale=C.UTF-8", "-D"])
        .arg(&data));
    certificates(&folder);
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("its address").port()
    };
    let settings = format!(
        "port = {port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nfsync = off\n\
         synchronous_commit = off\nfull_page_writes = off\nmax_connections = 300\nshared_buffers = 256MB\n\
         ssl = on\nssl_ca_file = '{0}/ca.crt'\nssl_cert_file = '{0}/server.crt'\nssl_key_file = '{0}/server.key'\n",
        folder.display()
    );
    // Who is called so must prove it; everybody else is believed.
    let rules = "host all with_password 127.0.0.1/32 scram-sha-256\nhostssl all with_certificate 127.0.0.1/32 cert\n\
                 host all with_certificate 127.0.0.1/32 reject\nhost all all 127.0.0.1/32 trust\n";
    std::fs::write(data.join("pg_hba.conf"), rules).expect("the rules are written");
    let mut file = std::fs::File::options().append(true).open(data.join("postgresql.conf")).expect("the settings");
    file.write_all(settings.as_bytes()).expect("the settings are written");
    // The watch lives as long as its standard input does.
    let script = format!(
        "echo ready; cat > /dev/null; '{}' -D '{}' -m immediate stop > /dev/null 2>&1; rm -rf '{}'",
        binaries.join("pg_ctl").display(),
        data.display(),
        folder.display()
    );
    let mut watch = as_user(Path::new("/bin/sh"));
    watch.arg("-c").arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).current_dir("/");
    let mut watch = watch.spawn().expect("the watch starts");
    let mut ready = String::new();
    let output = watch.stdout.take().expect("its output");
    BufReader::new(output).read_line(&mut ready).expect("the watch is ready");
    control(&binaries, &folder, &["start", "-w"]);
    let url = format!("postgres://owner@127.0.0.1:{port}/postgres?sslmode=disable");
    Server { url, own: Some(Own { folder, binaries, _watch: watch }) }
}
