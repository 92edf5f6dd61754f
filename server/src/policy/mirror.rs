//! Mirror: sends copies of sampled calls to other endpoints and counts how far their answers differ. No caller waits for a copy.

use std::{sync::Arc, time::Duration};

use flowgate_proto::v1::ErrorReason;
use futures_util::StreamExt as _;
use tokio::{
    sync::{Semaphore, oneshot},
    time::{Instant, timeout_at},
};

use super::{Next, Policy};
use crate::{
    call::{Call, Service},
    catalog::Endpoint,
    dialect::compare::{Gathered, Progress, compare},
    error::{Error, Result},
    event::Reply,
    task::Tasks,
    telemetry::mirrors::{MirrorMeter, Outcome},
};

/// Copies of one endpoint's calls that are under way to one mirror, at most.
const MOST_AT_ONCE: usize = 64;
/// How long a copy may take whose endpoint has no `total`.
const MOST_TIME: Duration = Duration::from_secs(600);

/// An endpoint's `mirror`. Stands directly over the routing: a copy is sent where a call is.
#[derive(Debug)]
pub struct Mirror {
    images: Vec<Arc<Image>>,
    tasks: Tasks,
    /// A number from 0 to 1; fixed in tests.
    draw: fn() -> f64,
}

/// An endpoint that gets copies.
#[derive(Debug)]
pub struct Image {
    endpoint: Arc<Endpoint>,
    service: Service<Call>,
    share: f64,
    places: Arc<Semaphore>,
    meter: MirrorMeter,
}

/// A whole answer, as far as it is compared.
#[derive(Debug)]
struct Answered {
    gathered: Gathered,
    /// Until the whole answer, or a stream's first content, was there.
    took: Duration,
}

impl Mirror {
    /// Copies to these endpoints, as tasks of an owner that need not wait for them.
    pub fn new(images: Vec<Image>, tasks: Tasks) -> Self {
        Self { images: images.into_iter().map(Arc::new).collect(), tasks, draw: fastrand::f64 }
    }

    /// Sends the copies that are due; who is to be told the call's own answer.
    fn send(&self, call: &Call) -> Vec<oneshot::Sender<Arc<Answered>>> {
        let mut waiting = Vec::new();
        for image in self.images.iter().filter(|image| (self.draw)() < image.share) {
            let Ok(place) = Arc::clone(&image.places).try_acquire_owned() else {
                image.meter.ended(Outcome::Dropped);
                continue;
            };
            let (tell, told) = oneshot::channel();
            let (image, copy) = (Arc::clone(image), call.mirrored(&image.endpoint, MOST_TIME));
            self.tasks.spawn(async move {
                let outcome = image.run(copy, told).await;
                image.meter.ended(outcome);
                drop(place);
            });
            waiting.push(tell);
        }
        waiting
    }
}

impl Policy<Call> for Mirror {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        let waiting = self.send(&call);
        if waiting.is_empty() {
            return next.call(call).await;
        }
        let (since, gathered) = (Instant::now(), Gathered::of(&call.payload));
        // A call that fails, or whose caller leaves, lets go of those who wait, and thereby tells them.
        let reply = next.call(call).await?;
        let mut open = Some((Answered { gathered, took: since.elapsed() }, waiting));
        Ok(reply.tap(move |event| {
            let Some((mut answered, waiting)) = open.take() else { return };
            match event.as_ref().map(|event| answered.gathered.see(event)) {
                Ok(Progress::Open) => open = Some((answered, waiting)),
                Ok(Progress::Complete) => {
                    let answered = Arc::new(answered);
                    // A copy that has failed by now does not listen any more.
                    waiting.into_iter().for_each(|tell| tell.send(Arc::clone(&answered)).unwrap_or_default());
                }
                Ok(Progress::TooLarge) | Err(_) => {}
            }
        }))
    }
}

impl Image {
    /// The endpoint, what carries its calls out, and the share of calls that it gets.
    pub fn new((endpoint, service): (Arc<Endpoint>, Service<Call>), share: f64, meter: MirrorMeter) -> Self {
        Self { endpoint, service, share, places: Arc::new(Semaphore::new(MOST_AT_ONCE)), meter }
    }

    async fn run(&self, copy: Call, primary: oneshot::Receiver<Arc<Answered>>) -> Outcome {
        let until = copy.deadline.unwrap_or_else(Instant::now);
        match timeout_at(until, self.answered(copy)).await {
            Ok(Ok(Some(own))) => {
                timeout_at(until, primary).await.ok().and_then(Result::ok).map_or(Outcome::Unread, |primary| self.compare(&primary, &own))
            }
            Ok(Ok(None)) => Outcome::Unread,
            Ok(Err(error)) if error.reason() == ErrorReason::GatewayOverloaded => Outcome::Dropped,
            _ => Outcome::Error,
        }
    }

    /// The whole answer to a copy; `None` when it is too large to be kept.
    async fn answered(&self, copy: Call) -> Result<Option<Answered>> {
        let (since, mut gathered, mut progress) = (Instant::now(), Gathered::of(&copy.payload), Progress::Open);
        let mut reply = self.service.call(copy).await?;
        let took = since.elapsed();
        while let Some(event) = reply.next().await {
            progress = gathered.see(&event?);
            if progress == Progress::TooLarge {
                return Ok(None);
            }
        }
        if progress == Progress::Complete { Ok(Some(Answered { gathered, took })) } else { Err(Error::stream_cut()) }
    }

    fn compare(&self, primary: &Answered, own: &Answered) -> Outcome {
        let Ok(difference) = compare(&primary.gathered, &own.gathered) else { return Outcome::Unread };
        self.meter.took(primary.took, own.took);
        difference.drifts().for_each(|(measure, drift)| self.meter.drifted(measure, drift));
        difference.characters.into_iter().for_each(|characters| self.meter.length(characters));
        difference.mismatches().into_iter().for_each(|(kind, count)| self.meter.mismatched(kind, count));
        Outcome::Ok
    }
}

#[cfg(test)]
mod tests;
