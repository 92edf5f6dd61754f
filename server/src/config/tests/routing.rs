//! What the keys of routing lower to, with all their defaults, short forms and inheritance.

use flowgate_proto::v1::Capability;

use super::*;
use crate::config::fixture::price;

const ROUTING: &str = include_str!("../testdata/routing.yaml");

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn loaded() -> Loaded {
    env().variable("ADMIN_KEY", "admin-key-value").load(ROUTING)
}

fn tags(list: &[(&str, &[&str])]) -> Tags {
    list.iter().map(|(key, values)| ((*key).to_owned(), values.iter().map(|value| (*value).to_owned()).collect())).collect()
}

fn deployment<'a>(config: &'a Config, name: &str, alias: &str) -> &'a Deployment {
    endpoint(config, name).deployments.iter().find(|deployment| deployment.alias == alias).unwrap()
}

#[test]
fn the_server_and_its_keys_take_what_routing_needs() {
    let loaded = loaded();
    let config = &loaded.config;
    assert_eq!(config.max_in_flight, 500);
    assert_eq!(config.admin_key.as_ref().unwrap().expose_secret(), "admin-key-value");
    let [app, other] = config.keys.as_slice() else { panic!() };
    assert_eq!((app.may_choose_deployment, &app.require), (true, &tags(&[("region", &["eu", "ch"])])));
    assert_eq!((other.may_choose_deployment, &other.require), (false, &Tags::new()));
    assert!(!format!("{loaded:?}").contains("admin-key-value"));
    let said: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let tagless = "flowgate.yaml:18:14: no deployment has the tags that are required here, so none can serve such calls\n    set `tags` on deployments";
    assert_eq!(said, ["not enforced yet: limit, line 83", tagless]);

    let plain = env().load(&x(MODEL)).config;
    assert_eq!((plain.max_in_flight, plain.admin_key.is_none()), (10_000, true));
}

#[test]
fn every_key_of_an_endpoint_lowers() {
    let config = loaded().config;
    let routing = &endpoint(&config, "plain").routing;
    assert_eq!(routing.retry, Retry { attempts: Some(4), backoff: (ms(50), ms(1000)), budget: 0.1 });
    assert_eq!(routing.fallback, ["spare", "last"]);
    assert_eq!(routing.hedge, Some(Hedge { after: HedgeAfter::Quantile(0.95), budget: 0.05 }));
    let mirror = |endpoint: &str, share| Mirror { endpoint: endpoint.to_owned(), share };
    assert_eq!(routing.mirrors, [mirror("spare", 0.1), mirror("last", 1.0)]);
    assert_eq!((routing.require.len(), routing.min_throughput), (1, Some(20.0)));
    assert_eq!((routing.require[0].when.is_none(), &routing.require[0].tags), (true, &tags(&[("region", &["eu"])])));
    assert_eq!((routing.affinity.as_ref(), routing.rollout.as_ref(), routing.prefer, routing.steps.len()), (None, None, None, 0));

    let spare = &endpoint(&config, "spare").routing;
    assert_eq!(
        (spare.retry, spare.fallback.as_slice()),
        (Retry { backoff: (ms(1000), ms(1000)), ..Retry::default() }, &["last".to_owned()][..])
    );
    assert_eq!(endpoint(&config, "last").routing.hedge.unwrap().after, HedgeAfter::Quantile(0.99));

    let ranker = &endpoint(&config, "ranker").routing;
    assert!(ranker.idempotent && ranker.retry == Retry::default());
    assert_eq!(ranker.hedge, Some(Hedge { after: HedgeAfter::Delay(ms(200)), budget: 0.2 }));
    assert_eq!(ranker.affinity, Some(Affinity::Field(vec!["params".to_owned(), "user".to_owned()])));
    let expected = Rollout {
        canary: "next".to_owned(),
        steps: vec![5, 50, 100],
        every: ms(600_000),
        error_rate: Some(0.02),
        p95: Some(1.5),
        min_calls: 3,
    };
    assert_eq!(ranker.rollout, Some(expected));
    assert_eq!(weights(endpoint(&config, "ranker")), [("next", None), ("stable", Some(1)), ("rest", Some(3)), ("odd", None)]);
    assert_eq!(ranker.require[0].when.as_ref().unwrap().text(), "request.method == 'POST'");
    assert_eq!(ranker.require[0].tags, tags(&[("hardware", &["gpu", "tpu"])]));
    assert_eq!(ranker.require[1].tags, tags(&[("region", &["eu"])]));

    let rolled = &endpoint(&config, "rolled").routing;
    assert_eq!(rolled.affinity, Some(Affinity::Principal));
    let expected = Rollout { canary: "new".to_owned(), steps: vec![100], every: ms(60_000), error_rate: None, p95: None, min_calls: 20 };
    assert_eq!(rolled.rollout, Some(expected));
    let cheapest = &endpoint(&config, "cheapest").routing;
    assert_eq!((cheapest.prefer, cheapest.hedge), (Some(Prefer::Cheapest), None));
}

