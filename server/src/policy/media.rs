//! Media: what a conversation names by address is fetched where the chosen provider does not do it and the endpoint allows it. Makes the
//! attempt typed, where there is anything to fetch.

use std::sync::Arc;

use flowgate_proto::v1::{ChatRequest, MediaKind, MediaPart, Part, media_part::Source, part::Kind};
use tokio::time::Instant;

use super::{Next, Policy, leaving::Leaving};
use crate::{
    balance::vitals::Vitals,
    call::{Attempt, Fetched},
    config,
    error::{Error, Result},
    event::{Lane, Reply, Request},
    upstream::media::Fetcher,
};

/// The most addresses of one request.
const MOST: usize = 16;

/// Fetches media where the endpoint allows it. Stands before any place is taken: who waits for a caller's server keeps nobody out.
#[derive(Debug)]
pub struct Media {
    allowed: Option<(config::Media, Fetcher)>,
    vitals: Arc<Vitals>,
}

/// Where a part stands: message, part, and part of a tool's result.
type Place = (usize, usize, Option<usize>);

impl Media {
    /// For a deployment whose endpoint allows it, or not.
    pub fn new(allowed: Option<(config::Media, Fetcher)>, vitals: Arc<Vitals>) -> Self {
        Self { allowed, vitals }
    }
}

impl Policy<Attempt> for Media {
    async fn handle(&self, mut attempt: Attempt, next: &impl Next<Attempt>) -> Result<Reply> {
        if let Some((media, fetcher)) = &self.allowed {
            let leaving = Leaving::new(&self.vitals);
            fill(&mut attempt, media, fetcher).await?;
            leaving.stays();
        }
        next.call(attempt).await
    }
}

/// Puts the bytes where the addresses were.
async fn fill(attempt: &mut Attempt, media: &config::Media, fetcher: &Fetcher) -> Result<()> {
    let named = named(attempt)?;
    if named.is_empty() {
        return Ok(());
    }
    if let Some((place, _)) = named.get(MOST) {
        let message = format!("is one address too many: at most {MOST} are fetched for one request; send the bytes as `data`");
        return Err(Error::invalid(path(*place), message));
    }
    let addresses: Vec<&str> = named.iter().map(|(_, address)| address.as_str()).collect();
    let begun = Instant::now();
    let fetched = fetcher.gather(&addresses, media, &attempt.call.media).await;
    attempt.call.record.note(|facts| facts.upstream += begun.elapsed());
    let fetched = fetched.map_err(|(position, fault)| Error::invalid(path(named[position].0), fault.description()))?;
    let Request::Chat(chat) = attempt.call.payload.typed_mut()? else { return Ok(()) };
    for ((place, _), fetched) in named.iter().zip(fetched) {
        if let Some(part) = part_mut(chat, *place) {
            put(part, fetched, *place)?;
        }
    }
    attempt.lane = Lane::Typed;
    Ok(())
}

/// The parts whose addresses the provider does not fetch.
fn named(attempt: &Attempt) -> Result<Vec<(Place, String)>> {
    let (Some(dialect), Some(target)) = (attempt.deployment.dialect, attempt.deployment.targets.first()) else { return Ok(Vec::new()) };
    // In the provider's own words there are only addresses that it fetches, if it fetches at all: no need to read them.
    if attempt.lane == Lane::Byte && target.quirks.fetches_media {
        return Ok(Vec::new());
    }
    let Request::Chat(chat) = attempt.call.payload.typed()? else { return Ok(Vec::new()) };
    let address = |part: &Part| match &part.kind {
        Some(Kind::Media(media)) if !dialect.fetches(media, target) => of_http(media).map(ToOwned::to_owned),
        _ => None,
    };
    let mut named = Vec::new();
    for (message, parts) in chat.messages.iter().enumerate().map(|(n, message)| (n, &message.parts)) {
        for (n, part) in parts.iter().enumerate() {
            named.extend(address(part).map(|address| ((message, n, None), address)));
            if let Some(Kind::ToolResult(result)) = &part.kind {
                let inner = result.parts.iter().enumerate();
                named.extend(inner.filter_map(|(inner, part)| Some(((message, n, Some(inner)), address(part)?))));
            }
        }
    }
    Ok(named)
}

/// The address of media, if it is one of HTTP.
fn of_http(media: &MediaPart) -> Option<&str> {
    let Some(Source::Uri(uri)) = &media.source else { return None };
    let (scheme, _) = uri.split_once("://")?;
    ["http", "https"].iter().any(|http| scheme.eq_ignore_ascii_case(http)).then_some(uri)
}

fn part_mut(chat: &mut ChatRequest, (message, part, inner): Place) -> Option<&mut MediaPart> {
    match (&mut chat.messages.get_mut(message)?.parts.get_mut(part)?.kind, inner) {
        (Some(Kind::Media(media)), None) => Some(media),
        (Some(Kind::ToolResult(result)), Some(inner)) => match &mut result.parts.get_mut(inner)?.kind {
            Some(Kind::Media(media)) => Some(media),
            _ => None,
        },
        _ => None,
    }
}

fn put(part: &mut MediaPart, Fetched { media_type, bytes }: Fetched, place: Place) -> Result<()> {
    let wanted = match part.kind() {
        MediaKind::Image => "image/",
        MediaKind::Audio => "audio/",
        MediaKind::Video => "video/",
        MediaKind::Document | MediaKind::Unspecified => "",
    };
    if !media_type.starts_with(wanted) {
        return Err(Error::invalid(path(place), "is not of the kind that `kind` says; set another, or leave it out"));
    }
    (part.source, part.mime_type) = (Some(Source::Data(bytes)), media_type);
    Ok(())
}

fn path((message, part, inner): Place) -> String {
    let inner = inner.map(|inner| format!(".tool_result.parts[{inner}]")).unwrap_or_default();
    format!("messages[{message}].parts[{part}]{inner}.media.uri")
}

#[cfg(test)]
mod tests;
