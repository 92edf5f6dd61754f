//! What stands between the gateway and a program that it has started, as a process of its own: it holds a pipe to the gateway, and at the
//! end of the pipe, however the gateway came to its end, it ends the program and all that the program has started, in whatever groups and
//! sessions: on Linux, whose parent ends becomes its child.

use std::{
    ffi::OsString,
    io,
    os::unix::process::ExitStatusExt as _,
    pin::pin,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitOptions, getpgrp, kill_process, kill_process_group, waitpid};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
    time::{sleep, timeout},
};

use super::table;

/// How long a program may take to end when it is asked to, before it is made to.
pub const GRACE: Duration = Duration::from_secs(10);
/// How often it is looked whether all that was killed is gone, and how long that takes each time.
const LOOKS: u32 = 200;
const LOOK: Duration = Duration::from_millis(10);
/// What a program that a signal has ended exits with, as shells say it: so much more than the signal's number.
pub const SIGNALLED: i32 = 128;

/// Runs a program until it ends or standard input does, ends what is left of what it has started, and says what it exited with. The program, what
/// it starts and this process are one process group, which the gateway can end as a whole should this process be killed.
///
/// # Errors
/// What the operating system says when the program cannot be started.
pub async fn run(program: &OsString, arguments: &[OsString]) -> io::Result<i32> {
    // Taken, so that the signal to the whole group does not end this process before the others.
    let mut terminated = signal(SignalKind::terminate())?;
    let mut children = signal(SignalKind::child())?;
    adopt()?;
    let mut child = Command::new(program).args(arguments).stdin(Stdio::null()).spawn()?;
    let id = child.id();
    let mut pipe = pin!(pipe_ends());
    let status = loop {
        tokio::select! {
            status = child.wait() => break Some(status?),
            () = &mut pipe => break None,
            _ = terminated.recv() => break None,
            Some(()) = children.recv() => reap(id),
        }
    };
    let status = match status {
        Some(status) => Some(status),
        None => ask(&mut child).await?,
    };
    end_rest(id).await?;
    Ok(status.map_or(SIGNALLED + Signal::KILL.as_raw(), code))
}

/// Has this process be the parent of those whose own has ended.
#[cfg(target_os = "linux")]
fn adopt() -> io::Result<()> {
    Ok(rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?)
}

#[cfg(not(target_os = "linux"))]
fn adopt() -> io::Result<()> {
    Ok(())
}

/// Returns when the gateway lets go of its end of the pipe, or is gone. It never writes.
async fn pipe_ends() {
    let mut byte = [0];
    while tokio::io::stdin().read(&mut byte).await.is_ok_and(|read| read > 0) {}
}

/// Asks all to end, and gives the program time for it; `None` when that was not enough.
async fn ask(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    kill_process_group(getpgrp(), Signal::TERM)?;
    send(Signal::TERM);
    match timeout(GRACE, child.wait()).await {
        Ok(status) => status.map(Some),
        Err(_) => {
            child.start_kill()?;
            drop(timeout(LOOK * LOOKS, child.wait()).await);
            Ok(None)
        }
    }
}

/// Ends what is left, and waits until it is gone. What cannot be waited for is at least in the group, which takes this process along.
async fn end_rest(program: Option<u32>) -> io::Result<()> {
    for _ in 0..LOOKS {
        if !send(Signal::KILL) {
            return Ok(());
        }
        sleep(LOOK).await;
        reap(program);
    }
    Ok(kill_process_group(getpgrp(), Signal::KILL)?)
}

/// Sends a signal to all that descend from this process. Whether there is any.
fn send(signal: Signal) -> bool {
    let mut descendants = table::descendants(std::process::id());
    descendants.remove(&std::process::id());
    for process in descendants.iter().filter_map(|process| Pid::from_raw(process.cast_signed())) {
        // It may be gone by itself since the look.
        kill_process(process, signal).ok();
    }
    !descendants.is_empty()
}

/// Takes leave of adopted children that have ended, but not of the program, for which the runtime waits.
fn reap(program: Option<u32>) {
    for child in table::children(std::process::id()).filter(|child| Some(*child) != program) {
        // Of one that runs nothing is taken.
        if let Some(child) = Pid::from_raw(child.cast_signed()) {
            waitpid(Some(child), WaitOptions::NOHANG).ok();
        }
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| Some(SIGNALLED + status.signal()?)).unwrap_or(SIGNALLED)
}
