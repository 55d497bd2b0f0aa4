//! Every file under `config/` is loaded, and what is generated is up to date.

use std::path::Path;

use crate::binary::run;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_sample_is_valid() {
    let folder = tempfile::tempdir().unwrap();
    let mut samples = 0;
    for entry in std::fs::read_dir(root().join("config")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            samples += 1;
            let ran = run(folder.path(), &["config", "check", "--config", path.to_str().unwrap()], &[]);
            assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{}", path.display());
        }
    }
    assert_eq!(samples, 2);
}

#[test]
fn the_full_sample_says_what_the_defaults_are() {
    let folder = tempfile::tempdir().unwrap();
    let sample = root().join("config/trustwatch.toml");
    let from_sample = run(folder.path(), &["config", "show", "--config", sample.to_str().unwrap()], &[]).stdout;
    let defaults = run(folder.path(), &["config", "show"], &[]).stdout;
    assert_eq!(from_sample, defaults);
}

#[test]
fn the_full_sample_names_every_key() {
    let sample = std::fs::read_to_string(root().join("config/trustwatch.toml")).unwrap();
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(root().join("config/schema.json")).unwrap()).unwrap();
    let mut definitions: Vec<&serde_json::Value> = schema["$defs"].as_object().unwrap().values().collect();
    definitions.push(&schema);
    for properties in definitions.iter().filter_map(|definition| definition["properties"].as_object()) {
        for key in properties.keys() {
            let set = sample.lines().any(|line| {
                let line = line.trim_start_matches("# ").trim_matches(['[', ']']);
                // A key of an inline table stands behind its brace or a comma.
                let inline = ["{ ", ", "].iter().any(|before| line.contains(&format!("{before}{key} =")));
                line.starts_with(&format!("{key} =")) || inline || line.rsplit('.').next() == Some(key)
            });
            assert!(set, "config/trustwatch.toml does not show `{key}`");
        }
    }
}

#[test]
fn generated_files_are_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, file) in [
        (&["config", "schema"][..], "config/schema.json"),
        (&["config", "schema", "--format", "markdown"], "docs/configuration.md"),
    ] {
        let committed = std::fs::read_to_string(root().join(file)).unwrap_or_default();
        assert!(run(folder.path(), arguments, &[]).stdout == committed, "{file} is out of date: run `make docs`");
    }
}

#[test]
fn the_demos_scenario_is_valid_and_an_unknown_key_is_not() {
    let text = std::fs::read_to_string(root().join("tests/demo/scenario.toml")).unwrap();
    assert_eq!(crate::awssim::Scenario::from_toml(&text).unwrap().accounts, 118);
    assert!(crate::awssim::Scenario::from_toml("acounts = 3").is_err());
}

#[test]
fn the_channels_of_the_full_sample_can_be_read() {
    #[derive(serde::Deserialize)]
    struct Channels {
        alerts: Vec<trustwatch::config::Alert>,
    }
    let sample = std::fs::read_to_string(root().join("config/trustwatch.toml")).unwrap();
    let lines = sample.lines().skip_while(|line| *line != "# [[alerts]]").take_while(|line| line.starts_with('#'));
    let text: Vec<&str> = lines.map(|line| line.trim_start_matches('#').trim_start()).collect();
    let channels: Channels = toml_edit::de::from_str(&text.join("\n")).unwrap();
    assert_eq!(channels.alerts.len(), 4);
}
