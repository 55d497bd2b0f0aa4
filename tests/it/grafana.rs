//! The dashboards under `deploy/grafana`: every panel is asked of a database that was filled by scans, and none is empty.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use trustwatch::config::{Detail, Exemption, Selector};

use crate::awssim::Scenario;
use crate::awssim::control::Change;
use crate::support::{Kept, Story};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana")
}

fn dashboard(name: &str) -> Value {
    let text = std::fs::read_to_string(folder().join("dashboards").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The panels that ask something, by title.
fn panels(dashboard: &Value, question: &str) -> Vec<(String, String)> {
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let asked = panels.map(|panel| {
        let text = panel["targets"][0][question].as_str().unwrap_or_else(|| panic!("{panel}"));
        (panel["title"].as_str().unwrap().to_owned(), text.to_owned())
    });
    asked.collect()
}

#[test]
fn the_dashboards_are_what_their_code_makes() {
    let status = Command::new("python3").arg(folder().join("make.py")).arg("--check").status().unwrap();
    assert!(status.success());
}

#[test]
fn the_dashboard_of_the_service_asks_for_metrics_that_there_are() {
    let known = std::fs::read_to_string(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/metrics.rs")).unwrap();
    let panels = panels(&dashboard("service.json"), "expr");
    assert!(panels.len() > 10);
    for (title, expression) in panels {
        let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: Vec<&str> = words.filter(|word| word.starts_with("trustwatch_")).collect();
        assert!(!asked.is_empty(), "{title}");
        for name in asked {
            let name = name.trim_end_matches("_bucket");
            assert!(known.contains(&format!("\"{name}\"")), "{title}: {name}");
        }
    }
}

/// A database with everything that a panel shows.
async fn filled() -> Story {
    let mut story = Story::begin_in(Kept::Postgres, &Scenario { seed: 3, ..Scenario::default() }).await;
    story.findings.detail = Detail::Active;
    story.organization.exemptions = vec![Exemption {
        owner: "platform".into(),
        reason: "moves".into(),
        ticket: None,
        expires: "2999-12-31".parse().unwrap(),
        accounts: Selector { names: vec!["*-dev".into()], ..Selector::default() },
        regions: vec!["*".into()],
    }];
    let (owner, region) = {
        let mut world = story.sim.world();
        let owner = world.caller.clone();
        let region = world.analyzers[&owner]
            .iter()
            .find(|(_, analyzers)| analyzers.iter().any(|one| one.kind == "ORGANIZATION" && one.status == "ACTIVE"))
            .map(|(region, _)| region.clone())
            .unwrap();
        let rule = serde_json::json!({"isPublic": {"eq": ["false"]}});
        let analyzer = world.analyzers_mut(&owner, &region).iter_mut().find(|one| one.kind == "ORGANIZATION").unwrap();
        analyzer.archive_rules.insert("intended".into(), rule);
        (owner, region)
    };
    story.complete_scan().await;
    let name = story.sim.world().analyzers_in(&owner, &region)[0].name.clone();
    story.sim.change(&Change::DeleteAnalyzer { account: owner, region, name });
    story.complete_scan().await;
    story
}

/// Puts in what Grafana puts in: all values of each variable, and a year.
fn filled_in(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, values) in variables {
        text = text.replace(&format!("${{{name}:sqlstring}}"), values);
    }
    while let Some(at) = text.find("$__timeFilter(") {
        let (before, after) = text.split_at(at);
        let (column, rest) = after["$__timeFilter(".len()..].split_once(')').unwrap();
        text = format!("{before}{column} BETWEEN now() - interval '1 year' AND now(){rest}");
    }
    assert!(!text.contains('$'), "{text}");
    text
}

#[tokio::test]
async fn every_panel_shows_something() {
    let story = filled().await;
    let mut connection = PgConnection::connect(&story.settings.url).await.unwrap();
    connection.execute("SET search_path = trustwatch").await.unwrap();
    let coverage = dashboard("coverage.json");
    let mut variables = BTreeMap::new();
    for variable in coverage["templating"]["list"].as_array().unwrap() {
        let query = filled_in(variable["query"].as_str().unwrap(), &variables);
        let rows = connection.fetch_all(AssertSqlSafe(query)).await.unwrap();
        let values: Vec<String> = rows.iter().map(|row| format!("'{}'", row.get::<String, _>(0))).collect();
        assert!(!values.is_empty(), "{variable}");
        variables.insert(variable["name"].as_str().unwrap().to_owned(), values.join(","));
    }
    assert_eq!(variables.keys().collect::<Vec<_>>(), ["organization", "ou", "region"]);
    let panels = panels(&coverage, "rawSql");
    assert!(panels.len() > 15);
    for (title, text) in panels {
        let rows = connection.fetch_all(AssertSqlSafe(filled_in(&text, &variables))).await;
        let rows = rows.unwrap_or_else(|error| panic!("{title}: {error}"));
        assert!(!rows.is_empty(), "{title} is empty");
    }
}
