//! Whether the models that a server of MLflow's knows have one: what a call would say later is said where the file says it.

use crate::config::{
    diagnostic::Diagnostic,
    raw::RawMlflow,
    reading::Reading,
    tracking::{NO_SERVER, NamedServers, ServerKey},
    tree::At,
};

/// Judges the servers that models need. What stands in the file is wrong wherever it is served; what a variable says, or leaves unsaid, may
/// be another thing on another machine.
pub(super) fn check(mlflow: Option<&At<RawMlflow>>, reading: &mut Reading<'_>) {
    let written = mlflow.and_then(|at| at.value.tracking_uri.as_ref());
    let servers = NamedServers::read(written.map(|at| at.value.as_str()), |name| reading.resolver.variable(name));
    let is_unset = mlflow.is_some_and(|at| reading.is_damaged(at.spot));
    for (role, needed) in std::mem::take(&mut reading.needed) {
        let Some(server) = servers.of(role) else {
            if !is_unset {
                reading.report.warn(needed, Diagnostic::new(NO_SERVER));
            }
            continue;
        };
        let Err(why) = server.address().map(drop) else { continue };
        match written.filter(|_| server.key == ServerKey::Setting) {
            Some(at) if !at.expanded => reading.error(at.spot, Diagnostic::new(why)),
            Some(at) => reading.report.warn(at.spot, Diagnostic::new(why)),
            None => reading.report.warn(needed, Diagnostic::new(why)),
        }
    }
}
