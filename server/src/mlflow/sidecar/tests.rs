//! Processes without Python: a server in its place, and scripts that crash.

use std::{collections::BTreeMap, ffi::OsString, fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use futures_util::StreamExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};

use super::*;
use crate::{
    config::{Model, PythonEnv, Resources, Variables},
    mlflow::model_file::PythonFunction,
};

/// What stands in the place of shim and Python: it finds the folder among the arguments, and runs the test below.
const FAKE: &str =
    r#"while [ "$1" != --folder ]; do shift; done; FAKE="$2" exec "$TEST" --exact mlflow::sidecar::tests::fake --ignored --nocapture"#;
const SOON: Duration = Duration::from_secs(60);

struct Given {
    file: ModelFile,
    model: Model,
    sockets: tempfile::TempDir,
    shim: Shim,
    tasks: Tasks,
}

impl Given {
    /// A process that is a shell script.
    fn script(script: &str) -> Self {
        let python = PythonFunction { loader_module: "fake".to_owned(), ..PythonFunction::default() };
        let words = ["sh", "-c", script, "fake"].map(OsString::from);
        let mut model = Model::new("models:/m/1".parse().unwrap());
        let test = std::env::current_exe().unwrap().into_os_string().into_string().unwrap();
        model.env = Variables([("TEST".to_owned(), test.into())].into());
        Self {
            file: ModelFile { python: Some(python), ..ModelFile::default() },
            model,
            // Not in the folder that tests have by default, whose path may be long.
            sockets: tempfile::tempdir_in("/tmp").unwrap(),
            shim: Shim::of(words.into()),
            tasks: Tasks::default(),
        }
    }

