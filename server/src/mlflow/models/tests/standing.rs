//! What others are told of models: metrics, health, what they are for, which there are.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_call_is_written_by_what_the_version_that_answers_says_of_itself() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(hosted.enter().await.unwrap().settings().get("schema"), "");
    let before = hosted.enter().await.unwrap();
    world.0.champion.store(2, SeqCst);
    hosted.refresh().await.unwrap();
    assert_eq!(hosted.enter().await.unwrap().settings().get("schema"), "agent");
    // What was written for one version is answered by that.
    let answer = before.answer(Request::new(Bytes::new())).await.unwrap().into_body().start(1 << 10).await;
    assert_eq!(&answer[..], b"version-1");
}

#[tokio::test(start_paused = true)]
async fn registered_models_are_for_what_the_meant_version_says() {
    let world = World::new();
    let models = world.models(Settings::default());
    let search = |champion: u32| {
        let model = format!(
            r#"{{"name": "iris", "creation_timestamp": "5", "latest_versions": [{{"name": "iris", "version": "2"}}],
                 "aliases": [{{"alias": "champion", "version": "{champion}"}}]}}"#
        );
        *world.0.registered.lock().unwrap() = format!(r#"{{"registered_models": [{model}]}}"#);
    };
    let tasks = async || {
        let found = models.found(Some(&Serve::All)).await.found.unwrap();
        found.into_iter().map(|found| (found.name, found.task)).collect::<Vec<_>>()
    };
    search(1);
    let expected = [("iris".to_owned(), Task::Chat), ("iris@champion".to_owned(), Task::Predict)];
    assert_eq!(tasks().await, expected);
    // Known ones are not read again; an alias that moves is for what the version is for.
    let read = || world.0.read.load(SeqCst);
    assert_eq!(read(), 2);
    search(2);
    assert_eq!(tasks().await.iter().map(|(_, task)| *task).collect::<Vec<_>>(), [Task::Chat, Task::Chat]);
    assert_eq!(read(), 2);
    // What nobody can read is taken for predictions.
    *world.0.registered.lock().unwrap() =
        r#"{"registered_models": [{"name": "lost", "aliases": [{"alias": "a", "version": "7"}]}]}"#.to_owned();
    assert_eq!(tasks().await, [("lost@a".to_owned(), Task::Predict)]);
}

/// The value of a line of the metrics.
fn metric(world: &World, name: &str, label: &str) -> Option<u32> {
    let text = world.0.metrics.render();
    let line = text.lines().find(|line| line.starts_with(name) && line.contains(label))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[tokio::test(start_paused = true)]
async fn look_ups_are_no_loads() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    call(&hosted, "").await.unwrap();
    pass(Duration::from_secs(65)).await;
    let counted = |name: &str, label: &str| metric(&world, name, label).unwrap_or_default();
    assert_eq!((counted("flowgate_model_loads_total{", "ok"), counted("flowgate_model_load_duration_seconds_count", "")), (1, 1));
    assert!((5..=8).contains(&counted("flowgate_model_lookups_total{", "ok")), "{}", world.0.metrics.render());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_cannot_be_loaded_does_not_serve_until_it_can() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let models = world.models(Settings::default());
    let hosted = models.hosted(&local(&world.folder("a")));
    assert!(hosted.not_serving().is_none(), "the first call loads it");
    call(&hosted, "").await.unwrap_err();
    let mut changes = models.changes();
    assert!(hosted.not_serving().unwrap().to_string().contains("it is of no use"));
    pass(Duration::from_secs(30)).await;
    assert!(hosted.not_serving().is_some());
    // Whoever looks at health sends no calls.
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(61)).await;
    assert!(hosted.not_serving().is_none() && hosted.state() == State::Loaded);
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    hosted.unload();
    assert!(changes.has_changed().unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_nobody_misses_is_forgotten() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let idle = Some(Duration::from_secs(300));
    let hosted = world.models(Settings::default()).hosted(&Model { idle, ..local(&world.folder("a")) });
    call(&hosted, "").await.unwrap_err();
    pass(Duration::from_secs(290)).await;
    assert_eq!(hosted.state(), State::Failed);
    pass(Duration::from_secs(80)).await;
    assert_eq!(hosted.state(), State::Unloaded);
    let failed = world.failed();
    pass(Duration::from_secs(500)).await;
    assert_eq!(world.failed(), failed, "it is tried no more");
}

