//! What must hold of whatever comes out.

use flowgate_proto::v1::ErrorReason;
use flowgate_server::{
    error::{Error, Origin},
    event::{Answer, Event},
};
use prost::Message as _;

/// What a bad answer may be blamed on: the provider, or a request that was too long for it.
pub fn provider(error: &Error) {
    let too_long = matches!(error.reason(), ErrorReason::CallerContextTooLong | ErrorReason::CallerTooLarge);
    assert!(error.origin() == Origin::Provider || too_long, "{}: {error}", error.reason_name());
}

/// A request may be refused, and a model may be one that the task is not for, but nothing of the gateway may have failed.
pub fn request(error: &Error) {
    let is_refused = error.origin() != Origin::Gateway || error.reason() == ErrorReason::GatewayUnsupportedTask;
    assert!(is_refused, "{}: {error}", error.reason_name());
}

/// What is told is not much larger than what was sent.
pub fn size(sent: usize, told: usize) {
    assert!(told <= 8 * sent + 65_536, "{sent} bytes became {told}");
}

/// Predictions as JSON's values take more than their bytes, and empty tensors may stand for many empty lists.
pub fn predictions(sent: usize, told: usize) {
    assert!(told <= 24 * sent + (8 << 20), "{sent} bytes became {told}");
}

/// The size of an event, told in the contract's types or as received.
pub fn event_size(event: &Event) -> usize {
    match event {
        Event::Start(start) => start.encoded_len(),
        Event::Delta(delta) => delta.encoded_len(),
        Event::ChoiceEnd(end) => end.encoded_len(),
        Event::Usage(usage) => usage.encoded_len(),
        Event::Wire(frame) => frame.bytes.len(),
        Event::Answer(answer) => answer_size(answer),
        Event::Ping | Event::End => 0,
    }
}

/// The size of an answer, as [`event_size`].
pub fn answer_size(answer: &Answer) -> usize {
    match answer {
        Answer::Chat(answer) => answer.encoded_len(),
        Answer::Complete(answer) => answer.encoded_len(),
        Answer::Embed(answer) => answer.encoded_len(),
        Answer::Predict(answer) => answer.encoded_len(),
        Answer::Wire(answer) => answer.body.len(),
    }
}
