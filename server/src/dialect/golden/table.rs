//! Golden tables: many small cases of one kind in one file, for what is no exchange with a provider.

use std::{fmt::Write as _, fs, path::PathBuf};

use serde_json::Value;

/// Runs every case of a dialect's table: `# name`, `> input`, `< output`. `UPDATE=1` rewrites it.
pub(in crate::dialect) fn table(folder: &str, table: &str, run: impl Fn(Value) -> String) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/dialect").join(folder).join("testdata").join(table);
    let before = fs::read_to_string(&path).unwrap();
    let (mut after, mut name, mut output) = (String::new(), "", String::new());
    for line in before.lines() {
        if let Some(case) = line.strip_prefix("# ") {
            name = case;
        }
        if let Some(input) = line.strip_prefix("> ") {
            output = run(serde_json::from_str(input).unwrap_or_else(|error| panic!("{table}: {name}: {error}")));
            assert!(!output.contains("SECRETVALUE") && !output.contains("7777777"), "{table}: {name}: an input is echoed: {output}");
        }
        match line.strip_prefix("<") {
            Some(_) => writeln!(after, "< {output}").unwrap(),
            None => writeln!(after, "{line}").unwrap(),
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, after).unwrap();
    } else {
        for (got, want) in after.lines().zip(before.lines()) {
            assert_eq!(got, want, "{table}; UPDATE=1 accepts what is new");
        }
    }
}
