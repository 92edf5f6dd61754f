//! A parsed expression checked name by name, and written anew for the engine: every operator, function and method that could cost much
//! becomes a call of ours that is bounded. Pure.

use std::ops::Range;

use minijinja::{
    machinery::{
        Span,
        ast::{BinOp, BinOpKind, Call, CallArg, Compare, CompareOpKind, Const, Expr, GetAttr, GetItem, Spanned, Stmt, UnaryOpKind},
        parse, parse_expr,
    },
    syntax::SyntaxConfig,
    value::ValueKind,
};

use super::{
    Fault,
    arguments::{arguments, check_test, known, unknown_test},
    functions,
    names::{FILTERS, FUNCTIONS, Group, METHODS, OPERATORS, PARTS, nearest},
    operands::{Source, check_header, check_key, is_literal, is_literal_list, source, variable},
    syntax::{self, first_word, last_word, range},
};

/// How deep an expression may be; the engine's own parser goes three steps for each.
const MAX_DEPTH: usize = 40;
/// How many operands one row of `and` or `or` may have.
const MAX_ROW: usize = 128;

/// An expression as the engine gets it.
#[derive(Debug, Default)]
pub(super) struct Lowered {
    /// The text; names that begin with `_` are ours.
    pub(super) text: String,
    /// The steps that it names.
    pub(super) steps: Vec<String>,
    /// Where its value is from.
    pub(super) source: Source,
}

/// A piece of a template.
#[derive(Debug)]
pub(super) enum Piece {
    /// Text as written.
    Text(String),
    /// What stands between `{{` and `}}`, and where that begins.
    Expression(usize, Lowered),
}

/// What an expression may begin with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roots {
    /// Whether that is `request`.
    pub(super) request: bool,
    /// Whether that is `steps`.
    pub(super) steps: bool,
    /// Values that are given to it.
    pub(super) given: &'static [&'static str],
}

impl Roots {
    const CONDITION: Self = Self { request: true, steps: false, given: &[] };
    /// Those of a step's `input`.
    pub(super) const STEP: Self = Self { request: true, steps: true, given: &[] };
}

/// Lowers a condition.
///
/// # Errors
/// What is wrong with it, and where.
pub(super) fn condition(text: &str) -> Result<Lowered, Fault> {
    syntax::condition(text)?;
    let parsed = parse_expr(text).map_err(|error| syntax::fault(&error, text))?;
    lower(text, &parsed, Roots::CONDITION)
}

/// Lowers a template.
///
/// # Errors
/// As [`condition`].
pub(super) fn template(text: &str, roots: Roots) -> Result<Vec<Piece>, Fault> {
    syntax::template(text)?;
    let parsed = parse(text, "<template>", SyntaxConfig::default()).map_err(|error| syntax::fault(&error, text))?;
    let Stmt::Template(parsed) = parsed else { return Err(Fault::at(0..text.len(), "the template cannot be read")) };
    let piece = |stmt: &Stmt<'_>| match stmt {
        Stmt::EmitRaw(raw) => Ok(Piece::Text(raw.raw.to_owned())),
        Stmt::EmitExpr(emit) => {
            let before = text.get(..range(emit.expr.span()).start).unwrap_or_default();
            lower(text, &emit.expr, roots).map(|lowered| Piece::Expression(before.rfind("{{").unwrap_or(0), lowered))
        }
        _ => Err(Fault::at(0..text.len(), "statements are not offered")),
    };
    parsed.children.iter().map(piece).collect()
}

fn lower(text: &str, parsed: &Expr<'_>, roots: Roots) -> Result<Lowered, Fault> {
    let mut lowering = Lowering { source: text, roots, depth: 0, out: Lowered::default() };
    lowering.expr(parsed)?;
    Ok(Lowered { source: source(parsed), ..lowering.out })
}

struct Lowering<'a> {
    source: &'a str,
    roots: Roots,
    depth: usize,
    out: Lowered,
}

