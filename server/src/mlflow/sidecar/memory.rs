//! How much memory the processes of a group hold, as `/proc` says it.

use std::fs;

/// The resident bytes of a process group; `None` where there is no `/proc`, or nothing of the group.
pub(super) fn resident(group: u32) -> Option<u64> {
    let processes = fs::read_dir("/proc").ok()?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let held = processes.filter(|process| group_of(*process) == Some(group)).filter_map(held);
    Some(held.sum()).filter(|held| *held > 0)
}

/// The group, which stands fifth; the second stands in brackets and may hold anything.
fn group_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(2)?.parse().ok()
}

fn held(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}
