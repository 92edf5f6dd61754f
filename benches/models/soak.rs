//! Many models in little room: who makes way, that nobody loads in vain, and that nothing is left behind by models that come and go.

use std::{
    fmt::{self, Display, Formatter},
    fs,
    path::Path,
    sync::mpsc::Receiver,
    time::Duration,
};

use flowgate_client::{
    Client,
    proto::admin::v1::{Model, ModelState},
};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    ground::Ground,
    shared::{
        Result,
        http::open,
        process::{Census, Process, flowgate, free_ports, local},
    },
};

const MODELS: usize = 30;
/// How many the room holds.
const ROOM: usize = 5;
/// Loads and unloads of one model, and those before the first look.
const CYCLES: usize = 1000;
const WARM_UP: usize = 100;
/// Callers that want one model that is not loaded, at once.
const CALLERS: usize = 32;
/// How many KiB more there may be after all cycles: allocators keep some.
const GROWTH: u64 = 4096;
/// A little longer than a model stays that was just loaded.
const RESIDENCE: Duration = Duration::from_millis(2200);
const BODY: &[u8] = br#"{"inputs": [[5.1, 3.5, 1.4, 0.2]]}"#;

/// What was seen.
pub struct Report {
    /// How many loads were needed, and how many there were.
    loads: (u64, u64),
    before: Census,
    after: Census,
}

/// A gateway over many copies of one small model.
struct Gateway {
    process: Process,
    admin: Client,
    ports: [u16; 2],
}

/// Calls models one after the other, then has one come and go.
pub fn measure(ground: &Ground, told: &Receiver<()>) -> Result<Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let gateway = Gateway::start(ground)?;
        gateway.least_recent_first(told).await?;
        let loads = gateway.together().await?;
        gateway.cycles(WARM_UP, told).await?;
        let before = gateway.process.census()?;
        gateway.cycles(CYCLES, told).await?;
        let after = gateway.process.census()?;
        let report = Report { loads, before, after };
        let problem = report.problem();
        problem.map_or(Ok(report), |problem| Err(problem.into()))
    })
}

fn name(model: usize) -> String {
    format!("m{model:02}")
}

impl Gateway {
    fn start(ground: &Ground) -> Result<Self> {
        let (folder, ports) = (ground.folder(), free_ports::<2>()?);
        let size = copies(&folder.join("soak"))?;
        let [at, admin] = ports;
        let mut config = format!(
            "listen: 127.0.0.1:{at}\nadmin: {{ listen: \"127.0.0.1:{admin}\" }}\ntelemetry: {{ log: json }}\n\
             mlflow: {{ memory: {}B, cache: {{ folder: \"{}/cache-soak\" }} }}\nendpoints:\n",
            size * ROOM as u64 + size / 2,
            folder.display(),
        );
        for model in (0..MODELS).map(name) {
            config.push_str(&format!(
                "  - {{ name: {model}, endpoint_type: mlflow/predict, \
                 model: {{ provider: mlflow, runtime: native, uri: \"{}/soak/{model}\" }} }}\n",
                folder.display()
            ));
        }
        let process = flowgate(folder, "soak", &config, at)?;
        Ok(Self { process, admin: Client::connect(format!("http://127.0.0.1:{admin}"))?, ports })
    }

    /// Calls all in turn. Loaded are always those that were called last, and a call keeps a model from being the next to go.
    async fn least_recent_first(&self, told: &Receiver<()>) -> Result<()> {
        let mut called: Vec<usize> = Vec::new();
        // Every fourth call is of one that is the next to go.
        let again = |model: usize| (model >= ROOM && model.is_multiple_of(4)).then(|| model - ROOM);
        for model in 0..MODELS {
            if told.try_recv().is_ok() {
                return Err("told to end".into());
            }
            let touched = again(model).filter(|touched| called.iter().rev().take(ROOM).any(|model| model == touched));
            for model in touched.into_iter().chain([model]) {
                self.call(model).await?;
                called.retain(|before| *before != model);
                called.push(model);
            }
            let mut expected: Vec<String> = called.iter().rev().take(ROOM).copied().map(name).collect();
            expected.sort_unstable();
            let loaded = self.loaded().await?;
            if loaded != expected {
                return Err(format!("after {model} models {loaded:?} are loaded, not {expected:?}").into());
            }
            // All are old enough then to make way, so that the order alone decides.
            sleep(RESIDENCE / 4).await;
        }
        Ok(())
    }

