//! When a credential is fetched: for whom, how often, and what a failure does.

use tokio::time::{advance, sleep};

use super::*;

/// A fetch that counts, takes a second, and gives what it is told to.
#[derive(Clone, Default)]
struct Source {
    fetched: Arc<AtomicU32>,
    outcome: Arc<Mutex<Outcome>>,
}

#[derive(Clone, Copy, Default)]
enum Outcome {
    #[default]
    Hour,
    Endless,
    Refused,
    Unavailable,
    Hangs,
    Panics,
}

impl Source {
    fn grants(&self) -> Grants {
        let source = self.clone();
        let fetch = move |_, _| {
            let source = source.clone();
            async move {
                let number = source.fetched.fetch_add(1, SeqCst) + 1;
                let outcome = *source.outcome.lock().unwrap();
                sleep(Duration::from_secs(1)).await;
                let secret = format!("token-{number}").into();
                let credential = Credential::Header { header: http::header::AUTHORIZATION, prefix: "Bearer ", secret };
                match outcome {
                    Outcome::Hour => Ok(Issued { credential, life: Some(Duration::from_secs(3600)) }),
                    Outcome::Endless => Ok(Issued { credential, life: None }),
                    Outcome::Refused => Err(refused("not you")),
                    Outcome::Unavailable => Err(unavailable("away")),
                    Outcome::Hangs => std::future::pending().await,
                    Outcome::Panics => panic!("on purpose"),
                }
            }
            .boxed()
        };
        Grants::fetching(Arc::new(fetch), Tasks::default())
    }

    fn set(&self, outcome: Outcome) {
        *self.outcome.lock().unwrap() = outcome;
    }

    fn fetched(&self) -> u32 {
        self.fetched.load(SeqCst)
    }
}

fn grant() -> Grant {
    Grant::Google(crate::config::GoogleCredentials::Ambient)
}

async fn told(pass: &Arc<Pass>) -> String {
    bearer(&pass.get().await.unwrap()).to_owned()
}

/// Lets what runs in the background come to its end.
async fn settle() {
    sleep(Duration::from_secs(2)).await;
}