#[test]
fn a_chain_has_steps_and_no_deployments() {
    let config = loaded().config;
    let digest = endpoint(&config, "digest");
    assert!(digest.deployments.is_empty() && digest.limit.is_some());
    assert_eq!(digest.timeouts.total_unary, Some(ms(5000)));
    let steps: Vec<_> = digest
        .routing
        .steps
        .iter()
        .map(|step| (step.name.as_str(), step.endpoint.as_str(), step.input.as_ref().map(crate::expression::Template::text)))
        .collect();
    assert_eq!(
        steps,
        [
            ("ranker", "ranker", Some(r#"{"inputs": [{{ request.text|tojson }}]}"#)),
            ("first", "spare", Some("{{ steps.ranker.predictions }} costs $NOTHING")),
            ("last", "last", Some("{{ request.json['a'] }}\n{{ steps['first'].text }}\n")),
        ]
    );
}

#[test]
fn deployments_are_what_they_and_their_endpoint_say() {
    let config = loaded().config;
    let plain = &endpoint(&config, "plain").deployments[0];
    let secrets: Vec<_> = plain.credentials.iter().map(shown).map(|(_, prefix, secret)| (prefix, secret.to_owned())).collect();
    assert_eq!(secrets, [("Bearer ", "sk-openai-value".to_owned()), ("Bearer ", "literal".to_owned())]);
    let expected = Traits {
        tags: Tags::new(),
        price: price(0.15, 0.6),
        context_window: Some(128_000),
        capabilities: Some(vec![Capability::Stream, Capability::Tools, Capability::JsonSchema]),
        breaker: Breaker { failures: 2, error_rate: 0.1, window: ms(60_000), min_calls: 5, open: ms(1000) },
        concurrency: Some(Concurrency { limit: ConcurrencyLimit::Fixed(32), queue: 100, wait: ms(1000) }),
        batch: None,
        health: Some(Health::new(HealthCheck::Http("/ping".to_owned()))),
        ejection: Ejection { failures: 7, time: ms(1000), max_time: ms(60_000), max_share: 0.2 },
    };
    assert_eq!(plain.traits, expected);
    assert_eq!(endpoint(&config, "plain").tags, [("region".to_owned(), "for listings".to_owned())]);
    assert_eq!(endpoint(&config, "spare").deployments[0].traits, Traits::default());

    let below = Breaker { failures: 9, open: ms(2000), ..Breaker::default() };
    let adaptive = ConcurrencyLimit::Adaptive { min: 4, max: 200 };
    let asked = Health { interval: ms(1000), healthy: 3, ..Health::new(HealthCheck::Http("/ping".to_owned())) };
    let long = Ejection { time: ms(600_000), max_time: ms(600_000), ..Ejection::default() };
    let next = &deployment(&config, "ranker", "next").traits;
    assert_eq!(next.tags, tags(&[("hardware", &["gpu"]), ("region", &["eu"])]));
    assert_eq!((next.breaker, next.concurrency), (below, Some(Concurrency { limit: adaptive, queue: 7, wait: ms(1000) })));
    assert_eq!((next.health.as_ref(), next.ejection), (Some(&asked), long));
    let stable = &deployment(&config, "ranker", "stable").traits;
    assert_eq!(stable.tags, tags(&[("generation", &["5"]), ("region", &["eu", "us"])]));
    assert_eq!(stable.breaker, Breaker { failures: 1, ..below });
    assert_eq!(stable.concurrency, Some(Concurrency { limit: ConcurrencyLimit::Fixed(3), queue: 7, wait: Duration::ZERO }));
    assert_eq!(stable.health, Some(Health { check: HealthCheck::Grpc(String::new()), ..asked.clone() }));
    assert_eq!(stable.ejection, Ejection { failures: 1, ..long });
    let rest = &deployment(&config, "ranker", "rest").traits;
    assert_eq!(rest.health, Some(Health { timeout: ms(5000), ..asked }));
    assert_eq!(rest.concurrency, Some(Concurrency { limit: adaptive, queue: 7, wait: ms(2000) }));

    assert_eq!(deployment(&config, "rolled", "old").traits.price, price(1.0, 0.0));
    let limit = |alias| deployment(&config, "cheapest", alias).traits.concurrency.unwrap().limit;
    assert_eq!((limit("a"), limit("b")), (ConcurrencyLimit::ADAPTIVE, ConcurrencyLimit::Adaptive { min: 2000, max: 2000 }));
    assert!(deployment(&config, "ranker", "odd").condition.is_some());
}

#[test]
fn affinity_goes_by_one_thing() {
    let split = "deployments: [{ weight: 1, model: { provider: mock } }, { weight: 1, model: { provider: mock } }]";
    for (written, expected) in [
        ("principal", Affinity::Principal),
        ("{ principal: true }", Affinity::Principal),
        ("{ principal: true, header: null }", Affinity::Principal),
        ("{ header: X-User }", Affinity::Header(http::HeaderName::from_static("x-user"))),
        ("{ header: x-user, principal: false }", Affinity::Header(http::HeaderName::from_static("x-user"))),
        ("{ metadata: 'the user' }", Affinity::Metadata("the user".to_owned())),
        ("{ field: user }", Affinity::Field(vec!["user".to_owned()])),
    ] {
        let loaded = env().load(&x(&format!("affinity: {written}, {split}")));
        assert_eq!(loaded.config.endpoints[0].routing.affinity, Some(expected), "{written}");
        assert!(loaded.warnings.is_empty());
    }
}

#[test]
fn several_keys_are_resolved_like_one() {
    let model = |config: &str| x(&format!("model: {{ provider: openai, config: {config} }}"));
    let loaded = Fake::default().text("key", "from a file\n").list(&model("{ openai_api_keys: [$ONE, key, $TWO] }"));
    let names: Vec<_> = loaded.unset_secrets.iter().map(|unset| (unset.name.as_str(), unset.place.column)).collect();
    assert_eq!(names, [("environment variable ONE", 99), ("environment variable TWO", 110)]);
    assert_eq!(secret(&loaded.config.endpoints[0].deployments[0]), "from a file");
    assert!(loaded.watched.contains(&"key".into()));

    let older = "routes: [{ name: r, route_type: llm/v1/chat, model: { provider: openai, openai_config: { openai_api_keys: [a, b] } } }]";
    assert_eq!(env().load(older).config.endpoints[0].deployments[0].credentials.len(), 2);
    let older = "routes: [{ name: r, route_type: llm/v1/chat, model: { provider: openai, config: { api_keys: [a, b], n: 2 } } }]";
    let config = env().load(older).config;
    let only = &config.endpoints[0].deployments[0];
    assert_eq!((only.credentials.len(), only.parameters.len()), (2, 1));
}

#[test]
fn placeholders_stand_in_the_keys_of_routing_too() {
    let text = x(
        "hedge: $HEDGE, fallback: $SPARE, retry: { attempts: $N, budget: $SHARE, backoff: $WAIT }, min_throughput: $N, concurrency: $N, \
         affinity: $WORD, deployments: [{ weight: $N, price: { input: $SHARE, output: $N }, tags: { a: $N, b: [$WORD] }, model: { provider: mock } }]",
    ) + "  - { name: y, endpoint_type: llm/v1/chat, model: { provider: mock } }\n";
    let env = env().variable("HEDGE", "true").variable("SPARE", "y").variable("N", "3").variable("SHARE", "0.5");
    let config = env.variable("WAIT", "1s..2s").variable("WORD", "principal").load(&text).config;
    let routing = &config.endpoints[0].routing;
    assert_eq!(routing.retry, Retry { attempts: Some(3), backoff: (ms(1000), ms(2000)), budget: 0.5 });
    assert_eq!((routing.hedge.is_some(), routing.fallback.as_slice(), routing.min_throughput), (true, &["y".to_owned()][..], Some(3.0)));
    assert_eq!(routing.affinity, Some(Affinity::Principal));
    let traits = &config.endpoints[0].deployments[0].traits;
    assert_eq!((traits.price.clone(), traits.tags.as_slice()), (price(0.5, 3.0), tags(&[("a", &["3"]), ("b", &["principal"])]).as_slice()));
    assert_eq!(traits.concurrency, Some(Concurrency::new(ConcurrencyLimit::Fixed(3))));
}

#[test]
fn overlays_change_routing_key_by_key() {
    let base = x("retry: { attempts: 2, budget: 1% }, fallback: [y], hedge: { after: 1s }, model: { provider: mock }")
        + "  - { name: y, endpoint_type: llm/v1/chat, model: { provider: mock } }\n";
    let over = "endpoints: [{ name: x, retry: { attempts: 5 }, fallback: [], hedge: true }]";
    let routing = &env().parse(&[&base, over], LoadOptions::default()).unwrap().config.endpoints[0].routing;
    assert_eq!((routing.retry.attempts, routing.retry.budget), (Some(5), 0.01));
    assert_eq!((routing.fallback.len(), routing.hedge), (0, Some(Hedge::default())));
}

#[test]
fn splits_take_deployments_and_not_their_routing() {
    let text = "endpoints:\n  \
        - { name: a, endpoint_type: llm/v1/chat, retry: { attempts: 9 }, fallback: b, hedge: true, rollout: { canary: p, steps: [50], every: 1m }, breaker: { failures: 1 }, \
            deployments: [{ alias: p, model: { provider: mock } }, { alias: q, tags: { region: eu }, model: { provider: mock } }, { alias: r, model: { provider: mock } }] }\n  \
        - { name: b, endpoint_type: llm/v1/chat, model: { provider: mock } }\n\
        routes: [{ name: s, task_type: llm/v1/chat, destinations: [{ name: a, traffic_percentage: 40 }, { name: b, traffic_percentage: 60 }] }]\n";
    let config = env().load(text).config;
    let split = endpoint(&config, "s");
    assert_eq!(weights(split), [("a.p", Some(0)), ("a.q", Some(40)), ("a.r", Some(0)), ("b", Some(60))]);
    assert_eq!((split.routing.retry, split.routing.fallback.len(), split.routing.hedge), (Retry::default(), 0, None));
    assert!(split.routing.rollout.is_none());
    let taken = &split.deployments[1].traits;
    assert_eq!((taken.breaker.failures, &taken.tags), (1, &tags(&[("region", &["eu"])])));
    let named = text.replace("fallback: b", "fallback: s");
    assert_eq!(endpoint(&env().load(&named).config, "a").routing.fallback, ["s"], "a split is an endpoint too");
}
