//! Loads that fail, hang, or are meant no more.

use super::*;

#[tokio::test(start_paused = true)]
async fn what_cannot_be_loaded_says_why_and_is_tried_again_ever_more_seldom() {
    let world = World::new();
    world.engines().0.fail.store(true, SeqCst);
    let models = world.models(Settings::default());
    let (hosted, other) = (models.hosted(&local(&world.folder("a"))), world.folder("b"));
    let error = call(&hosted, "").await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
    assert!(error.to_string().contains("cannot be loaded: it is of no use; it is tried again in "), "{error}");
    assert!(error.retry_after_hint().is_some_and(|after| after <= Duration::from_millis(1100)), "{error:?}");
    let logged = format!("{error:?}");
    assert_eq!((logged.matches("it is of no use").count(), logged.matches("cannot be loaded").count()), (1, 1), "{logged}");
    world.engines().0.fail.store(false, SeqCst);
    // Not yet.
    assert_eq!(call(&hosted, "").await.unwrap_err().reason(), ErrorReason::GatewayNotServing);
    assert_eq!(call(&models.hosted(&local(&other)), "").await.unwrap(), "b");
    world.engines().0.fail.store(true, SeqCst);
    tokio::time::advance(Duration::from_millis(1200)).await;
    let again = call(&hosted, "").await.unwrap_err();
    assert!(again.retry_after_hint().is_some_and(|after| after > Duration::from_millis(1500)), "{again:?}");
    world.engines().0.fail.store(false, SeqCst);
    tokio::time::advance(Duration::from_millis(2300)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "a");
}

