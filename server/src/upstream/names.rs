//! Names with several addresses: looked up again and again, and who depends on one is told of changes.

use std::{
    fmt, io,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{net::lookup_host, time::sleep};

use super::group::Group;

/// How often a name is looked up, give or take a tenth.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// Finds the addresses of a name, those first that are best reached.
pub(super) type Resolver = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> + Send + Sync>;

/// A name and what it stands for; looked up for as long as somebody holds it.
pub(super) struct Name {
    host: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Sorted; empty while unknown and when there are not several.
    several: Vec<IpAddr>,
    groups: Vec<Weak<Group>>,
    /// The last lookup failed.
    is_lost: bool,
}

/// What the system says.
pub(super) fn system() -> Resolver {
    Arc::new(|host| async move { Ok(lookup_host((host, 0)).await?.map(|address| address.ip()).collect()) }.boxed())
}

impl Name {
    pub(super) fn new(host: &str) -> Self {
        Self { host: host.to_owned(), state: Mutex::default() }
    }

    /// Its addresses, sorted; none while they are unknown and when there are not several of one family.
    pub(super) fn several(&self) -> Vec<IpAddr> {
        self.state().several.clone()
    }

    /// Has a group told of changes.
    pub(super) fn tell(&self, group: &Arc<Group>) {
        let mut state = self.state();
        state.groups.retain(|group| group.strong_count() > 0);
        state.groups.push(Arc::downgrade(group));
    }

    /// Takes a lookup in. What is known stays when it failed.
    fn take(&self, found: io::Result<Vec<IpAddr>>) {
        let mut state = self.state();
        let was_lost = std::mem::replace(&mut state.is_lost, found.is_err());
        let several = match found {
            Ok(found) => several(&found),
            Err(error) => {
                if !was_lost {
                    tracing::warn!(host = self.host, %error, "the name of an upstream cannot be looked up; its last addresses are kept");
                }
                return;
            }
        };
        if several == state.several {
            return;
        }
        tracing::debug!(host = self.host, addresses = several.len().max(1), "the name of an upstream has other addresses now");
        state.several = several;
        let groups: Vec<_> = state.groups.iter().filter_map(Weak::upgrade).collect();
        // Before the groups ask for the addresses.
        drop(state);
        for group in groups {
            if let Err(error) = group.refresh() {
                tracing::warn!(host = self.host, ?error, "the addresses of an upstream cannot be used");
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks a name up until nobody holds it.
pub(super) async fn watch(name: Weak<Name>, resolver: Resolver) {
    loop {
        let Some(host) = name.upgrade().map(|name| name.host.clone()) else { return };
        let found = resolver(host).await;
        let found = found.and_then(|found| if found.is_empty() { Err(io::ErrorKind::NotFound.into()) } else { Ok(found) });
        let Some(held) = name.upgrade() else { return };
        held.take(found);
        drop(held);
        sleep(EVERY.mul_f64(0.9 + 0.2 * fastrand::f64())).await;
    }
}

/// The addresses of the family that is best reached, sorted, if there are several.
fn several(found: &[IpAddr]) -> Vec<IpAddr> {
    let is_preferred = |address: &&IpAddr| found.first().is_some_and(|first| first.is_ipv4() == address.is_ipv4());
    let mut several: Vec<_> = found.iter().filter(is_preferred).copied().collect();
    several.sort_unstable();
    several.dedup();
    if several.len() > 1 { several } else { Vec::new() }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Name").field(&self.host).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(found: &[&str]) -> Vec<String> {
        let found: Vec<IpAddr> = found.iter().map(|address| address.parse().unwrap()).collect();
        several(&found).iter().map(IpAddr::to_string).collect()
    }

    #[test]
    fn only_several_of_the_best_family_are_several() {
        let none: [String; 0] = [];
        assert_eq!(of(&[]), none);
        assert_eq!(of(&["10.0.0.1"]), none);
        assert_eq!(of(&["::1", "127.0.0.1"]), none);
        assert_eq!(of(&["10.0.0.1", "10.0.0.1"]), none);
        assert_eq!(of(&["10.0.0.2", "10.0.0.1", "fd00::1", "fd00::2", "10.0.0.2"]), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(of(&["10.0.0.1", "fd00::1", "fd00::2"]), none, "the other family may lead nowhere");
        assert_eq!(of(&["fd00::2", "fd00::1", "10.0.0.1"]), ["fd00::1", "fd00::2"]);
    }
}