    fn options(&self) -> Options<'_> {
        Options {
            name: "m".into(),
            folder: Path::new("/models/m"),
            file: &self.file,
            model: &self.model,
            python: Path::new("python3"),
            sockets: self.sockets.path(),
            shim: &self.shim,
            tasks: &self.tasks,
        }
    }

    async fn start(&self) -> Result<Sidecar> {
        let ready = async {
            let sidecar = Sidecar::start(&self.options()).await?;
            sidecar.ready().await.map(|()| sidecar)
        };
        timeout(SOON, ready).await.unwrap()
    }

    /// What is in the folder of sockets.
    fn folders(&self) -> Vec<PathBuf> {
        fs::read_dir(self.sockets.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

fn post(path: &str) -> Request<Bytes> {
    Request::post(path).body(Bytes::from_static(b"{}")).unwrap()
}

/// No test, but the process that others start: it serves until its standard input ends.
#[tokio::test]
#[ignore = "other tests start it"]
async fn fake() {
    let folder = PathBuf::from(std::env::var_os("FAKE").unwrap());
    let listener = UnixListener::bind(folder.join("new")).unwrap();
    fs::rename(folder.join("new"), folder.join("s")).unwrap();
    let tasks = Tasks::default();
    let serve = async {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tasks.spawn(fake_answers(stream));
        }
    };
    tokio::select! {
        () = serve => {}
        _ = async { tokio::io::stdin().read(&mut [0]).await } => leave(0),
    }
}

#[expect(clippy::exit, reason = "the process is there for this alone")]
fn leave(code: i32) -> ! {
    std::process::exit(code)
}

async fn fake_answers(mut stream: UnixStream) {
    let mut received = Vec::new();
    loop {
        let mut chunk = [0; 1024];
        match stream.read(&mut chunk).await {
            Ok(read) if read > 0 => received.extend_from_slice(&chunk[..read]),
            _ => return,
        }
        let asked = String::from_utf8(received.clone()).unwrap();
        if !asked.contains("\r\n\r\n") || asked.starts_with("POST") && !asked.ends_with("{}") {
            continue;
        }
        received.clear();
        let answer = match asked.split(' ').nth(1).unwrap() {
            "/ping" => "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n\n",
            "/half" => "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
            "/die" => leave(9),
            "/kill" => {
                let own = rustix::process::getpid();
                rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
                ""
            }
            _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n",
        };
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

#[tokio::test]
async fn it_starts_answers_and_ends_with_its_owner() {
    let given = Given::script(FAKE);
    let sidecar = given.start().await.unwrap();
    let [folder] = given.folders().try_into().unwrap();
    assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
    let response = sidecar.answer(post("/nowhere")).await.unwrap();
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    assert_eq!(sidecar.exit(), None);
    if cfg!(target_os = "linux") {
        assert!(sidecar.bytes().unwrap() > 100_000, "{:?}", sidecar.bytes());
    }
    drop(sidecar);
    timeout(SOON, given.tasks.finished()).await.unwrap();
    assert_eq!(given.folders(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn giving_a_start_up_ends_the_process() {
    let mut given = Given::script("echo up; cat");
    let sidecar = Sidecar::start(&given.options()).await.unwrap();
    assert!(timeout(Duration::from_millis(50), sidecar.ready()).await.is_err());
    drop(sidecar);
    timeout(SOON, given.tasks.finished()).await.unwrap();
    assert_eq!(given.folders(), Vec::<PathBuf>::new());
    // The same while its environment is made.
    (given.tasks, given.model.env_manager) = (Tasks::default(), PythonEnv::Uv);
    let options = given.options();
    let start = Box::pin(Sidecar::start(&options));
    assert!(timeout(Duration::from_millis(50), start).await.is_err());
    timeout(SOON, given.tasks.finished()).await.unwrap();
    assert_eq!(given.folders(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn an_environment_is_waited_for_before_the_model() {
    let mut given = Given::script(r#"while [ "$1" != --folder ]; do shift; done; touch "$2/begun"; cat"#);
    given.model.env_manager = PythonEnv::Virtualenv;
    let sidecar = timeout(SOON, Sidecar::start(&given.options())).await.unwrap().unwrap();
    assert!(timeout(Duration::from_millis(50), sidecar.ready()).await.is_err(), "the model is not there yet");
    let failing = Given { model: given.model.clone(), ..Given::script("echo no such package; exit 1") };
    let error = timeout(SOON, Sidecar::start(&failing.options())).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "its process ended with code 1: no such package");
}

#[tokio::test]
async fn a_crash_on_load_is_told_in_its_last_words_without_secrets() {
    let mut given = Given::script("for i in $(seq 30); do echo line $i.; done; echo no module named $WORD >&2; exit 3");
    given.model.env = Variables([("WORD".to_owned(), "hush-hush".into())].into());
    let error = given.start().await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
    assert_eq!(error.to_string(), "its process ended with code 3: no module named ***");
    assert_eq!(format!("{error:?}"), format!("GATEWAY_NOT_SERVING: {error}"), "the other lines are in the log already");
    assert_eq!(given.folders(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn who_is_killed_on_load_may_be_started_again() {
    let error = Given::script("echo loading; kill -9 $$").start().await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert!(error.to_string().contains("was killed before it had loaded the model: loading"), "{error}");
    let error = Given::script("exit 137").start().await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert!(error.to_string().contains("was killed by signal 9 (out of memory?)"), "{error}");
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_call_is_told() {
    for (path, how) in [("/die", "ended with code 9"), ("/kill", "was killed")] {
        let given = Given::script(FAKE);
        let sidecar = given.start().await.unwrap();
        let mut half = sidecar.answer(post("/half")).await.unwrap().into_body();
        assert_eq!(half.next().await.unwrap().unwrap(), "half");
        for path in [path, "/nowhere"] {
            let error = sidecar.answer(post(path)).await.unwrap_err();
            assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
            assert_eq!(error.to_string(), format!("the process of model `m` {how} before it answered; try again"));
        }
        assert!(half.next().await.unwrap().is_err(), "a stream does not end silently");
        assert_eq!(sidecar.exit(), Some(sidecar.ended().await));
    }
}

#[test]
fn the_process_is_told_what_it_may_have() {
    let mut given = Given::script("");
    given.model.env = Variables([("TOKEN".to_owned(), "hush".into())].into());
    given.model.resources = Resources { threads: Some(3), memory: Some(1 << 30), devices: Some("0,1".to_owned()) };
    let folder = Folder::new(given.sockets.path()).unwrap();
    let program = launch::program(&given.options(), &folder).unwrap();
    let env: BTreeMap<_, _> = program.env.iter().map(|(name, value)| (name.to_str().unwrap(), value.to_str().unwrap())).collect();
    for name in ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"] {
        assert_eq!(env.get(name), Some(&"3"), "{name}");
    }
    assert_eq!(env.get("CUDA_VISIBLE_DEVICES"), Some(&"0,1"));
    assert_eq!(env.get("MLFLOW_DISABLE_TELEMETRY"), Some(&"true"));
    assert_eq!(program.secrets, given.model.env);
    assert!(!format!("{program:?}").contains("hush"));
    let words: Vec<_> = program.command.iter().map(|word| word.to_str().unwrap()).collect();
    let path = folder.path().to_str().unwrap();
    let script = format!("{path}/sidecar.py");
    let flags =
        ["--name", "m", "--model", "/models/m", "--folder", path, "--calls", "32", "--memory", "1073741824", "--env-manager", "local"];
    assert_eq!(words, [&["python3", script.as_str()][..], &flags].concat());
    let secret = "http://h/m?***0123";
    let told = launch::program(&Options { name: secret.into(), ..given.options() }, &folder).unwrap();
    assert_eq!(told.command[2..4], ["--name", "http://h/m"], "nothing of a query is for all on the machine to read");
    assert!(fs::read_to_string(&script).unwrap().contains("def main()"));
}

#[test]
fn what_no_python_can_run_is_refused_before_it_is_tried() {
    let refused = |given: &Given| {
        let folder = Folder::new(given.sockets.path()).unwrap();
        let error = launch::program(&given.options(), &folder).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
        error.to_string()
    };
    let mut given = Given::script("");
    given.model.env_manager = PythonEnv::Conda;
    assert!(refused(&given).contains("names no environment for `env_manager: conda`"));
    given.file.python = None;
    assert!(refused(&given).contains("no flavor `python_function`"));
}

#[test]
fn a_folder_whose_path_is_too_long_for_a_socket_says_so() {
    let parent = tempfile::tempdir_in("/tmp").unwrap();
    let long = parent.path().join("x".repeat(90));
    let error = Folder::new(&long).unwrap_err().to_string();
    assert!(error.contains("too long for sockets") && !long.exists(), "{error}");
}
