//! Programs that are shell scripts: what they get, what they say, and how they end.

use super::*;

/// A shell in the place of the binary: it runs the program and ends with the pipe, as the shim does.
const SHELL: &str = r#"trap : TERM; "$@" & cat >/dev/null; kill -TERM 0; kill -KILL 0"#;

fn program(script: &str) -> Program {
    Program {
        name: "test".into(),
        command: ["sh", "-c", script].map(Into::into).into(),
        env: vec![("GIVEN".into(), "yes".into())],
        secrets: Variables::default(),
        folder: std::env::temp_dir(),
    }
}

fn direct() -> Shim {
    Shim::of(vec!["env".into()])
}

/// What reads a program's output has come to its end, so that nobody is left who could write.
async fn all_gone(tasks: &Tasks) {
    timeout(Duration::from_secs(60), tasks.finished()).await.unwrap();
}

#[tokio::test]
async fn a_program_that_ends_tells_its_code_and_its_last_lines() {
    let tasks = Tasks::default();
    let script = "for i in $(seq 60); do echo line $i; done; echo last >&2; exit 3";
    let process = Process::start(&program(script), &direct(), &tasks).unwrap();
    assert_eq!(process.ended().await, Exit::Code(3));
    let lines = process.last_lines();
    assert_eq!(lines.len(), LINES);
    assert!(lines.contains(&"last".to_owned()) && !lines.contains(&"line 1".to_owned()), "{lines:?}");
}

#[tokio::test]
async fn the_environment_is_cleared_but_for_what_is_given() {
    let tasks = Tasks::default();
    let process = Process::start(&program("env"), &direct(), &tasks).unwrap();
    process.ended().await;
    tasks.finished().await;
    let lines = process.last_lines();
    assert!(lines.contains(&"GIVEN=yes".to_owned()), "{lines:?}");
    // What cargo gives this very test.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    let known = |line: &String| {
        let name = line.split('=').next().unwrap_or_default();
        PASSED.contains(&name) || ["GIVEN", "PWD", "SHLVL", "_", "OLDPWD"].contains(&name)
    };
    assert!(lines.iter().all(known), "{lines:?}");
}

#[tokio::test]
async fn what_may_be_secret_is_in_no_line() {
    let tasks = Tasks::default();
    let secrets = [("TOKEN", "hush-hush"), ("GIVEN", "hush"), ("FLAG", "1")].map(|(name, value)| (name.to_owned(), value.into()));
    let program = Program { secrets: Variables(secrets.into()), ..program("echo $TOKEN $GIVEN 11; env | grep -c -e '=hush' >&2") };
    let process = Process::start(&program, &direct(), &tasks).unwrap();
    process.ended().await;
    let mut lines = process.last_lines();
    lines.sort();
    assert_eq!(lines, ["*** *** 11", "2"]);
}

#[tokio::test]
async fn half_a_secret_is_one() {
    let tasks = Tasks::default();
    let secrets = [("TOKEN".to_owned(), "hush".repeat(20).into())];
    let script = format!("printf '%0{}d%s%05000d\\n' 0 $TOKEN 0", LINE - 10);
    let program = Program { secrets: Variables(secrets.into()), ..program(&script) };
    let process = Process::start(&program, &direct(), &tasks).unwrap();
    process.ended().await;
    let lines = process.last_lines();
    assert!(lines.len() == 1 && lines[0].len() == LINE && !lines[0].contains("hus"), "{lines:?}");
}

#[tokio::test]
async fn dropping_it_ends_what_it_has_started() {
    let tasks = Tasks::default();
    let shim = Shim::of(["sh", "-c", SHELL, "shim"].map(Into::into).into());
    let process = Process::start(&program("sleep 1000 & sleep 1000"), &shim, &tasks).unwrap();
    drop(process);
    all_gone(&tasks).await;
}

#[tokio::test]
async fn a_shim_that_is_killed_takes_all_with_it() {
    let tasks = Tasks::default();
    let shim = Shim::of(["sh", "-c", SHELL, "shim"].map(Into::into).into());
    let process = Process::start(&program("sleep 1000 & echo up; sleep 1000"), &shim, &tasks).unwrap();
    let group = Pid::from_raw(process.id().cast_signed()).unwrap();
    rustix::process::kill_process(group, Signal::KILL).unwrap();
    assert_eq!(process.ended().await, Exit::Killed);
    all_gone(&tasks).await;
}

#[tokio::test]
async fn a_program_that_is_not_there_says_so() {
    let missing = Program { command: vec!["/nowhere/at/all".into()], ..program("") };
    assert_eq!(Process::start(&missing, &Shim::of(Vec::new()), &Tasks::default()).unwrap_err().kind(), io::ErrorKind::NotFound);
}
