//! What an operand is, told by how it is written: a variable, a literal, or a header that expressions do not get to see. Pure.

use std::ops::Range;

use minijinja::machinery::ast::{Expr, UnaryOpKind};

use super::{CREDENTIALS, Fault, syntax::range};

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
