//! The rules. Each looks at one file, or at all of them, and says what is wrong and where.

use super::source::{Source, close, pieces, word_at, words};

/// The rooms of the server in the order in which they may use each other; those of one rank may not.
const ORDER: &[&[&str]] = &[
    &["error"],
    &["event"],
    &["dialect"],
    &["provider"],
    &["expression"],
    &["config"],
    &["catalog", "identity"],
    &["call"],
    &["upstream", "store"],
    &["mlflow"],
    &["balance"],
    &["policy"],
    &["chain"],
    &["stack"],
    &["api"],
    &["admin"],
    &["listen"],
    &["lib"],
    &["cli"],
    &["main"],
];
/// Rooms beside that order: what they may use, and from where on they may be used.
const BESIDE: &[(&str, &[&str], &str)] = &[("telemetry", &["error", "task"], "upstream"), ("task", &["error"], "upstream")];

/// Who may have sockets, beside `lib`, which is handed the listeners.
const SOCKET_ROOMS: &[&str] = &["upstream", "listen", "telemetry", "store", "cli"];
const SOCKETS: &[&str] = &["TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "reqwest"];

/// Rooms without I/O, clock and randomness, and what would bring one in.
const PURE_ROOMS: &[&str] = &["dialect", "provider", "expression"];
const IMPURE: &[&str] = &["tokio", "fs", "net", "env", "Instant", "SystemTime", "Utc", "Uuid", "fastrand", "rand"];

/// Files that are data, and may be long.
const DATA_FILES: &[&str] = &["server/src/provider/registry.rs"];

/// Where a provider's name stands for something else, and what.
const NAMED: &[(&str, &str, &str)] = &[
    ("server/src/dialect/openai/", "openai", "the dialect's own name"),
    ("server/src/dialect/anthropic/", "anthropic", "the dialect's own name"),
    ("server/src/dialect/gemini/", "gemini", "the dialect's own name"),
    ("server/src/dialect/bedrock/", "bedrock", "the dialect's own name"),
    ("server/src/dialect/sagemaker/", "tgi", "a dialect that containers speak"),
    ("server/src/dialect/cohere/", "cohere", "the dialect's own name"),
    ("server/src/dialect/mlflow/", "mlflow", "the dialect's own name"),
    ("server/src/dialect/openai_responses/", "openai-responses", "the dialect's own name"),
    ("server/src/dialect/ollama/", "ollama", "the dialect's own name"),
    ("server/src/dialect/scoring/", "mlflow", "the protocol's owner"),
    ("server/src/dialect/tgi/", "tgi", "the dialect's own name"),
    ("server/src/api/", "openai", "the door's own name"),
    ("server/src/api/", "anthropic", "the door's own name"),
    ("server/src/api/", "mlflow", "the door's own name"),
    ("server/src/cli/start.rs", "mlflow", "a key of the file"),
    ("server/src/api/", "oip", "the door's own name"),
    ("server/src/config/lower/deployment.rs", "oip", "a key of the file, which stands for the provider"),
    ("server/src/upstream/mock/", "mock", "what the made-up model calls itself"),
    ("server/src/", "http", "the protocol, of which a provider has the name"),
    ("server/src/provider/settings.rs", "openai", "the form that a container takes"),
    ("server/src/provider/settings.rs", "tgi", "the form that a container takes"),
    ("server/src/upstream/grants/", "google", "who gives the token"),
    ("server/src/config/raw.rs", "mock", "the block `mock:`"),
    ("server/src/mlflow/", "mlflow", "the section of MLflow's credentials file"),
    ("server/src/config/tracking.rs", "databricks", "a tracking address that is refused"),
    ("server/src/config/", "mlflow", "the block `mlflow:` and the dialect of MLflow's file"),
];

const WRONG_WORDS: &[&str] = &["backend", "strategy", "manager", "handler", "helper", "util", "utility", "context", "data", "info", "base"];
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];
/// Names that begin with a capital and so may begin a message.
const PROPER: &[&str] =
    &["Anthropic", "Azure", "Bedrock", "Flowgate", "Kubernetes", "Ollama", "Postgres", "Python", "Redis", "Rust", "Tokio"];

