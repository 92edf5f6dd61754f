//! Rollouts over deployments that nobody calls: what attempts come to is told, and time is moved by hand.

use flowgate_proto::v1::{ErrorReason, RolloutState};
use tokio::time::advance;

use super::*;
use crate::{
    balance::{Balance, breaker::State, credentials::Fault, vitals::Fitness},
    call::Call,
    config::Affinity,
    error::Error,
    identity::Principal,
    policy::testing::{self, deployment, endpoint},
    telemetry::metrics::Metrics,
};

const EVERY: Duration = Duration::from_secs(600);
const FAST: Duration = Duration::from_millis(100);

struct Bench {
    rollouts: Rollouts,
    metrics: Metrics,
    rollout: Arc<Rollout>,
    canary: Trial,
    stable: Trial,
}

fn ranker(change: impl FnOnce(&mut config::Endpoint)) -> config::Endpoint {
    let mut config = endpoint("ranker", vec![deployment("stable"), deployment("next")]);
    let (canary, steps) = ("next".to_owned(), vec![5, 25, 100]);
    config.routing.rollout = Some(config::Rollout { canary, steps, every: EVERY, error_rate: Some(0.02), p95: Some(1.5), min_calls: 20 });
    change(&mut config);
    config
}

fn bench() -> Bench {
    let (rollouts, metrics) = (Rollouts::default(), Metrics::new());
    let catalog = testing::catalog(vec![ranker(|_| {})]);
    let endpoint = catalog.endpoint("ranker").unwrap();
    let rollout = rollouts.of(endpoint, metrics.routing()).unwrap();
    let [stable, canary] = [0, 1].map(|place| Trial::of(&rollout, endpoint, &endpoint.deployments[place]).unwrap());
    rollout.announce();
    Bench { rollouts, metrics, rollout, canary, stable }
}

fn fault() -> Error {
    Error::new(ErrorReason::ProviderFailed, "x")
}

fn answers(trial: &Trial, count: u32, latency: Duration) {
    (0..count).for_each(|_| trial.answered(latency));
}

fn fails(trial: &Trial, count: u32) {
    (0..count).for_each(|_| trial.failed(&fault(), FAST));
}

impl Bench {
    /// A step with good calls at both, to its end.
    async fn good_step(&self) {
        answers(&self.stable, 100, FAST);
        answers(&self.canary, 20, FAST);
        advance(EVERY).await;
    }

    /// Another configuration of the same endpoint is taken over.
    fn reload(&self, change: impl FnOnce(&mut config::Endpoint)) -> Arc<Rollout> {
        let catalog = testing::catalog(vec![ranker(change)]);
        self.rollouts.of(catalog.endpoint("ranker").unwrap(), self.metrics.routing()).unwrap()
    }

    fn stands(&self) -> (RolloutState, u32, u32) {
        let told = self.rollout.describe();
        (told.state(), told.share_percent, told.step)
    }

    fn why(&self) -> String {
        self.rollout.describe().reason
    }

