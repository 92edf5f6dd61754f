//! Operators on texts: cases and stop words, tokens, and counting n-grams.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::mlflow::native::{
    bounds::{Stop, fits, room},
    fault::Fault,
    operators::tokens::Expression,
    site::{Built, Site},
    tensor::{TEXT, Tensor, Type, zip},
};

/// What an empty answer has instead of nothing: ONNX Runtime knows no tensor of no texts here.
const EMPTY: &str = "";
/// How much of an expression is told of that is not supported.
const SHOWN: usize = 80;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    Same,
    Lower,
    Upper,
}

impl Case {
    fn turn(self, text: &Arc<str>, is_ascii: bool) -> Arc<str> {
        match (self, is_ascii) {
            (Self::Same, _) => Arc::clone(text),
            (Self::Lower, true) => text.to_ascii_lowercase().into(),
            (Self::Lower, false) => text.to_lowercase().into(),
            (Self::Upper, true) => text.to_ascii_uppercase().into(),
            (Self::Upper, false) => text.to_uppercase().into(),
        }
    }
}

pub(crate) fn normalize(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Text])?;
    let case = match site.text("case_change_action")?.unwrap_or("NONE") {
        "NONE" => Case::Same,
        "LOWER" => Case::Lower,
        "UPPER" => Case::Upper,
        other => return Err(site.fault(format!("with the case `{other}` is not supported"))),
    };
    let is_ascii = matches!(site.text("locale")?, Some("C" | "POSIX"));
    // Words are compared in one case where case does not count.
    let compared = if site.flag("is_case_sensitive", false) { Case::Same } else { Case::Lower };
    let stops: HashSet<Arc<str>> = site.texts("stopwords")?.iter().map(|word| compared.turn(word, is_ascii)).collect();
    Ok(Built::one(Type::Text, move |given| {
        let tensor = given.tensor(0)?;
        let is_row = match tensor.shape() {
            [_] => false,
            [1, _] => true,
            shape => return Err(Fault::new(format!("shape {shape:?} is not one row of texts"))),
        };
        let kept = tensor.values::<Arc<str>>()?.iter().filter(|text| stops.is_empty() || !stops.contains(&compared.turn(text, is_ascii)));
        let mut words: Vec<Arc<str>> = kept.map(|text| case.turn(text, is_ascii)).collect();
        if words.is_empty() {
            words.push(EMPTY.into());
        }
        Tensor::of(if is_row { vec![1, words.len()] } else { vec![words.len()] }, words)
    }))
}

pub(crate) fn concat(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Text])?;
    site.expect(1, &[Type::Text])?;
    Ok(Built::one(Type::Text, |given| {
        let length = Cell::new(0_usize);
        let joined = zip::<Arc<str>, Arc<str>, Arc<str>>(given.tensor(0)?, given.tensor(1)?, |a, b| {
            length.set(length.get().saturating_add(a.len() + b.len()));
            // A long text may stand beside many: nothing more is made once it is too much.
            if fits(length.get()).is_ok() { format!("{a}{b}").into() } else { EMPTY.into() }
        })?;
        fits(length.get())?;
        Ok(joined)
    }))
}

