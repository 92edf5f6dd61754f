//! Which of a deployment's replicas to take: of two drawn at random the one that is likely to answer first.

use std::{cmp::Ordering, sync::Arc};

use tokio::time::Instant;

use super::replica::Replica;
use crate::call::ReplicaId;

/// A replica of a deployment.
#[derive(Clone, Debug)]
pub(super) struct Member {
    /// The position of its address among the deployment's targets.
    pub(super) target: usize,
    pub(super) replica: Arc<Replica>,
}

/// The replica to ask: one that is fit and was not tried; else a fit one; else one that was not tried; else any. `None` when there is none.
pub(super) fn choose<'a>(members: &'a [Member], tried: &[ReplicaId]) -> Option<&'a Member> {
    if members.len() < 2 {
        return members.first();
    }
    let now = Instant::now();
    let is_untried = |member: &Member| !tried.contains(&member.replica.id);
    let is_fit = |member: &Member| member.replica.is_fit();
    draw(members, now, |member| is_untried(member) && is_fit(member))
        .or_else(|| draw(members, now, is_fit))
        .or_else(|| draw(members, now, is_untried))
        .or_else(|| draw(members, now, |_| true))
}

/// Whether a replica is fit that was not tried.
pub(super) fn has_untried(members: &[Member], tried: &[ReplicaId]) -> bool {
    members.iter().any(|member| !tried.contains(&member.replica.id) && is_fit_in(members, member))
}

/// Whether a replica is fit.
pub(super) fn is_fit(members: &[Member]) -> bool {
    members.iter().any(|member| is_fit_in(members, member))
}

/// What other deployments do to a replica must not leave one out that has no other.
fn is_fit_in(members: &[Member], member: &Member) -> bool {
    if members.len() == 1 { member.replica.is_alive() } else { member.replica.is_fit() }
}

/// The better of two members that may be taken, each pair as likely as any other.
fn draw(members: &[Member], now: Instant, may: impl Fn(&Member) -> bool) -> Option<&Member> {
    let mut able = members.iter().filter(|member| may(member));
    let first = able.next()?;
    let Some(second) = able.next() else { return Some(first) };
    let mut pair = [first, second];
    for (seen, member) in (3..).zip(able) {
        if let Some(drawn) = pair.get_mut(fastrand::usize(..seen)) {
            *drawn = member;
        }
    }
    let [first, second] = pair;
    let first_is_better = match compare(&first.replica, &second.replica, now) {
        Ordering::Less => true,
        Ordering::Equal => fastrand::bool(),
        Ordering::Greater => false,
    };
    Some(if first_is_better { first } else { second })
}

/// By how long the next answer should take, all those before it included; by the calls under way alone while one of the two is not known.
fn compare(a: &Replica, b: &Replica, now: Instant) -> Ordering {
    let calls = (a.in_flight(), b.in_flight());
    match (a.latency(now), b.latency(now)) {
        (Some(one), Some(other)) => (one * next(calls.0)).total_cmp(&(other * next(calls.1))),
        _ => calls.0.cmp(&calls.1),
    }
}