#[tokio::test(start_paused = true)]
async fn failures_are_forgotten_once_a_version_has_answered_for_long() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { idle: None, ..local(&world.folder("a")) });
    let fails = async |again_in: f64| {
        // It may have been tried again meanwhile.
        hosted.unload();
        world.engines().0.fail.store(true, SeqCst);
        let after = call(&hosted, "").await.unwrap_err().retry_after_hint().unwrap();
        assert!((0.85..1.15).contains(&(after.as_secs_f64() / again_in)), "{after:?}");
        world.engines().0.fail.store(false, SeqCst);
        pass(after).await;
    };
    fails(1.0).await;
    fails(2.0).await;
    // One that is let go at once proves nothing.
    call(&hosted, "").await.unwrap();
    assert!(hosted.unload());
    fails(4.0).await;
    call(&hosted, "").await.unwrap();
    pass(Duration::from_secs(31)).await;
    assert!(hosted.unload());
    fails(1.0).await;
    call(&hosted, "").await.unwrap();
    assert_eq!(hosted.desk().failures, 1);
    pass(Duration::from_secs(31)).await;
    hosted.refresh().await.unwrap();
    assert_eq!(hosted.desk().failures, 0, "it is looked up, and still answers");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_is_given_up_and_tried_again() {
    let world = World::new();
    let minute = Some(Duration::from_secs(60));
    let hosted = world.models(Settings::default()).hosted(&Model {
        runtime: Runtime::Python,
        load_timeout: minute,
        ..model("models:/iris@champion")
    });
    world.engines().0.loads.forget_permits(1000);
    let in_time = tokio::time::timeout(Duration::from_secs(90), call(&hosted, ""));
    let error = in_time.await.expect("an end").unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayNotServing);
    assert!(error.to_string().contains("cannot be loaded: loading it takes longer than its `load_timeout` of 1 min"), "{error}");
    assert_eq!((world.engines().started(), world.engines().alive()), (1, 0), "the process is ended");
    world.engines().0.loads.add_permits(1000);
    pass(Duration::from_secs(2)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    // A version that hangs on its own example leaves the one before it where it is.
    world.0.has_example.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    world.engines().0.examples.forget_permits(1000);
    let in_time = tokio::time::timeout(Duration::from_secs(90), hosted.refresh());
    let error = in_time.await.expect("an end").unwrap_err();
    assert!(error.to_string().contains("answering its own example takes longer than its `load_timeout` of 1 min"), "{error}");
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    assert_eq!((world.engines().started(), world.engines().alive()), (3, 1));
    world.engines().0.examples.add_permits(1000);
    pass(Duration::from_secs(30)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
}

#[tokio::test(start_paused = true)]
async fn a_version_that_fails_is_told_beside_the_one_that_answers_and_any_other_is_tried_at_once() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    assert!(hosted.failure().is_none());
    world.engines().0.fail.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(300)).await;
    let failure = hosted.failure().unwrap();
    assert_eq!((failure.version, failure.error.to_string().as_str()), (Some(2), "it is of no use"));
    assert_eq!((hosted.state(), call(&hosted, "").await.unwrap().as_str()), (State::Loaded, "version-1"));
    assert!(world.0.metrics.render().contains("flowgate_model_failing{model=\"models:/iris@champion\"} 1\n"));
    // 1 s, 2, 4, 8, 16, 32, 60 and so on, each rounded up to the next look: not at each of thirty.
    assert!((8..=12).contains(&world.failed()), "{}", world.failed());
    while hosted.failure().unwrap().again.after().unwrap() < Duration::from_secs(30) {
        pass(Duration::from_secs(1)).await;
    }
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1", "it is not tried again yet");
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-3");
    assert!(hosted.failure().is_none());
    assert!(world.0.metrics.render().contains("flowgate_model_failing{model=\"models:/iris@champion\"} 0\n"));
    // Back to what answers there is nothing to load.
    world.engines().0.fail.store(true, SeqCst);
    world.0.champion.store(4, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert!(
        hosted.failure().is_some_and(|failure| failure.version == Some(4) && failure.again.after().unwrap() < Duration::from_secs(2)),
        "the first pause is short again"
    );
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert!(hosted.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_tries_again_is_told_while_a_version_answers() {
    let world = World::new();
    let (models, folder) = (world.models(Settings::default()), world.folder("a"));
    let moving = models.hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    let (still, again) = (models.hosted(&local(&folder)), |hosted: &Hosted| hosted.failure().map(|failure| failure.again));
    for hosted in [&still, &moving] {
        call(hosted, "").await.unwrap();
    }
    std::fs::write(folder.join("words"), "b").unwrap();
    world.0.champion.store(2, SeqCst);
    world.engines().0.fail.store(true, SeqCst);
    let error = still.refresh().await.unwrap_err();
    assert!(error.to_string().ends_with("; it is tried again only when somebody loads it"), "{error}");
    assert_eq!((error.retry_after_hint(), again(&still)), (None, Some(Again::Load)));
    let error = moving.refresh().await.unwrap_err();
    assert!(error.to_string().contains("; it is tried again with the first look-up after "), "{error}");
    assert!(matches!(again(&moving), Some(Again::LookUp(after)) if after > Duration::from_millis(800)), "{:?}", again(&moving));
    world.engines().0.fail.store(false, SeqCst);
    pass(Duration::from_secs(30)).await;
    assert_eq!((call(&still, "").await.unwrap().as_str(), again(&still)), ("a", Some(Again::Load)));
    assert_eq!((call(&moving, "").await.unwrap().as_str(), again(&moving)), ("version-2", None));
    still.refresh().await.unwrap();
    assert_eq!((call(&still, "").await.unwrap().as_str(), again(&still)), ("b", None));
    // A look-up that failed is made again with the next one, however soon that comes.
    world.0.is_gone.store(true, SeqCst);
    let error = moving.refresh().await.unwrap_err();
    assert!(error.to_string().ends_with("; it is tried again with the next look-up"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_reference_that_cannot_be_looked_up_is_told_and_looked_up_again_as_often() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Native, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.0.is_gone.store(true, SeqCst);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(200)).await;
    let failure = hosted.failure().unwrap();
    assert_eq!(failure.version, None);
    assert!(failure.error.to_string().contains("has no model `iris`"), "{}", failure.error);
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.0.is_gone.store(false, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-2");
    assert!(hosted.failure().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_meant_no_more_is_not_waited_for() {
    let world = World::new();
    let hosted = world.models(Settings::default()).hosted(&Model { runtime: Runtime::Python, ..model("models:/iris@champion") });
    assert_eq!(call(&hosted, "").await.unwrap(), "version-1");
    world.engines().0.loads.forget_permits(1000);
    world.0.champion.store(2, SeqCst);
    pass(Duration::from_secs(15)).await;
    assert_eq!(world.engines().alive(), 2, "the second one is being loaded");
    world.0.champion.store(3, SeqCst);
    pass(Duration::from_secs(12)).await;
    assert_eq!((world.engines().started(), world.engines().alive()), (3, 2), "and ended");
    world.engines().0.loads.add_permits(1);
    pass(Duration::from_secs(1)).await;
    assert_eq!(call(&hosted, "").await.unwrap(), "version-3");
}

#[tokio::test(start_paused = true)]
async fn callers_are_told_no_folders_of_this_machine_and_operators_are() {
    let world = World::new();
    let folder = world.folder("a");
    std::fs::remove_dir_all(&folder).unwrap();
    let hosted = world.models(Settings::default()).hosted(&local(&folder));
    let error = call(&hosted, "").await.unwrap_err();
    let place = world.0.folder.path().display().to_string();
    assert!(error.to_string().contains("model `…/a` cannot be loaded: cannot read `…/a`: No such file"), "{error}");
    assert!(!format!("{error:?}").contains(&place), "{error:?}");
    assert!(hosted.failure().unwrap().error.to_string().contains(&place));
    pass(Duration::from_secs(2)).await;
    assert!(hosted.refresh().await.unwrap_err().to_string().contains(&place));
}