/// Microsoft's `Tokenizer`: what an expression finds in each text, or what stands between separators; short rows are padded.
pub(crate) fn tokenize(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Text])?;
    let (separators, found) = (site.texts("separators")?, site.text("tokenexp")?);
    let shown = |text: &str| text.chars().take(SHOWN).collect::<String>();
    let read =
        |text: &str| Expression::read(text).ok_or_else(|| site.fault(format!("with the expression `{}` is not supported", shown(text))));
    let is_split = found.is_none();
    let expressions = match found {
        Some(found) => vec![read(found)?],
        None if separators.iter().all(|separator| separator.is_empty()) => vec![read("")?],
        None => separators.iter().map(|separator| read(separator)).collect::<Result<_, _>>()?,
    };
    let padding: Arc<str> = site.text("pad_value")?.unwrap_or("").into();
    let shortest = usize::try_from(site.int("mincharnum").unwrap_or(1)).unwrap_or(0);
    let has_marks = site.flag("mark", false);
    Ok(Built::one(Type::Text, move |given| {
        let tensor = given.tensor(0)?;
        let (mut rows, mut count, mut longest) = (Vec::new(), 0_usize, 0);
        for text in tensor.values::<Arc<str>>()? {
            given.stop.check()?;
            let mut tokens = if is_split { split(text, &expressions) } else { expressions[0].find(text) };
            tokens.retain(|token| token.chars().count() >= shortest);
            if has_marks {
                tokens.insert(0, "\u{2}");
                tokens.push("\u{3}");
            }
            count += tokens.len();
            fits(count.saturating_mul(TEXT))?;
            longest = longest.max(tokens.len());
            rows.push(tokens);
        }
        let mut shape = tensor.shape().to_vec();
        shape.push(longest);
        let mut out: Vec<Arc<str>> = Vec::with_capacity(room::<Arc<str>>(&shape)?);
        for row in rows {
            let missing = longest - row.len();
            out.extend(row.into_iter().map(Arc::from));
            out.extend(std::iter::repeat_n(&padding, missing).cloned());
        }
        Tensor::of(shape, out)
    }))
}

/// Splits by each separator in turn; the empty one splits into characters.
fn split<'a>(text: &'a str, separators: &[Expression]) -> Vec<&'a str> {
    separators.iter().fold(vec![text], |pieces, separator| pieces.into_iter().flat_map(|piece| separator.split(piece)).collect())
}

/// N-grams of a fixed pool as a tree: a gram is a path of tokens.
struct Grams {
    tokens: HashMap<Token, usize>,
    /// From a node by a token to a node; the root is 0.
    paths: HashMap<(usize, usize), usize>,
    /// Where a gram that ends at a node is counted.
    places: Vec<Option<usize>>,
    shortest: usize,
    longest: usize,
    skips: usize,
    columns: usize,
    weights: Vec<f32>,
    mode: Mode,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum Token {
    Text(Arc<str>),
    Number(i64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Counts,
    Weights,
    Both,
}

pub(crate) fn grams(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Text, Type::I64, Type::I32])?;
    let grams = Grams::read(site)?;
    Ok(Built::one(Type::F32, move |given| {
        let tensor = given.tensor(0)?;
        let (rows, columns) = match *tensor.shape() {
            [] => (1, 1),
            [columns] => (1, columns),
            [rows, columns] => (rows, columns),
            ref shape => return Err(Fault::new(format!("shape {shape:?} is neither a row nor rows of tokens"))),
        };
        let (texts, numbers): (&[Arc<str>], _) = match tensor.kind() {
            Type::Text => (tensor.values()?, Vec::new()),
            _ => (&[], given.ints(0)?),
        };
        let token = |at: usize| match texts.get(at) {
            Some(text) => Token::Text(Arc::clone(text)),
            None => Token::Number(numbers[at]),
        };
        let mut out = vec![0.0_f32; room::<f32>(&[rows, grams.columns])?];
        let mut known = Vec::with_capacity(columns);
        for (row, out) in out.chunks_exact_mut(grams.columns).enumerate() {
            known.clear();
            known.extend((row * columns..(row + 1) * columns).map(|at| grams.tokens.get(&token(at)).copied()));
            grams.count(&known, out, given.stop)?;
        }
        Tensor::of(if tensor.shape().len() < 2 { vec![grams.columns] } else { vec![rows, grams.columns] }, out)
    }))
}