    fn shows(&self, line: &str) -> bool {
        self.metrics.render().contains(line)
    }
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_does_well_gets_more_with_each_step_and_in_the_end_all() {
    let bench = bench();
    for (step, share) in [(1, 5), (2, 25), (3, 100)] {
        assert_eq!(bench.stands(), (RolloutState::Running, share, step));
        assert!(bench.shows(&format!("flowgate_rollout_share{{endpoint=\"ranker\",deployment=\"next\"}} {:?}", f64::from(share) / 100.0)));
        answers(&bench.canary, 20, FAST);
        advance(EVERY - Duration::from_secs(1)).await;
        assert_eq!(bench.rollout.share(), share, "not before its time");
        let told = bench.rollout.describe();
        assert_eq!(told.canary_tally.unwrap().calls, 20, "each step has its own count");
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(bench.stands(), (RolloutState::Finished, 100, 3));
    fails(&bench.canary, 100);
    advance(EVERY).await;
    let told = bench.rollout.describe();
    assert_eq!((told.state(), told.share_percent, told.reason.as_str()), (RolloutState::Finished, 100, ""), "nothing is judged any more");
    assert!(told.canary_tally.is_none() && told.stable_tally.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_step_goes_on_until_there_are_enough_calls_to_judge_by() {
    let bench = bench();
    answers(&bench.canary, 19, FAST);
    assert_eq!(bench.why(), "");
    advance(EVERY * 3).await;
    assert_eq!(bench.stands(), (RolloutState::Running, 5, 1));
    assert_eq!(bench.why(), "the step goes on until the canary has 20 calls to be judged by; it has 19");
    answers(&bench.canary, 1, FAST);
    assert_eq!(bench.stands(), (RolloutState::Running, 25, 2));
    advance(EVERY - Duration::from_secs(1)).await;
    answers(&bench.canary, 20, FAST);
    assert_eq!(bench.rollout.share(), 25, "the next step has its whole time");
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_begins_to_fail_is_back_at_0_at_once_and_stays_there() {
    let bench = bench();
    bench.good_step().await;
    assert_eq!(bench.stands(), (RolloutState::Running, 25, 2));
    answers(&bench.stable, 200, FAST);
    answers(&bench.canary, 8, FAST);
    fails(&bench.canary, 11);
    assert_eq!(bench.rollout.share(), 25, "too few calls to tell");
    fails(&bench.canary, 1);
    assert_eq!(bench.stands(), (RolloutState::RolledBack, 0, 2));
    assert_eq!(bench.why(), "12 of 20 calls of next failed (60 %), more than 2 % and than the stable deployments' 0 %");
    assert!(bench.shows("flowgate_rollout_share{endpoint=\"ranker\",deployment=\"next\"} 0.0"));
    assert!(bench.shows("flowgate_rollout_rollbacks_total{endpoint=\"ranker\",deployment=\"next\",cause=\"error_rate\"} 1"));
    answers(&bench.canary, 1000, FAST);
    advance(EVERY * 9).await;
    assert_eq!(bench.stands(), (RolloutState::RolledBack, 0, 2));
    assert_eq!(bench.canary.weight(0), None, "it is no fallback either");
}

#[tokio::test(start_paused = true)]
async fn a_canary_is_not_to_blame_for_what_the_stable_deployments_do_as_badly() {
    let bench = bench();
    fails(&bench.stable, 10);
    answers(&bench.stable, 90, FAST);
    fails(&bench.canary, 2);
    answers(&bench.canary, 18, FAST);
    advance(EVERY).await;
    assert_eq!(bench.stands(), (RolloutState::Running, 25, 2));
    fails(&bench.stable, 19);
    answers(&bench.canary, 10, FAST);
    fails(&bench.canary, 10);
    assert_eq!(bench.rollout.share(), 0, "too few calls of the stable ones say nothing");
    assert!(bench.why().ends_with("more than 2 % and than the stable deployments' 10 %"), "as in the step before: {}", bench.why());
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_is_too_slow_is_rolled_back() {
    let bench = bench();
    answers(&bench.stable, 19, FAST);
    answers(&bench.canary, 20, FAST * 9);
    assert_eq!(bench.rollout.share(), 5, "with too few calls there is nothing to compare with");
    answers(&bench.stable, 1, FAST);
    advance(EVERY).await;
    assert_eq!(bench.stands(), (RolloutState::RolledBack, 0, 1), "judged at the end of the step at the latest");
    let why = bench.why();
    assert!(why.starts_with("the p95 of next is 9") && why.contains("more than 1.5 times the stable deployments' 10"), "{why}");
    assert!(bench.shows("deployment=\"next\",cause=\"p95\"} 1"));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_has_all_calls_is_compared_with_what_the_others_did_before() {
    let bench = bench();
    bench.good_step().await;
    assert_eq!(bench.rollout.share(), 25);
    bench.good_step().await;
    assert_eq!(bench.rollout.share(), 100);
    answers(&bench.canary, 20, FAST * 2);
    assert_eq!(bench.stands(), (RolloutState::RolledBack, 0, 3));
}

#[tokio::test(start_paused = true)]
async fn what_says_nothing_of_the_canary_does_not_count() {
    let bench = bench();
    let count = || bench.rollout.describe().canary_tally.unwrap().calls;
    for reason in [
        ErrorReason::ProviderRejectedRequest,
        ErrorReason::ProviderBlocked,
        ErrorReason::CallerContextTooLong,
        ErrorReason::CallerCancelled,
        ErrorReason::GatewayOverloaded,
    ] {
        bench.canary.failed(&Error::new(reason, "x"), FAST);
    }
    bench.canary.given_up(FAST * 100);
    assert_eq!(count(), 0, "how slow is too slow is not known yet");
    answers(&bench.stable, 20, FAST);
    bench.canary.given_up(FAST);
    assert_eq!(count(), 0);
    for _ in 0..20 {
        bench.canary.failed(&Error::new(ErrorReason::CallerDeadlineExceeded, "x"), FAST * 3);
    }
    assert_eq!(bench.rollout.share(), 0, "a canary that never answers is slow: {}", bench.why());
}

#[tokio::test(start_paused = true)]
async fn faults_of_key_model_and_limit_count_as_the_canarys() {
    let bench = bench();
    answers(&bench.canary, 16, FAST);
    for reason in [ErrorReason::ProviderCredentialRejected, ErrorReason::ProviderModelFailed, ErrorReason::ProviderRateLimited] {
        bench.canary.failed(&Error::new(reason, "x"), FAST);
    }
    let tally = bench.rollout.describe().canary_tally.unwrap();
    assert_eq!((tally.calls, tally.failures), (19, 3));
}

#[tokio::test(start_paused = true)]
async fn an_operator_rolls_back_at_any_time_and_the_first_reason_stays() {
    let bench = bench();
    for _ in 0..3 {
        bench.good_step().await;
        bench.rollout.share();
    }
    assert_eq!(bench.stands().0, RolloutState::Finished);
    bench.rollout.roll_back("it drops rows");
    bench.rollout.roll_back("again");
    assert_eq!((bench.stands(), bench.why().as_str()), ((RolloutState::RolledBack, 0, 3), "by an operator: it drops rows"));
    assert!(bench.shows("deployment=\"next\",cause=\"operator\"} 1"));
    let other = self::bench();
    other.rollout.roll_back("");
    assert_eq!(other.why(), "by an operator");
}

#[tokio::test(start_paused = true)]
async fn only_another_rollout_or_another_canary_begins_anew() {
    let bench = bench();
    bench.good_step().await;
    assert_eq!(bench.rollout.share(), 25);
    let same = bench.reload(|config| {
        config.deployments[0].model = "other".to_owned();
        config.deployments[1].traits.breaker.failures = 9;
        config.description = "words".to_owned();
    });
    assert!(Arc::ptr_eq(&same, &bench.rollout));
    let changes: [fn(&mut config::Endpoint); 4] = [
        |config| config.deployments[1].model = "other".to_owned(),
        |config| config.routing.rollout.as_mut().unwrap().steps = vec![5, 100],
        |config| config.routing.rollout.as_mut().unwrap().error_rate = None,
        |config| _ = config.deployments[1].parameters.insert("temperature".to_owned(), 1.into()),
    ];
    for change in changes {
        let anew = bench.reload(change);
        assert_eq!((anew.share(), anew.describe().step), (5, 1));
    }
    assert!(Arc::ptr_eq(&bench.reload(|_| {}), &bench.rollout), "as long as the old one is in use");
}

fn order(balance: &Balance, call: &Call) -> Vec<String> {
    let mut call = call.clone();
    call.choice.route = Arc::default();
    balance.order(&call).unwrap().order.unwrap().into_iter().map(|place| balance.choices[place].deployment.alias.to_string()).collect()
}

fn rollout_of(balance: &Balance) -> &Arc<Rollout> {
    &balance.choices.iter().find_map(|choice| choice.trial.as_ref()).unwrap().rollout
}

/// Moves a rollout on to its next step.
async fn next_step(balance: &Balance) {
    for choice in &balance.choices {
        choice.trial.as_ref().inspect(|trial| answers(trial, 20, FAST));
    }
    advance(EVERY).await;
}

#[tokio::test(start_paused = true)]
async fn the_canary_gets_its_share_and_the_others_the_rest_by_their_weights() {
    let weighted = |alias: &str, weight| config::Deployment { weight: Some(weight), ..deployment(alias) };
    let config = ranker(|config| {
        config.deployments = vec![weighted("a", 3), deployment("next"), weighted("b", 1), weighted("never", 0)];
        config.routing.rollout.as_mut().unwrap().steps = vec![20, 100];
    });
    let (balance, call) = testing::balance(&config);
    let mut first = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..50_000 {
        let order = order(&balance, &call);
        assert_eq!(order.len(), 3, "weight 0 is never a fallback");
        *first.entry(order[0].clone()).or_default() += 1;
    }
    let near = |alias: &str, share: u32| first[alias].abs_diff(share * 500) < 500;
    assert!(near("next", 20) && near("a", 60) && near("b", 20), "{first:?}");
    next_step(&balance).await;
    assert_eq!(order(&balance, &call), ["next", "a", "b"], "at 100 % the others still stand in for it");
    rollout_of(&balance).roll_back("");
    assert!((0..100).all(|_| !order(&balance, &call).contains(&"next".to_owned())));
}

#[tokio::test(start_paused = true)]
async fn without_weights_the_first_of_the_others_has_the_rest() {
    let config = ranker(|config| config.deployments = ["next", "first", "second"].map(deployment).to_vec());
    let (balance, call) = testing::balance(&config);
    let orders: std::collections::BTreeSet<_> = (0..1000).map(|_| order(&balance, &call).join(" ")).collect();
    assert_eq!(orders.into_iter().collect::<Vec<_>>(), ["first next second", "next first second"]);
    rollout_of(&balance).roll_back("");
    assert_eq!(order(&balance, &call), ["first", "second"]);
}

#[tokio::test(start_paused = true)]
async fn a_step_moves_pinned_callers_to_the_canary_only() {
    let weighted = |alias: &str, weight| config::Deployment { weight: Some(weight), ..deployment(alias) };
    let config = ranker(|config| {
        config.deployments = vec![weighted("a", 2), weighted("b", 1), deployment("next")];
        config.routing.affinity = Some(Affinity::Principal);
    });
    let (balance, call) = testing::balance(&config);
    let all = || {
        let place =
            |user: u32| order(&balance, &Call { principal: Arc::new(Principal::named(&format!("p-{user}"))), ..call.clone() })[0].clone();
        (0..10_000).map(place).collect::<Vec<_>>()
    };
    let before = all();
    assert_eq!(before, all(), "a caller stays where it is");
    next_step(&balance).await;
    let after = all();
    let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(before, after)| *before != "next" && *after == "next"));
    assert!((1_850..=2_150).contains(&moved.len()), "{} of 10,000 moved from 5 % to 25 %", moved.len());
}

/// A breaker keeps calls from a canary that fails, and would so keep it from being judged.
#[tokio::test(start_paused = true)]
async fn calls_that_a_broken_canary_is_not_asked_for_count_against_it() {
    let config = ranker(|config| {
        let rollout = config.routing.rollout.as_mut().unwrap();
        (rollout.steps, rollout.error_rate) = (vec![100], Some(0.5));
    });
    let (balance, call) = testing::balance(&config);
    let (canary, rollout) = (&balance.choices[1], rollout_of(&balance));
    fails(canary.trial.as_ref().unwrap(), 5);
    (0..5).for_each(|_| _ = canary.vitals.breaker.fault(Instant::now()));
    assert_eq!(canary.vitals.breaker.state(), State::Open);
    for calls in 5..20 {
        assert_eq!(rollout.describe().canary_tally.unwrap().calls, calls);
        let mut call = call.clone();
        call.choice.route = Arc::default();
        assert_eq!(balance.first(&call).unwrap().deployment, 0, "the stable one stands in");
    }
    assert_eq!(rollout.share(), 0);
}

/// It has as much to do as it may; that is no failure.
#[tokio::test(start_paused = true)]
async fn calls_that_go_elsewhere_since_the_canary_is_busy_say_nothing_of_it() {
    let config = ranker(|config| {
        config.routing.rollout.as_mut().unwrap().steps = vec![100];
        let limit = config::ConcurrencyLimit::Fixed(1);
        config.deployments[1].traits.concurrency = Some(config::Concurrency { limit, queue: 1, wait: EVERY });
    });
    let (balance, call) = testing::balance(&config);
    let (vitals, rollout) = (&balance.choices[1].vitals, rollout_of(&balance));
    let first = || balance.first(&Call { choice: crate::call::Choice::default(), ..call.clone() }).unwrap().deployment;
    let counted = || rollout.describe().canary_tally.unwrap().calls;
    let enter = || vitals.limiter.as_ref().unwrap().enter(call.choice.priority).unwrap();
    let mut entered = Vec::new();
    for fitness in [Fitness::Busy, Fitness::Full] {
        entered.push(enter());
        assert_eq!(vitals.fitness(None), fitness);
        assert!((0..100).all(|_| first() == 0), "the stable one stands in");
        assert_eq!((counted(), rollout.share()), (0, 100));
    }
    vitals.credentials.bench(0, Fault::Refused);
    assert_eq!((first(), counted()), (0, 1), "a key that rests is a fault");
}

/// Both fail once in a hundred, which is allowed twice as often. Each rollout makes its judgement anew after each call.
#[tokio::test(start_paused = true)]
async fn a_canary_as_good_as_the_others_is_not_rolled_back_by_chance() {
    let mut draw = fastrand::Rng::with_seed(7);
    let mut rolled_back = |rate: f64| {
        let bench = bench();
        for _ in 0..2000 {
            let trial = if draw.f64() < 0.25 { &bench.canary } else { &bench.stable };
            if draw.f64() < rate { fails(trial, 1) } else { trial.answered(FAST.mul_f64(0.5 + draw.f64())) }
        }
        u32::from(bench.rollout.share() == 0)
    };
    let mut of_100 = |rate: f64| (0..100).map(|_| rolled_back(rate)).sum::<u32>();
    let (good, poor) = (of_100(0.01), of_100(0.04));
    assert!(good <= 1 && poor <= 8, "{good} and {poor} of 100");
}

#[tokio::test(start_paused = true)]
async fn a_few_slow_answers_are_chance_and_half_of_them_are_not() {
    let bench = bench();
    answers(&bench.stable, 100, FAST);
    answers(&bench.canary, 18, FAST);
    answers(&bench.canary, 2, FAST * 9);
    assert_eq!(bench.rollout.share(), 5, "2 of 20");
    answers(&bench.canary, 20, FAST * 9);
    assert_eq!(bench.rollout.share(), 5, "not looked at again so soon");
    advance(LOOK).await;
    answers(&bench.canary, 1, FAST);
    assert_eq!(bench.stands(), (RolloutState::RolledBack, 0, 1), "half of them");
}

#[tokio::test(start_paused = true)]
async fn as_soon_as_there_are_enough_calls_what_is_plain_is_seen() {
    for failures in [5, 10, 20] {
        let bench = bench();
        answers(&bench.stable, 20, FAST);
        answers(&bench.canary, 20 - failures, FAST);
        fails(&bench.canary, failures - 1);
        assert_eq!(bench.rollout.share(), 5);
        fails(&bench.canary, 1);
        assert_eq!(bench.rollout.share(), 0, "{failures} of 20");
    }
}
