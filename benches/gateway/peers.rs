//! The processes beside the load generator: the fake upstream, nginx and Flowgate. Starts them, reads their clocks, stops exactly them.

use std::{
    env,
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::time::Instant;

use crate::{Result, calls::Scenario};

/// How long a process may take to start, and to stop.
const GRACE: Duration = Duration::from_secs(10);
pub const NGINX_WORKERS: usize = 2;

/// Who answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Peer {
    /// The upstream itself.
    Direct,
    Nginx,
    Flowgate,
}

impl Peer {
    pub const ALL: [Self; 3] = [Self::Direct, Self::Nginx, Self::Flowgate];

    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Nginx => "nginx",
            Self::Flowgate => "flowgate",
        }
    }
}

/// All of them, running. They stop in this order.
pub struct Peers {
    flowgate: Process,
    nginx: Process,
    _upstream: Process,
    /// HTTP and gRPC addresses of each peer, in the order of [`Peer::ALL`].
    addresses: [(SocketAddr, SocketAddr); 3],
    /// Configurations and logs.
    _folder: TempDir,
}

impl Peers {
    pub fn start() -> Result<Self> {
        let folder = TempDir::with_prefix("flowgate-bench-")?;
        let (upstream, direct) = upstream()?;
        let ports = free_ports::<4>()?;
        let (nginx_at, flowgate_at) = ((ports[0], ports[1]), (ports[2], ports[2]));
        let nginx = nginx(folder.path(), direct, nginx_at)?;
        let flowgate = flowgate(folder.path(), direct.0, (ports[2], ports[3]))?;
        let addresses = [direct, nginx_at, flowgate_at].map(|(http, grpc)| (local(http), local(grpc)));
        Ok(Self { flowgate, nginx, _upstream: upstream, addresses, _folder: folder })
    }

    pub fn address(&self, peer: Peer, scenario: Scenario) -> SocketAddr {
        let (http, grpc) = self.addresses[peer as usize];
        if scenario.is_grpc() { grpc } else { http }
    }

    /// CPU time that the peer has used so far; none for a direct call.
    pub fn cpu(&self, peer: Peer) -> Result<Option<Duration>> {
        match peer {
            Peer::Direct => Ok(None),
            Peer::Nginx => self.nginx.cpu().map(Some),
            Peer::Flowgate => self.flowgate.cpu().map(Some),
        }
    }

    /// Flowgate's resident memory, in KiB.
    pub fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.flowgate.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

/// A process that we started, and those that it started.
struct Process {
    child: Child,
    pids: Vec<u32>,
}

impl Process {
    fn new(child: Child) -> Self {
        let pids = vec![child.id()];
        Self { child, pids }
    }

    /// Waits until something listens there.
    fn wait_for(mut self, name: &str, address: SocketAddr, log: &Path) -> Result<Self> {
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            if self.child.try_wait()?.is_some() || started.elapsed() > GRACE {
                let log = fs::read_to_string(log).unwrap_or_default();
                return Err(format!("{name} does not start:\n{log}").into());
            }
            pause();
        }
        self.pids.extend(children(self.child.id())?);
        Ok(self)
    }

    /// The clocks of all threads, to the nanosecond; `/proc/PID/stat` counts in steps of 10 ms.
    fn cpu(&self) -> Result<Duration> {
        let mut nanos = 0;
        for pid in &self.pids {
            for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
                // A thread may end between the two reads.
                if let Ok(clock) = fs::read_to_string(thread?.path().join("schedstat")) {
                    nanos += clock.split(' ').next().unwrap_or_default().parse::<u64>()?;
                }
            }
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        signal("-TERM", &self.pids[..1]);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > GRACE {
                signal("-KILL", &self.pids);
                break;
            }
            pause();
        }
        if let Err(error) = self.child.wait() {
            eprintln!("process {} cannot be awaited: {error}", self.child.id());
        }
    }
}

fn signal(name: &str, pids: &[u32]) {
    let sent = Command::new("kill").arg(name).args(pids.iter().map(u32::to_string)).status();
    if sent.is_err() {
        eprintln!("`kill` is missing; processes {pids:?} are left");
    }
}

fn pause() {
    #[expect(
        clippy::disallowed_methods,
        reason = "a process of another maker tells nobody when it listens, nor, without a signal handler, when it has ended"
    )]
    std::thread::sleep(Duration::from_millis(20));
}

