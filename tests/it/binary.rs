//! The real binary, run as a user runs it: in a folder of its own, with no environment but what is given.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::awssim::{Sim, server::environment};

pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

pub fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trustwatch"));
    command
        .args(arguments)
        .current_dir(folder)
        .env_clear()
        .env("HOME", folder)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .stdin(Stdio::null());
    command
}

pub fn run(folder: &Path, arguments: &[&str], environment: &[(&str, String)]) -> Ran {
    let mut command = command(folder, arguments);
    command.envs(environment.iter().map(|(name, value)| (*name, value.as_str())));
    ran(command.output().expect("the binary runs"))
}

fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the binary against a simulation while the simulation's own runtime goes on.
pub async fn run_against(sim: &Sim, folder: &Path, arguments: &[&str]) -> Ran {
    let caller = sim.world().caller.clone();
    run_as(sim, &caller, folder, arguments).await
}

pub async fn run_as(sim: &Sim, caller: &str, folder: &Path, arguments: &[&str]) -> Ran {
    let environment = environment(&sim.url(), caller);
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let folder = folder.to_owned();
    tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        run(&folder, &arguments, &environment)
    })
    .await
    .expect("the binary runs")
}
