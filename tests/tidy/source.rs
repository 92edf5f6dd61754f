//! One file as the rules see it: code without comments and strings, the strings apart, and what is declared where.

use std::ops::Range;

/// One file.
pub struct Source {
    /// Its path from the root, with `/`.
    pub path: String,
    /// The text.
    pub text: String,
    /// The text, in which comments and the insides of literals are blank; of the same length, with the same lines.
    pub code: String,
    /// The string literals.
    pub literals: Vec<Literal>,
    /// Whether all of it is test code.
    pub is_test: bool,
    /// Where its test module begins, else its length.
    pub end: usize,
    /// How many lines before that are comments, or hold nothing.
    pub comment_lines: usize,
    pub blank_lines: usize,
}

/// A string literal: where its quotes begin, and what stands between them.
pub struct Literal {
    pub start: usize,
    pub text: String,
}

/// A function: its name, where it stands, its arguments and its lines, braces included.
pub struct Function<'a> {
    pub name: &'a str,
    pub start: usize,
    pub arguments: usize,
    pub lines: usize,
}

/// A struct or enum: its name, where it stands, how many fields or variants it has.
pub struct Type<'a> {
    pub keyword: &'a str,
    pub name: &'a str,
    pub start: usize,
    pub members: usize,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, literals) = mask(text);
        let end = test_module(&code).unwrap_or(code.len());
        let lines = text[..end].lines();
        let is_comment = |line: &str| line.trim_start().starts_with("//");
        let is_test = ["tests/", "benches/", "server/tests/"].iter().any(|folder| path.starts_with(folder));
        Self {
            path: path.to_owned(),
            comment_lines: lines.clone().filter(|line| is_comment(line)).count(),
            blank_lines: lines.filter(|line| line.trim().is_empty()).count(),
            text: text.to_owned(),
            code,
            literals,
            is_test,
            end,
        }
    }

    /// The code that is not test code.
    pub fn production(&self) -> &str {
        if self.is_test { "" } else { &self.code[..self.end] }
    }

    /// Lines before the test module.
    pub fn production_lines(&self) -> usize {
        self.text[..self.end].lines().count()
    }

    /// The line of a place, from 1.
    pub fn line(&self, at: usize) -> usize {
        line(&self.text, at)
    }

    /// The literals within a range.
    pub fn literals_in(&self, range: Range<usize>) -> impl Iterator<Item = &Literal> {
        self.literals.iter().filter(move |literal| range.contains(&literal.start))
    }

    /// The room of the server that it belongs to: `api` for `server/src/api/grpc.rs`.
    pub fn room(&self) -> Option<&str> {
        let path = self.path.strip_prefix("server/src/")?;
        Some(path.split(['/', '.']).next().unwrap_or(path))
    }

    /// How many `super` lead from here to the root of the crate.
    pub fn depth(&self) -> usize {
        let path = self.path.trim_start_matches("server/src/").trim_end_matches(".rs").trim_end_matches("/mod");
        path.split('/').count()
    }

    /// The functions with a body that are not test code.
    pub fn functions(&self) -> Vec<Function<'_>> {
        let code = self.production();
        let starts = words(code).filter(|(_, word)| *word == "fn");
        starts.filter_map(|(start, _)| function(code, start)).collect()
    }

    /// The structs and enums that are not test code.
    pub fn types(&self) -> Vec<Type<'_>> {
        let code = self.production();
        let starts = words(code).filter(|(_, word)| matches!(*word, "struct" | "enum"));
        starts.filter_map(|(start, keyword)| declared_type(code, start, keyword)).collect()
    }

    /// The rooms that the code names by `crate::` or enough `super::`, and where.
    pub fn rooms_used(&self) -> Vec<(usize, String)> {
        let code = self.production();
        let mut used = Vec::new();
        let mut seen_until = 0;
        for (start, word) in words(code).filter(|(_, word)| matches!(*word, "crate" | "super")) {
            if start < seen_until {
                continue;
            }
            let (mut at, mut supers) = (start + word.len(), usize::from(word == "super"));
            while let Some(next) = path_next(code, at) {
                let segment = word_at(code, next);
                if segment != "super" {
                    if word == "crate" || supers >= self.depth() + inline_modules(code, start) {
                        used.extend(first_segments(code, next).into_iter().map(|room| (start, room)));
                    }
                    break;
                }
                supers += 1;
                at = next + segment.len();
            }
            seen_until = at;
        }
        used
    }
}

