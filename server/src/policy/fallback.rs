//! Fallback: other endpoints that serve, in order, what this one's own deployments cannot.

use std::{pin::pin, sync::Arc};

use flowgate_proto::v1::ErrorReason;

use super::{Next, Policy};
use crate::{
    balance::Balance,
    call::{Call, Service},
    catalog::Endpoint,
    error::{Again, Result},
    event::Reply,
    telemetry::routing::EndpointMeter,
};

/// The endpoints of `fallback`, each with its routing.
#[derive(Debug)]
pub struct Fallback {
    /// What knows where the call has been.
    pub balance: Arc<Balance>,
    /// The endpoints, in order.
    pub others: Vec<(Arc<Endpoint>, Service<Call>)>,
    /// What is counted.
    pub meter: EndpointMeter,
}

impl Policy<Call> for Fallback {
    async fn handle(&self, call: Call, next: &impl Next<Call>) -> Result<Reply> {
        // Who names a deployment wants that one or none.
        if self.others.is_empty() || call.choice.forced.is_some() {
            return next.call(call).await;
        }
        // Where all of its own are left alone, they are what is tried last.
        let mut own = None;
        if self.balance.is_ready(&call) {
            match pin!(next.call(call.clone())).await {
                Ok(reply) => return Ok(reply),
                Err(error) => own = Some(error),
            }
        }
        let mut last = own.clone();
        let mut outgrown = call.choice.outgrown;
        for (endpoint, service) in &self.others {
            if let Some(error) = last.take_if(|error| error.again() == Again::Nowhere) {
                return Err(error);
            }
            if last.as_ref().is_some_and(|error| error.reason() == ErrorReason::CallerContextTooLong) {
                outgrown = outgrown.max(self.balance.outgrown(&call));
            }
            let mut elsewhere = call.clone().into_endpoint(Arc::clone(endpoint));
            (elsewhere.choice.outgrown, elsewhere.choice.spare) = (outgrown, true);
            self.meter.fell_back();
            match service.call(elsewhere).await {
                Ok(mut reply) => {
                    reply.head.deployment = format!("{}.{}", endpoint.name, reply.head.deployment).into();
                    return Ok(reply);
                }
                Err(error) => last = Some(error),
            }
        }
        match (last, own) {
            (Some(last), _) if last.again() == Again::Nowhere => Err(last),
            // What the endpoint itself failed with says more than that there is nothing beside it.
            (_, Some(own)) => Err(own),
            (_, None) => next.call(call).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        error::Error,
        policy::{
            erase,
            testing::{Once, Then, balance, catalog, deployment, endpoint, meter, unary},
        },
    };

    /// An endpoint that answers so.
    fn other(name: &str, answer: Result<(), ErrorReason>) -> (Arc<Endpoint>, Service<Call>) {
        let catalog = catalog(vec![endpoint(name, vec![deployment("only")])]);
        let service = erase(Then(move |call: Call| async move {
            assert!(call.choice.place.is_none() && call.choice.via.len() == 1);
            answer.map(|()| unary()).map_err(|reason| Error::new(reason, "the other failed"))
        }));
        (Arc::clone(catalog.endpoint(name).unwrap()), service)
    }

    async fn run(reason: ErrorReason, others: Vec<(Arc<Endpoint>, Service<Call>)>) -> Result<String, ErrorReason> {
        let (balance, call) = balance(&endpoint("e", vec![deployment("only")]));
        let fallback = Fallback { balance, others, meter: meter() };
        let next = Once::new(Err(Error::new(reason, "own")));
        let reply = fallback.handle(call, &next).await;
        reply.map(|reply| reply.head.deployment.to_string()).map_err(|error| error.reason())
    }

    #[tokio::test]
    async fn others_serve_in_order_and_the_answer_names_who_did() {
        let others = || vec![other("first", Err(ErrorReason::ProviderFailed)), other("second", Ok(()))];
        for reason in [ErrorReason::ProviderUnavailable, ErrorReason::ProviderCredentialRejected, ErrorReason::GatewayNotServing] {
            assert_eq!(run(reason, others()).await.as_deref(), Ok("second.only"), "{reason:?}");
        }
    }

    #[tokio::test]
    async fn what_would_fail_everywhere_goes_nowhere_else() {
        for reason in [ErrorReason::ProviderRejectedRequest, ErrorReason::CallerInvalidRequest, ErrorReason::ProviderModelFailed] {
            assert_eq!(run(reason, vec![other("b", Ok(()))]).await, Err(reason));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_left_alone_is_tried_last() {
        let (balance, call) = balance(&endpoint("e", vec![deployment("only")]));
        let place = balance.first(&call).unwrap();
        balance.vitals(place).credentials.bench(0, crate::balance::credentials::Fault::Limited(None));
        let run = |others| {
            let fallback = Fallback { balance: Arc::clone(&balance), others, meter: meter() };
            let call = call.clone();
            async move { fallback.handle(call, &Once::new(Ok(unary()))).await.unwrap().head.deployment.to_string() }
        };
        assert_eq!(run(vec![other("b", Ok(()))]).await, "b.only");
        assert_eq!(
            run(vec![other("b", Err(ErrorReason::ProviderUnavailable))]).await,
            "only",
            "the least bad of its own is better than nothing"
        );
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert_eq!(run(vec![other("b", Ok(()))]).await, "only");
    }

    #[tokio::test]
    async fn when_all_fail_the_endpoints_own_failure_is_told() {
        let own = ErrorReason::ProviderTimeout;
        assert_eq!(run(own, vec![other("b", Err(ErrorReason::GatewayNotServing))]).await, Err(own));
        let callers = ErrorReason::ProviderRejectedRequest;
        assert_eq!(run(own, vec![other("b", Err(callers)), other("c", Ok(()))]).await, Err(callers), "unless it is the caller's fault");
    }
}
