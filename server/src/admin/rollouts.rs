//! `RolloutService`: how the rollouts of the current snapshot stand, and their end by hand.

use std::{collections::HashMap, sync::Arc};

use flowgate_proto::{
    admin::v1::{
        GetRolloutRequest, GetRolloutResponse, ListRolloutsRequest, ListRolloutsResponse, RollBackRequest, RollBackResponse,
        rollout_service_server::RolloutService,
    },
    v1,
};
use tonic::{Request, Response, Status};

use crate::{
    api::{Gate, failure},
    balance::rollout::Rollout,
    error::{Error, Result},
};

/// The longest reason that is taken, in characters: it goes into a line of the log.
const MOST_WORDS: usize = 200;

/// The rollouts behind a gate.
#[derive(Debug)]
pub(super) struct Rollouts(Arc<Gate>);

impl Rollouts {
    pub(super) fn new(gate: &Arc<Gate>) -> Self {
        Self(Arc::clone(gate))
    }

    fn with(&self, endpoint: &str, act: impl FnOnce(&Rollout) -> Result<()>) -> Result<Option<v1::Rollout>, Status> {
        let snapshot = self.0.snapshot.load();
        let acted = snapshot.rollout(endpoint).and_then(|rollout| {
            act(rollout)?;
            Ok(Some(rollout.describe()))
        });
        // Only a name that there is: what a caller made up is not repeated.
        let known = || snapshot.catalog.endpoint(endpoint).map(|endpoint| ("endpoint".to_owned(), endpoint.name.to_string()));
        acted.map_err(|error| failure::detailed(&error, known().into_iter().collect::<HashMap<_, _>>()))
    }
}

#[tonic::async_trait]
impl RolloutService for Rollouts {
    async fn list_rollouts(&self, _: Request<ListRolloutsRequest>) -> Result<Response<ListRolloutsResponse>, Status> {
        let snapshot = self.0.snapshot.load();
        let rollouts = snapshot.rollouts().map(|rollout| rollout.describe()).collect();
        Ok(Response::new(ListRolloutsResponse { rollouts }))
    }

    async fn get_rollout(&self, request: Request<GetRolloutRequest>) -> Result<Response<GetRolloutResponse>, Status> {
        let rollout = self.with(&request.into_inner().endpoint, |_| Ok(()))?;
        Ok(Response::new(GetRolloutResponse { rollout }))
    }

    async fn roll_back(&self, request: Request<RollBackRequest>) -> Result<Response<RollBackResponse>, Status> {
        let RollBackRequest { endpoint, reason } = request.into_inner();
        let rollout = self.with(&endpoint, |rollout| {
            if reason.chars().count() > MOST_WORDS || reason.contains(char::is_control) {
                return Err(Error::invalid("reason", format!("must be one line of at most {MOST_WORDS} characters")));
            }
            rollout.roll_back(reason.trim());
            Ok(())
        })?;
        Ok(Response::new(RollBackResponse { rollout }))
    }
}