impl Grams {
    fn read(site: &Site<'_>) -> Result<Self, Fault> {
        let number = |name: &str, otherwise: i64| {
            usize::try_from(site.int(name).unwrap_or(otherwise)).map_err(|_| site.fault(format!("has a negative {name}")))
        };
        let (shortest, longest, skips) = (number("min_gram_length", 1)?, number("max_gram_length", 1)?, number("max_skip_count", 0)?);
        let mode = match site.text("mode")?.unwrap_or("TF") {
            "TF" => Mode::Counts,
            "IDF" => Mode::Weights,
            "TFIDF" => Mode::Both,
            other => return Err(site.fault(format!("with the mode `{other}` is not supported"))),
        };
        let texts = site.texts("pool_strings")?;
        let pool: Vec<Token> = match texts.is_empty() {
            true => site.ints("pool_int64s").into_iter().map(Token::Number).collect(),
            false => texts.into_iter().map(Token::Text).collect(),
        };
        let places: Option<Vec<usize>> = site.ints("ngram_indexes").iter().map(|at| usize::try_from(*at).ok()).collect();
        let places = places.filter(|places| !places.is_empty()).ok_or_else(|| site.fault("has no ngram_indexes"))?;
        let columns = room::<f32>(&[places.iter().max().map_or(0, |most| most.saturating_add(1))])?;
        let weights = site.floats("weights");
        if !weights.is_empty() && weights.len() != places.len() || shortest == 0 || longest < shortest {
            return Err(site.fault("has weights or lengths that do not go together"));
        }
        // They are given in the order of the pool, and used in that of the columns.
        let mut by_column = vec![1.0; columns];
        places.iter().zip(&weights).for_each(|(place, weight)| by_column[*place] = *weight);
        let mut grams = Self {
            tokens: HashMap::new(),
            paths: HashMap::new(),
            places: vec![None],
            shortest,
            longest,
            skips,
            columns,
            weights: by_column,
            mode,
        };
        grams.fill(&pool, &site.ints("ngram_counts"), &places).ok_or_else(|| site.fault("has a pool that does not fit its counts"))?;
        Ok(grams)
    }

    /// The pool holds first the grams of one token, then those of two, and so on; the counts say where each begins.
    fn fill(&mut self, pool: &[Token], starts: &[i64], places: &[usize]) -> Option<()> {
        let starts = starts.iter().map(|start| usize::try_from(*start).ok()).collect::<Option<Vec<_>>>()?;
        let mut places = places.iter();
        for (at, start) in starts.iter().enumerate() {
            let grams = pool.get(*start..starts.get(at + 1).copied().unwrap_or(pool.len()))?;
            for gram in grams.chunks(at + 1) {
                let place = *places.next()?;
                self.add(gram, place);
            }
        }
        Some(())
    }

    fn add(&mut self, gram: &[Token], place: usize) {
        let mut node = 0;
        for token in gram {
            let next = self.tokens.len();
            let token = *self.tokens.entry(token.clone()).or_insert(next);
            let next = self.places.len();
            node = *self.paths.entry((node, token)).or_insert(next);
            if node == next {
                self.places.push(None);
            }
        }
        self.places[node] = Some(place);
    }

    fn count(&self, row: &[Option<usize>], out: &mut [f32], stop: &Stop) -> Result<(), Fault> {
        // More than the row is long, a skip finds nothing but single tokens, which count once.
        for skip in 0..=self.skips.min(row.len()) {
            stop.check()?;
            for start in 0..row.len() {
                let mut node = 0;
                for (length, token) in (1..=self.longest).zip(row[start..].iter().step_by(skip + 1)) {
                    let Some(next) = token.and_then(|token| self.paths.get(&(node, token))) else { break };
                    node = *next;
                    if let (Some(place), true) = (self.places[node], length >= self.shortest && (length > 1 || skip == 0)) {
                        out[place] += 1.0;
                    }
                }
            }
        }
        match self.mode {
            Mode::Counts => {}
            Mode::Weights => {
                out.iter_mut().enumerate().filter(|(_, count)| **count > 0.0).for_each(|(at, count)| *count = self.weights[at]);
            }
            Mode::Both => out.iter_mut().enumerate().for_each(|(at, count)| *count *= self.weights[at]),
        }
        Ok(())
    }
}
