//! What a process has used, by the kernel's own count.

use std::time::Duration;

use anyhow::{Context, Result};

/// What a process has used so far.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// CPU time, of all its threads, in the kernel and outside.
    pub cpu: Duration,
    /// The most memory it had resident, in bytes, since it began or [`forget_peak`].
    pub peak: u64,
    /// What of its files is resident now, its own code first of all, in bytes.
    pub file: u64,
}

// === impl Usage ===

impl Usage {
    /// Of the process `pid`.
    pub fn of(pid: u32) -> Result<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process is gone")?;
        // The second field is the name in parentheses, which may have spaces.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, system)| user + system);
        // USER_HZ is 100 on every Linux that Rust runs on.
        let cpu = Duration::from_millis(ticks.context("no CPU time in stat")? * 10);
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let bytes = |name: &'static str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = rest.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
            kibibytes.map(|kibibytes| kibibytes * 1024).with_context(|| format!("no {name} in status"))
        };
        Ok(Self { cpu, peak: bytes("VmHWM:")?, file: bytes("RssFile:")? })
    }
}

/// From now on the peak of the process `pid` is counted anew.
pub fn forget_peak(pid: u32) -> Result<()> {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("reset the peak")
}