const MAX_FUNCTION: usize = 60;
const MAX_FILE: usize = 500;
const MAX_SMALL_FILE: usize = 150;
const MAX_ARGUMENTS: usize = 5;
const MAX_FIELDS: usize = 20;
const MIN_COMMENT_PERCENT: usize = 8;

/// The rules, with what they must know of the tree.
pub struct Rules<'a> {
    /// The names and aliases of all providers.
    pub providers: Vec<&'a str>,
}

/// What one rule finds in one file.
struct Findings<'a> {
    source: &'a Source,
    found: Vec<String>,
}

impl Findings<'_> {
    fn at(&mut self, start: usize, what: impl AsRef<str>) {
        self.found.push(format!("{}:{}: {}", self.source.path, self.source.line(start), what.as_ref()));
    }
}

impl Rules<'_> {
    /// All that is wrong, in the order of the files.
    pub fn check(&self, sources: &[Source]) -> Vec<String> {
        let mut found: Vec<String> = sources.iter().flat_map(|source| self.check_one(source)).collect();
        found.extend(comment_share(sources));
        found
    }

    /// What is wrong with one file.
    pub fn check_one(&self, source: &Source) -> Vec<String> {
        let mut findings = Findings { source, found: Vec::new() };
        if source.path.ends_with(".proto") {
            undocumented(&mut findings);
            return findings.found;
        }
        header(&mut findings);
        unfinished(&mut findings);
        budgets(&mut findings);
        wrong_words(&mut findings);
        log_messages(&mut findings);
        error_messages(&mut findings);
        if let Some(room) = source.room() {
            direction(&mut findings, room);
            sockets(&mut findings, room);
            purity(&mut findings, room);
            self.provider_names(&mut findings);
        }
        findings.found
    }

    /// Only the registry names providers: code that knows one by name is a quirk in the wrong place.
    fn provider_names(&self, findings: &mut Findings<'_>) {
        let source = findings.source;
        let may = |name: &str| NAMED.iter().any(|(path, named, _)| source.path.starts_with(path) && *named == name);
        if source.is_test || DATA_FILES.contains(&source.path.as_str()) {
            return;
        }
        for literal in source.literals_in(0..source.end) {
            // As a configuration may spell it.
            let name = literal.text.to_ascii_lowercase().replace('_', "-");
            if self.providers.contains(&name.as_str()) && !may(&name) {
                findings.at(
                    literal.start,
                    format!("the provider `{}` is named outside of provider/registry.rs; make it a field of its row", literal.text),
                );
            }
        }
    }
}

fn header(findings: &mut Findings<'_>) {
    let is_stub = matches!(findings.source.code.trim(), "" | "fn main() {}");
    if !is_stub && !findings.source.text.starts_with("//! ") {
        findings.at(0, "the file does not open with `//! `: what it owns, and what it must not do");
    }
}

fn unfinished(findings: &mut Findings<'_>) {
    let source = findings.source;
    if source.path.starts_with("tests/tidy") {
        return; // names what it looks for
    }
    for (start, word) in words(&source.text) {
        let is_macro = matches!(word, "todo" | "unimplemented") && source.code[start..].starts_with(&format!("{word}!"));
        if is_macro || UNFINISHED.contains(&word) {
            findings.at(start, format!("`{word}`: finish it, or leave it out"));
        }
    }
}

fn budgets(findings: &mut Findings<'_>) {
    let source = findings.source;
    if source.is_test || DATA_FILES.contains(&source.path.as_str()) {
        return;
    }
    for function in source.functions() {
        if function.lines > MAX_FUNCTION {
            findings.at(function.start, format!("`{}` has {} lines, more than {MAX_FUNCTION}", function.name, function.lines));
        }
        if function.arguments > MAX_ARGUMENTS {
            findings.at(function.start, format!("`{}` has {} arguments, more than {MAX_ARGUMENTS}", function.name, function.arguments));
        }
    }
    for declared in source.types() {
        let is_limited = declared.keyword == "struct" || declared.name.contains("Error") || declared.name.contains("Failure");
        if is_limited && declared.members > MAX_FIELDS {
            findings.at(declared.start, format!("`{}` has {} fields or variants, more than {MAX_FIELDS}", declared.name, declared.members));
        }
    }
    let small = ["server/src/policy/", "server/src/provider/"].iter().any(|room| source.path.starts_with(room));
    let (lines, most) = (source.production_lines(), if small { MAX_SMALL_FILE } else { MAX_FILE });
    if lines > most {
        findings.at(0, format!("the file has {lines} lines without its tests, more than {most}"));
    }
}

