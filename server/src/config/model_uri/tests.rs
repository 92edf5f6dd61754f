//! Every form that MLflow writes, what is refused and with which words, and that what is printed is read as the same.

use super::*;

fn read(text: &str) -> ModelUri {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn refused(text: &str) -> String {
    text.parse::<ModelUri>().map(|uri| panic!("{text}: {uri:?}")).unwrap_err().to_string()
}

fn path(text: &str) -> Option<RelativePath> {
    Some(text.parse().unwrap())
}

fn registered(name: &str, pick: Pick) -> ModelUri {
    ModelUri::Registered { name: name.to_owned(), pick, path: None }
}

#[test]
fn registered_models() {
    for (text, expected) in [
        ("models:/Iris/3", registered("Iris", Pick::Version(3))),
        ("models:/Iris Model/03", registered("Iris Model", Pick::Version(3))),
        ("models:/Iris/LATEST", registered("Iris", Pick::Latest)),
        ("models:/Iris/production", registered("Iris", Pick::Stage(Stage::Production))),
        ("models:/Iris/Staging", registered("Iris", Pick::Stage(Stage::Staging))),
        ("models:/Iris/ARCHIVED", registered("Iris", Pick::Stage(Stage::Archived))),
        ("models:/Iris/none", registered("Iris", Pick::Stage(Stage::None))),
        ("models:/Iris@champion", registered("Iris", Pick::Alias("champion".to_owned()))),
        ("models:/me@work@champion", registered("me@work", Pick::Alias("champion".to_owned()))),
        ("models:/me@work/7", registered("me@work", Pick::Version(7))),
        ("models:/m-x/7", registered("m-x", Pick::Version(7))),
        ("models:/Iris/3/sub/folder", ModelUri::Registered { name: "Iris".to_owned(), pick: Pick::Version(3), path: path("sub/folder") }),
        ("models:/Iris@a/sub/", ModelUri::Registered { name: "Iris".to_owned(), pick: Pick::Alias("a".to_owned()), path: path("sub") }),
    ] {
        assert_eq!(read(text), expected, "{text}");
        assert_eq!(read(text).server(), Some(ServerRole::Registry), "{text}");
        assert_eq!(read(text).is_fixed(), matches!(expected, ModelUri::Registered { pick: Pick::Version(_), .. }), "{text}");
    }
}

#[test]
fn other_places() {
    let id = "m-0123456789abcdef0123456789abcdef";
    for (text, expected) in [
        (&*format!("models:/{id}"), ModelUri::Logged { id: id.to_owned(), path: None }),
        (&format!("models:/{id}/sub"), ModelUri::Logged { id: id.to_owned(), path: path("sub") }),
        ("runs:/0a1b/model", ModelUri::Run { id: "0a1b".to_owned(), path: "model".parse().unwrap() }),
        ("runs:/0a1b/a/b/", ModelUri::Run { id: "0a1b".to_owned(), path: "a/b".parse().unwrap() }),
        (
            "mlflow-artifacts:/2/models/m-1/artifacts",
            ModelUri::Stored(Location::Proxied { server: None, path: "2/models/m-1/artifacts".parse().unwrap() }),
        ),
        (
            "mlflow-artifacts://host:5000/2/a",
            ModelUri::Stored(Location::Proxied { server: Some("host:5000".parse().unwrap()), path: "2/a".parse().unwrap() }),
        ),
        ("mlflow-artifacts:///2/a", ModelUri::Stored(Location::Proxied { server: None, path: "2/a".parse().unwrap() })),
        ("s3://bucket", ModelUri::Stored(Location::S3 { bucket: "bucket".to_owned(), prefix: None })),
        ("s3://my.bucket/a/b/", ModelUri::Stored(Location::S3 { bucket: "my.bucket".to_owned(), prefix: path("a/b") })),
        ("https://host/a?b=c", ModelUri::Stored(Location::Http("https://host/a?b=c".parse().unwrap()))),
        ("file:///srv/a%20model", ModelUri::Stored(Location::Local("/srv/a model".into()))),
        ("file://localhost/srv/m", ModelUri::Stored(Location::Local("/srv/m".into()))),
        ("file:models/iris", ModelUri::Stored(Location::Local("models/iris".into()))),
        ("./models/iris", ModelUri::Stored(Location::Local("./models/iris".into()))),
        ("/srv/models/a:b", ModelUri::Stored(Location::Local("/srv/models/a:b".into()))),
    ] {
        assert_eq!(read(text), expected, "{text}");
        let is_known = ["models:", "runs:", "mlflow-artifacts:"].iter().any(|scheme| text.starts_with(scheme));
        assert_eq!(read(text).server(), is_known.then_some(ServerRole::Tracking), "{text}");
    }
}

#[test]
fn what_is_printed_is_read_as_the_same() {
    for text in [
        "models:/Iris/3/sub",
        "models:/me@work@champion",
        "models:/Iris/Production",
        "models:/Iris/latest",
        "models:/m-0123/x",
        "runs:/0a1b/a/b",
        "mlflow-artifacts:/2/a",
        "mlflow-artifacts://host:5000/2/a",
        "s3://bucket",
        "s3://bucket/a",
        "http://host:1/a/b?c=d",
        "file:///srv/a%20100%25%3A",
        "relative/folder",
        "c%3a",
    ] {
        let uri = read(text);
        assert_eq!(read(&String::from(uri.clone())), uri, "{text}");
        let json = serde_json::to_string(&uri).unwrap();
        assert_eq!(serde_json::from_str::<ModelUri>(&json).unwrap(), uri, "{text}");
    }
}

#[test]
fn what_is_no_place_is_refused_with_what_was_expected() {
    for (text, told) in [
        ("", "empty"),
        ("models:/", "models:/Name@alias"),
        ("models:Iris/1", "models:/Name/3"),
        ("models:/Iris", "models:/Name/latest"),
        ("models:/Iris/", "names no version"),
        ("models:/Iris@", "names no version"),
        ("models:/@alias", "no name"),
        ("models:/ /1", "names no version"),
        ("models:/a:b/1", "no name"),
        ("models:/Iris/champion", "`models:/Iris@champion`"),
        ("models:/Iris/99999999999", "too large"),
        ("models:/Iris/1/../../etc", "leads out"),
        ("models:/Iris/1//x", "empty segment"),
        ("models://profile@databricks/Iris/1", "Databricks"),
        ("runs:/0a1b", "runs:/<run id>"),
        ("runs://profile@databricks/0a1b/m", "runs:/<run id>"),
        ("runs:/a b/m", "runs:/<run id>"),
        ("runs:/0a1b/../x", "leads out"),
        ("mlflow-artifacts:/", "is not taken"),
        ("mlflow-artifacts:/../x", "leads out"),
        ("mlflow-artifacts://me@host/x", "names no folder"),
        ("s3:/bucket", "s3://bucket/folder"),
        ("s3://", "names no bucket"),
        ("s3://bucket/a/../b", "leads out"),
        ("s3://../b", "names no bucket"),
        ("http://user:hush@host/x", "no user"),
        ("http:/x", "no address"),
        ("file://host/x", "file:///folder"),
        ("file:", "names no local folder"),
        ("gs://bucket/x", "--serve-artifacts"),
        ("C:\\models", "`c:`"),
    ] {
        let error = refused(text);
        assert!(error.contains(told), "{text}: {error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

#[test]
fn a_folder_within_a_place() {
    let below: RelativePath = "a b/c".parse().unwrap();
    for (text, expected) in [
        ("mlflow-artifacts:/2", "mlflow-artifacts:/2/a b/c"),
        ("s3://bucket", "s3://bucket/a b/c"),
        ("s3://bucket/x", "s3://bucket/x/a b/c"),
        ("http://host/x/?sig=1", "http://host/x/a%20b/c?sig=1"),
        ("/srv", "file:/srv/a%20b/c"),
    ] {
        assert_eq!(String::from(text.parse::<Location>().unwrap().join(&below).unwrap()), expected);
    }
}

#[test]
fn a_query_is_shown_to_nobody_and_still_tells_models_apart() {
    let shown = |text: &str| read(text).to_string();
    let (one, other) = (shown("https://host/m?sig=hush"), shown("https://host/m?sig=hush2"));
    assert!(one.starts_with("https://host/m?***") && !one.contains("hush") && one != other, "{one}, {other}");
    assert!(!format!("{:?}", read("https://host/m?sig=hush")).contains("hush"));
}
