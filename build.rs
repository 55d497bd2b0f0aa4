//! Makes a changed migration rebuild the binary that embeds it, and tells the binary which commit it is.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=migrations");
    println!("cargo:rerun-if-changed=.git/HEAD");
    println!("cargo:rerun-if-changed=.git/refs");
    println!("cargo:rerun-if-env-changed=TRUSTWATCH_BUILD_COMMIT");
    let given = std::env::var("TRUSTWATCH_BUILD_COMMIT").ok();
    let commit = Command::new("git")
        .args(["rev-parse", "--short=12", "HEAD"])
        .output()
        .ok()
        .filter(|output| output.status.success())
        .and_then(|output| String::from_utf8(output.stdout).ok());
    // A source archive, as a container is built from, has no commit but the one that it is told.
    println!("cargo:rustc-env=BUILD_COMMIT={}", given.or(commit).as_deref().unwrap_or("unknown").trim());
}
