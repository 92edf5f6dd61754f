//! Names with several addresses are as many replicas, and follow what the name stands for.

use std::{io, net::IpAddr, sync::Mutex};

use super::{
    super::{names::EVERY, replica::Client},
    connections::secure,
    *,
};
use crate::{call::ReplicaId, telemetry::upstreams::Upstreams};

/// A name server, and how often it was asked.
#[derive(Clone, Default)]
struct Names(Arc<(Mutex<Vec<&'static str>>, AtomicUsize)>);

impl Names {
    /// What every name stands for from now on; nothing is a failure.
    fn say(&self, addresses: &[&'static str]) {
        *self.0.0.lock().unwrap() = addresses.to_vec();
    }

    fn asked(&self) -> usize {
        self.0.1.load(SeqCst)
    }

    fn connections(&self) -> Connections {
        let names = self.clone();
        let resolver = move |_| {
            names.0.1.fetch_add(1, SeqCst);
            let found: Vec<IpAddr> = names.0.0.lock().unwrap().iter().map(|address| address.parse().unwrap()).collect();
            let found = if found.is_empty() { Err(io::Error::other("no name server")) } else { Ok(found) };
            async { found }.boxed()
        };
        Connections::looking_up(Upstreams::default(), Arc::new(resolver))
    }
}

fn of(connections: &Connections, deployment: &Arc<Deployment>) -> Upstream {
    connections.upstream(deployment, &Timeouts::defaults(Task::Chat)).unwrap()
}

/// The replicas, by what is connected to.
fn replicas(upstream: &Upstream) -> Vec<(String, ReplicaId)> {
    let name = |client: &Client| match client {
        Client::Sockets(sockets) => sockets.series.upstream().to_owned(),
        Client::Own(_) | Client::Mock(_) => panic!("it has no sockets"),
    };
    upstream.group.members().iter().map(|member| (name(&member.replica.client), member.replica.id)).collect()
}

fn addresses(upstream: &Upstream) -> Vec<String> {
    replicas(upstream).into_iter().map(|(name, _)| name).collect()
}

/// Until the names have been looked up again.
async fn later() {
    tokio::time::sleep(EVERY.mul_f64(1.2)).await;
}

#[tokio::test(start_paused = true)]
async fn replicas_follow_the_addresses_of_a_name() {
    let names = Names::default();
    let connections = names.connections();
    let deployment = deployment(&["http://Model.test:81/a"], |_| ());
    let upstream = of(&connections, &deployment);
    assert_eq!(addresses(&upstream), ["Model.test:81"], "nobody waits for the name server");
    later().await;
    assert_eq!(addresses(&upstream), ["Model.test:81"], "it may be away at the start");

    names.say(&["10.0.0.2", "10.0.0.1", "fd00::1"]);
    later().await;
    assert_eq!(addresses(&upstream), ["10.0.0.1:81", "10.0.0.2:81"]);
    let before = replicas(&upstream);
    let reloaded = of(&connections, &deployment);
    assert_eq!(replicas(&reloaded), before, "what is known is known at once");

    names.say(&["10.0.0.3", "10.0.0.2"]);
    later().await;
    assert_eq!(addresses(&reloaded), ["10.0.0.2:81", "10.0.0.3:81"]);
    assert_eq!(replicas(&upstream), replicas(&reloaded));
    assert_eq!(replicas(&upstream)[0], before[1], "who stays keeps its connections");
    assert!(upstream.choose(&[]).is_some_and(|id| id != before[0].1));
    upstream.report(before[0].1, Seen::Failed);

    names.say(&[]);
    later().await;
    assert_eq!(addresses(&upstream), ["10.0.0.2:81", "10.0.0.3:81"], "a name server that is away changes nothing");
    names.say(&["10.0.0.9"]);
    later().await;
    assert_eq!(addresses(&upstream), ["Model.test:81"], "one address is looked up with each connection");
}

#[tokio::test(start_paused = true)]
async fn a_name_is_looked_up_once_for_all_and_for_as_long_as_it_is_used() {
    let names = Names::default();
    names.say(&["10.0.0.1", "10.0.0.2"]);
    let connections = names.connections();
    let held: Vec<_> =
        ["http://a.test:1", "http://a.test:2/x", "http://A.test"].map(|url| of(&connections, &deployment(&[url], |_| ()))).into();
    for elsewhere in ["http://10.0.0.1", "http://[::1]:81"] {
        of(&connections, &deployment(&[elsewhere], |_| ()));
    }
    of(&connections, &deployment(&["http://b.test"], |config| config.proxy = Some(Uri::from_static("http://proxy.test:1"))));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(names.asked(), 1);
    assert!(held.iter().all(|upstream| addresses(upstream).len() == 2));
    later().await;
    assert_eq!(names.asked(), 2);
    drop(held);
    for _ in 0..3 {
        later().await;
    }
    assert_eq!((names.asked(), connections.0.tasks.left()), (2, 0), "nobody needs it any more");
}

#[tokio::test]
async fn a_replica_of_a_name_is_reached_at_its_address_by_its_name() {
    let secure = secure().await;
    let names = Names::default();
    names.say(&["127.0.0.1", "127.0.0.2"]);
    let url = format!("https://model.invalid:{}", secure.address.port());
    let deployment = deployment(&[&url], |config| config.ca = Some(secure.ca.clone()));
    let upstream = of(&names.connections(), &deployment);
    while upstream.group.members().len() < 2 {
        tokio::task::yield_now().await;
    }
    let here = replicas(&upstream).into_iter().find(|(name, _)| name.starts_with("127.0.0.1:")).unwrap().1;
    let reply = upstream.send(Attempt { replica: Some(here), ..attempt(&deployment, false) }).await.unwrap();
    assert!(matches!(reply.answer().await, Ok(Answer::Wire(answer)) if answer.body == "\"HTTP/2.0\""), "the certificate is the name's");
}