fn next(calls: usize) -> f32 {
    f32::from(u16::try_from(calls).unwrap_or(u16::MAX)) + 1.0
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::replica::BENCH, *};
    use crate::{
        config,
        upstream::{mock::Mock, replica::Client},
    };

    const MILLISECOND: Duration = Duration::from_millis(1);

    fn members(count: usize) -> Vec<Member> {
        let replica = || Arc::new(Replica::new(Client::Mock(Mock::new(config::Mock::default()))));
        (0..count).map(|target| Member { target, replica: replica() }).collect()
    }

    /// How often each is taken of 400 times.
    fn taken(members: &[Member], tried: &[usize]) -> Vec<usize> {
        let tried: Vec<_> = tried.iter().map(|position| members[*position].replica.id).collect();
        let mut seen = vec![0; members.len()];
        (0..400).for_each(|_| seen[choose(members, &tried).unwrap().target] += 1);
        seen
    }

    fn eject(member: &Member) {
        member.replica.eject(&config::Ejection::default()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_less_busy_of_two_is_taken() {
        let all = members(2);
        let _busy = all[0].replica.enter();
        assert_eq!(taken(&all, &[]), [0, 400]);
        let _busier = (all[1].replica.enter(), all[1].replica.enter());
        assert_eq!(taken(&all, &[]), [400, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_faster_of_two_is_taken_until_it_is_busier_than_it_is_faster() {
        let all = members(2);
        all[0].replica.answered(30 * MILLISECOND);
        assert!(taken(&all, &[]).iter().all(|count| *count > 100), "nobody knows how fast the other one is");
        all[1].replica.answered(10 * MILLISECOND);
        assert_eq!(taken(&all, &[]), [0, 400]);
        let _busy = (all[1].replica.enter(), all[1].replica.enter(), all[1].replica.enter());
        assert_eq!(taken(&all, &[]), [400, 0]);
        all[0].replica.answered(50 * MILLISECOND);
        assert_eq!(taken(&all, &[]), [0, 400], "a rise counts at once");
        tokio::time::advance(Duration::from_secs(20)).await;
        all[1].replica.answered(10 * MILLISECOND);
        assert_eq!(taken(&all, &[]), [400, 0], "and is forgotten in time");
        all[0].replica.was_slow(100 * MILLISECOND);
        assert_eq!(taken(&all, &[]), [0, 400], "what nobody waited for any more was slow");
        all[1].replica.was_slow(MILLISECOND);
        assert_eq!(taken(&all, &[]), [0, 400], "and no faster than it was for who left early");
    }

    #[test]
    fn equals_share_the_calls_and_none_is_no_choice() {
        for count in 2..6 {
            let seen = taken(&members(count), &[]);
            assert!(seen.iter().all(|seen| seen * count > 200), "{seen:?}");
        }
        assert!(choose(&[], &[]).is_none() && !is_fit(&[]) && !has_untried(&[], &[]));
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_replica_is_passed_over_for_a_second() {
        let all = members(3);
        assert!(all[1].replica.bench() && !all[1].replica.bench());
        assert_eq!(taken(&all, &[])[1], 0);
        tokio::time::advance(BENCH + MILLISECOND).await;
        assert!(taken(&all, &[])[1] > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_tried_is_taken_again_before_what_is_out() {
        let all = members(3);
        eject(&all[2]);
        let seen = taken(&all, &[0]);
        assert_eq!(seen, [0, 400, 0]);
        let seen = taken(&all, &[0, 1]);
        assert!(seen[0] > 0 && seen[1] > 0 && seen[2] == 0, "{seen:?}");
        let ids: Vec<_> = all.iter().map(|member| member.replica.id).collect();
        assert!(has_untried(&all, &ids[..1]) && !has_untried(&all, &ids[..2]) && is_fit(&all));
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_out_all_are_tried() {
        let all = members(3);
        eject(&all[0]);
        all[1].replica.set_healthy(false, "");
        all[2].replica.bench();
        assert!(!is_fit(&all) && !has_untried(&all, &[]));
        assert!(taken(&all, &[]).iter().all(|seen| *seen > 0));
        assert_eq!(taken(&all, &[0, 2]), [0, 400, 0]);
        assert!(taken(&all, &[0, 1, 2]).iter().all(|seen| *seen > 0));
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_replica_is_not_left_out_for_what_it_did_elsewhere() {
        let one = members(1);
        eject(&one[0]);
        assert!(is_fit(&one) && has_untried(&one, &[]) && !has_untried(&one, &[one[0].replica.id]));
        one[0].replica.set_healthy(false, "");
        assert!(!is_fit(&one) && choose(&one, &[]).is_some());
    }
}
