//! Replicas that fail are left out for a while: within the share, never the last one, and for all to see.

use super::*;
use crate::{call::ReplicaId, telemetry::metrics::Metrics};

const SECOND: Duration = Duration::from_secs(1);
const TOOK: Seen = Seen::Answered(Duration::from_millis(5));

fn three() -> Arc<Deployment> {
    deployment(&["http://10.0.0.1:81", "http://10.0.0.2:81", "http://10.0.0.3:81"], |_| ())
}

fn of(connections: &Connections, deployment: &Arc<Deployment>) -> Upstream {
    connections.upstream(deployment, &Timeouts::defaults(Task::Chat)).unwrap()
}

fn ids(upstream: &Upstream) -> Vec<ReplicaId> {
    upstream.group.members().iter().map(|member| member.replica.id).collect()
}

fn fail(upstream: &Upstream, replica: ReplicaId, times: usize) {
    (0..times).for_each(|_| upstream.report(replica, Seen::Failed));
}

fn is_taken(upstream: &Upstream, replica: ReplicaId) -> bool {
    (0..300).any(|_| upstream.choose(&[]) == Some(replica))
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_fails_is_left_out_and_comes_back() {
    let metrics = Metrics::new();
    let upstream = of(&Connections::plain(metrics.upstreams().clone()), &three());
    let ids = ids(&upstream);
    let has = |line: &str| metrics.render().contains(line);
    fail(&upstream, ids[1], 2);
    upstream.report(ids[1], TOOK);
    fail(&upstream, ids[1], 2);
    assert!(is_taken(&upstream, ids[1]) && has("flowgate_upstream_ejected{upstream=\"10.0.0.2:81\"} 0"), "never three in a row");
    fail(&upstream, ids[1], 1);
    assert!(!is_taken(&upstream, ids[1]) && has("flowgate_upstream_ejected{upstream=\"10.0.0.2:81\"} 1"));
    fail(&upstream, ids[1], 5);

    tokio::time::sleep(5 * SECOND + Duration::from_millis(1)).await;
    assert!(is_taken(&upstream, ids[1]) && has("flowgate_upstream_ejected{upstream=\"10.0.0.2:81\"} 0"));
    fail(&upstream, ids[1], 1);
    assert!(!is_taken(&upstream, ids[1]), "on trial one failure is enough");
    tokio::time::sleep(9 * SECOND).await;
    assert!(!is_taken(&upstream, ids[1]), "and it is out for twice as long");
    tokio::time::sleep(SECOND + Duration::from_millis(1)).await;
    upstream.report(ids[1], TOOK);
    fail(&upstream, ids[1], 2);
    assert!(upstream.is_fit() && upstream.has_untried(&[ids[0], ids[2]]));
    assert!(has("flowgate_upstream_ejections_total{upstream=\"10.0.0.2:81\"} 2"));
    assert!(has("flowgate_upstream_ejections_total{upstream=\"10.0.0.1:81\"} 0"));
    drop(upstream);
    assert!(!has("10.0.0.2:81"), "{}", metrics.render());
}

#[tokio::test(start_paused = true)]
async fn no_more_than_the_share_is_left_out_and_never_the_last_one() {
    let cases = [(1, 0.5, 0), (2, 0.5, 1), (3, 0.5, 1), (4, 0.5, 2), (3, 1.0, 2), (3, 0.0, 0)];
    for (count, share, expected) in cases {
        let urls: Vec<_> = (0..count).map(|n| format!("http://10.0.0.{n}")).collect();
        let urls: Vec<_> = urls.iter().map(String::as_str).collect();
        let upstream = of(&Connections::default(), &deployment(&urls, |config| config.traits.ejection.max_share = share));
        let ids = ids(&upstream);
        ids.iter().for_each(|id| fail(&upstream, *id, 10));
        let out = ids.iter().filter(|id| !upstream.has_untried(&others(&ids, **id))).count();
        assert_eq!(out, expected, "{share} of {count}");
        assert!(upstream.is_fit());
    }
}

fn others(ids: &[ReplicaId], one: ReplicaId) -> Vec<ReplicaId> {
    ids.iter().copied().filter(|id| *id != one).collect()
}

#[tokio::test(start_paused = true)]
async fn the_last_healthy_one_is_not_left_out() {
    let upstream = of(&Connections::default(), &three());
    let ids = ids(&upstream);
    for member in &upstream.group.members()[1..] {
        member.replica.set_healthy(false, "");
    }
    fail(&upstream, ids[0], 10);
    assert!(upstream.is_fit() && upstream.choose(&ids) == Some(ids[0]));
    upstream.group.members()[0].replica.set_healthy(false, "");
    assert!(!upstream.is_fit() && ids.iter().all(|id| is_taken(&upstream, *id)), "when all are out all are tried");
}

#[tokio::test(start_paused = true)]
async fn deployments_at_one_address_share_what_is_known_of_it() {
    let connections = Connections::default();
    let first = of(&connections, &three());
    let second = of(&connections, &three());
    let only = of(&connections, &deployment(&["http://10.0.0.1:81"], |_| ()));
    fail(&first, ids(&first)[0], 2);
    fail(&second, ids(&first)[0], 1);
    assert!(!is_taken(&first, ids(&first)[0]) && !is_taken(&second, ids(&first)[0]));
    assert!(only.is_fit() && only.choose(&[]) == Some(ids(&first)[0]), "who has no other one keeps it");
    let checked = |config: &mut config::Deployment| {
        let check = config::HealthCheck::Http("/ping".to_owned());
        config.traits.health = Some(config::Health { check, interval: SECOND, timeout: SECOND, unhealthy: 1, healthy: 1 });
    };
    let checked = of(&connections, &deployment(&["http://10.0.0.1:81"], checked));
    assert_ne!(ids(&checked), ids(&only), "others have it checked differently");
}
