//! What the kernel knows about a process.

use std::time::Duration;

/// The unit in which the kernel reports CPU time: 100 ticks a second on all common architectures.
const TICK: Duration = Duration::from_millis(10);

/// Returns the CPU time that a process has used so far, or `None` if the process is gone.
pub(crate) fn cpu(pid: u32) -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = after_name(&stat)?;
    let ticks: u32 = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
    Some(TICK * ticks)
}

/// Returns the resident memory of a process in bytes, or `None` if the process is gone.
pub(crate) fn resident(pid: u32) -> Option<u64> {
    bytes_of(pid, "VmRSS:")
}

/// Returns the most memory that was ever resident in a process in bytes, or `None` if the process is gone.
pub(crate) fn peak(pid: u32) -> Option<u64> {
    bytes_of(pid, "VmHWM:")
}

fn bytes_of(pid: u32, field: &str) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(field))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// Returns all descendants of a process whose name is `name`.
pub(crate) fn children(pid: u32, name: &str) -> Vec<u32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let all: Vec<_> = pids.filter_map(|pid| parent_and_name(pid).map(|(parent, name)| (pid, parent, name))).collect();
    let (mut family, mut next) = (vec![pid], 0);
    while let Some(parent) = family.get(next).copied() {
        family.extend(all.iter().filter(|(_, p, _)| *p == parent).map(|(pid, ..)| *pid));
        next += 1;
    }
    all.into_iter().filter(|(child, _, n)| *child != pid && family.contains(child) && n == name).map(|c| c.0).collect()
}

fn parent_and_name(pid: u32) -> Option<(u32, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let name = stat.get(stat.find('(')? + 1..stat.rfind(')')?)?.to_owned();
    Some((after_name(&stat)?.get(1)?.parse().ok()?, name))
}

/// Returns the fields after the process's name. The name may hold anything, including closing brackets and spaces.
fn after_name(stat: &str) -> Option<Vec<&str>> {
    Some(stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect())
}

/// Returns how many files this process may have open.
pub(crate) fn open_files_limit() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_found_by_its_name() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // The child has the program's name only after it has executed the program.
        let found = loop {
            let found = children(std::process::id(), "sleep");
            if !found.is_empty() {
                break found;
            }
            std::thread::yield_now();
        };
        assert_eq!(found, [child.id()]);
        assert!(cpu(child.id()).is_some() && resident(child.id()).is_some_and(|bytes| bytes > 0));
        assert!(peak(child.id()) >= resident(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(cpu(child.id()), None);
    }

    #[test]
    fn the_open_files_limit_is_known() {
        assert!(open_files_limit().unwrap() > 0);
    }
}