fn wrong_words(findings: &mut Findings<'_>) {
    let source = findings.source;
    if source.is_test {
        return;
    }
    let file = source.path.trim_end_matches(".rs").trim_end_matches("/mod").rsplit('/').next().unwrap_or("");
    let mut named = vec![(0, file)];
    let (code, mut depth) = (source.production(), 0_i32);
    for (start, word) in words(code) {
        let is_name = matches!(word, "mod" | "struct" | "enum" | "union" | "trait") || (word == "type" && depth == 0);
        if is_name && code[start + word.len()..].starts_with(' ') {
            named.push((start, word_at(code, start + word.len() + 1)));
        }
        // Associated types are named by the trait that they belong to.
        let next = start + word.len();
        let rest = &code[next..];
        let gap = rest.find(|c: char| c.is_ascii_alphanumeric() || c == '_').unwrap_or(rest.len());
        depth += rest[..gap].bytes().map(|byte| i32::from(byte == b'{') - i32::from(byte == b'}')).sum::<i32>();
    }
    for (start, name) in named {
        if let Some(word) = segments(name).find(|segment| is_wrong(segment)) {
            findings.at(start, format!("`{name}`: `{word}` says nothing; use a word of design section 10"));
        }
    }
}

/// `HTTPError` and `http_error` are both `http`, `error`, near enough.
fn segments(name: &str) -> impl Iterator<Item = String> {
    let mut split = String::new();
    for (at, letter) in name.char_indices() {
        if letter.is_ascii_uppercase() && at > 0 {
            split.push('_');
        }
        split.push(letter.to_ascii_lowercase());
    }
    split.split('_').map(str::to_owned).collect::<Vec<_>>().into_iter()
}

fn is_wrong(segment: &str) -> bool {
    WRONG_WORDS.contains(&segment) || segment.strip_suffix('s').is_some_and(|one| WRONG_WORDS.contains(&one))
}

fn log_messages(findings: &mut Findings<'_>) {
    let source = findings.source;
    let code = source.production();
    for (start, word) in words(code) {
        let after = start + word.len();
        if !matches!(word, "trace" | "debug" | "info" | "warn" | "error") || !code[after..].starts_with("!(") {
            continue;
        }
        let end = close(code, after + 1).unwrap_or(code.len());
        // The message is the first argument that is a bare literal; fields have names.
        let message = pieces(code, after + 2..end - 1, false).into_iter().find_map(|(at, _)| source.literals_in(at..at + 1).next());
        if let Some(message) = message {
            message_style(findings, message.start, &message.text);
        }
    }
}

fn error_messages(findings: &mut Findings<'_>) {
    let source = findings.source;
    let code = source.production();
    for makes in ["Error::new(", "Error::internal(", "Error::invalid(", "Error::misuse(", "Error::broken(", "#[error("] {
        for (start, _) in code.match_indices(makes) {
            let open = start + makes.len() - 1;
            let end = close(code, open).unwrap_or(code.len());
            for literal in source.literals_in(open..end).filter(|literal| literal.text.contains(' ')) {
                message_style(findings, literal.start, &literal.text);
            }
        }
    }
}

/// Lower case and no full stop; names and abbreviations may begin a message.
fn message_style(findings: &mut Findings<'_>, start: usize, message: &str) {
    let first = word_at(message, 0);
    let capitalised =
        first.len() > 1 && first.starts_with(|c: char| c.is_ascii_uppercase()) && !first[1..].contains(|c: char| c.is_ascii_uppercase());
    if capitalised && !PROPER.contains(&first) {
        findings.at(start, format!("the message begins with a capital: {first}…"));
    }
    if message.ends_with('.') && !message.ends_with("..") {
        findings.at(start, "the message ends with a full stop");
    }
}

