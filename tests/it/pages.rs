//! The pages that the daemon serves: in a real browser, and to those who ask for what they should not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::awssim::control::Change;
use crate::awssim::{Scenario, Sim};
use crate::daemon::{Daemon, ask, get};

const NAME: &str = "<script>window.hacked = 1</script>";
const QUIET: (&str, &str) = ("TRUSTWATCH_SCHEDULE__CRON", "0 0 1 1 *");

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// An organization with gaps, with one account that cannot be read, and with one whose name is a script; scanned once.
async fn served(folder: &Path, settings: &[(&str, &str)]) -> (Sim, Daemon, String) {
    let sim =
        Sim::start(&Scenario { opt_in_regions: vec!["eu-south-1".into()], ..Scenario::calm(6) }, 0).await.unwrap();
    let [named, locked, watched] = [0, 1, 2].map(|at| sim.members().remove(at));
    sim.world().accounts.get_mut(&named).unwrap().name = NAME.into();
    sim.change(&Change::BreakRole { account: locked });
    for region in ["eu-west-1", "us-east-1"] {
        let (account, region) = (watched.clone(), region.to_owned());
        sim.change(&Change::AddAnalyzer { account, region, name: "watch".into(), kind: "ACCOUNT".into() });
    }
    let settings: Vec<_> = [QUIET].iter().chain(settings).copied().collect();
    let mut daemon = Daemon::start_with(&sim, folder, &["run"], &settings);
    let address = daemon.address();
    daemon.wait_for("scan ended");
    (sim, daemon, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_team_finds_its_way_in_a_real_browser() {
    let folder = tempfile::tempdir().unwrap();
    let (sim, mut daemon, address) = served(folder.path(), &[]).await;
    let shots = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    let _ = std::fs::remove_dir_all(&shots);
    std::fs::create_dir_all(&shots).unwrap();
    let browser = ["/usr/bin/chromium", "/usr/bin/google-chrome"].into_iter().find(|path| Path::new(path).exists());
    let output = Command::new("node")
        .arg(root().join("tests/pages/drive.js"))
        .arg(format!("http://{address}"))
        .arg(&shots)
        .arg(browser.expect("a browser: install chromium"))
        .arg(root().join("target/browser/node_modules"))
        .arg(sim.members().remove(0))
        .output()
        .expect("`make test` installs what drives the browser");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(&shots).unwrap().count(), 13, "twelve screenshots and a download");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_says_what_it_may_load_and_escapes_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let (sim, mut daemon, address) = served(folder.path(), &[]).await;
    let account = sim.members().remove(0);
    for path in [
        "/",
        "/matrix",
        &format!("/accounts/{account}"),
        "/changes",
        "/scans",
        "/findings",
        "/assets/page.js",
        "/nothing",
    ] {
        let answer = get(&address, path, "");
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let expected = if path == "/nothing" { "HTTP/1.1 404" } else { "HTTP/1.1 200" };
        assert!(head.starts_with(expected), "{path}: {head}");
        assert!(!body.contains(NAME), "{path} shows a name as a script");
        if path == "/nothing" {
            continue;
        }
        for header in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self';",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
        ] {
            assert!(head.contains(header), "{path}: {header}: {head}");
        }
        assert!(!body.contains("<script>") && !body.contains(" style=") && !body.contains(" onclick="), "{path}");
    }
    let page = get(&address, "/matrix", "");
    assert!(page.contains("&#60;script&#62;window.hacked = 1&#60;/script&#62;"), "{page}");
    // The night is on two days: what the overview counts is what its link shows.
    let overview = get(&address, "/", "");
    let since = overview.split_once("href=\"/changes?since=").unwrap().1.split('"').next().unwrap();
    let changes = get(&address, &format!("/changes?since={since}"), "");
    assert!(changes.contains("<h1>Changes since ") && changes.contains(&account), "{changes}");
    let rows = get(&address, "/accounts/000000000000", "");
    assert!(rows.starts_with("HTTP/1.1 404") && rows.contains("No account 000000000000 is known in main."), "{rows}");
    for (path, said) in [
        ("/matrix?q=%00", "q: expected a text without control characters."),
        ("/accounts/12", "12 is no account id: expected twelve digits."),
        ("/changes?day=monday", "day=monday: expected a day such as 2026-11-23."),
        ("/changes?day=-262143-01-01", "expected a day such as 2026-11-23."),
        ("/changes?since=monday", "since=monday: expected an instant such as 2026-11-23T09:00:00Z."),
        ("/scans?before=x", "before=x: expected the number of a scan."),
        ("/?csv=x", "csv=x: there is no such table here; there are: incidents, oldest, ous, regions, unreadable"),
    ] {
        let answer = get(&address, path, "");
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains(said), "{path}: {answer}");
    }
    let answer = get(&address, "/matrix?region='", "");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("has no region"), "{answer}");
    let answer = get(&address, "/?organization=other", "");
    assert!(
        answer.starts_with("HTTP/1.1 404") && answer.contains("No organization is named other; configured: main."),
        "{answer}"
    );
    // What is asked for is looked for, and is no part of the question.
    for path in ["/matrix?q='%25_\\", "/matrix?ou='&show=gaps", "/matrix?page=18446744073709551615"] {
        let answer = get(&address, path, "");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    let csv = get(&address, "/matrix?csv=matrix", "");
    assert!(csv.contains("content-disposition: attachment; filename=\"trustwatch-matrix.csv\""), "{csv}");
    // Eight accounts, and the regions that AWS names for each.
    let lines = csv
        .split_once("\r\n\r\n")
        .unwrap()
        .1
        .lines()
        .filter(|line| line.contains("-1,") || line.contains("-2,"))
        .count();
    assert!(lines > 8 * 10, "{csv}");
    // A page from elsewhere whose name leads here sees nothing.
    let answer = ask(&address, "GET / HTTP/1.1\r\nHost: evil.example.com\r\n", "");
    assert!(answer.starts_with("HTTP/1.1 421"), "{answer}");
    for path in ["/metrics", "/buildinfo"] {
        let answer = ask(&address, &format!("GET {path} HTTP/1.1\r\nHost: evil.example.com\r\n"), "");
        assert!(answer.starts_with("HTTP/1.1 421"), "{path}: {answer}");
    }
    // A probe may ask by any name, and is told the status alone.
    let answer = ask(&address, "GET /readyz HTTP/1.1\r\nHost: evil.example.com\r\n", "");
    assert!(answer.ends_with("\r\n\r\n{\"status\":\"ok\"}"), "{answer}");
    daemon.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_token_is_asked_for_a_browser_logs_in() {
    let folder = tempfile::tempdir().unwrap();
    let token = "0123456789abcdef0123";
    std::fs::write(folder.path().join("token"), token).unwrap();
    let (_sim, mut daemon, address) = served(folder.path(), &[("TRUSTWATCH_HTTP__TOKEN_FILE", "token")]).await;
    for path in ["/", "/matrix", "/accounts/111111111111", "/changes", "/scans", "/findings", "/?csv=oldest"] {
        let answer = get(&address, path, "");
        assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("name=\"token\""), "{path}: {answer}");
        assert!(!answer.contains("<table"), "{path} says nothing of the organization: {answer}");
    }
    assert!(get(&address, "/", &format!("Authorization: Bearer {token}\r\n")).starts_with("HTTP/1.1 200"));
    let log_in =
        format!("POST /login HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n");
    let answer = ask(&address, &log_in, "token=wrong");
    assert!(answer.starts_with("HTTP/1.1 401") && answer.contains("That is not the token."), "{answer}");
    let asked = get(&address, "/matrix?q=a%26b", "");
    assert!(asked.contains("name=\"to\" value=\"/matrix?q=a%26b\""), "{asked}");
    let answer = ask(&address, &log_in, &format!("token={token}&to=%2Fmatrix%3Fq%3Da%2526b"));
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /matrix?q=a%26b\r\n"), "{answer}");
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(cookie.ends_with("; Path=/; HttpOnly; SameSite=Lax") && !cookie.contains(token), "{cookie}");
    let borne = cookie.split(';').next().unwrap();
    assert!(get(&address, "/", &format!("Cookie: {borne}\r\n")).starts_with("HTTP/1.1 200"));
    assert!(get(&address, "/", "Cookie: trustwatch=0\r\n").starts_with("HTTP/1.1 401"));
    daemon.stop();
}
