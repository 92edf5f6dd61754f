//! How Claude models are asked to reason, by their generation: up to 4.5 they take a budget, and from 4.6 on an effort. Source: Anthropic's
//! documentation of extended and adaptive thinking.

use std::borrow::Cow;

use flowgate_proto::v1::{ChatRequest, Reasoning};

/// The first generation that decides itself how much it reasons.
const ADAPTIVE: (u32, u32) = (4, 6);

/// The least budget that is taken.
const LEAST: u32 = 1_024;

/// The request as a model takes it: for one that knows budgets only, an effort becomes one. It leaves at least half of the caller's limit to the
/// answer; where that is less than the least budget, the model does not reason.
pub(super) fn fitted<'a>(request: Cow<'a, ChatRequest>, model: &str) -> Cow<'a, ChatRequest> {
    let of_effort = |reasoning: &Reasoning| reasoning.budget_tokens.is_none().then(|| budget(&reasoning.effort)).flatten();
    let Some(budget) = request.reasoning.as_ref().and_then(of_effort) else { return request };
    if adapts(model) {
        return request;
    }
    let budget = request.max_tokens.map_or(budget, |limit| budget.min(limit / 2));
    let mut request = request.into_owned();
    if let Some(reasoning) = &mut request.reasoning {
        reasoning.budget_tokens = (budget >= LEAST).then_some(budget);
        reasoning.effort.clear();
    }
    Cow::Owned(request)
}

/// Whether a model decides itself how much it reasons, and can be told whether to show it. One whose name tells nothing is of the newest.
pub(super) fn adapts(model: &str) -> bool {
    generation(model).is_none_or(|generation| generation >= ADAPTIVE)
}

/// The budget that an effort comes to.
fn budget(effort: &str) -> Option<u32> {
    match effort {
        "minimal" | "low" => Some(LEAST),
        "medium" => Some(4_096),
        "high" | "xhigh" | "max" => Some(16_384),
        _ => None,
    }
}

/// The generation that a model's name tells: `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-latest`, `eu.anthropic.claude-opus-4-1-…`.
fn generation(model: &str) -> Option<(u32, u32)> {
    let (_, name) = model.split_once("claude")?;
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    // A date ends it.
    let mut numbers = words.take_while(|word| word.len() < 3 || word.parse::<u32>().is_err()).filter_map(|word| word.parse().ok());
    Some((numbers.next()?, numbers.next().unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_are_read_from_names() {
        for (model, told) in [
            ("claude-sonnet-4-5-20250929", Some((4, 5))),
            ("claude-opus-4-20250514", Some((4, 0))),
            ("claude-3-7-sonnet-latest", Some((3, 7))),
            ("eu.anthropic.claude-3-haiku-20240307-v1:0", Some((3, 0))),
            ("anthropic.claude-opus-4-6-v1:0", Some((4, 6))),
            ("claude-sonnet-4-5@20250929", Some((4, 5))),
            ("claude-next", None),
            ("nova-pro", None),
        ] {
            assert_eq!(generation(model), told, "{model}");
        }
    }

    #[test]
    fn an_effort_becomes_a_budget_where_only_budgets_are_taken() {
        let asked = |effort: &str, budget_tokens, model: &str| {
            let reasoning = Some(Reasoning { effort: effort.to_owned(), budget_tokens, include: None });
            let request = ChatRequest { reasoning, ..ChatRequest::default() };
            let Reasoning { effort, budget_tokens, .. } = fitted(Cow::Borrowed(&request), model).reasoning.clone().unwrap();
            (effort, budget_tokens)
        };
        assert_eq!(asked("high", None, "claude-haiku-4-5"), (String::new(), Some(16_384)));
        assert_eq!(asked("minimal", None, "claude-3-7-sonnet-20250219"), (String::new(), Some(1_024)));
        let within = |max_tokens: u32| {
            let reasoning = Some(Reasoning { effort: "high".to_owned(), ..Reasoning::default() });
            let request = ChatRequest { reasoning, max_tokens: Some(max_tokens), ..ChatRequest::default() };
            fitted(Cow::Borrowed(&request), "claude-haiku-4-5").reasoning.as_ref().and_then(|reasoning| reasoning.budget_tokens)
        };
        assert_eq!([64, 2_047, 2_048, 10_000, 100_000].map(within), [None, None, Some(1_024), Some(5_000), Some(16_384)]);
        for (effort, budget, model) in [
            ("high", None, "claude-opus-4-6"),
            ("none", None, "claude-haiku-4-5"),
            ("high", Some(2_000), "claude-haiku-4-5"),
            ("odd", None, "claude-haiku-4-5"),
            ("high", None, "custom"),
        ] {
            assert_eq!(asked(effort, budget, model), (effort.to_owned(), budget), "{effort} {model}");
        }
    }
}
