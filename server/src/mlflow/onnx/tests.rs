//! What needs no library, and so is tried in every build: where one is looked for, and how sessions share threads and memory.

use std::path::Path;

use super::{Library, share::Share};
use crate::config::fixture::Fake;

#[test]
fn the_setting_comes_before_the_variable_and_that_before_the_system() {
    let set = Fake::default().variable("ORT_DYLIB_PATH", "/variable.so");
    let of = |path: &str, said| Library { path: path.into(), said };
    assert_eq!(Library::find(Some(Path::new("/key.so")), &set), of("/key.so", Some("mlflow.onnx_runtime")));
    assert_eq!(Library::find(None, &set), of("/variable.so", Some("ORT_DYLIB_PATH")));
    let empty = Fake::default().variable("ORT_DYLIB_PATH", "");
    assert_eq!(Library::find(None, &empty).said, None);
    assert!(Library::find(Some(Path::new("key.so")), &set).path.is_absolute());
}

#[test]
fn small_models_are_copied_and_large_ones_get_threads() {
    let share = |copy: u64, threads| {
        let share = Share::of(copy, Some(threads));
        (share.sessions, share.threads)
    };
    assert_eq!(share(1 << 20, 8), (8, 1));
    assert_eq!(share(64 << 20, 8), (4, 2));
    assert_eq!(share(1 << 30, 8), (1, 8));
    assert_eq!(share(1 << 30, 1), (1, 1));
    assert!(Share::of(1, None).sessions >= 1);
}
