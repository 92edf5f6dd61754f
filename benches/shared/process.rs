//! The processes beside a benchmark: starts them, reads their clocks and memory, stops exactly them.

use std::{
    collections::HashMap,
    env,
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use super::Result;

/// How long a process may take to stop.
const GRACE: Duration = Duration::from_secs(10);

/// A process that we started, and those that it started.
pub struct Process {
    pub child: Child,
}

/// What `/proc` tells of a process and its descendants.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Census {
    pub processes: usize,
    pub threads: usize,
    /// Open files, sockets among them.
    pub files: usize,
    /// Resident memory, in KiB; what they share counts once for each.
    pub memory: u64,
}

impl Process {
    /// Starts it, in a process group of its own.
    pub fn start(command: &mut Command) -> Result<Self> {
        Ok(Self { child: command.process_group(0).spawn()? })
    }

    /// Waits until something listens there.
    pub fn wait_for(mut self, name: &str, address: SocketAddr, patience: Duration, log: &Path) -> Result<Self> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if self.child.try_wait()?.is_some() || started.elapsed() > patience {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{name} does not start:\n{log}").into());
            }
            pause();
        }
        Ok(self)
    }

    /// The clocks of all threads, to the nanosecond; `/proc/PID/stat` counts in steps of 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for pid in self.family()? {
            // A process or thread may end between the two reads.
            for thread in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten() {
                if let Ok(clock) = fs::read_to_string(thread?.path().join("schedstat")) {
                    nanos += clock.split(' ').next().unwrap_or_default().parse::<u64>()?;
                }
            }
        }
        Ok(Duration::from_nanos(nanos))
    }

    /// What it has by now, all of its processes together.
    pub fn census(&self) -> Result<Census> {
        let mut census = Census::default();
        for pid in self.family()? {
            let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else { continue };
            let number = |key| {
                let line = status.lines().find_map(|line| line.strip_prefix(key));
                line.map_or(Ok(0), |line| line.trim().trim_end_matches(" kB").parse::<u64>())
            };
            census.processes += 1;
            census.threads += usize::try_from(number("Threads:")?)?;
            census.memory += number("VmRSS:")?;
            census.files += fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        }
        Ok(census)
    }

    /// Itself and its descendants.
    fn family(&self) -> Result<Vec<u32>> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // `pid (name) state parent …`, and a name may hold anything.
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
            if let Some(parent) = after.split(' ').nth(1).and_then(|parent| parent.parse().ok()) {
                children.entry(parent).or_default().push(pid);
            }
        }
        let mut family = vec![self.child.id()];
        let mut at = 0;
        while let Some(pid) = family.get(at) {
            family.extend(children.remove(pid).unwrap_or_default());
            at += 1;
        }
        Ok(family)
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        if Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status().is_err() {
            eprintln!("`kill` is missing; the processes of group {group} are left");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal("-TERM");
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > GRACE {
                self.signal("-KILL");
                break;
            }
            pause();
        }
        if let Err(error) = self.child.wait() {
            eprintln!("process {} cannot be awaited: {error}", self.child.id());
        }
    }
}

pub fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a process of another maker tells nobody when it listens, nor, without a signal handler, when it has ended"
    )]
    std::thread::sleep(Duration::from_millis(20));
}

pub fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Held together while they are chosen, so that they differ.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(local(0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Flowgate with this configuration, which names these ports; `FLOWGATE_BIN` says which one. Its log lies beside the configuration.
pub fn flowgate(folder: &Path, name: &str, config: &str, at: u16) -> Result<Process> {
    let binary =
        env::var_os("FLOWGATE_BIN").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/flowgate"), PathBuf::from);
    let (path, log) = (folder.join(format!("{name}.yaml")), folder.join(format!("{name}.log")));
    fs::write(&path, config)?;
    let process = Process::start(
        Command::new(&binary)
            .arg("start")
            .arg("--config-path")
            .arg(&path)
            .env("RUST_LOG", "info")
            .stdout(Stdio::null())
            .stderr(File::create(&log)?),
    );
    let process = process.map_err(|error| format!("{} cannot be started, `make bench` builds it: {error}", binary.display()))?;
    process.wait_for("flowgate", local(at), GRACE, &log)
}
