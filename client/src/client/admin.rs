//! [`Admin`]: the RPCs of the admin listener.

use flowgate_proto::{
    admin::v1::{
        GetRolloutRequest, ListModelsRequest, ListRolloutsRequest, LoadModelRequest, Model, PinModelRequest, RollBackRequest,
        UnloadModelRequest, model_service_client::ModelServiceClient, rollout_service_client::RolloutServiceClient,
    },
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

    /// The models that Flowgate runs itself, in the order of their references.
    ///
    /// # Errors
    /// Why the call failed.
    pub async fn list_models(&self) -> Result<Vec<Model>, Error> {
        let mut service = service!(self.0, ModelServiceClient);
        let answer = self.0.unary(ListModelsRequest {}, |request| async move { service.list_models(request).await }).await?;
        Ok(answer.models)
    }

    /// Loads a model, or has the version take over that its reference means now; the model once it answers.
    ///
    /// # Errors
    /// Why the call failed; `CALLER_MODEL_NOT_FOUND` when no endpoint names it.
    pub async fn load_model(&self, model: impl Into<String>) -> Result<Model, Error> {
        let mut service = service!(self.0, ModelServiceClient);
        let request = LoadModelRequest { model: model.into() };
        let answer = self.0.unary(request, |request| async move { service.load_model(request).await }).await?;
        answer.model.ok_or_else(|| Error::broken("the answer has no model"))
    }

    /// Lets a model go once its calls are done.
    ///
    /// # Errors
    /// As [`Admin::load_model`].
    pub async fn unload_model(&self, model: impl Into<String>) -> Result<Model, Error> {
        let mut service = service!(self.0, ModelServiceClient);
        let request = UnloadModelRequest { model: model.into() };
        let answer = self.0.unary(request, |request| async move { service.unload_model(request).await }).await?;
        answer.model.ok_or_else(|| Error::broken("the answer has no model"))
    }

    /// Keeps a model loaded, or does so no more.
    ///
    /// # Errors
    /// As [`Admin::load_model`].
    pub async fn pin_model(&self, model: impl Into<String>, pinned: bool) -> Result<Model, Error> {
        let mut service = service!(self.0, ModelServiceClient);
        let request = PinModelRequest { model: model.into(), pinned };
        let answer = self.0.unary(request, |request| async move { service.pin_model(request).await }).await?;
        answer.model.ok_or_else(|| Error::broken("the answer has no model"))
    }
}
