//! Credentials that expire: got once for all who share a grant, renewed before they end. Knows no wire protocol's content.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use flowgate_proto::v1::ErrorReason;
use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout},
};

use crate::{
    config::{Environment, Grant},
    dialect::Credential,
    error::{Error, Result},
    task::Tasks,
};

mod aws;
mod exit;
mod google;
mod issuer;
mod oauth;

use exit::Exit;
pub use exit::Route;
use issuer::Issuer;

/// How long getting a credential may take, all steps of it together.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a failure answers for those who ask again, so that a storm of calls is no storm at the token server.
const FAILURE: Duration = Duration::from_secs(1);
/// How long after a failed renewal the next one is tried, while the old credential is good.
const AGAIN: Duration = Duration::from_secs(10);
/// How long before its end a credential is not used any more: clocks differ, and requests travel.
const MARGIN: Duration = Duration::from_secs(10);
/// When what has no end is looked up again: somebody may have changed the file that it is from.
const LOOK: Duration = Duration::from_secs(300);
/// A credential that is refused within this time will not be better for being got anew.
const YOUNG: Duration = Duration::from_secs(10);

/// How a credential is got.
type Fetch = Arc<dyn Fn(Grant, Arc<Exit>) -> BoxFuture<'static, Result<Issued>> + Send + Sync>;
/// One fetch under way, for all who wait for it. What it got is in the pass.
type Flight = Shared<oneshot::Receiver<Result<Arc<Credential>>>>;

/// The credentials of one gateway, by grant; they outlive a reload as long as somebody uses them.
pub struct Grants {
    known: Mutex<HashMap<(Grant, Route), Weak<Pass>>>,
    fetch: Fetch,
    tasks: Tasks,
}

/// What one grant gives: a credential that is always good, or why there is none. Those who hold it share it.
pub struct Pass {
    grant: Grant,
    exit: Arc<Exit>,
    held: ArcSwapOption<Held>,
    desk: Mutex<Desk>,
    fetch: Fetch,
    tasks: Tasks,
}

/// What came of a grant.
#[derive(Debug)]
struct Issued {
    credential: Credential,
    /// How long it is good; `None` when nobody knows of an end.
    life: Option<Duration>,
}

/// A credential and its times.
struct Held {
    credential: Arc<Credential>,
    since: Instant,
    renew: Instant,
    end: Option<Instant>,
}

/// Who waits, and for what.
#[derive(Default)]
struct Desk {
    flight: Option<Flight>,
    failed: Option<(Instant, Error)>,
}

impl Grants {
    /// None yet. Variables and files come from `environment`.
    pub fn new(environment: Arc<dyn Environment + Send + Sync>, tasks: Tasks) -> Self {
        let near = Arc::<Exit>::default();
        Self::fetching(
            Arc::new(move |grant, exit| {
                let issuer = Issuer::new(Arc::clone(&environment), Arc::clone(&near), exit);
                async move { issuer.issue(&grant).await }.boxed()
            }),
            tasks,
        )
    }

    fn fetching(fetch: Fetch, tasks: Tasks) -> Self {
        Self { known: Mutex::default(), fetch, tasks }
    }

    /// The pass of a grant whose granter is reached so, new or known. Nothing is fetched yet.
    pub fn pass(&self, grant: &Grant, route: Route) -> Arc<Pass> {
        let mut known = lock(&self.known);
        let key = (grant.clone(), route);
        if let Some(pass) = known.get(&key).and_then(Weak::upgrade) {
            return pass;
        }
        let pass = Arc::new(Pass {
            grant: grant.clone(),
            exit: Arc::new(Exit::new(key.1.clone())),
            held: ArcSwapOption::empty(),
            desk: Mutex::default(),
            fetch: Arc::clone(&self.fetch),
            tasks: self.tasks.clone(),
        });
        known.retain(|_, pass| pass.strong_count() > 0);
        known.insert(key, Arc::downgrade(&pass));
        pass
    }
}

