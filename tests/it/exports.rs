//! Reports, read back by parsers that nobody here wrote.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use trustwatch::config::{Exemption, Selector};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::binary::{run, run_against};
use crate::support::{Kept, Story, on_each_engine};

const FORMATS: &[&str] = &["csv", "json", "ndjson", "ocsf", "asff", "junit", "html", "prowler-csv"];

on_each_engine!(
    every_format_has_every_row_and_is_read_by_others,
    a_report_of_then_says_what_held_then,
    a_report_of_nothing_is_refused_and_one_of_a_part_says_nothing_of_the_whole,
);

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// What a parser of the format reads: rows by status, and how many are exempt.
fn read_back(format: &str, file: &Path) -> Value {
    let output = Command::new(root().join("target/deploy-tools/bin/python"))
        .arg(root().join("tests/export/validate.py"))
        .args([format, file.to_str().unwrap()])
        .output()
        .expect("`make test` installs the parsers");
    assert!(output.status.success(), "{format}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn export(story: &Story, format: &str, more: &[&str]) -> PathBuf {
    let file = story.path(&format!("report.{format}"));
    let out = file.to_str().unwrap().to_owned();
    let arguments: Vec<&str> = ["--store", &story.settings.url, "export", "--format", format, "--out", &out]
        .into_iter()
        .chain(more.iter().copied())
        .collect();
    let ran = run(story.folder.path(), &arguments, &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    file
}

/// A mixed organization, whose names try to get out of whatever they are written into.
async fn story(kept: Kept) -> Story {
    let mut story = Story::begin_in(kept, &Scenario { accounts: 12, seed: 4, ..Scenario::default() }).await;
    let names = ["<script>alert(1)</script>", "=cmd|' /C calc'!A0", "a;b,\"c\"\n\u{7}&amp;", "Ünï · 日本"];
    for (account, name) in story.sim.world().accounts.values_mut().zip(names) {
        account.name = name.to_owned();
    }
    let first = story.sim.world().accounts.keys().next().unwrap().clone();
    story.organization.exemptions = vec![Exemption {
        owner: "payments".into(),
        reason: "moves <soon>; \"really\"".into(),
        ticket: None,
        expires: "2999-12-31".parse().unwrap(),
        accounts: Selector { accounts: vec![first.parse().unwrap()], ..Selector::default() },
        regions: vec!["*".into()],
    }];
    story
}

async fn counted(story: &Story, query: &str) -> BTreeMap<String, u64> {
    let rows = story.rows(query).await.into_iter();
    rows.map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
}

async fn every_format_has_every_row_and_is_read_by_others(kept: Kept) {
    let story = story(kept).await;
    story.complete_scan().await;
    let statuses = counted(&story, "SELECT status, count(*) FROM current_coverage GROUP BY status").await;
    let exempt: u64 = story.rows("SELECT count(*) FROM current_coverage WHERE exempt").await[0][0].parse().unwrap();
    assert!(exempt > 10 && statuses.len() == 4, "{statuses:?}");
    let suppressed = "SELECT count(*) FROM current_coverage WHERE exempt AND status IN ('not_covered', 'unknown')";
    let suppressed: u64 = story.rows(suppressed).await[0][0].parse().unwrap();
    assert!(suppressed < exempt, "some that are covered are exempt too");
    for format in FORMATS {
        let read = read_back(format, &export(&story, format, &[]));
        let expected = match *format {
            // Skipped: what is exempt and a gap or unknown, or not applicable.
            "junit" => {
                let query = "SELECT CASE WHEN (exempt AND status <> 'covered') OR status = 'not_applicable' THEN 'skipped' ELSE status END
                                    AS word, count(*)
                             FROM current_coverage GROUP BY word";
                json!({"statuses": counted(&story, query).await, "exempt": 0})
            }
            "prowler-csv" => {
                let query =
                    "SELECT status, count(*) FROM current_coverage WHERE status <> 'not_applicable' GROUP BY status";
                json!({"statuses": counted(&story, query).await, "exempt": suppressed})
            }
            // There is nothing to suppress of what passes.
            "ocsf" | "asff" => json!({"statuses": statuses, "exempt": suppressed}),
            _ => json!({"statuses": statuses, "exempt": exempt}),
        };
        assert_eq!(read, expected, "{format}");
    }
    // Filters, together.
    let account =
        story.rows("SELECT account_id FROM current_coverage WHERE status = 'not_covered' LIMIT 1").await[0][0].clone();
    let file =
        export(&story, "csv", &["--account", &account, "--status", "not_covered", "--region", "eu-west-1,us-east-1"]);
    let query = format!(
        "SELECT status, count(*) FROM current_coverage WHERE account_id = '{account}' AND region IN ('eu-west-1', 'us-east-1')
         AND status = 'not_covered' GROUP BY status"
    );
    assert_eq!(read_back("csv", &file)["statuses"], json!(counted(&story, &query).await));
}

async fn a_report_of_then_says_what_held_then(kept: Kept) {
    let story = story(kept).await;
    let first = story.complete_scan().await.scan;
    let before = ["csv", "html", "ocsf"].map(|format| read_back(format, &export(&story, format, &[])));
    let member = story.sim.members().remove(0);
    story.sim.change(&Change::SuspendAccount { account: member });
    story.complete_scan().await;
    let after = read_back("csv", &export(&story, "csv", &[]));
    assert_ne!(before[0], after);
    let scan = first.scan_id.to_string();
    assert_eq!(read_back("csv", &export(&story, "csv", &["--scan", &scan])), before[0]);
    let ended = first.finished_at.unwrap().to_string();
    for (format, before) in ["csv", "html", "ocsf"].iter().zip(&before) {
        assert_eq!(read_back(format, &export(&story, format, &["--at", &ended])), *before, "{format}");
    }
    let member = story.sim.members().remove(1);
    let here = ["--account", &member, "--region", "eu-west-1"];
    let status = format!("SELECT status FROM current_coverage WHERE account_id = '{member}' AND region = 'eu-west-1'");
    let other = if story.rows(&status).await == [["covered"]] { "not_covered" } else { "covered" };
    let none = export(&story, "json", &[&["--scan", &scan, "--status", other], here.as_slice()].concat());
    assert_eq!(std::fs::read_to_string(none).unwrap().trim(), "[]", "that there is no such row is an answer");
    // What was not looked at since is not said to have been seen now.
    let then = export(&story, "ocsf", &[&["--at", &ended], here.as_slice()].concat());
    let then: Value = serde_json::from_str(&std::fs::read_to_string(then).unwrap()).unwrap();
    let seen = then[0]["finding_info"]["last_seen_time"].as_i64().unwrap();
    assert_eq!(seen, first.finished_at.map(chrono::DateTime::<chrono::Utc>::from).unwrap().timestamp_millis());
}

async fn a_report_of_nothing_is_refused_and_one_of_a_part_says_nothing_of_the_whole(kept: Kept) {
    let story = story(kept).await;
    let scan = story.complete_scan().await.scan.scan_id.to_string();
    let refused = |more: &[&str], settings: &[(&str, String)]| {
        let export = ["--store", &story.settings.url, "export", "--format", "junit"];
        let ran = run(story.folder.path(), &[&export, more].concat(), settings);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{more:?}");
        ran.stderr
    };
    let nowhere = refused(&["--region", "eu-west1"], &[]);
    assert!(nowhere.contains("nothing is like that: the newest results; only regions eu-west1; "), "{nowhere}");
    let nobody = refused(&["--scan", &scan, "--team", "nobody", "--status", "covered"], &[]);
    assert!(nobody.contains(&format!("the results when scan {scan} ended; only teams nobody; ")), "{nobody}");
    let history = [("TRUSTWATCH_STORE__RETENTION__HISTORY", "1000days".to_owned())];
    let gone = refused(&["--at", "2020-01-01T00:00:00Z"], &history);
    assert!(gone.contains("what held at 2020-01-01T00:00:00Z is not known as a whole any more"), "{gone}");
    assert!(gone.contains("(store.retention.history)"), "{gone}");

    let page = |more: &[&str]| std::fs::read_to_string(export(&story, "html", more)).unwrap();
    for (words, whole, of_an_account) in [("of what could be read is covered", 1, 1), ("<h2>Trend", 1, 0)] {
        let found = |more: &[&str]| page(more).matches(words).count();
        let member = story.sim.members().remove(1);
        assert_eq!((found(&[]), found(&["--account", &member])), (whole, of_an_account), "{words}");
        assert_eq!(found(&["--status", "covered"]), 0, "{words}");
    }
}

/// What the browser says on standard output of a page, or nothing where it makes a picture of it.
fn browse(page: &Path, arguments: &[&str]) -> String {
    let browser =
        ["chromium", "google-chrome"].into_iter().find(|name| Command::new(name).arg("--version").output().is_ok());
    let output = Command::new(browser.expect("there is no chromium: install it"))
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr"])
        .arg(format!("--user-data-dir={}", page.with_extension("profile").display()))
        .args(arguments)
        .arg(format!("file://{}", page.display()))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.contains("CONSOLE"), "{said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_page_is_good_in_a_real_browser() {
    let story = story(Kept::Sqlite).await;
    for _ in 0..3 {
        story.complete_scan().await;
    }
    let page = export(&story, "html", &[]);
    let seen = browse(&page, &["--dump-dom"]);
    assert!(seen.contains("<title>IAM-065 · main</title>"), "{seen}");
    // A name is a text, whatever it says.
    assert!(seen.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !seen.contains("<script"), "{seen}");
    assert!(seen.contains("<polyline") && seen.contains("class=\"n\"") && seen.contains("class=\"c e\""), "{seen}");
    let rows = seen.matches("<th scope=\"row\">").count();
    assert_eq!(rows, story.sim.world().accounts.len());
    let folder = root().join("target/screenshots");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, size) in [("report", "1400,1800"), ("report-phone", "390,1200")] {
        let picture = folder.join(format!("{name}.png"));
        browse(&page, &[&format!("--window-size={size}"), &format!("--screenshot={}", picture.display())]);
        let bytes = std::fs::read(&picture).unwrap();
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        assert_eq!(format!("{},{}", number(16), number(20)), size, "{name}");
        assert!(bytes.len() > 20_000, "{name} is not empty: {} bytes", bytes.len());
    }
}

#[tokio::test]
async fn what_cannot_be_reported_is_said_and_nothing_is_left_half_written() {
    let story = Story::begin(&Scenario::calm(1)).await;
    let folder = story.folder.path();
    let export = async |more: &[&str]| {
        let arguments: Vec<&str> = ["export"].iter().chain(more).copied().collect();
        let ran = run_against(&story.sim, folder, &arguments).await;
        (ran.code, ran.stderr)
    };
    let (code, said) = export(&["--format", "csv"]).await;
    assert!(code == 1 && said.contains("run `trustwatch scan`"), "{said}");
    story.complete_scan().await;
    for (arguments, expected, expected_code) in [
        (&["--format", "xml"][..], "invalid value 'xml'", 2),
        (
            &["--format", "csv", "--out", "no/such/folder/x.csv"],
            "--out no/such/folder/x.csv: the file cannot be written",
            1,
        ),
        (&["--format", "csv", "--scan", "99"], "--scan 99: there is no finished scan of that number", 1),
        (&["--format", "csv", "--at", "yesterday"], "--at yesterday: not an instant", 2),
        (&["--format", "csv", "--at", "2999-01-01T00:00:00Z"], "--at 2999-01-01T00:00:00Z: that is to come", 2),
        (&["--format", "csv", "--at", "2020-01-01T00:00:00Z"], "there were no results yet at 2020-01-01T00:00:00Z", 1),
        (&["--format", "csv", "--status", "bad"], "--status: `bad` is not a status; valid: covered", 2),
        (&["--format", "csv", "--ou", "sandbox' OR 1=1"], "expected the id of an OU", 2),
        (&["--format", "csv", "--organization", "other"], "no such organization; configured: main", 2),
    ] {
        let (code, said) = export(arguments).await;
        assert_eq!(code, expected_code, "{said}");
        assert!(said.contains(expected), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().contains(".new")), "{left:?}");
}
