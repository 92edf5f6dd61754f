//! What stands between the gateway and a program that it has started, as a process of its own: it holds a pipe to the gateway, and at the
//! end of the pipe, however the gateway came to its end, it ends the program and all that the program has started.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Signal, getpgrp, kill_process_group};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// How long a program may take to end when it is asked to, before it is made to.
pub const GRACE: Duration = Duration::from_secs(10);
/// What a program that a signal has ended exits with, as shells say it: so much more than the signal's number.
pub const SIGNALLED: i32 = 128;

/// Runs a program until it ends or standard input does, and says what it exits with. The program, what it starts and this process are one
/// process group, which the gateway can end as a whole should this process be killed; where standard input ends, this process ends with
/// them.
///
/// # Errors
/// What the operating system says when the program cannot be started.
pub async fn run(program: &OsString, arguments: &[OsString]) -> io::Result<i32> {
    // Taken, so that the signal to the whole group does not end this process before the others.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    let ended = tokio::select! {
        status = child.wait() => Some(status?),
        () = pipe_ends() => None,
        _ = terminated.recv() => None,
    };
    match ended {
        Some(status) => Ok(code(status)),
        None => end(&mut child).await,
    }
}

/// Returns when the gateway lets go of its end of the pipe, or is gone. It never writes.
async fn pipe_ends() {
    let mut byte = [0];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

/// Asks the group to end, gives the program time for it, and ends what is left, this process included.
async fn end(child: &mut Child) -> io::Result<i32> {
    let group = getpgrp();
    kill_process_group(group, Signal::TERM)?;
    let status = timeout(GRACE, child.wait()).await;
    kill_process_group(group, Signal::KILL)?;
    status.map_or(Ok(SIGNALLED + Signal::KILL.as_raw()), |status| status.map(code))
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(SIGNALLED + status.signal()?)).unwrap_or(SIGNALLED)
}