/// Marks the files that are declared by `#[cfg(test)] mod name;`, and those below them.
pub fn test_modules(sources: &mut [Source]) {
    let mut declared = Vec::new();
    for source in sources.iter().filter(|source| source.path.ends_with(".rs")) {
        let folder = match source.path.rsplit_once('/') {
            Some((folder, "mod.rs" | "lib.rs" | "main.rs")) => folder.to_owned(),
            _ => source.path.trim_end_matches(".rs").to_owned(),
        };
        declared.extend(cfg_test(&source.code).filter_map(|at| {
            let module = source.code[at..].strip_prefix("mod ")?;
            let name = word_at(module, 0);
            module[name.len()..].starts_with(';').then(|| format!("{folder}/{name}"))
        }));
    }
    for source in sources {
        source.is_test |= declared.iter().any(|module| {
            let rest = source.path.strip_prefix(module.as_str());
            rest.is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        });
    }
}

/// The words (identifiers and keywords) of masked code.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < code.len() {
            let word = word_at(code, at);
            let start = at;
            at += word.len().max(1);
            if !word.is_empty() {
                return Some((start, word));
            }
        }
        None
    })
}

/// The word at a place; empty when none begins there.
pub fn word_at(code: &str, at: usize) -> &str {
    let rest = code.get(at..).unwrap_or("");
    let end = rest.bytes().position(|byte| !(byte.is_ascii_alphanumeric() || byte == b'_')).unwrap_or(rest.len());
    &rest[..end]
}

/// The end of the bracket that opens at a place, one past it.
pub fn close(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        if depth == 0 {
            return Some(at + 1);
        }
    }
    None
}

