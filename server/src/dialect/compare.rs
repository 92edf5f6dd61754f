//! Keeps what is needed of an answer to compare it with another one to the same request, and compares the two. Pure, and bounded in
//! memory.

use bytes::Bytes;
use flowgate_proto::v1::{EmbedResponse, chat_delta::Delta, part::Kind};
use prost::Message as _;

use super::{
    openai,
    scoring::{
        door::encode_answer,
        drift::{Drift, drift},
    },
};
use crate::{
    error::{Error, Result},
    event::{Answer, Event, Payload, Protocol, Task},
};

/// The most that is kept of one answer.
const MOST_BYTES: usize = 1 << 20;

/// What is kept of one answer, event by event.
#[derive(Debug, Default)]
pub struct Gathered {
    /// What bodies and frames of the byte lane are written in.
    protocol: Option<Protocol>,
    answer: Option<Answer>,
    frames: Vec<Bytes>,
    choices: Vec<Said>,
    bytes: usize,
    is_complete: bool,
}

/// How much of an answer is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Open,
    /// All of it.
    Complete,
    /// Nothing any more: it is too large.
    TooLarge,
}

/// What one choice said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Said {
    index: u32,
    characters: u32,
    finish_reason: i32,
}

/// An answer as it is compared.
enum Told {
    Text(Vec<Said>),
    Vectors(Vec<Vec<f32>>),
    /// A scoring body.
    Predictions(Bytes),
}

/// How far two answers are apart; `None` for what answers of their kind do not have.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// The largest absolute and relative difference of two numbers.
    pub drift: Option<(f64, f64)>,
    /// The largest cosine distance of two vectors, from 0 to 2.
    pub cosine: Option<f64>,
    /// By how many characters texts differ in length.
    pub characters: Option<u32>,
    /// Shapes that are not the same: lengths, keys, numbers of choices or of vectors.
    pub shapes: u64,
    /// Values that are neither numbers nor the same.
    pub values: u64,
    /// Choices that ended for another reason.
    pub finish_reasons: u64,
}

impl Difference {
    /// How far numbers are apart, by measure: `absolute` and `relative` are the largest differences of two numbers, `cosine` is the
    /// largest distance of two vectors.
    pub fn drifts(&self) -> impl Iterator<Item = (&'static str, f64)> {
        let (absolute, relative) = self.drift.unzip();
        let all = [("absolute", absolute), ("relative", relative), ("cosine", self.cosine)];
        all.into_iter().filter_map(|(measure, drift)| Some((measure, drift?)))
    }

    /// How much is not the same, by kind.
    pub fn mismatches(&self) -> [(&'static str, u64); 3] {
        [("shape", self.shapes), ("value", self.values), ("finish_reason", self.finish_reasons)]
    }
}

impl Gathered {
    /// Nothing yet of the answer to a request.
    pub fn of(request: &Payload) -> Self {
        Self::written_in(request.wire().map(|wire| wire.protocol))
    }

    fn written_in(protocol: Option<Protocol>) -> Self {
        Self { protocol, ..Self::default() }
    }

    /// Keeps what counts of an event; costs no more than a copy of a typed answer.
    pub fn see(&mut self, event: &Event) -> Progress {
        match event {
            Event::Delta(delta) => {
                if let Some(Delta::Text(text)) = &delta.delta {
                    let characters = characters(text);
                    self.choice(delta.choice).characters += characters;
                }
            }
            Event::ChoiceEnd(end) => self.choice(end.choice).finish_reason = end.finish_reason,
            Event::Wire(frame) if !frame.bytes.is_empty() => {
                self.bytes += size_of::<Bytes>() + frame.bytes.len();
                self.frames.push(frame.bytes.clone());
            }
            Event::Answer(answer) => {
                self.bytes += size(answer);
                self.is_complete = true;
                if self.bytes <= MOST_BYTES {
                    self.answer = Some(answer.clone());
                }
            }
            Event::End => self.is_complete = true,
            Event::Start(_) | Event::Usage(_) | Event::Ping | Event::Wire(_) => {}
        }
        if self.bytes > MOST_BYTES {
            // What is known already is that it is too much.
            *self = Self { bytes: self.bytes, ..Self::default() };
            return Progress::TooLarge;
        }
        if self.is_complete { Progress::Complete } else { Progress::Open }
    }

    fn choice(&mut self, index: u32) -> &mut Said {
        let at = self.choices.iter().position(|choice| choice.index == index).unwrap_or_else(|| {
            self.bytes += size_of::<Said>();
            self.choices.push(Said { index, ..Said::default() });
            self.choices.len() - 1
        });
        &mut self.choices[at]
    }

    fn told(&self) -> Result<Told> {
        match &self.answer {
            Some(Answer::Wire(answer)) => match self.task()? {
                Task::Predict => Ok(Told::Predictions(answer.body.clone())),
                task => typed(&openai::decode_answer(task, &answer.body)?),
            },
            Some(answer) => typed(answer),
            None if self.frames.is_empty() => Ok(Told::Text(self.choices.clone())),
            None => {
                let mut said = Self::default();
                openai::read_frames(&self.frames, |event| _ = said.see(event))?;
                Ok(Told::Text(said.choices))
            }
        }
    }

