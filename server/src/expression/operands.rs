//! What an operand is, told by how it is written: a variable, a literal, a part of what was sent, or a header that expressions do not get to
//! see. Pure.

use std::ops::Range;

use minijinja::machinery::ast::{Expr, UnaryOpKind};

use super::{CREDENTIALS, Fault, syntax::range};

/// The names that stand for lists, whatever was sent.
const LISTS: [&str; 2] = ["rows", "columns"];

/// Where the value of an expression is from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Source {
    /// The expression makes it.
    #[default]
    Made,
    /// It was sent: the whole, or a part of it.
    Sent,
    /// It was sent, and is a list.
    SentList,
}

/// Where the value of an expression is from.
pub(super) fn source(expr: &Expr<'_>) -> Source {
    let part = |of| if source(of) == Source::Made { Source::Made } else { Source::Sent };
    match expr {
        Expr::Var(var) if LISTS.contains(&var.id) => Source::SentList,
        Expr::Var(_) => Source::Sent,
        Expr::GetAttr(get) => part(&get.expr),
        Expr::GetItem(get) => part(&get.expr),
        Expr::Filter(filter) if filter.name == "tojson" => filter.expr.as_ref().map_or(Source::Made, source),
        Expr::Call(call) => match &call.expr {
            // With a default `get` may give what nobody sent.
            Expr::GetAttr(get) if matches!((get.name, call.args.len()), ("json" | "get_json", _) | ("get", 1)) => part(&get.expr),
            _ => Source::Made,
        },
        _ => Source::Made,
    }
}

pub(super) fn variable<'a>(expr: &Expr<'a>) -> Option<&'a str> {
    if let Expr::Var(var) = expr { Some(var.id) } else { None }
}

pub(super) fn is_literal(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::Const(_) => true,
        Expr::UnaryOp(unary) => matches!((&unary.op, &unary.expr), (UnaryOpKind::Neg, Expr::Const(_))),
        _ => false,
    }
}

/// What can be looked into without cost: a list of literals.
pub(super) fn is_literal_list(expr: &Expr<'_>) -> bool {
    match expr {
        Expr::List(list) => list.items.iter().all(is_literal),
        Expr::Tuple(tuple) => tuple.items.iter().all(is_literal),
        _ => false,
    }
}

/// A literal that is looked up in the headers must not name a credential: it would never be there.
pub(super) fn check_key(of: &Expr<'_>, key: Option<&Expr<'_>>) -> Result<(), Fault> {
    let Some(Expr::Const(literal)) = key else { return Ok(()) };
    literal.value.as_str().map_or(Ok(()), |name| check_header(of, name, range(literal.span())))
}

/// As [`check_key`], for a name.
pub(super) fn check_header(of: &Expr<'_>, name: &str, place: Range<usize>) -> Result<(), Fault> {
    let Expr::GetAttr(part) = of else { return Ok(()) };
    let is_hidden = variable(&part.expr) == Some("request")
        && part.name == "headers"
        && CREDENTIALS.iter().any(|hidden| hidden.eq_ignore_ascii_case(name));
    if is_hidden { Err(Fault::at(place, "credentials are not shown to expressions; `request.principal` is who calls")) } else { Ok(()) }
}