impl Pass {
    /// A credential that is good now. Waits only when there is none; one that ends soon is renewed meanwhile. Dropping the future stops
    /// nothing that others may wait for. Must be called within a runtime.
    ///
    /// # Errors
    /// `PROVIDER_CREDENTIAL_REJECTED` when the grant is refused, or incomplete; `PROVIDER_UNAVAILABLE` when whoever grants it cannot be
    /// reached; `PROVIDER_BAD_ANSWER` when its answer makes no sense.
    pub async fn get(self: &Arc<Self>) -> Result<Arc<Credential>> {
        let now = Instant::now();
        if let Some(held) = self.held.load().as_deref().filter(|held| held.is_good(now)) {
            if held.renew <= now {
                // Nobody waits for it.
                drop(self.join(now, AGAIN));
            }
            return Ok(Arc::clone(&held.credential));
        }
        let flight = self.join(now, FAILURE)?;
        flight.await.unwrap_or_else(|_| Err(Error::internal("getting a credential was given up; try again")))
    }

    /// Takes in that a credential of this pass is no good any more, so that the next call gets another one, unless it was got just now, or
    /// others have forgotten it already.
    pub fn forget(&self, stale: &Arc<Credential>) {
        let held = self.held.load();
        if let Some(same) = held.as_deref()
            && Arc::ptr_eq(&same.credential, stale)
            && Instant::now().duration_since(same.since) >= YOUNG
        {
            self.held.compare_and_swap(&held, None);
        }
    }

    /// The fetch that is under way, or a new one, unless one has failed within `pause`.
    fn join(self: &Arc<Self>, now: Instant, pause: Duration) -> Result<Flight> {
        let mut desk = lock(&self.desk);
        if let Some((at, error)) = &desk.failed
            && now.duration_since(*at) < pause
        {
            return Err(error.clone());
        }
        // One that is done and still there has panicked.
        if let Some(flight) = desk.flight.as_ref().filter(|flight| flight.peek().is_none()) {
            return Ok(flight.clone());
        }
        let (done, flight) = oneshot::channel();
        let flight = desk.flight.insert(flight.shared()).clone();
        drop(desk);
        let pass = Arc::clone(self);
        self.tasks.spawn(async move {
            // Whoever asked may be gone.
            drop(done.send(pass.fetch().await));
        });
        Ok(flight)
    }

    async fn fetch(&self) -> Result<Arc<Credential>> {
        let fetched = timeout(PATIENCE, (self.fetch)(self.grant.clone(), Arc::clone(&self.exit))).await;
        let fetched = fetched.unwrap_or_else(|_| Err(unavailable("no answer within 10 s")));
        let now = Instant::now();
        let mut desk = lock(&self.desk);
        desk.flight = None;
        match fetched {
            Ok(issued) => {
                desk.failed = None;
                let held = Arc::new(Held::new(issued, now));
                self.held.store(Some(Arc::clone(&held)));
                Ok(Arc::clone(&held.credential))
            }
            Err(error) => {
                desk.failed = Some((now, error.clone()));
                drop(desk);
                tracing::warn!(?error, grant = self.grant.name(), "no credential was granted");
                Err(error)
            }
        }
    }
}

impl Held {
    fn new(issued: Issued, now: Instant) -> Self {
        let (renew, end) = match issued.life {
            Some(life) => (life.mul_f64(0.8), Some(now + life.saturating_sub(MARGIN.min(life / 10)))),
            None => (LOOK, None),
        };
        Self { credential: Arc::new(issued.credential), since: now, renew: now + renew, end }
    }

    fn is_good(&self, now: Instant) -> bool {
        self.end.is_none_or(|end| now < end)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The grant was refused, or lacks something. `why` is for logs.
fn refused(why: impl Into<String>) -> Error {
    let message = "the gateway gets no credential for this deployment; the operator finds the reason in the log";
    Error::new(ErrorReason::ProviderCredentialRejected, message).because(why.into())
}

/// Whoever grants it cannot be reached, or has no time. `why` is for logs.
fn unavailable(why: impl Into<String>) -> Error {
    let message = "the service that grants this deployment's credential cannot be reached; try again later";
    Error::new(ErrorReason::ProviderUnavailable, message).because(why.into())
}

/// What was answered makes no sense. `why` is for logs.
fn bad_answer(why: impl Into<String>) -> Error {
    let message =
        "the service that grants this deployment's credential gave an answer that makes no sense; have the operator check its address";
    Error::new(ErrorReason::ProviderBadAnswer, message).because(why.into())
}

impl fmt::Debug for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grants").finish_non_exhaustive()
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pass").field("grant", &self.grant).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