    fn task(&self) -> Result<Task> {
        match self.protocol {
            Some(Protocol::OpenAiChat) => Ok(Task::Chat),
            Some(Protocol::OpenAiCompletions) => Ok(Task::Complete),
            Some(Protocol::OpenAiEmbeddings) => Ok(Task::Embed),
            Some(Protocol::MlflowScoring) => Ok(Task::Predict),
            None => Err(Error::internal("an answer came as received to a call that did not")),
        }
    }
}

/// How far two answers to one request are apart.
///
/// # Errors
/// What is wrong with an answer that cannot be read.
pub fn compare(one: &Gathered, other: &Gathered) -> Result<Difference> {
    match (one.told()?, other.told()?) {
        (Told::Text(one), Told::Text(other)) => Ok(compare_texts(one, other)),
        (Told::Vectors(one), Told::Vectors(other)) => Ok(compare_vectors(&one, &other)),
        (Told::Predictions(one), Told::Predictions(other)) => {
            let Drift { absolute, relative, shapes, values } = drift(&one, &other);
            Ok(Difference { drift: Some((absolute, relative)), shapes, values, ..Difference::default() })
        }
        _ => Ok(Difference { shapes: 1, ..Difference::default() }),
    }
}

fn typed(answer: &Answer) -> Result<Told> {
    Ok(match answer {
        Answer::Chat(answer) => Told::Text(answer.choices.iter().map(of_chat).collect()),
        Answer::Complete(answer) => Told::Text(
            answer
                .choices
                .iter()
                .map(|choice| Said { index: choice.index, characters: characters(&choice.text), finish_reason: choice.finish_reason })
                .collect(),
        ),
        Answer::Embed(EmbedResponse { embeddings, .. }) => {
            Told::Vectors(embeddings.iter().map(|embedding| embedding.values.clone()).collect())
        }
        Answer::Predict(answer) => Told::Predictions(encode_answer(answer)?.1),
        Answer::Wire(_) => return Err(Error::internal("an answer was read to the form in which it came")),
    })
}

fn of_chat(choice: &flowgate_proto::v1::Choice) -> Said {
    let parts = choice.message.iter().flat_map(|message| &message.parts);
    let texts = parts.map(|part| if let Some(Kind::Text(text)) = &part.kind { characters(&text.text) } else { 0 });
    Said { index: choice.index, characters: texts.sum(), finish_reason: choice.finish_reason }
}

fn compare_texts(mut one: Vec<Said>, mut other: Vec<Said>) -> Difference {
    one.sort_by_key(|choice| choice.index);
    other.sort_by_key(|choice| choice.index);
    let both = || one.iter().zip(&other);
    Difference {
        characters: Some(both().map(|(one, other)| one.characters.abs_diff(other.characters)).sum()),
        shapes: one.len().abs_diff(other.len()) as u64,
        finish_reasons: both().filter(|(one, other)| one.finish_reason != other.finish_reason).count() as u64,
        ..Difference::default()
    }
}

fn compare_vectors(one: &[Vec<f32>], other: &[Vec<f32>]) -> Difference {
    let both = || one.iter().zip(other);
    let alike = both().filter(|(one, other)| one.len() == other.len());
    let unlike = both().filter(|(one, other)| one.len() != other.len()).count();
    Difference {
        cosine: Some(alike.map(|(one, other)| cosine(one, other)).fold(0.0, f64::max)),
        shapes: (one.len().abs_diff(other.len()) + unlike) as u64,
        ..Difference::default()
    }
}

/// The cosine distance: 0 for the same direction, 1 for none in common.
fn cosine(one: &[f32], other: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let lengths = (dot(one, one) * dot(other, other)).sqrt();
    if lengths > 0.0 { (1.0 - dot(one, other) / lengths).max(0.0) } else { f64::from(u8::from(one != other)) }
}

fn size(answer: &Answer) -> usize {
    match answer {
        Answer::Chat(answer) => answer.encoded_len(),
        Answer::Complete(answer) => answer.encoded_len(),
        Answer::Embed(answer) => answer.encoded_len(),
        Answer::Predict(answer) => answer.encoded_len(),
        Answer::Wire(answer) => answer.body.len(),
    }
}

fn characters(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use flowgate_proto::v1::{ChatDelta, ChoiceEnd, CompleteResponse, CompletionChoice, Embedding, FinishReason};
    use http::HeaderValue;

    use super::*;
    use crate::event::{WireAnswer, WireFrame};

    fn wire(body: &'static str) -> Event {
        let content_type = HeaderValue::from_static("application/json");
        Event::Answer(Answer::Wire(WireAnswer { content_type, body: body.into(), usage: None }))
    }

    fn frame(json: &str) -> Event {
        Event::Wire(WireFrame { bytes: format!("data: {json}\n\n").into(), content: true, usage: None })
    }

    fn text(text: &str) -> Event {
        Event::Delta(ChatDelta { delta: Some(Delta::Text(text.to_owned())), ..ChatDelta::default() })
    }

    fn end(reason: FinishReason) -> Event {
        Event::ChoiceEnd(ChoiceEnd { finish_reason: reason.into(), ..ChoiceEnd::default() })
    }

    fn gathered(protocol: Protocol, events: &[Event]) -> Gathered {
        let mut gathered = Gathered::written_in(Some(protocol));
        let progress: Vec<_> = events.iter().map(|event| gathered.see(event)).collect();
        assert_eq!(progress.last(), Some(&Progress::Complete));
        gathered
    }

    #[test]
    fn a_text_is_the_same_however_it_came() {
        let typed = gathered(Protocol::OpenAiChat, &[text("Grü"), Event::Ping, text("ße"), end(FinishReason::Length), Event::End]);
        let streamed = [
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"Grü"}}]}"#,
            r#"{"choices":[{"index":0,"delta":{"content":"ße"},"finish_reason":"length"}]}"#,
            "[DONE]",
        ];
        let streamed = gathered(Protocol::OpenAiChat, &[&streamed.map(frame)[..], &[Event::End]].concat());
        let whole = wire(r#"{"choices":[{"index":0,"message":{"content":"Grüße"},"finish_reason":"length"}]}"#);
        let whole = gathered(Protocol::OpenAiChat, &[whole]);
        let same = Difference { characters: Some(0), ..Difference::default() };
        for other in [&typed, &streamed, &whole] {
            assert_eq!(compare(&typed, other).unwrap(), same);
        }
        let other = [
            r#"{"choices":[{"index":0,"text":"Gr"},{"index":1,"text":"x"}]}"#,
            r#"{"choices":[{"index":0,"text":"","finish_reason":"stop"}]}"#,
            "[DONE]",
        ];
        let other = gathered(Protocol::OpenAiCompletions, &[&other.map(frame)[..], &[Event::End]].concat());
        let apart = Difference { characters: Some(3), shapes: 1, finish_reasons: 1, ..Difference::default() };
        assert_eq!(compare(&typed, &other).unwrap(), apart);
        let choice = CompletionChoice { text: "Gr".to_owned(), finish_reason: FinishReason::Length.into(), ..Default::default() };
        let completion = Answer::Complete(CompleteResponse { choices: vec![choice], ..Default::default() });
        let completion = gathered(Protocol::OpenAiCompletions, &[Event::Answer(completion)]);
        assert_eq!(compare(&completion, &typed).unwrap(), Difference { characters: Some(3), ..Difference::default() });
    }

    #[test]
    fn vectors_differ_by_direction_and_dimension() {
        let of = |vectors: &[&[f32]]| {
            let embeddings = vectors.iter().map(|values| Embedding { index: 0, values: values.to_vec() }).collect();
            gathered(Protocol::OpenAiEmbeddings, &[Event::Answer(Answer::Embed(EmbedResponse { embeddings, ..Default::default() }))])
        };
        let cosine = |one: &[&[f32]], other: &[&[f32]]| {
            let difference = compare(&of(one), &of(other)).unwrap();
            (difference.cosine.unwrap(), difference.shapes)
        };
        assert_eq!(cosine(&[&[1.0, 0.0]], &[&[2.0, 0.0]]), (0.0, 0));
        assert_eq!(cosine(&[&[1.0, 0.0], &[1.0, 0.0]], &[&[1.0, 0.0], &[0.0, 1.0]]), (1.0, 0));
        assert_eq!(cosine(&[&[1.0, 0.0]], &[&[-1.0, 0.0]]), (2.0, 0));
        assert_eq!(cosine(&[&[0.0]], &[&[0.0]]), (0.0, 0));
        assert_eq!(cosine(&[&[1.0, 0.0], &[1.0]], &[&[1.0]]), (0.0, 2));
        let wire = gathered(Protocol::OpenAiEmbeddings, &[wire(r#"{"data":[{"index":0,"embedding":[0.0,3.0]}]}"#)]);
        assert_eq!(compare(&wire, &of(&[&[0.0, 1.0]])).unwrap().cosine, Some(0.0));
    }

    #[test]
    fn predictions_drift_and_what_cannot_be_read_says_so() {
        let of = |body| gathered(Protocol::MlflowScoring, &[wire(body)]);
        let difference = compare(&of(r#"{"predictions":[1,"a"]}"#), &of("[2,\"b\",3]")).unwrap();
        assert_eq!(difference, Difference { drift: Some((1.0, 0.5)), shapes: 1, values: 1, ..Difference::default() });
        let broken = gathered(Protocol::OpenAiChat, &[wire("{")]);
        assert!(compare(&broken, &broken).is_err());
    }

    #[test]
    fn what_is_too_large_is_let_go() {
        let mut gathered = Gathered::written_in(Some(Protocol::OpenAiChat));
        let piece = frame(&"x".repeat(1000));
        let kept = (0..2000).take_while(|_| gathered.see(&piece) == Progress::Open).count();
        assert!((900..1024).contains(&kept), "{kept} kB");
        assert!(gathered.frames.is_empty());
        assert_eq!(gathered.see(&Event::End), Progress::TooLarge, "and stays so");
    }
}
