//! Models brought from stores of every kind into a cache, with all that goes wrong on the way.

use std::{
    fs,
    io::{self, Write},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
};

use flowgate_proto::v1::ErrorReason;
use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::{
    writer::{Create, on_disk},
    *,
};
use crate::{
    config::fixture::Fake,
    error::Error,
    mlflow::testing::{Reply, Seen, Server},
    task::Tasks,
    upstream::control::{ControlTls, fetch},
};

const MODEL: &[u8] = b"flavors: {onnx: {data: model.onnx}}\n";
const STORE: &str = "/api/2.0/mlflow-artifacts/artifacts";

fn stores(environment: Fake) -> Stores {
    let environment: Arc<dyn Environment + Send + Sync> = Arc::new(environment);
    let servers = Arc::new(Servers::read(None, &*environment).unwrap());
    let open = fetch(&ControlTls::default()).unwrap();
    let grants = Arc::new(Grants::new(Arc::clone(&environment), Tasks::default()));
    Stores { servers, tracking: Arc::clone(&open), others: open, grants, environment }
}

fn cache(folder: &Path, environment: Fake) -> Arc<Cache> {
    Cache::open(folder, 1 << 20, stores(environment), Tasks::default()).unwrap()
}

fn wanted(location: &str) -> Wanted {
    Wanted { name: location.to_owned(), location: location.parse().unwrap(), identity: None }
}

/// The weights of a model.
fn weights() -> Vec<u8> {
    (0..100_000_u32).map(|n| (n % 251) as u8).collect()
}

