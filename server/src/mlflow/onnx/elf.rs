//! Whether a library is all there: at one that was cut short the system's loader ends the whole process.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// 64 bits, little-endian.
const MAGIC: &[u8] = b"\x7fELF\x02\x01";

/// Whether the file ends before the last of what its own table says is in it. Of what is no such file the loader tells.
pub(super) fn is_cut(path: &Path) -> bool {
    let Ok(file) = File::open(path) else { return false };
    match ends_at(&file) {
        Ok(Some(end)) => file.metadata().is_ok_and(|found| found.len() < end),
        Ok(None) => false,
        Err(error) => error.kind() == io::ErrorKind::UnexpectedEof,
    }
}

/// Where its last segment ends.
fn ends_at(mut file: &File) -> io::Result<Option<u64>> {
    let mut head = [0_u8; 64];
    if file.read(&mut head)? < MAGIC.len() || !head.starts_with(MAGIC) {
        return Ok(None);
    }
    let count = u16::from_le_bytes([head[56], head[57]]);
    file.seek(SeekFrom::Start(number(&head, 32)))?;
    let mut end = 0;
    for _ in 0..count {
        let mut segment = [0_u8; 56];
        file.read_exact(&mut segment)?;
        end = end.max(number(&segment, 8).saturating_add(number(&segment, 32)));
    }
    Ok(Some(end))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
