//! A program that is run and measured from outside: wall, CPU and peak memory.

use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

/// How often a child's peak memory is read while it runs. The kernel keeps the peak itself, so that only the growth of the
/// last moments can be missed.
const LOOKS: Duration = Duration::from_millis(10);

/// What a program took.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub wall: Duration,
    /// Seconds of processor time, user and system.
    pub cpu: f64,
    pub peak_megabytes: f64,
}

/// Runs a program to its end.
pub fn run(command: &mut Command) -> Cost {
    let before = cpu_of_children();
    let begun = Instant::now();
    let mut child = command.spawn().expect("the program starts");
    let status_file = format!("/proc/{}/status", child.id());
    let mut peak_kilobytes = 0.0_f64;
    let status = loop {
        if let Some(status) = child.try_wait().expect("the child can be waited for") {
            break status;
        }
        let text = std::fs::read_to_string(&status_file).unwrap_or_default();
        let peak = text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak_kilobytes = peak_kilobytes.max(peak.unwrap_or(0.0));
        std::thread::sleep(LOOKS);
    };
    let wall = begun.elapsed();
    assert!(status.success(), "{command:?} ended with {status}");
    Cost { wall, cpu: cpu_of_children() - before, peak_megabytes: peak_kilobytes / 1024.0 }
}

fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel's accounting");
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}