/// A tracking server with a model of two files in two folders.
async fn tracking(files: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::new(move |seen| {
        if let Some(reply) = files(seen) {
            return reply;
        }
        let tail = seen.target.strip_prefix(STORE).unwrap();
        match tail {
            "?path=a%20b" => Reply::new(
                200,
                format!(r#"{{"files":[{{"path":"MLmodel","is_dir":false,"file_size":{}}},{{"path":"sub","is_dir":true}}]}}"#, MODEL.len()),
            ),
            "?path=a%20b%2Fsub" => Reply::new(200, r#"{"files":[{"path":"w.bin","is_dir":false,"file_size":100000}]}"#),
            "/a%20b/MLmodel" => Reply::file(seen, MODEL, "\"m\""),
            "/a%20b/sub/w.bin" => Reply::file(seen, &weights(), "\"w\""),
            _ => Reply::new(404, r#"{"error_code":"RESOURCE_DOES_NOT_EXIST"}"#),
        }
    })
    .await
}

fn at(server: &Server) -> Fake {
    Fake::default().variable("MLFLOW_TRACKING_URI", &server.address).variable("MLFLOW_TRACKING_TOKEN", "tok")
}

fn assert_whole(lease: &Lease) {
    assert_eq!(fs::read(lease.folder().join("MLmodel")).unwrap(), MODEL);
    assert_eq!(fs::read(lease.folder().join("sub/w.bin")).unwrap(), weights());
    assert_eq!(lease.bytes(), 100_000 + MODEL.len() as u64);
}

/// What stands in the cache's folder for models, and for what is being written.
fn standing(folder: &Path) -> (usize, usize) {
    let count = |name| fs::read_dir(folder.join(name)).unwrap().count();
    (count("models"), count("fresh"))
}

async fn failure(cache: &Arc<Cache>, location: &str) -> Error {
    cache.get(&wanted(location)).await.map(|lease| panic!("{lease:?}")).unwrap_err()
}

#[tokio::test]
async fn one_download_serves_all_who_ask_and_the_next_process() {
    let (folder, server) = (tempfile::tempdir().unwrap(), tracking(|_| None).await);
    let asked = Wanted { identity: Some("v1".to_owned()), ..wanted("mlflow-artifacts:/a b") };
    let cache_one = cache(folder.path(), at(&server));
    let leases = join_all((0..20).map(|_| cache_one.get(&asked))).await;
    leases.iter().for_each(|lease| assert_whole(lease.as_ref().unwrap()));
    assert_eq!(server.asked(&format!("{STORE}/a%20b/MLmodel")), 1);
    assert!(server.seen().iter().all(|seen| seen.headers["authorization"] == "Bearer tok"));
    assert_eq!((standing(folder.path()), cache_one.progress()), ((1, 0), vec![]));
    let asked_before = server.seen().len();
    let lease = cache(folder.path(), at(&server)).get(&asked).await.unwrap();
    assert_eq!((lease.digest(), server.seen().len()), (leases[0].as_ref().unwrap().digest(), asked_before));
}

#[tokio::test]
async fn a_file_that_breaks_off_is_taken_up_where_it_was() {
    let (folder, times) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    let server = tracking(move |seen| {
        let broken = seen.target.ends_with("w.bin") && times.fetch_add(1, SeqCst) < 2;
        broken.then(|| Reply::file(seen, &weights(), "\"w\"").cut(40_000))
    })
    .await;
    assert_whole(&cache(folder.path(), at(&server)).get(&wanted("mlflow-artifacts:/a b")).await.unwrap());
    let ranges: Vec<_> =
        server.seen().iter().filter(|seen| seen.target.ends_with("w.bin")).map(|seen| seen.headers.get("range").cloned()).collect();
    let range = |from| Some(format!("bytes={from}-"));
    assert_eq!(ranges, [None, range(40_000), range(80_000)]);
}

#[tokio::test]
async fn a_file_that_changed_or_has_no_parts_is_read_anew() {
    for (etag, parts) in [("\"other\"", true), ("\"w\"", false)] {
        let (folder, times) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
        let server = tracking(move |seen| {
            let old: Vec<u8> = vec![7; 100_000];
            match (seen.target.ends_with("w.bin"), times.load(SeqCst)) {
                (false, _) => None,
                (true, 0) => {
                    times.store(1, SeqCst);
                    Some(Reply::file(seen, &old, "\"w\"").cut(10))
                }
                (true, _) if parts => Some(Reply::file(seen, &weights(), etag)),
                (true, _) => Some(Reply::new(200, weights())),
            }
        })
        .await;
        assert_whole(&cache(folder.path(), at(&server)).get(&wanted("mlflow-artifacts:/a b")).await.unwrap());
    }
}

#[tokio::test]
async fn what_goes_wrong_at_the_store_is_told_and_leaves_nothing() {
    use ErrorReason as R;
    let reply = |status, body: &str| Reply::new(status, body);
    let list = |files: &str| Reply::new(200, format!(r#"{{"files":[{files}]}}"#));
    let file = |path: &str| format!(r#"{{"path":"{path}","is_dir":false,"file_size":1}}"#);
    for (ending, wrong, reason, told) in [
        ("?path=a%20b", reply(404, "{}"), R::ProviderNotFound, "no folder `a b`"),
        ("?path=a%20b", reply(200, "{}"), R::ProviderNotFound, "no file `MLmodel`"),
        ("?path=a%20b", reply(200, "<html>"), R::ProviderBadAnswer, "list"),
        ("?path=a%20b", reply(503, "… --no-serve-artifacts …"), R::GatewayNotServing, "hands out no files"),
        ("?path=a%20b", reply(401, ""), R::ProviderCredentialRejected, "credential"),
        ("?path=a%20b", list(&file("../../evil")), R::ProviderBadAnswer, "leads out"),
        ("?path=a%20b", list(&file("/etc/passwd")), R::ProviderBadAnswer, "empty"),
        ("?path=a%20b", list(&format!("{0},{0}", file("MLmodel"))), R::ProviderBadAnswer, "twice"),
        ("MLmodel", reply(404, ""), R::ProviderNotFound, "no file `MLmodel`"),
        ("MLmodel", reply(200, "short"), R::GatewayNotServing, "5 bytes"),
        ("MLmodel", reply(302, ""), R::ProviderBadAnswer, "redirection"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let server = tracking(move |seen| seen.target.ends_with(ending).then(|| wrong.clone())).await;
        let error = failure(&cache(folder.path(), at(&server)), "mlflow-artifacts:/a b").await;
        assert!(error.reason() == reason && error.to_string().contains(told), "{ending}: {error:?}");
        assert_eq!(standing(folder.path()), (0, 0), "{told}");
    }
}

#[tokio::test]
async fn a_store_that_stays_away_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let server = tracking(|seen| seen.target.ends_with("w.bin").then(|| Reply::new(503, "busy"))).await;
    let error = failure(&cache(folder.path(), at(&server)), "mlflow-artifacts:/a b").await;
    assert_eq!(error.reason(), ErrorReason::ProviderUnavailable);
    assert_eq!((standing(folder.path()), server.asked(&format!("{STORE}/a%20b/sub/w.bin"))), ((0, 0), 4));
}

#[tokio::test]
async fn who_leaves_stops_nothing_and_progress_is_seen() {
    let (folder, gate) = (tempfile::tempdir().unwrap(), Arc::new(Semaphore::new(0)));
    let held = Arc::clone(&gate);
    let server = tracking(move |seen| {
        seen.target.ends_with("w.bin").then(|| {
            let mut reply = Reply::file(seen, &weights(), "\"w\"");
            if !seen.headers.contains_key("range") {
                reply = reply.cut(60_000);
                reply.gate = Some(Arc::clone(&held));
            }
            reply
        })
    })
    .await;
    let cache = cache(folder.path(), at(&server));
    let asked = wanted("mlflow-artifacts:/a b");
    {
        let impatient = cache.get(&asked);
        tokio::pin!(impatient);
        let seen = async {
            loop {
                match cache.progress().first() {
                    Some(report) if report.bytes_done == 60_000 + MODEL.len() as u64 && report.files_done == 1 => break report.clone(),
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        let report = tokio::select! { report = seen => report, done = &mut impatient => panic!("{done:?}") };
        assert_eq!((report.files, report.bytes, &*report.model), (2, 100_000 + MODEL.len() as u64, "mlflow-artifacts:/a b"));
    }
    gate.add_permits(1);
    assert_whole(&cache.get(&asked).await.unwrap());
    assert_eq!(server.asked(&format!("{STORE}/a%20b/MLmodel")), 1);
}

/// A disk that takes so many bytes.
fn small_disk(bytes: usize) -> Create {
    struct Small(Box<dyn Write + Send>, Arc<AtomicUsize>);
    impl Write for Small {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            let taken = self.1.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(piece.len()));
            taken.map_err(|_| io::ErrorKind::StorageFull)?;
            self.0.write_all(piece).map(|()| piece.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            self.0.flush()
        }
    }
    let (left, disk) = (Arc::new(AtomicUsize::new(bytes)), on_disk());
    Arc::new(move |path| Ok(Box::new(Small(disk(path)?, Arc::clone(&left)))))
}

#[tokio::test]
async fn a_full_disk_is_told_and_leaves_nothing() {
    let (folder, server) = (tempfile::tempdir().unwrap(), tracking(|_| None).await);
    let full = Cache::with(folder.path(), 1 << 20, stores(at(&server)), (Tasks::default(), small_disk(50_000))).unwrap();
    let error = failure(&full, "mlflow-artifacts:/a b").await;
    assert!(error.reason() == ErrorReason::GatewayNotServing && error.to_string().contains("is full"), "{error:?}");
    assert_eq!(standing(folder.path()), (0, 0));
    assert_whole(&cache(folder.path(), at(&server)).get(&wanted("mlflow-artifacts:/a b")).await.unwrap());
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_and_what_a_living_one_writes_is_not() {
    let (folder, server) = (tempfile::tempdir().unwrap(), tracking(|_| None).await);
    let left = folder.path().join("fresh/0000");
    fs::create_dir_all(left.join("files")).unwrap();
    fs::write(left.join("files/w.bin"), "half").unwrap();
    fs::write(left.with_extension("lock"), "").unwrap();
    let first = cache(folder.path(), at(&server));
    assert_eq!(standing(folder.path()), (0, 0));
    let living = shelf::Shelf::open(folder.path()).unwrap().begin().unwrap();
    let second = cache(folder.path(), at(&server));
    assert!(living.files().is_dir());
    drop(living);
    assert_eq!(standing(folder.path()), (0, 0));
    let asked = wanted("mlflow-artifacts:/a b");
    // Both bring the same model, and one of them finds it there.
    let (one, two) = tokio::join!(first.get(&asked), second.get(&asked));
    assert_eq!(one.unwrap().digest(), two.unwrap().digest());
    assert_eq!(standing(folder.path()), (1, 0));
}

#[tokio::test]
async fn a_damaged_model_is_brought_again() {
    let (folder, server) = (tempfile::tempdir().unwrap(), tracking(|_| None).await);
    let asked = Wanted { identity: Some("v1".to_owned()), ..wanted("mlflow-artifacts:/a b") };
    for damage in [b"x".to_vec(), vec![0; 100_000]] {
        let lease = cache(folder.path(), at(&server)).get(&asked).await.unwrap();
        let path = lease.folder().join("sub/w.bin");
        drop(lease);
        fs::write(path, damage).unwrap();
        assert_whole(&cache(folder.path(), at(&server)).get(&asked).await.unwrap());
        assert_eq!(standing(folder.path()), (1, 0));
    }
}

fn model_folder(name: &str, bytes: usize) -> (tempfile::TempDir, Wanted) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("MLmodel"), name).unwrap();
    fs::create_dir(folder.path().join("sub")).unwrap();
    fs::write(folder.path().join("sub/w.bin"), vec![1; bytes]).unwrap();
    let wanted = wanted(folder.path().to_str().unwrap());
    (folder, wanted)
}

#[tokio::test]
async fn the_least_recently_used_makes_way_and_what_is_in_use_stays() {
    let folder = tempfile::tempdir().unwrap();
    let cache = Cache::open(folder.path(), 1000, stores(Fake::default()), Tasks::default()).unwrap();
    let models: Vec<_> = ["a", "b", "c"].iter().map(|name| model_folder(name, 400)).collect();
    let get = async |n: usize| cache.get(&models[n].1).await;
    let first = get(0).await.unwrap().digest().to_owned();
    let second = get(1).await.unwrap().digest().to_owned();
    let kept = get(0).await.unwrap();
    let third = get(2).await.unwrap();
    let held: Vec<_> = cache.held().into_iter().map(|model| model.digest).collect();
    assert_eq!(held, [first.as_str(), third.digest()], "the second one was used least recently: {second}");
    let error = get(1).await.unwrap_err();
    assert!(error.reason() == ErrorReason::GatewayOverloaded && error.to_string().contains("in use"), "{error}");
    drop(third);
    get(1).await.unwrap();
    assert!(kept.folder().join("MLmodel").exists());
    let (_large, asked) = model_folder("large", 2000);
    let error = cache.get(&asked).await.unwrap_err();
    assert!(error.reason() == ErrorReason::GatewayNotServing && error.to_string().contains("2005 bytes"), "{error}");
    assert_eq!(standing(folder.path()).1, 0);
}

#[tokio::test]
async fn a_local_folder_is_followed_when_it_changes() {
    let folder = tempfile::tempdir().unwrap();
    let cache = cache(folder.path(), Fake::default());
    let (model, asked) = model_folder("a", 10);
    let first = cache.get(&asked).await.unwrap();
    assert_eq!(cache.get(&asked).await.unwrap().digest(), first.digest());
    fs::write(model.path().join("MLmodel"), "other").unwrap();
    let second = cache.get(&asked).await.unwrap();
    assert_ne!(second.digest(), first.digest());
    assert_eq!(fs::read(first.folder().join("MLmodel")).unwrap(), b"a");
    std::os::unix::fs::symlink("sub/w.bin", model.path().join("inside")).unwrap();
    assert!(cache.get(&asked).await.unwrap().folder().join("inside").exists());
    std::os::unix::fs::symlink("/etc/passwd", model.path().join("outside")).unwrap();
    assert!(cache.get(&asked).await.unwrap_err().to_string().contains("leads out"));
    let gone = failure(&cache, "/nowhere/at/all").await;
    assert_eq!(gone.reason(), ErrorReason::ProviderNotFound);
}

#[tokio::test]
async fn s3_is_listed_signed_and_checked() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let folder = tempfile::tempdir().unwrap();
    let damaged = Arc::new(AtomicUsize::new(0));
    let times = Arc::clone(&damaged);
    let server = Server::new(move |seen| {
        let entry = |key: &str, size: usize| format!("<Contents><Key>{key}</Key><ETag>&quot;w&quot;</ETag><Size>{size}</Size></Contents>");
        let page = |inner: &str| Reply::new(200, format!("<ListBucketResult><EncodingType>url</EncodingType>{inner}</ListBucketResult>"));
        match &*seen.target {
            "/bucket/?list-type=2&encoding-type=url&prefix=a%2Fb%2F" => page(&format!(
                "{}{}<IsTruncated>true</IsTruncated><NextContinuationToken>n=</NextContinuationToken>",
                entry("a/b/", 0),
                entry("a/b/MLmodel", MODEL.len())
            )),
            "/bucket/?list-type=2&encoding-type=url&continuation-token=n%3D&prefix=a%2Fb%2F" => page(&entry("a/b/sub%2Fw.bin", 100_000)),
            "/bucket/a/b/MLmodel" => Reply::file(seen, MODEL, "\"w\""),
            "/bucket/a/b/sub/w.bin" => {
                let mut reply = Reply::file(seen, &weights(), "\"w\"");
                reply.headers.push(("x-amz-checksum-crc32", STANDARD.encode(crc32fast::hash(&weights()).to_be_bytes())));
                if times.fetch_add(1, SeqCst) == 0 {
                    reply.body[5] ^= 1;
                }
                reply
            }
            other => panic!("{other}"),
        }
    })
    .await;
    let environment = Fake::default()
        .variable("MLFLOW_S3_ENDPOINT_URL", &server.address)
        .variable("AWS_ACCESS_KEY_ID", "AKID")
        .variable("AWS_SECRET_ACCESS_KEY", "hush")
        .variable("AWS_REGION", "eu-central-1");
    let cache = cache(folder.path(), environment);
    let asked = wanted("s3://bucket/a/b");
    assert_whole(&cache.get(&asked).await.unwrap());
    assert_eq!(damaged.load(SeqCst), 2, "a file without its checksum is brought once more");
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.headers["authorization"].contains("/eu-central-1/s3/aws4_request")));
    assert!(seen.iter().any(|seen| seen.headers.get("if-match").is_some_and(|mark| mark == "\"w\"")));
    let files = |server: &Server| server.asked("/bucket/a/b/MLmodel");
    cache.get(&asked).await.unwrap();
    assert_eq!(files(&server), 1, "a list that says the same is enough");
}

#[tokio::test]
async fn a_file_of_no_known_size_has_room_once_however_often_it_begins_anew() {
    let (folder, times) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    let weights = vec![3; 3 << 20];
    let server = Server::new(move |seen| match (&*seen.method, &*seen.target) {
        (_, "/m/MLmodel") => Reply::file(seen, MODEL, "\"m\""),
        ("HEAD", "/m/model.onnx") => Reply::new(200, "").unmeasured(),
        (_, "/m/model.onnx") if times.fetch_add(1, SeqCst) < 2 => Reply::new(200, weights.clone()).cut(1 << 20),
        (_, "/m/model.onnx") => Reply::new(200, weights.clone()),
        _ => Reply::new(404, ""),
    })
    .await;
    let cache = Cache::open(folder.path(), 5 << 20, stores(Fake::default()), Tasks::default()).unwrap();
    assert_eq!(cache.get(&wanted(&format!("{}/m", server.address))).await.unwrap().bytes(), (3 << 20) + MODEL.len() as u64);
}

#[tokio::test]
async fn the_last_files_stay_until_there_are_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    let is_up = Arc::new(AtomicUsize::new(1));
    let up = Arc::clone(&is_up);
    let server = tracking(move |seen| (seen.target.ends_with("w.bin") && up.load(SeqCst) == 0).then(|| Reply::new(503, "busy"))).await;
    let cache = |budget| Cache::open(folder.path(), budget, stores(at(&server)), Tasks::default()).unwrap();
    let asked = wanted("mlflow-artifacts:/a b");
    let first = cache(250_000).get(&asked).await.unwrap().digest().to_owned();
    is_up.store(0, SeqCst);
    assert_eq!(cache(250_000).get(&asked).await.unwrap().digest(), first);
}

#[tokio::test]
async fn a_web_server_is_asked_for_what_the_model_names() {
    let folder = tempfile::tempdir().unwrap();
    let up = Arc::new(AtomicUsize::new(1));
    let is_up = Arc::clone(&up);
    let server = Server::new(move |seen| match &*seen.target {
        _ if is_up.load(SeqCst) == 0 => Reply::new(503, ""),
        "/m/MLmodel?k=v" => Reply::file(seen, MODEL, "\"m\""),
        "/m/model.onnx?k=v" => Reply::file(seen, b"onnx", "\"o\""),
        "/m/requirements.txt?k=v" => Reply::file(seen, b"", "\"r\""),
        "/part/MLmodel" => Reply::file(seen, MODEL, "\"m\""),
        _ => Reply::new(404, ""),
    })
    .await;
    let cache = cache(folder.path(), Fake::default());
    let location = format!("{}/m?k=v", server.address);
    let lease = cache.get(&wanted(&location)).await.unwrap();
    let names: Vec<_> = ["MLmodel", "model.onnx", "requirements.txt"].iter().map(|name| lease.folder().join(name).exists()).collect();
    assert_eq!((names, lease.bytes()), (vec![true; 3], 4 + MODEL.len() as u64));
    let error = failure(&cache, &format!("{}/part", server.address)).await;
    assert!(error.to_string().contains("`model.onnx` is not on the web server"), "{error}");
    up.store(0, SeqCst);
    assert_eq!(cache.get(&wanted(&location)).await.unwrap().digest(), lease.digest(), "the last files are good while the store is away");
    assert_eq!(failure(&cache, &format!("{}/part", server.address)).await.reason(), ErrorReason::ProviderUnavailable);
}
