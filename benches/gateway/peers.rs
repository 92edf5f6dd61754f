//! The processes beside the load generator: the fake upstream, nginx and Flowgate, and how they are configured.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    calls::Scenario,
    shared::{
        Result,
        process::{Process, flowgate, free_ports, local},
    },
};

/// How long a process may take to start.
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
        let flowgate = flowgate(folder.path(), "flowgate", &flowgate_config(direct.0, (ports[2], ports[3])), ports[2])?;
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
        Ok(self.flowgate.census()?.memory)
    }
}

/// This program again, as the upstream. It says its ports, and ends with its standard input at the latest.
fn upstream() -> Result<(Process, (u16, u16))> {
    let mut process = Process::start(Command::new(env::current_exe()?).arg("upstream").stdin(Stdio::piped()).stdout(Stdio::piped()))?;
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
    let process = Process::start(Command::new(program).arg("-p").arg(folder).arg("-e").arg(&log).arg("-c").arg(&config))
        .map_err(|error| format!("nginx cannot be started, `make bench` installs it: {error}"))?;
    process.wait_for("nginx", local(at.0), GRACE, &log)
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