impl<'a> Lowering<'a> {
    /// Writes an expression; what is written is always a whole operand.
    fn expr(&mut self, expr: &Expr<'a>) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Fault::at(range(expr.span()), format!("it is more than {MAX_DEPTH} operations deep; make it simpler")));
        }
        match expr {
            Expr::Const(literal) => self.literal(literal),
            Expr::Var(var) if self.roots.given.contains(&var.id) => {
                self.push("_given_");
                self.push(var.id);
                Ok(())
            }
            Expr::Var(var) => Err(self.bare(var.id, range(var.span()))),
            Expr::UnaryOp(unary) => {
                self.push(if matches!(unary.op, UnaryOpKind::Not) { "(not " } else { "(-" });
                self.closed(&unary.expr)
            }
            Expr::BinOp(binary) => self.binary(binary),
            Expr::Compare(compare) => self.chain(compare),
            Expr::IfExpr(choice) => {
                let Some(other) = &choice.false_expr else {
                    return Err(Fault::at(range(choice.test_expr.span()), "a choice needs its `else`"));
                };
                self.push("(");
                self.expr(&choice.true_expr)?;
                self.push(" if ");
                self.expr(&choice.test_expr)?;
                self.push(" else ");
                self.closed(other)
            }
            Expr::Slice(slice) => {
                let parts = [Some(&slice.expr), slice.start.as_ref(), slice.stop.as_ref(), slice.step.as_ref()];
                self.call(OPERATORS, "slice", &parts)
            }
            Expr::Filter(filter) => {
                let named = first_word(filter.span(), filter.name);
                let row = known(FILTERS, filter.name, &named)?;
                if row.name == "map" && matches!(filter.args.first(), Some(CallArg::Pos(_))) {
                    return Err(Fault::at(named, "`map` takes an attribute only: write `|map(attribute='…')`"));
                }
                let slots = arguments(FILTERS, row, filter.expr.as_ref(), &filter.args, &named)?;
                check_test(row, &slots)?;
                self.call(FILTERS, row.name, &slots)
            }
            Expr::Test(test) => self.test(test.name, &test.expr, &test.args, test.span()),
            Expr::GetAttr(get) => self.attribute(get),
            Expr::GetItem(get) => self.index(get),
            Expr::Call(call) => self.called(call),
            Expr::List(list) => self.display("[", &list.items, "]"),
            Expr::Tuple(tuple) => self.display("(", &tuple.items, if tuple.items.len() == 1 { ",)" } else { ")" }),
            Expr::Map(map) => self.dict(&map.keys, &map.values),
        }?;
        self.depth -= 1;
        Ok(())
    }

    fn push(&mut self, text: &str) {
        self.out.text.push_str(text);
    }

    fn closed(&mut self, expr: &Expr<'a>) -> Result<(), Fault> {
        self.expr(expr)?;
        self.push(")");
        Ok(())
    }

    /// A literal as it is written; a number between brackets, so that a point may follow.
    fn literal(&mut self, literal: &Spanned<Const>) -> Result<(), Fault> {
        let place = range(literal.span());
        let written = self.source.get(place.clone()).filter(|written| !written.is_empty());
        let written = written.ok_or_else(|| Fault::at(place, "a literal cannot be read"))?;
        let is_number = literal.value.kind() == ValueKind::Number;
        let text = if is_number { format!("({written})") } else { written.to_owned() };
        self.push(&text);
        Ok(())
    }

    /// What is wrong with a name that stands alone.
    fn bare(&self, name: &str, place: Range<usize>) -> Fault {
        let mut roots = self.roots.given.to_vec();
        roots.extend([("request", self.roots.request), ("steps", self.roots.steps)].into_iter().filter(|root| root.1).map(|root| root.0));
        if name == "request" && self.roots.request {
            return Fault::at(place, "`request` alone is no value; name a part of it, for example `request.json()`");
        }
        if name == "steps" && self.roots.steps {
            return Fault::at(place, "`steps` alone is no value; name a step, for example `steps.first.text`");
        }
        if FUNCTIONS.find(name).is_some() {
            return Fault::at(place, format!("`{name}` is a function; call it: `{name}(…)`"));
        }
        roots.extend(FUNCTIONS.names());
        Fault::at(place, format!("`{name}` is unknown{}", nearest(name, &roots)))
    }

    fn binary(&mut self, binary: &Spanned<BinOp<'a>>) -> Result<(), Fault> {
        let (left, right) = (&binary.left, &binary.right);
        let is_bounded = is_literal(left) || is_literal(right);
        if matches!(binary.op, BinOpKind::In) {
            check_key(right, Some(left))?;
        }
        let native = match binary.op {
            BinOpKind::ScAnd => return self.row(binary, " and "),
            BinOpKind::ScOr => return self.row(binary, " or "),
            // These know numbers only, of bounded size.
            BinOpKind::Sub => " - ",
            BinOpKind::Div => " / ",
            BinOpKind::FloorDiv => " // ",
            BinOpKind::Rem => " % ",
            BinOpKind::Pow => " ** ",
            BinOpKind::Eq if is_bounded => " == ",
            BinOpKind::Ne if is_bounded => " != ",
            BinOpKind::In if is_literal_list(right) => " in ",
            BinOpKind::Eq => return self.operator("eq", left, right),
            BinOpKind::Ne => return self.operator("ne", left, right),
            BinOpKind::In => return self.operator("in", left, right),
            BinOpKind::Lt => return self.operator("lt", left, right),
            BinOpKind::Lte => return self.operator("le", left, right),
            BinOpKind::Gt => return self.operator("gt", left, right),
            BinOpKind::Gte => return self.operator("ge", left, right),
            BinOpKind::Add => return self.operator("add", left, right),
            BinOpKind::Mul => return self.operator("multiply", left, right),
            BinOpKind::Concat => return self.operator("concat", left, right),
        };
        self.push("(");
        self.expr(left)?;
        self.push(native);
        self.closed(right)
    }

    /// `a and b and c`: side by side, so that a long row is not a deep one.
    fn row(&mut self, binary: &Spanned<BinOp<'a>>, sign: &str) -> Result<(), Fault> {
        let same = |op: &BinOpKind| matches!((op, &binary.op), (BinOpKind::ScAnd, BinOpKind::ScAnd) | (BinOpKind::ScOr, BinOpKind::ScOr));
        let mut operands = vec![&binary.right];
        let mut left = &binary.left;
        while let Expr::BinOp(inner) = left {
            if !same(&inner.op) {
                break;
            }
            operands.push(&inner.right);
            left = &inner.left;
        }
        operands.push(left);
        if operands.len() > MAX_ROW {
            return Err(Fault::at(range(binary.span()), format!("more than {MAX_ROW} alternatives stand in a row; write `x in […]`")));
        }
        for (n, operand) in operands.into_iter().rev().enumerate() {
            self.push(if n == 0 { "(" } else { sign });
            self.expr(operand)?;
        }
        self.push(")");
        Ok(())
    }

    fn operator(&mut self, name: &'static str, left: &Expr<'a>, right: &Expr<'a>) -> Result<(), Fault> {
        self.call(OPERATORS, name, &[Some(left), Some(right)])
    }

    fn chain(&mut self, compare: &Spanned<Compare<'a>>) -> Result<(), Fault> {
        self.push("(");
        self.expr(&compare.expr)?;
        self.push("|o_chain(");
        for (n, link) in compare.ops.iter().enumerate() {
            self.push(if n == 0 { "'" } else { ", '" });
            self.push(match link.op {
                CompareOpKind::Eq => "==",
                CompareOpKind::Ne => "!=",
                CompareOpKind::Lt => "<",
                CompareOpKind::Lte => "<=",
                CompareOpKind::Gt => ">",
                CompareOpKind::Gte => ">=",
                CompareOpKind::In => "in",
                CompareOpKind::NotIn => "not in",
            });
            self.push("', ");
            self.expr(&link.expr)?;
        }
        self.push("))");
        Ok(())
    }

    /// `(first|letter_name(others))`.
    fn call(&mut self, group: Group, name: &str, slots: &[Option<&Expr<'a>>]) -> Result<(), Fault> {
        self.push("(");
        self.slot(slots.first().copied().flatten())?;
        self.push(&format!("|{}_{name}", group.letter));
        for (n, slot) in slots.iter().skip(1).enumerate() {
            self.push(if n == 0 { "(" } else { ", " });
            self.slot(*slot)?;
        }
        self.push(if slots.len() > 1 { "))" } else { ")" });
        Ok(())
    }

    fn slot(&mut self, slot: Option<&Expr<'a>>) -> Result<(), Fault> {
        if let Some(expr) = slot {
            return self.expr(expr);
        }
        self.push("none");
        Ok(())
    }

    fn test(&mut self, name: &str, value: &Expr<'a>, args: &[CallArg<'a>], span: Span) -> Result<(), Fault> {
        let named = first_word(span, name);
        let compares = functions::COMPARING_TESTS.iter().any(|(known, _)| *known == name);
        unknown_test(name, &named)?;
        let other = match (compares, args) {
            (true, [CallArg::Pos(other)]) => Some(other),
            (false, []) => None,
            (true, _) => return Err(Fault::at(named, format!("the test `{name}` takes one argument: `is {name}(…)`"))),
            (false, _) => return Err(Fault::at(named, format!("the test `{name}` takes no argument; put brackets around `… is {name}`"))),
        };
        self.push("(");
        self.expr(value)?;
        self.push(&format!("|o_is('{name}'"));
        if let Some(other) = other {
            self.push(", ");
            self.expr(other)?;
        }
        self.push("))");
        Ok(())
    }

    fn attribute(&mut self, get: &Spanned<GetAttr<'a>>) -> Result<(), Fault> {
        let place = last_word(get.span(), get.name);
        match variable(&get.expr) {
            Some("request") if self.roots.request => {
                let part = part(get.name, place.clone())?;
                if !self.roots.given.is_empty() && !matches!(part, "json" | "get_json") {
                    return Err(Fault::at(place, format!("`request.{part}` is not offered here; only the body is, as `request.json`")));
                }
                if part == "get_json" {
                    return Err(Fault::at(place, "`get_json` is a method; call it: `request.get_json()`"));
                }
                self.push("_");
                self.push(part);
                Ok(())
            }
            Some("steps") if self.roots.steps => self.step(get.name),
            _ if get.name.starts_with('_') => Err(Fault::at(place, "names that begin with `_` are not offered")),
            _ => {
                check_header(&get.expr, get.name, place)?;
                self.expr(&get.expr)?;
                self.push(".");
                self.push(get.name);
                Ok(())
            }
        }
    }

    fn whole_body(&mut self) -> Result<(), Fault> {
        self.push("_json");
        Ok(())
    }

    fn step(&mut self, name: &str) -> Result<(), Fault> {
        self.push("_steps[");
        // A name of a step may be any text, so it is quoted.
        self.push(&serde_json::Value::from(name).to_string());
        self.push("]");
        if !self.out.steps.iter().any(|known| known == name) {
            self.out.steps.push(name.to_owned());
        }
        Ok(())
    }

    fn index(&mut self, get: &Spanned<GetItem<'a>>) -> Result<(), Fault> {
        let literal = if let Expr::Const(literal) = &get.subscript_expr { Some(&literal.value) } else { None };
        match (variable(&get.expr), literal.and_then(|literal| literal.as_str())) {
            (Some("request"), _) if self.roots.request => {
                return Err(Fault::at(range(get.expr.span()), "`request` has no items; write for example `request.json()['x']`"));
            }
            (Some("steps"), Some(name)) if self.roots.steps => return self.step(name),
            (Some("steps"), None) if self.roots.steps => {
                return Err(Fault::at(range(get.subscript_expr.span()), "a step is named by a literal, for example `steps['first']`"));
            }
            _ => {}
        }
        check_key(&get.expr, Some(&get.subscript_expr))?;
        // The engine counts letters to find one, which a literal from the front bounds.
        let is_cheap = literal.is_some_and(|literal| literal.as_str().is_some() || literal.as_usize().is_some_and(|n| n < 4096));
        if !is_cheap {
            return self.operator("item", &get.expr, &get.subscript_expr);
        }
        self.expr(&get.expr)?;
        self.push("[");
        self.expr(&get.subscript_expr)?;
        self.push("]");
        Ok(())
    }

    fn called(&mut self, call: &Spanned<Call<'a>>) -> Result<(), Fault> {
        match &call.expr {
            Expr::Var(var) => {
                let place = range(var.span());
                let Some(row) = FUNCTIONS.find(var.id) else {
                    if matches!(var.id, "request" | "steps") {
                        return Err(Fault::at(place, format!("`{}` is not called", var.id)));
                    }
                    return Err(Fault::at(place, format!("the function `{}` is unknown{}", var.id, nearest(var.id, &FUNCTIONS.names()))));
                };
                if row.name == "isinstance" {
                    return self.isinstance(&call.args, place);
                }
                let slots = arguments(FUNCTIONS, row, None, &call.args, &place)?;
                self.call(FUNCTIONS, row.name, &slots)
            }
            Expr::GetAttr(get) => self.method(get, &call.args),
            other => Err(Fault::at(range(other.span()), "only functions and methods can be called")),
        }
    }

    fn method(&mut self, get: &Spanned<GetAttr<'a>>, args: &[CallArg<'a>]) -> Result<(), Fault> {
        let place = last_word(get.span(), get.name);
        if variable(&get.expr) == Some("request") && self.roots.request {
            let part = part(get.name, place.clone())?;
            let are_literal = args
                .iter()
                .all(|arg| matches!(arg, CallArg::Pos(arg) | CallArg::Kwarg("force" | "silent" | "cache", arg) if is_literal(arg)));
            return match part {
                "json" if args.is_empty() => self.whole_body(),
                "get_json" if are_literal && args.len() <= 3 => self.whole_body(),
                "json" => Err(Fault::at(place, "`request.json()` takes no arguments")),
                "get_json" => Err(Fault::at(place, "`request.get_json()` takes `force`, `silent` and `cache`, which are True or False")),
                _ => Err(Fault::at(place, format!("`request.{part}` is no method; leave the brackets out"))),
            };
        }
        if let Expr::Var(var) = &get.expr
            && !self.roots.given.contains(&var.id)
        {
            return Err(self.bare(var.id, range(var.span())));
        }
        let row = known(METHODS, get.name, &place)?;
        let slots = arguments(METHODS, row, Some(&get.expr), args, &place)?;
        if row.name == "get" {
            check_key(&get.expr, slots.get(1).copied().flatten())?;
        }
        self.call(METHODS, row.name, &slots)
    }

    /// `isinstance(x, str)` or `isinstance(x, (int, float))`: the only place where a type is named.
    fn isinstance(&mut self, args: &[CallArg<'a>], place: Range<usize>) -> Result<(), Fault> {
        let [CallArg::Pos(value), CallArg::Pos(kinds)] = args else {
            return Err(Fault::at(place, "`isinstance` takes a value and a type, for example `isinstance(x, str)`"));
        };
        let kinds = if let Expr::Tuple(kinds) = kinds { kinds.items.as_slice() } else { std::slice::from_ref(kinds) };
        self.push("(");
        self.expr(value)?;
        self.push("|f_isinstance(");
        for kind in kinds {
            let name = variable(kind).filter(|name| functions::TYPES.contains(name));
            let name = name.ok_or_else(|| Fault::at(range(kind.span()), format!("the types are {}", functions::TYPES.join(", "))))?;
            self.push(&format!("'{name}', "));
        }
        self.push("))");
        Ok(())
    }

    fn display(&mut self, open: &str, items: &[Expr<'a>], close: &str) -> Result<(), Fault> {
        self.push(open);
        for (n, item) in items.iter().enumerate() {
            self.push(if n == 0 { "" } else { ", " });
            self.expr(item)?;
        }
        self.push(close);
        Ok(())
    }

    fn dict(&mut self, keys: &[Expr<'a>], values: &[Expr<'a>]) -> Result<(), Fault> {
        self.push("{");
        for (n, (key, value)) in keys.iter().zip(values).enumerate() {
            if !is_literal(key) {
                return Err(Fault::at(range(key.span()), "a key is a literal, for example `'a'`"));
            }
            self.push(if n == 0 { "" } else { ", " });
            self.expr(key)?;
            self.push(": ");
            self.expr(value)?;
        }
        self.push("}");
        Ok(())
    }
}

/// A part of the request.
fn part(name: &str, place: Range<usize>) -> Result<&'static str, Fault> {
    let part = PARTS.iter().copied().find(|part| *part == name);
    part.ok_or_else(|| Fault::at(place, format!("`request` has no `{name}`{}", nearest(name, PARTS))))
}