fn rank(room: &str) -> Option<usize> {
    ORDER.iter().position(|rooms| rooms.contains(&room))
}

fn direction(findings: &mut Findings<'_>, room: &str) {
    if rank(room).is_none() && !BESIDE.iter().any(|(beside, ..)| *beside == room) {
        findings.at(0, format!("the room `{room}` has no place in the order; give it one in design section 2 and in tests/tidy"));
        return;
    }
    for (start, used) in findings.source.rooms_used() {
        // What is no room stands in lib.rs.
        let is_room = rank(&used).is_some() || BESIDE.iter().any(|(beside, ..)| *beside == used);
        let used = if is_room { used.as_str() } else { "lib" };
        if used != room && !may_use(room, used) {
            findings.at(start, format!("`{room}` uses `{used}`, which does not stand before it"));
        }
    }
}

fn may_use(room: &str, used: &str) -> bool {
    if let Some((_, may, _)) = BESIDE.iter().find(|(beside, ..)| *beside == room) {
        return may.contains(&used);
    }
    match BESIDE.iter().find(|(beside, ..)| *beside == used) {
        Some((.., from)) => rank(room) >= rank(from),
        None => rank(used) < rank(room),
    }
}

fn sockets(findings: &mut Findings<'_>, room: &str) {
    if SOCKET_ROOMS.contains(&room) {
        return;
    }
    let code = findings.source.production();
    for (start, word) in words(code) {
        let is_client = word == "client" && (code[..start].ends_with("hyper_util::") || code[..start].ends_with("hyper::"));
        let is_handed_in = room == "lib" && word.ends_with("Listener");
        if (SOCKETS.contains(&word) || is_client) && !is_handed_in {
            findings.at(start, format!("`{room}` has a socket (`{word}`); only {} may", SOCKET_ROOMS.join(", ")));
        }
    }
}

fn purity(findings: &mut Findings<'_>, room: &str) {
    if !PURE_ROOMS.contains(&room) {
        return;
    }
    let code = findings.source.production();
    for (start, word) in words(code) {
        let after = &code[start + word.len()..];
        let is_path = after.starts_with("::") || code[..start].ends_with("std::");
        // An address is no connection.
        if after.starts_with("::IpAddr") {
            continue;
        }
        if IMPURE.contains(&word) && is_path {
            findings.at(start, format!("`{room}` is pure, and `{word}` is not"));
        }
    }
}

/// Every element of the contract has a comment above it.
fn undocumented(findings: &mut Findings<'_>) {
    let (mut start, mut above) = (0, "");
    for line in findings.source.text.split_inclusive('\n') {
        let element = line.trim();
        if is_element(element) && !above.starts_with("//") {
            findings.at(start, format!("no comment above `{}`", element.trim_end_matches([' ', '{'])));
        }
        if !element.is_empty() {
            above = element;
        }
        start += line.len();
    }
}

fn is_element(line: &str) -> bool {
    let declares = ["message ", "enum ", "service ", "oneof ", "rpc "].iter().any(|keyword| line.starts_with(keyword));
    let is_numbered = line.split_once(" = ").is_some_and(|(name, number)| {
        !name.starts_with(['/', '['])
            && !name.starts_with("option")
            && number.trim_start_matches('-').starts_with(|c: char| c.is_ascii_digit())
    });
    let is_optional = line.starts_with("optional ");
    declares || is_numbered || is_optional
}

/// Over the whole of our own source, not file by file: some code says it all.
fn comment_share(sources: &[Source]) -> Option<String> {
    let ours = |source: &&Source| !source.is_test && ["server/src/", "client/src/"].iter().any(|root| source.path.starts_with(root));
    let count = |of: fn(&Source) -> usize| sources.iter().filter(ours).map(of).sum::<usize>();
    let (lines, comments) = (count(|source| source.production_lines() - source.blank_lines), count(|source| source.comment_lines));
    (comments * 100 < lines * MIN_COMMENT_PERCENT)
        .then(|| format!("of {lines} lines only {comments} are comments, less than {MIN_COMMENT_PERCENT} %"))
}
