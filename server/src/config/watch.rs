//! Notices that files changed. Looks when asked; when to look is the caller's.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The contents of a set of files, as last taken and as last seen.
#[derive(Debug)]
pub struct Watch {
    files: Vec<File>,
}

#[derive(Debug)]
struct File {
    path: PathBuf,
    /// The content that the configuration in use was read from; `None` when the file was not there.
    taken: Option<blake3::Hash>,
    /// The content at the last look.
    seen: Option<blake3::Hash>,
}

impl Watch {
    /// Watches files as they are now.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let look = |path: PathBuf| {
            let now = content(&path);
            File { path, taken: now, seen: now }
        };
        Self { files: paths.into_iter().map(look).collect() }
    }

    /// Watches further files, as they are now; those watched already keep what they were taken at.
    pub fn also(&mut self, paths: impl IntoIterator<Item = PathBuf>) {
        let known = self.files.len();
        let more: Vec<_> = paths.into_iter().filter(|path| !self.files.iter().take(known).any(|file| file.path == *path)).collect();
        self.files.extend(Self::new(more).files);
    }

    /// Whether a file has another content than before, said once per change.
    ///
    /// A new content counts when two looks in a row find it, so that a file that is just being written is not read by half. A file
    /// that is away counts as unchanged: it is being replaced, or the last good configuration stays in use.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        let mut moving = false;
        for file in &mut self.files {
            let now = content(&file.path);
            moving |= now != file.seen;
            changed |= now.is_some() && now != file.taken;
            file.seen = now;
        }
        if !changed || moving {
            return false;
        }
        for file in &mut self.files {
            file.taken = file.seen.or(file.taken);
        }
        true
    }
}

/// What a file holds; its path is followed anew each time, so that a swapped link is noticed.
fn content(path: &Path) -> Option<blake3::Hash> {
    fs::read(path).ok().map(|bytes| blake3::hash(&bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn look_twice(watch: &mut Watch) -> (bool, bool) {
        (watch.changed(), watch.changed())
    }

    #[test]
    fn a_write_in_place_and_a_rename_are_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flowgate.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new([path.clone()]);
        assert_eq!(look_twice(&mut watch), (false, false));

        fs::write(&path, "b").unwrap();
        assert_eq!(look_twice(&mut watch), (false, true));
        assert_eq!(look_twice(&mut watch), (false, false));

        let other = folder.path().join("new");
        fs::write(&other, "c").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(look_twice(&mut watch), (false, true));

        fs::write(&path, "c").unwrap();
        assert_eq!(look_twice(&mut watch), (false, false), "the same content is no change");
    }

    #[test]
    fn a_file_that_is_still_being_written_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flowgate.yaml");
        fs::write(&path, "whole").unwrap();
        let mut watch = Watch::new([path.clone()]);
        for part in ["", "w", "wh", "who"] {
            fs::write(&path, part).unwrap();
            assert!(!watch.changed(), "{part:?}");
        }
        assert!(watch.changed());
    }

    #[test]
    fn a_file_that_is_away_for_a_moment_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flowgate.yaml");
        fs::write(&path, "a").unwrap();
        let mut watch = Watch::new([path.clone()]);
        fs::remove_file(&path).unwrap();
        assert_eq!(look_twice(&mut watch), (false, false));
        fs::write(&path, "a").unwrap();
        assert_eq!(look_twice(&mut watch), (false, false));
        fs::remove_file(&path).unwrap();
        assert_eq!(look_twice(&mut watch), (false, false));
        fs::write(&path, "b").unwrap();
        assert_eq!(look_twice(&mut watch), (false, true));
    }

    #[test]
    fn a_swapped_link_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        for (version, text) in [("one", "a"), ("two", "b")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("flowgate.yaml"), text).unwrap();
        }
        // As Kubernetes does it: the file is a link through `..data`, which is replaced as a whole.
        let link = folder.path().join("..data");
        symlink("one", &link).unwrap();
        let path = folder.path().join("flowgate.yaml");
        symlink("..data/flowgate.yaml", &path).unwrap();
        let mut watch = Watch::new([path]);
        symlink("two", folder.path().join("..data_tmp")).unwrap();
        fs::rename(folder.path().join("..data_tmp"), &link).unwrap();
        assert_eq!(look_twice(&mut watch), (false, true));
    }
}
