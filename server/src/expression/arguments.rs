//! Whether what is called exists, and what it gets: arguments in the order of parameters, tests with what they compare with. Pure.

use std::ops::Range;

use minijinja::machinery::ast::{CallArg, Expr};

use super::{
    Fault, functions,
    names::{Group, MANY, Row, nearest},
    syntax::range,
};

pub(super) fn known(group: Group, name: &str, place: &Range<usize>) -> Result<&'static Row, Fault> {
    group
        .find(name)
        .ok_or_else(|| Fault::at(place.clone(), format!("the {} `{name}` is unknown{}", group.what, nearest(name, &group.names()))))
}

pub(super) fn unknown_test(name: &str, place: &Range<usize>) -> Result<(), Fault> {
    let names: Vec<_> = functions::TESTS.iter().copied().chain(functions::COMPARING_TESTS.iter().map(|(name, _)| *name)).collect();
    if names.contains(&name) {
        return Ok(());
    }
    Err(Fault::at(place.clone(), format!("the test `{name}` is unknown{}", nearest(name, &names))))
}

/// The arguments in the order of the parameters, the value before a method or filter first.
pub(super) fn arguments<'e, 'a>(
    group: Group,
    row: &Row,
    first: Option<&'e Expr<'a>>,
    args: &'e [CallArg<'a>],
    place: &Range<usize>,
) -> Result<Vec<Option<&'e Expr<'a>>>, Fault> {
    let what = format!("the {} `{}`", group.what, row.name);
    let wrong = |message: String| Fault::at(place.clone(), message);
    let mut slots: Vec<Option<&Expr<'a>>> = first.map(Some).into_iter().collect();
    for arg in args {
        match arg {
            CallArg::Pos(value) => slots.push(Some(value)),
            CallArg::Kwarg(name, value) => {
                let own = row.params.get(usize::from(first.is_some())..).unwrap_or_default();
                let Some(at) = row.params.iter().position(|param| param == name && *param != MANY && own.contains(param)) else {
                    return Err(wrong(format!("{what} has no argument `{name}`{}", nearest(name, own))));
                };
                if slots.len() <= at {
                    slots.resize(at + 1, None);
                }
                if slots[at].replace(value).is_some() {
                    return Err(wrong(format!("{what} gets its argument `{name}` twice")));
                }
            }
            CallArg::PosSplat(value) | CallArg::KwargSplat(value) => {
                return Err(Fault::at(range(value.span()), "`*` and `**` before an argument are not offered"));
            }
        }
    }
    let is_bounded = row.params.last() != Some(&MANY);
    if is_bounded && slots.len() > row.params.len() {
        return Err(wrong(format!("{what} takes at most {} arguments", row.params.len() - usize::from(first.is_some()))));
    }
    if let Some(missing) = (0..row.required).find(|n| slots.get(*n).copied().flatten().is_none()) {
        return Err(wrong(format!("{what} lacks its argument `{}`", row.params.get(missing).copied().unwrap_or_default())));
    }
    Ok(slots)
}

/// `selectattr` and `rejectattr` name a test in a text.
pub(super) fn check_test(row: &Row, slots: &[Option<&Expr<'_>>]) -> Result<(), Fault> {
    if !matches!(row.name, "selectattr" | "rejectattr") {
        return Ok(());
    }
    let Some(Some(written)) = slots.get(2) else { return Ok(()) };
    let place = range(written.span());
    let literal = if let Expr::Const(literal) = written { literal.value.as_str() } else { None };
    let name = literal.ok_or_else(|| Fault::at(place.clone(), "the test must be a text, for example `'=='`"))?;
    unknown_test(name, &place)?;
    let compares = functions::COMPARING_TESTS.iter().any(|(known, _)| *known == name);
    if compares != matches!(slots.get(3), Some(Some(_))) {
        let what = if compares { "needs what it compares with" } else { "compares with nothing" };
        return Err(Fault::at(place, format!("the test `{name}` {what}")));
    }
    Ok(())
}