    /// Many want one that is not loaded: it is loaded once. How many loads were needed, and how many there were.
    async fn together(&self) -> Result<(u64, u64)> {
        let before = self.loads().await?;
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(predict(self.ports[0], 0));
        }
        while let Some(called) = callers.join_next().await {
            called??;
        }
        Ok((1, self.loads().await? - before))
    }

    async fn cycles(&self, cycles: usize, told: &Receiver<()>) -> Result<()> {
        for _ in 0..cycles {
            if told.try_recv().is_ok() {
                return Err("told to end".into());
            }
            let loaded = self.admin.admin().load_model(name(0)).await?;
            if loaded.state() != ModelState::Loaded {
                return Err(format!("not loaded: {loaded:?}").into());
            }
            self.admin.admin().unload_model(name(0)).await?;
        }
        Ok(())
    }

    async fn call(&self, model: usize) -> Result<()> {
        predict(self.ports[0], model).await
    }

    async fn loaded(&self) -> Result<Vec<String>> {
        let models = self.admin.admin().list_models().await?;
        let is_loaded = |model: &Model| model.state() == ModelState::Loaded;
        let mut names: Vec<String> = models.into_iter().filter(is_loaded).flat_map(|model| model.endpoints).collect();
        names.sort_unstable();
        Ok(names)
    }

    /// How many loads there were so far, by the metrics.
    async fn loads(&self) -> Result<u64> {
        let address = local(self.ports[1]);
        let (mut sender, _driver) = open(address).await?;
        let request = Request::get("/metrics").header(header::HOST, address.to_string()).body(Full::default())?;
        let body = sender.send_request(request).await?.into_body().collect().await?.to_bytes();
        let lines = std::str::from_utf8(&body)?.lines().filter(|line| line.starts_with("flowgate_model_loads_total{"));
        lines.map(|line| Ok(line.rsplit(' ').next().unwrap_or_default().parse::<u64>()?)).sum()
    }
}

/// Copies of the small model that Flowgate carries, one folder each. How large one is in memory, as Flowgate counts it.
fn copies(folder: &Path) -> Result<u64> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("server/src/mlflow/builtin/iris");
    for model in (0..MODELS).map(name) {
        fs::create_dir_all(folder.join(&model))?;
        for entry in fs::read_dir(&source)? {
            let entry = entry?;
            fs::copy(entry.path(), folder.join(&model).join(entry.file_name()))?;
        }
    }
    Ok(fs::metadata(source.join("model.onnx"))?.len())
}

async fn predict(port: u16, model: usize) -> Result<()> {
    let address = local(port);
    let (mut sender, _driver) = open(address).await?;
    let request = Request::post(format!("/endpoints/{}/invocations", name(model)))
        .header(header::HOST, address.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::from(BODY))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if status == StatusCode::OK { Ok(()) } else { Err(format!("{}: {status} {}", name(model), String::from_utf8_lossy(&body)).into()) }
}

impl Report {
    /// What is not as it should be.
    fn problem(&self) -> Option<String> {
        let (needed, loads) = self.loads;
        let Self { before, after, .. } = self;
        let grown = after.files > before.files || after.threads > before.threads || after.processes > before.processes;
        if loads != needed {
            Some(format!("{loads} loads of one model for {CALLERS} callers at once"))
        } else if grown || after.memory > before.memory + GROWTH {
            Some(format!("{CYCLES} loads and unloads leave something behind: {before:?} before, {after:?} after"))
        } else {
            None
        }
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { loads: (_, loads), before, after } = self;
        writeln!(
            f,
            "\n{MODELS} models in room for {ROOM}: always the {ROOM} called last were loaded; {CALLERS} callers at once, {loads} load"
        )?;
        writeln!(f, "{CYCLES} loads and unloads: {before:?} before, {after:?} after")
    }
}