#[tokio::test(start_paused = true)]
async fn a_hundred_callers_make_one_fetch() {
    let source = Source::default();
    let grants = source.grants();
    let calls = (0..100).map(|_| {
        let pass = grants.pass(&grant(), Route::default());
        async move { told(&pass).await }
    });
    let all = futures_util::future::join_all(calls).await;
    assert!(all.iter().all(|token| token == "token-1"), "{all:?}");
    assert_eq!(source.fetched(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_goes_away_stops_nobody_else() {
    let source = Source::default();
    let pass = source.grants().pass(&grant(), Route::default());
    timeout(Duration::from_millis(500), pass.get()).await.unwrap_err();
    assert_eq!(told(&pass).await, "token-1");
    assert_eq!(source.fetched(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_credential_is_renewed_before_it_ends_and_nobody_waits() {
    let source = Source::default();
    let pass = source.grants().pass(&grant(), Route::default());
    assert_eq!(told(&pass).await, "token-1");
    advance(Duration::from_secs(2879)).await;
    assert_eq!(told(&pass).await, "token-1");
    settle().await;
    assert_eq!(source.fetched(), 1, "not before 80 % of its life");
    let before = Instant::now();
    assert_eq!((told(&pass).await, told(&pass).await), ("token-1".to_owned(), "token-1".to_owned()));
    assert_eq!(Instant::now(), before);
    settle().await;
    assert_eq!(told(&pass).await, "token-2");
    assert_eq!(source.fetched(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_fails_to_be_renewed_serves_until_its_end() {
    let source = Source::default();
    let pass = source.grants().pass(&grant(), Route::default());
    assert_eq!(told(&pass).await, "token-1");
    source.set(Outcome::Unavailable);
    advance(Duration::from_secs(3000)).await;
    for _ in 0..50 {
        assert_eq!(told(&pass).await, "token-1");
        advance(Duration::from_millis(100)).await;
    }
    settle().await;
    assert_eq!(source.fetched(), 2, "a failed renewal is not tried again at once");
    advance(Duration::from_secs(582)).await;
    assert_eq!(told(&pass).await, "token-1");
    settle().await;
    assert_eq!(source.fetched(), 3);
    advance(Duration::from_secs(3)).await;
    assert_eq!(pass.get().await.unwrap_err().reason(), ErrorReason::ProviderUnavailable, "10 s before its end");
    advance(Duration::from_secs(2)).await;
    source.set(Outcome::Hour);
    assert_eq!(told(&pass).await, "token-5");
}

#[tokio::test(start_paused = true)]
async fn a_failure_answers_for_a_second() {
    let source = Source::default();
    source.set(Outcome::Refused);
    let pass = source.grants().pass(&grant(), Route::default());
    for _ in 0..10 {
        assert_refused(&pass.get().await.unwrap_err(), "not you");
    }
    assert_eq!(source.fetched(), 1);
    source.set(Outcome::Hour);
    advance(Duration::from_millis(999)).await;
    pass.get().await.unwrap_err();
    advance(Duration::from_millis(1)).await;
    assert_eq!(told(&pass).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_fetch_takes_ten_seconds_at_most() {
    let source = Source::default();
    source.set(Outcome::Hangs);
    let pass = source.grants().pass(&grant(), Route::default());
    let before = Instant::now();
    assert_eq!(pass.get().await.unwrap_err().reason(), ErrorReason::ProviderUnavailable);
    assert_eq!(before.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn a_fetch_that_panics_is_tried_again() {
    let source = Source::default();
    source.set(Outcome::Panics);
    let pass = source.grants().pass(&grant(), Route::default());
    assert_eq!(pass.get().await.unwrap_err().reason(), ErrorReason::GatewayInternal);
    source.set(Outcome::Hour);
    assert_eq!(told(&pass).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_end_is_looked_up_now_and_then() {
    let source = Source::default();
    source.set(Outcome::Endless);
    let pass = source.grants().pass(&grant(), Route::default());
    assert_eq!(told(&pass).await, "token-1");
    advance(LOOK).await;
    assert_eq!(told(&pass).await, "token-1");
    settle().await;
    assert_eq!(told(&pass).await, "token-2");
    source.set(Outcome::Refused);
    advance(Duration::from_secs(100_000)).await;
    assert_eq!(told(&pass).await, "token-2");
}

#[tokio::test(start_paused = true)]
async fn a_stale_credential_is_forgotten_once_and_not_when_it_is_new() {
    let source = Source::default();
    let pass = source.grants().pass(&grant(), Route::default());
    let first = pass.get().await.unwrap();
    pass.forget(&first);
    assert_eq!(told(&pass).await, "token-1", "it was got just now");
    advance(YOUNG).await;
    pass.forget(&first);
    assert_eq!(told(&pass).await, "token-2");
    advance(YOUNG).await;
    pass.forget(&first);
    assert_eq!(told(&pass).await, "token-2", "the one that was refused is gone already");
    assert_eq!(source.fetched(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_pass_lives_as_long_as_somebody_holds_it() {
    let source = Source::default();
    let grants = source.grants();
    let pass = grants.pass(&grant(), Route::default());
    assert!(Arc::ptr_eq(&pass, &grants.pass(&grant(), Route::default())));
    let other = grants.pass(&Grant::Google(crate::config::GoogleCredentials::Inline("x".into())), Route::default());
    assert!(!Arc::ptr_eq(&pass, &other));
    assert_eq!(told(&pass).await, "token-1");
    drop(pass);
    assert_eq!(told(&grants.pass(&grant(), Route::default())).await, "token-2");
    assert_eq!(lock(&grants.known).len(), 2);
    drop(other);
    drop(grants.pass(&Grant::Google(crate::config::GoogleCredentials::Inline("y".into())), Route::default()));
    assert_eq!(lock(&grants.known).len(), 1);
}
