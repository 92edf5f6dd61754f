//! CSV as `pandas.DataFrame.to_csv` writes it: a row of names, then rows of fields, quoted where they must be.

use std::borrow::Cow;

use super::{
    grid::{Cell, Cells, Grid, MOST_CELLS, dense},
    refusal::Refusal,
    request::{Input, Request},
};

/// What is left of the text.
struct Rest<'a> {
    text: &'a str,
    line: usize,
}

/// What ends a field.
#[derive(PartialEq)]
enum End {
    Field,
    Row,
}

/// Reads a body.
pub(super) fn read(body: &[u8]) -> Result<Request<'_>, Refusal> {
    let text = std::str::from_utf8(body);
    let text =
        text.map_err(|_| Refusal::bad("Invalid input. Ensure that input is a valid UTF-8 encoded string. Error: 'UnicodeDecodeError()'"))?;
    let mut rest = Rest { text: text.strip_prefix('\u{feff}').unwrap_or(text), line: 1 };
    let mut names = Vec::new();
    rest.row(usize::MAX, |name| names.push(name))?.ok_or_else(|| malformed("it has no row of names"))?;
    let (mut cells, mut rows, mut nulls) = (Vec::new(), 0, 0);
    let mut has_index = false;
    loop {
        let before = cells.len();
        // Where the first row has one field more than there are names, pandas takes the first of each for the row's own name.
        let most = names.len() + usize::from(has_index || rows == 0);
        if rest.row(most, |field| cells.push(if field.is_empty() { Cell::Null } else { Cell::Raw(field) }))?.is_none() {
            break;
        }
        has_index |= rows == 0 && cells.len() > names.len();
        if has_index {
            cells.remove(before);
        }
        rows += 1;
        // A row may end before its last fields.
        nulls += (rows * names.len()).saturating_sub(cells.len());
        cells.resize(rows * names.len(), Cell::Null);
        dense(cells.len(), nulls)?;
        if cells.len() > MOST_CELLS {
            return Err(Refusal::too_many(format_args!("It has more than {MOST_CELLS} fields")));
        }
    }
    let grid = Grid { shape: vec![rows, names.len()], cells: Cells::Loose(cells) };
    Ok(Request { input: Input::Table { names: Some(names), grid }, is_table: true, params: None })
}

impl<'a> Rest<'a> {
    /// The next row that is not empty, field by field; `None` at the end.
    fn row(&mut self, most: usize, mut put: impl FnMut(Cow<'a, str>)) -> Result<Option<()>, Refusal> {
        while let Some(rest) = self.text.strip_prefix("\r\n").or_else(|| self.text.strip_prefix('\n')) {
            self.text = rest;
            self.line += 1;
        }
        if self.text.is_empty() {
            return Ok(None);
        }
        for count in 0.. {
            let line = self.line;
            let (field, end) = self.field()?;
            if count >= most.min(MOST_CELLS) {
                return Err(malformed(&format!("line {line} has more fields than there are names")));
            }
            put(field);
            if end == End::Row {
                break;
            }
        }
        Ok(Some(()))
    }

    fn field(&mut self) -> Result<(Cow<'a, str>, End), Refusal> {
        let Some(quoted) = self.text.strip_prefix('"') else {
            let (field, rest) = self.text.split_at(memchr::memchr2(b',', b'\n', self.text.as_bytes()).unwrap_or(self.text.len()));
            self.text = rest;
            let end = self.end()?;
            let field = if end == End::Row { field.strip_suffix('\r').unwrap_or(field) } else { field };
            return Ok((Cow::Borrowed(field), end));
        };
        let mut at = 0;
        let mut doubled = false;
        loop {
            let quote = quoted.get(at..).and_then(|rest| memchr::memchr(b'"', rest.as_bytes()));
            at += quote.ok_or_else(|| malformed(&format!("the quote that opens in line {} does not close", self.line)))?;
            if quoted.as_bytes().get(at + 1) != Some(&b'"') {
                break;
            }
            doubled = true;
            at += 2;
        }
        let (field, rest) = quoted.split_at(at);
        self.line += memchr::memchr_iter(b'\n', field.as_bytes()).count();
        self.text = rest.strip_prefix('"').unwrap_or(rest);
        let field = if doubled { Cow::Owned(field.replace("\"\"", "\"")) } else { Cow::Borrowed(field) };
        self.text = self.text.strip_prefix('\r').unwrap_or(self.text);
        Ok((field, self.end()?))
    }

    fn end(&mut self) -> Result<End, Refusal> {
        if self.text.is_empty() {
            return Ok(End::Row);
        }
        if let Some(rest) = self.text.strip_prefix(',') {
            self.text = rest;
            return Ok(End::Field);
        }
        let rest = self.text.strip_prefix('\n').ok_or_else(|| malformed(&format!("text follows a quoted field in line {}", self.line)))?;
        self.text = rest;
        self.line += 1;
        Ok(End::Row)
    }
}

fn malformed(why: &str) -> Refusal {
    Refusal::bad(format!(
        "Failed to parse input as a Pandas DataFrame. Ensure that the input is a valid CSV-formatted Pandas DataFrame produced using the \
         `pandas.DataFrame.to_csv()` method. Error: '{why}'"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<(Vec<String>, Vec<String>), String> {
        let request = read(text.as_bytes()).map_err(|refusal| String::from_utf8(refusal.body()).unwrap())?;
        let Input::Table { names: Some(names), grid } = request.input else { panic!("no table") };
        let Cells::Loose(cells) = grid.cells else { panic!("no fields") };
        assert_eq!(grid.shape, [cells.len() / names.len(), names.len()]);
        let shown = |cell: &Cell<'_>| match cell {
            Cell::Raw(text) => text.clone().into_owned(),
            cell => format!("{cell:?}"),
        };
        Ok((names.into_iter().map(Cow::into_owned).collect(), cells.iter().map(shown).collect()))
    }

    #[test]
    fn fields_quoted_and_plain() {
        for (text, names, cells) in [
            ("a,b\n1,2\n3,4", vec!["a", "b"], vec!["1", "2", "3", "4"]),
            ("a,b\r\n1,2\r\n", vec!["a", "b"], vec!["1", "2"]),
            ("\u{feff}a\n\n1\n\n", vec!["a"], vec!["1"]),
            ("a,b\n,2\n1\n", vec!["a", "b"], vec!["Null", "2", "1", "Null"]),
            ("\"a,x\",b\n\"say \"\"hi\"\"\",\"two\nlines\"\r\n", vec!["a,x", "b"], vec!["say \"hi\"", "two\nlines"]),
            ("a,b\n1,\n", vec!["a", "b"], vec!["1", "Null"]),
            ("a,b\n9,1,2\n8,3\n", vec!["a", "b"], vec!["1", "2", "3", "Null"]),
            ("a\n", vec!["a"], vec![]),
        ] {
            let (names, cells) = (names.iter().map(ToString::to_string).collect(), cells.iter().map(ToString::to_string).collect());
            assert_eq!(table(text), Ok((names, cells)), "{text:?}");
        }
    }

    #[test]
    fn what_is_no_csv_is_refused_with_its_line() {
        for (text, told) in [
            ("", "no row of names"),
            ("a,b\n1,2\n1,2,3\n", "line 3 has more fields"),
            ("a\n\"1\n2\n", "opens in line 2"),
            ("a\n\"1\"2\n", "line 2"),
        ] {
            let refused = table(text).unwrap_err();
            assert!(refused.contains(told) && refused.contains("valid CSV-formatted"), "{text:?}: {refused}");
        }
        assert!(read(b"a\n\xff").is_err());
    }
}