/// The processes whose parent this one is.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // `pid (name) state parent …`, and a name may hold anything.
        let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
        if after.split(' ').nth(1) == Some(&*parent.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}

fn local(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Held together while they are chosen, so that they differ.
fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::with_capacity(N);
    for port in &mut ports {
        let listener = TcpListener::bind(local(0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// This program again, as the upstream. It says its ports, and ends with its standard input at the latest.
fn upstream() -> Result<(Process, (u16, u16))> {
    let child = Command::new(env::current_exe()?).arg("upstream").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut process = Process::new(child);
    let mut line = String::new();
    let out = process.child.stdout.take().ok_or("the upstream has no standard output")?;
    BufReader::new(out).read_line(&mut line)?;
    let (http, grpc) = line.trim().split_once(' ').ok_or("the upstream does not start")?;
    let ports = (http.parse()?, grpc.parse()?);
    Ok((process, ports))
}

fn nginx(folder: &Path, upstream: (u16, u16), at: (u16, u16)) -> Result<Process> {
    let (config, log) = (folder.join("nginx.conf"), folder.join("nginx.err"));
    fs::write(&config, nginx_config(folder, upstream, at))?;
    // Not on the path of every user.
    let debian = Path::new("/usr/sbin/nginx");
    let program = if debian.exists() { debian } else { Path::new("nginx") };
    let child = Command::new(program)
        .arg("-p")
        .arg(folder)
        .arg("-e")
        .arg(&log)
        .arg("-c")
        .arg(&config)
        .spawn()
        .map_err(|error| format!("nginx cannot be started, `make bench` installs it: {error}"))?;
    Process::new(child).wait_for("nginx", local(at.0), &log)
}

/// As an operator would write it for this task: two workers, kept connections, one access line per call, nothing buffered.
fn nginx_config(folder: &Path, (http, grpc): (u16, u16), (at, grpc_at): (u16, u16)) -> String {
    let folder = folder.display();
    format!(
        r#"daemon off;
worker_processes {NGINX_WORKERS};
pid {folder}/nginx.pid;
events {{ worker_connections 4096; }}
http {{
  log_format line escape=json '{{"time":"$time_iso8601","request_id":"$request_id","method":"$request_method","path":"$uri","status":$status,'
    '"peer":"$remote_addr:$remote_port","bytes":$body_bytes_sent,"seconds":$request_time,"upstream":"$upstream_addr",'
    '"upstream_seconds":"$upstream_response_time","upstream_first":"$upstream_header_time"}}';
  access_log {folder}/nginx.log line;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  upstream http_upstream {{ server 127.0.0.1:{http}; keepalive 128; keepalive_requests 1000000000; }}
  upstream grpc_upstream {{ server 127.0.0.1:{grpc}; keepalive 128; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{at} reuseport;
    location / {{
      proxy_pass http://http_upstream;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
  server {{
    listen 127.0.0.1:{grpc_at} http2 reuseport;
    location / {{ grpc_pass grpc://grpc_upstream; }}
  }}
}}
"#
    )
}

fn flowgate(folder: &Path, upstream: u16, (at, admin): (u16, u16)) -> Result<Process> {
    let binary =
        env::var_os("FLOWGATE_BIN").map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/release/flowgate"), PathBuf::from);
    let (config, log) = (folder.join("flowgate.yaml"), folder.join("flowgate.log"));
    fs::write(&config, flowgate_config(upstream, (at, admin)))?;
    let child = Command::new(&binary)
        .arg("start")
        .arg("--config-path")
        .arg(&config)
        .env("RUST_LOG", "info")
        .stdout(Stdio::null())
        .stderr(File::create(&log)?)
        .spawn()
        .map_err(|error| format!("{} cannot be started, `make bench` builds it: {error}", binary.display()))?;
    Process::new(child).wait_for("flowgate", local(at), &log)
}

fn flowgate_config(upstream: u16, (at, admin): (u16, u16)) -> String {
    format!(
        r#"listen: 127.0.0.1:{at}
admin: {{ listen: "127.0.0.1:{admin}" }}
telemetry: {{ log: json }}
endpoints:
  - name: chat
    endpoint_type: llm/v1/chat
    model:
      provider: openai
      name: fake-model
      config: {{ openai_api_key: k, openai_api_base: "http://127.0.0.1:{upstream}/v1" }}
  - name: score
    endpoint_type: mlflow/predict
    model: {{ provider: mlflow, url: "http://127.0.0.1:{upstream}" }}
"#
    )
}