#[tokio::test(start_paused = true)]
async fn first_loads_are_waited_for_well_or_not() {
    let world = World::new();
    let models = world.models(Settings::default());
    let good = models.hosted(&Model { runtime: Runtime::Python, min: 1, ..local(&world.folder("a")) });
    let lazy = models.hosted(&local(&world.folder("b")));
    world.engines().0.loads.forget_permits(1000);
    assert!(tokio::time::timeout(Duration::from_secs(20), models.first_loads()).await.is_err());
    world.engines().0.loads.add_permits(1000);
    models.first_loads().await;
    assert_eq!((good.state(), lazy.state()), (State::Loaded, State::Unloaded));
    world.engines().0.fail.store(true, SeqCst);
    let bad = models.hosted(&Model { runtime: Runtime::Python, min: 1, ..local(&world.folder("c")) });
    models.first_loads().await;
    assert_eq!(bad.state(), State::Failed);
}

/// A configuration whose only endpoint has this model.
fn over(model: &Model) -> config::Config {
    let mut deployment = crate::policy::testing::deployment("only");
    deployment.place = config::Place::Model(Box::new(model.clone()));
    config::Config { endpoints: vec![crate::policy::testing::endpoint("e", vec![deployment])], ..Default::default() }
}

#[tokio::test(start_paused = true)]
async fn a_changed_model_takes_over_when_it_is_loaded_and_not_before() {
    let world = World::new();
    let models = world.models(Settings::default());
    let (old, new) = (local(&world.folder("a")), local(&world.folder("b")));
    let before = over(&old);
    let bridged = || {
        let mut next = over(&new);
        let awaited = models.bridge(&mut next, &before);
        let stays = matches!(&next.endpoints[0].deployments[0].place, config::Place::Model(model) if **model == old);
        (awaited, stays)
    };
    let known = models.hosted(&old);
    assert!(!bridged().1, "nothing answers that could go on");
    call(&known, "").await.unwrap();
    world.engines().0.fail.store(true, SeqCst);
    let (awaited, stays) = bridged();
    assert!(stays && awaited.len() == 1);
    pass(Duration::from_secs(2)).await;
    assert!(awaited[0].failure().unwrap().error.to_string().contains("it is of no use"));
    assert!(bridged().1, "one that fails leaves the one before it answering");
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(10)).await;
    let (awaited, stays) = bridged();
    assert!(!stays && awaited.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_model_that_no_endpoint_names_any_more_is_let_go() {
    let world = World::new();
    let models = world.models(Settings::default());
    let (a, b) = (local(&world.folder("a")), local(&world.folder("b")));
    let (known, never_called) = (models.hosted(&a), models.hosted(&b));
    call(&known, "").await.unwrap();
    let unloads = || world.0.metrics.render().lines().filter(|line| line.starts_with("flowgate_model_unloads_total{")).count();
    models.retire(&over(&a), &over(&a));
    models.retire(&over(&a), &over(&b));
    assert_eq!((unloads(), never_called.current().is_some()), (0, false));
    models.retire(&config::Config::default(), &over(&a));
    assert_eq!(unloads(), 1);
    assert_eq!(call(&known, "").await.unwrap(), "a", "a call that still has it is answered");
}

#[tokio::test(start_paused = true)]
async fn the_models_that_were_named_last_are_served_without_the_registry() {
    let world = World::new();
    let (all, some) = (Serve::All, Serve::Filter("name LIKE 'i%'".to_owned()));
    world.0.away.store(true, SeqCst);
    let models = world.models(Settings::default());
    let listing = models.found(Some(&all)).await;
    assert!(listing.found.is_none() && listing.error.is_some() && models.is_unlisted());
    world.0.away.store(false, SeqCst);
    let found = models.found(Some(&all)).await.found.unwrap();
    assert_eq!((found[0].name.as_str(), models.is_unlisted()), ("iris", false));
    world.0.away.store(true, SeqCst);
    let later = world.models(Settings::default());
    let listing = later.found(Some(&all)).await;
    assert_eq!((listing.found, listing.error.is_some(), later.is_unlisted()), (Some(found), true, false));
    assert!(later.found(Some(&some)).await.found.is_none(), "these were found by other words");
    assert_eq!(later.found(None).await.found, Some(Vec::new()));
    assert!(!later.is_unlisted());
}
