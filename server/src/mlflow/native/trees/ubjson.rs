//! Universal Binary JSON, as XGBoost writes it: JSON's values behind markers, numbers of a list in a row behind one.

use super::document::Document;
use crate::mlflow::native::fault::Fault;

/// Deeper than any model.
const MAX_DEPTH: usize = 64;

/// What is still to be read.
struct Rest<'a> {
    bytes: &'a [u8],
    read: usize,
}

/// What may stand behind the opening of a list or object.
#[derive(Default)]
struct Frame {
    marker: Option<u8>,
    count: Option<usize>,
}

/// Reads a document.
///
/// # Errors
/// Where it is none, by the place of the byte.
pub(super) fn read(bytes: &[u8]) -> Result<Document, Fault> {
    let mut rest = Rest { bytes, read: 0 };
    let told = |rest: &Rest<'_>, what: Fault| Fault::broken(format!("no UBJSON: {what} at byte {}", rest.read));
    let marker = rest.marker().map_err(|what| told(&rest, what))?;
    rest.value(marker, 0).map_err(|what| told(&rest, what))
}

impl Rest<'_> {
    fn take(&mut self, count: usize) -> Result<&[u8], Fault> {
        let (taken, rest) = self.bytes.split_at_checked(count).ok_or_else(|| Fault::new("it ends too early"))?;
        self.bytes = rest;
        self.read += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// The next marker; `N` stands for nothing.
    fn marker(&mut self) -> Result<u8, Fault> {
        loop {
            let [marker] = self.array()?;
            if marker != b'N' {
                return Ok(marker);
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.first().copied()
    }

    fn value(&mut self, marker: u8, depth: usize) -> Result<Document, Fault> {
        if depth > MAX_DEPTH {
            return Err(Fault::new("values are nested too deeply"));
        }
        Ok(match marker {
            b'Z' => Document::Null,
            b'T' => Document::Flag(true),
            b'F' => Document::Flag(false),
            b'S' | b'H' => Document::Text(self.text()?),
            b'C' => Document::Text(char::from(self.array::<1>()?[0]).to_string()),
            b'[' => self.list(depth)?,
            b'{' => self.object(depth)?,
            _ => Document::Number(self.number(marker)?),
        })
    }

    fn number(&mut self, marker: u8) -> Result<f64, Fault> {
        Ok(match marker {
            b'i' => f64::from(i8::from_be_bytes(self.array()?)),
            b'U' => f64::from(u8::from_be_bytes(self.array()?)),
            b'I' => f64::from(i16::from_be_bytes(self.array()?)),
            b'l' => f64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?) as f64,
            b'd' => f64::from(f32::from_be_bytes(self.array()?)),
            b'D' => f64::from_be_bytes(self.array()?),
            _ => return Err(Fault::new(format!("`{}` is no marker of a number", marker.escape_ascii()))),
        })
    }

    fn count(&mut self) -> Result<usize, Fault> {
        let marker = self.marker()?;
        super::document::whole(self.number(marker)?).ok_or_else(|| Fault::new("a length is none"))
    }

    fn text(&mut self) -> Result<String, Fault> {
        let count = self.count()?;
        let text = self.take(count)?.to_vec();
        String::from_utf8(text).map_err(|_| Fault::new("a text is no UTF-8"))
    }

    fn frame(&mut self) -> Result<Frame, Fault> {
        let mut frame = Frame::default();
        if self.peek() == Some(b'$') {
            self.take(1)?;
            frame.marker = Some(self.array::<1>()?[0]);
            if self.peek() != Some(b'#') {
                return Err(Fault::new("a list has a type and no length"));
            }
        }
        if self.peek() == Some(b'#') {
            self.take(1)?;
            frame.count = Some(self.count()?);
        }
        Ok(frame)
    }

    fn list(&mut self, depth: usize) -> Result<Document, Fault> {
        let frame = self.frame()?;
        if let (Some(marker), Some(count)) = (frame.marker, frame.count) {
            // Only numbers: each takes bytes of its own, so that a length cannot ask for more than there is.
            let mut numbers = Vec::new();
            for _ in 0..count {
                numbers.push(self.number(marker)?);
            }
            return Ok(Document::Numbers(numbers));
        }
        let mut list = Vec::new();
        while self.goes_on(&frame, list.len(), b']')? {
            let marker = self.marker()?;
            list.push(self.value(marker, depth + 1)?);
        }
        Ok(Document::of_list(list))
    }

    fn object(&mut self, depth: usize) -> Result<Document, Fault> {
        let frame = self.frame()?;
        let mut fields = Vec::new();
        while self.goes_on(&frame, fields.len(), b'}')? {
            let key = self.text()?;
            let marker = frame.marker.map_or_else(|| self.marker(), Ok)?;
            fields.push((key, self.value(marker, depth + 1)?));
        }
        Ok(Document::Object(fields))
    }

    /// Whether another element follows; takes the end.
    fn goes_on(&mut self, frame: &Frame, have: usize, end: u8) -> Result<bool, Fault> {
        if let Some(count) = frame.count {
            return Ok(have < count);
        }
        while self.peek() == Some(b'N') {
            self.take(1)?;
        }
        let ended = self.peek() == Some(end);
        if ended {
            self.take(1)?;
        }
        Ok(!ended)
    }
}