/// The pieces of a list between commas, each with its place. `angles` when `<` opens a bracket, as in types.
pub fn pieces(code: &str, range: Range<usize>, angles: bool) -> Vec<(usize, &str)> {
    let (mut found, mut depth, mut start) = (Vec::new(), 0_i32, range.start);
    let bytes = code.as_bytes();
    for at in range.clone() {
        match bytes[at] {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth -= 1,
            b'<' if angles => depth += 1,
            b'>' if angles && !matches!(bytes[at - 1], b'-' | b'=') => depth -= 1,
            b',' if depth == 0 => {
                found.push((start, &code[start..at]));
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push((start, &code[start..range.end]));
    let trimmed = found.into_iter().map(|(at, piece)| (at + piece.len() - piece.trim_start().len(), piece.trim()));
    trimmed.filter(|(_, piece)| !piece.is_empty()).collect()
}

fn line(text: &str, at: usize) -> usize {
    text.as_bytes()[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

fn function(code: &str, start: usize) -> Option<Function<'_>> {
    let at = skip_space(code, start + 2);
    let name = word_at(code, at);
    if name.is_empty() {
        return None; // a function pointer type
    }
    let open = skip_generics(code, at + name.len());
    let after = close(code, open).filter(|_| code[open..].starts_with('('))?;
    let arguments = pieces(code, open + 1..after - 1, true).len();
    let body = body_of(code, after)?;
    let end = close(code, body)?;
    Some(Function { name, start, arguments, lines: line(code, end - 1) - line(code, start) + 1 })
}

fn declared_type<'a>(code: &'a str, start: usize, keyword: &'a str) -> Option<Type<'a>> {
    let at = skip_space(code, start + keyword.len());
    let name = word_at(code, at);
    let mut open = skip_generics(code, at + name.len());
    if !name.is_empty() && word_at(code, open) == "where" {
        open = body_of(code, open)?;
    }
    let members = match code.as_bytes().get(open) {
        _ if name.is_empty() => return None,
        Some(b'{' | b'(') => pieces(code, open + 1..close(code, open)? - 1, true).len(),
        _ => 0,
    };
    Some(Type { keyword, name, start, members })
}

/// Where the body of a function opens, past its return type and bounds; `None` when it ends in `;`.
fn body_of(code: &str, after: usize) -> Option<usize> {
    let mut at = after;
    loop {
        match code.as_bytes().get(at)? {
            b'{' => return Some(at),
            b';' => return None,
            b'(' | b'[' => at = close(code, at)?,
            _ => at += 1,
        }
    }
}

fn skip_space(code: &str, at: usize) -> usize {
    at + code[at..].bytes().take_while(u8::is_ascii_whitespace).count()
}

fn skip_generics(code: &str, at: usize) -> usize {
    let at = skip_space(code, at);
    if !code[at..].starts_with('<') {
        return at;
    }
    let (mut depth, bytes) = (0_i32, code.as_bytes());
    for end in at..bytes.len() {
        match bytes[end] {
            b'<' => depth += 1,
            b'>' if bytes[end - 1] != b'-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return skip_space(code, end + 1);
        }
    }
    bytes.len()
}

/// Where a path goes on after a segment that ends at a place.
fn path_next(code: &str, at: usize) -> Option<usize> {
    let at = skip_space(code, at);
    code[at..].starts_with("::").then(|| skip_space(code, at + 2))
}

/// How many inline modules a place stands in.
fn inline_modules(code: &str, place: usize) -> usize {
    let opens = words(&code[..place]).filter(|(_, word)| *word == "mod").filter_map(|(start, _)| {
        let open = start + code[start..].find(['{', ';'])?;
        code[open..].starts_with('{').then(|| close(code, open)).flatten()
    });
    opens.filter(|end| *end > place).count()
}

/// The first segment of a path, or of each path in a group.
fn first_segments(code: &str, at: usize) -> Vec<String> {
    if !code[at..].starts_with('{') {
        return vec![word_at(code, at).to_owned()];
    }
    let end = close(code, at).map_or(at + 1, |end| end - 1);
    let each = pieces(code, at + 1..end, false).into_iter();
    each.map(|(_, piece)| word_at(piece, 0).to_owned()).collect()
}

/// Where the items begin that stand under `#[cfg(test)]`.
fn cfg_test(code: &str) -> impl Iterator<Item = usize> {
    code.match_indices("#[cfg(test)]").map(|(at, attribute)| {
        let mut at = skip_space(code, at + attribute.len());
        while code[at..].starts_with("#[") {
            at = skip_space(code, close(code, at + 1).unwrap_or(code.len()));
        }
        if word_at(code, at) == "pub" {
            at = skip_space(code, at + 3);
            if code[at..].starts_with('(') {
                at = skip_space(code, close(code, at).unwrap_or(code.len()));
            }
        }
        at
    })
}

/// Where the test module at the end of a file begins. Only an inline one counts: what follows `mod tests;` is no test.
fn test_module(code: &str) -> Option<usize> {
    let inline =
        |at: &usize| code[*at..].starts_with("mod ") && code[*at..].find(['{', ';']).is_some_and(|end| code[*at + end..].starts_with('{'));
    let module = cfg_test(code).find(inline)?;
    code[..module].rfind("#[cfg(test)]")
}

/// What a stretch of text is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// Blanks comments and literals, and hands out the string literals.
fn mask(text: &str) -> (String, Vec<Literal>) {
    let mut code = String::with_capacity(text.len());
    let (mut literals, mut at) = (Vec::new(), 0);
    while at < text.len() {
        let (kind, length) = token(text, at, &mut literals);
        let stretch = &text[at..at + length];
        if kind == Kind::Code {
            code.push_str(stretch);
        } else {
            let quote = if kind == Kind::Literal { '"' } else { ' ' };
            let last = length - 1;
            code.extend(stretch.bytes().enumerate().map(|(place, byte)| match byte {
                b'\n' => '\n',
                _ if place == 0 || place == last => quote,
                _ => ' ',
            }));
        }
        at += length;
    }
    (code, literals)
}

/// What begins at a place, and its length.
fn token(text: &str, at: usize, literals: &mut Vec<Literal>) -> (Kind, usize) {
    let bytes = &text.as_bytes()[at..];
    let width = |at: usize| text[at..].chars().next().map_or(0, char::len_utf8);
    match bytes {
        [b'/', b'/', ..] => (Kind::Comment, bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len())),
        [b'/', b'*', ..] => (Kind::Comment, block_comment(bytes)),
        [b'"', ..] => {
            let length = quoted(bytes, b'"');
            literals.push(Literal { start: at, text: text[at + 1..(at + length - 1).max(at + 1)].to_owned() });
            (Kind::Literal, length)
        }
        [b'r', b'"' | b'#', ..] if !follows_word(text, at) => {
            raw(text, at, literals).map_or((Kind::Code, 1), |length| (Kind::Literal, length))
        }
        [b'\'', b'\\', ..] => (Kind::Literal, quoted(bytes, b'\'')),
        // A lifetime has no closing quote after one character.
        [b'\'', ..] if bytes.get(width(at + 1) + 1) == Some(&b'\'') => (Kind::Literal, width(at + 1) + 2),
        _ => (Kind::Code, width(at)),
    }
}

/// A raw string, from its `r`: the quote of its masked form stands there.
fn raw(text: &str, at: usize, literals: &mut Vec<Literal>) -> Option<usize> {
    let hashes = text[at + 1..].bytes().take_while(|byte| *byte == b'#').count();
    let inside = at + 1 + hashes + 1;
    if text.as_bytes().get(inside - 1) != Some(&b'"') {
        return None; // a raw identifier
    }
    let closing = format!("\"{}", "#".repeat(hashes));
    let length = text[inside..].find(&closing)?;
    literals.push(Literal { start: at, text: text[inside..inside + length].to_owned() });
    Some(1 + hashes + 1 + length + closing.len())
}

fn follows_word(text: &str, at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).map_or(b' ', |at| text.as_bytes()[at]);
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    // `br"` and `cr"` are raw strings too.
    let is_prefix = matches!(before(1), b'b' | b'c') && !is_word(before(2));
    is_word(before(1)) && !is_prefix
}

fn quoted(bytes: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(bytes.len())
}

fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    bytes.len()
}
