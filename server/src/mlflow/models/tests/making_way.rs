//! Budgets of memory and processes: who makes way, for whom.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_model_that_was_called_least_recently_makes_way() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(250), ..Settings::default() });
    let all: Vec<_> = ["a", "b", "c"].map(|name| models.hosted(&local(&world.folder(name)))).into();
    let loaded = || all.iter().map(|hosted| matches!(hosted.state(), State::Loaded)).collect::<Vec<_>>();
    for (at, expected) in [(0, [true, false, false]), (1, [true, true, false]), (0, [true, true, false]), (2, [true, false, true])] {
        call(&all[at], "").await.unwrap();
        assert_eq!(loaded(), expected);
        pass(Duration::from_secs(3)).await;
    }
    // `a` is in use, so that `c` goes, though it was called later.
    let (slow, ()) = tokio::join!(call(&all[0], "slow"), async {
        tokio::task::yield_now().await;
        call(&all[1], "").await.unwrap();
        assert_eq!(loaded(), [true, true, false]);
        world.engines().0.calls.add_permits(1);
    });
    slow.unwrap();
    assert_eq!(world.engines().started(), 4);
}

/// Which of them are loaded.
fn loaded(all: &[Arc<Hosted>]) -> Vec<bool> {
    all.iter().map(|hosted| hosted.state() == State::Loaded).collect()
}

#[tokio::test(start_paused = true)]
async fn only_models_with_processes_make_way_for_a_process() {
    let world = World::new();
    let models = world.models(Settings { max_processes: 1, ..Settings::default() });
    let of = |name: &str, runtime| models.hosted(&Model { runtime, ..local(&world.folder(name)) });
    let (native, python) = (Runtime::Native, Runtime::Python);
    let all = [of("a", native), of("b", native), of("c", python), of("d", python)];
    for hosted in &all {
        call(hosted, "").await.unwrap();
        pass(Duration::from_secs(3)).await;
    }
    assert_eq!(loaded(&all), [true, true, false, true], "native ones were called longer ago, and free no process");
}

#[tokio::test(start_paused = true)]
async fn memory_settles_below_its_bound_when_a_process_is_measured() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(1000), ..Settings::default() });
    let all: Vec<_> = ["a", "b", "c"].map(|name| models.hosted(&Model { runtime: Runtime::Python, ..local(&world.folder(name)) })).into();
    // Their files are small.
    world.engines().0.bytes.store(600, SeqCst);
    for at in [0, 1, 2] {
        call(&all[at], "").await.unwrap();
        pass(Duration::from_secs(3)).await;
        let expected: Vec<_> = (0..3).map(|other| other == at).collect();
        assert_eq!(loaded(&all), expected, "the one before made way when this one was measured");
    }
    // What it took last is counted before it is loaded again.
    world.engines().0.gate.forget_permits(1000);
    let (answer, ()) = tokio::join!(call(&all[0], ""), async {
        pass(Duration::from_millis(200)).await;
        assert_eq!(loaded(&all), [false; 3]);
        world.engines().0.gate.add_permits(1000);
    });
    answer.unwrap();
    // One that grows has the others make way as well.
    world.engines().0.bytes.store(400, SeqCst);
    pass(Duration::from_secs(3)).await;
    call(&all[1], "").await.unwrap();
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [true, true, false]);
    world.engines().0.bytes.store(700, SeqCst);
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [false, true, false]);
    // One that is too large by itself stays, and is loaded again.
    world.engines().0.bytes.store(2000, SeqCst);
    pass(Duration::from_secs(3)).await;
    assert_eq!(loaded(&all), [false, true, false]);
    assert!(all[1].unload());
    call(&all[1], "").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn all_room_in_use_is_an_error_that_says_so() {
    let world = World::new();
    let models = world.models(Settings { memory: Some(150), ..Settings::default() });
    let (a, b) = (models.hosted(&local(&world.folder("a"))), models.hosted(&local(&world.folder("b"))));
    call(&a, "").await.unwrap();
    a.pin(true);
    let error = call(&b, "").await.unwrap_err();
    assert_eq!(error.reason(), ErrorReason::GatewayOverloaded);
    assert!(error.to_string().contains("; a call after "), "nothing but a call tries it again: {error}");
    let tight = world.models(Settings { memory: Some(50), ..Settings::default() });
    let error = call(&tight.hosted(&local(&world.folder("a"))), "").await.unwrap_err();
    assert!(error.to_string().contains("`mlflow.memory` is 50"), "{error}");
}
