//! [`Admin`]: the RPCs of the admin listener.

use flowgate_proto::{
    admin::v1::{GetRolloutRequest, ListRolloutsRequest, RollBackRequest, rollout_service_client::RolloutServiceClient},
    v1::Rollout,
};
use tonic::codec::CompressionEncoding;

use super::Client;
use crate::error::Error;

/// The admin services of one Flowgate. Made by [`Client::admin`], whose address must be that of the admin listener.
#[derive(Clone, Debug)]
pub struct Admin(Client);

impl Admin {
    pub(super) fn new(client: Client) -> Self {
        Self(client)
    }

    /// The rollouts of all endpoints that have one, in the order of the endpoints' names.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn list_rollouts(&self) -> Result<Vec<Rollout>, Error> {
        let mut service = service!(self.0, RolloutServiceClient);
        let answer = self.0.unary(ListRolloutsRequest {}, |request| async move { service.list_rollouts(request).await }).await?;
        Ok(answer.rollouts)
    }

    /// The rollout of an endpoint.
    ///
    /// # Errors
    /// Why the call failed; `CALLER_ENDPOINT_NOT_FOUND` or `CALLER_ROLLOUT_NOT_FOUND` when there is none.
    pub async fn get_rollout(&self, endpoint: impl Into<String>) -> Result<Rollout, Error> {
        let mut service = service!(self.0, RolloutServiceClient);
        let request = GetRolloutRequest { endpoint: endpoint.into() };
        let answer = self.0.unary(request, |request| async move { service.get_rollout(request).await }).await?;
        answer.rollout.ok_or_else(|| Error::broken("the answer has no rollout"))
    }

    /// Takes all calls from the canary of an endpoint's rollout; the rollout as it is then.
    ///
    /// # Errors
    /// As [`Admin::get_rollout`].
    pub async fn roll_back(&self, endpoint: impl Into<String>, reason: impl Into<String>) -> Result<Rollout, Error> {
        let mut service = service!(self.0, RolloutServiceClient);
        let request = RollBackRequest { endpoint: endpoint.into(), reason: reason.into() };
        let answer = self.0.unary(request, |request| async move { service.roll_back(request).await }).await?;
        answer.rollout.ok_or_else(|| Error::broken("the answer has no rollout"))
    }
}
