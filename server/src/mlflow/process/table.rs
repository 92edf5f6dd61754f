//! The processes of this machine, as `/proc` tells of them; none where there is no `/proc`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

/// A process and all that descend from it, whatever groups and sessions they have made: what a shim stands for. It is among them as long as it
/// is there. Blocks for as long as `/proc` is read.
pub fn descendants(root: u32) -> BTreeSet<u32> {
    let parents: BTreeMap<u32, u32> = all().filter_map(|process| Some((process, parent(process)?))).collect();
    let descends = |process: u32| {
        let mut above = Some(process);
        // As many steps as there are processes: the table is read while it changes, and may show a circle.
        for _ in 0..=parents.len() {
            match above {
                Some(found) if found == root => return true,
                Some(found) => above = parents.get(&found).copied(),
                None => return false,
            }
        }
        false
    };
    parents.keys().copied().filter(|process| descends(*process)).collect()
}

/// The processes whose parent a process is.
pub fn children(of: u32) -> impl Iterator<Item = u32> {
    all().filter(move |process| parent(*process) == Some(of))
}

/// How many bytes of memory a process holds; `None` when it is gone.
pub fn resident(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn all() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// The parent, which stands fourth; the second stands in brackets and may hold anything.
fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}
