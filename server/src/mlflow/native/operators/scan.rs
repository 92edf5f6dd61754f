//! Operators with graphs within: Scan, which runs one per row, and If. And sequences of tensors.

use crate::mlflow::native::{
    bounds::{fits, room},
    fault::Fault,
    operators::pick::joined,
    plan::{Ground, Plan},
    site::{Built, Given, Site},
    tensor::{Element, Tensor, Type, for_type},
    value::{Kind, Value},
    wire::Graph,
};

pub(crate) fn scan(site: &Site<'_>) -> Result<Built, Fault> {
    let body = site.graph("body")?;
    let scanned = usize::try_from(site.int("num_scan_inputs").unwrap_or(0)).unwrap_or(0);
    let inputs = site.node.inputs.len();
    let states = inputs.checked_sub(scanned).filter(|_| scanned > 0).ok_or_else(|| site.fault("has nothing to scan"))?;
    let is_plain = ["scan_input_axes", "scan_input_directions", "scan_output_axes", "scan_output_directions"];
    if site.version < 9 || is_plain.iter().any(|name| site.ints(name).iter().any(|int| *int != 0)) {
        return Err(site.fault("is supported forward along the first axis only, from version 9 on"));
    }
    if body.inputs.len() != inputs || body.outputs.len() < states {
        return Err(site.fault("has a body with other inputs or outputs"));
    }
    let inputs = site.within(body, 0)?;
    let plan = planned(site, body, &inputs)?;
    let kinds = plan.kinds().to_vec();
    if kinds.iter().any(|kind| !matches!(kind, Kind::Tensor(_)))
        || kinds[..states] != inputs[..states].iter().map(|(_, kind)| *kind).collect::<Vec<_>>()
    {
        return Err(site.fault("has a body that changes the type of its state"));
    }
    Ok(Built::many(kinds.clone(), move |given| run(&plan, states, scanned, given)))
}

fn planned<'a>(site: &Site<'a>, graph: &'a Graph, inputs: &[(&'a str, Kind)]) -> Result<Plan, Fault> {
    let ground = Ground { opsets: site.ground.opsets.clone(), depth: site.ground.depth + 1, ..*site.ground };
    Plan::new(graph, inputs, &ground)
}

/// One of two graphs, both of which take all that they need from outside.
pub(crate) fn branch(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(0, &[Type::Bool])?;
    let plan = |name: &str| {
        let graph = site.graph(name)?;
        if graph.inputs.is_empty() { planned(site, graph, &site.within(graph, 0)?) } else { Err(site.fault("has a branch with inputs")) }
    };
    let (yes, no) = (plan("then_branch")?, plan("else_branch")?);
    if yes.kinds() != no.kinds() {
        return Err(site.fault("has branches that answer in different types"));
    }
    Ok(Built::many(yes.kinds().to_vec(), move |given| {
        let taken = given.all_from(1)?;
        if given.single::<bool>(0)? { yes.run(taken, given.stop) } else { no.run(taken, given.stop) }
    }))
}

fn run(plan: &Plan, states: usize, scanned: usize, given: &Given<'_>) -> Result<Vec<Value>, Fault> {
    let tensors = (0..states + scanned).map(|at| given.tensor(at)).collect::<Result<Vec<_>, _>>()?;
    let (first, scanned) = tensors.split_at(states);
    let taken = given.all_from(tensors.len())?;
    let count = scanned.first().and_then(|tensor| tensor.shape().first()).copied().unwrap_or(0);
    if scanned.iter().any(|tensor| tensor.shape().first() != Some(&count)) {
        return Err(Fault::new("the tensors to scan are not equally long"));
    }
    let mut state: Vec<Value> = first.iter().map(|tensor| Value::Tensor((*tensor).clone())).collect();
    let mut rows: Vec<Vec<Tensor>> = plan.kinds()[states..].iter().map(|_| Vec::new()).collect();
    for at in 0..count {
        given.stop.check()?;
        let mut inputs = std::mem::take(&mut state);
        for tensor in scanned {
            inputs.push(Value::Tensor(row(tensor, at)?));
        }
        inputs.extend(taken.iter().cloned());
        let mut outputs = plan.run(inputs, given.stop)?;
        let out = outputs.split_off(states);
        state = outputs;
        for (rows, value) in rows.iter_mut().zip(out) {
            let Value::Tensor(tensor) = value else { return Err(Fault::new("the body's output is no tensor")) };
            if rows.first().is_some_and(|first| first.shape() != tensor.shape()) {
                return Err(Fault::new("the rows of the answer are not equally long"));
            }
            rows.push(tensor);
        }
        if at == 0 {
            // The rows to come are like the first.
            let row = |tensor: &Tensor| size_of::<Tensor>() + tensor.len() * tensor.kind().width();
            let bytes: usize = rows.iter().flatten().map(row).sum();
            fits(bytes.saturating_mul(count))?;
        }
    }
    for (kind, rows) in plan.kinds()[states..].iter().zip(rows) {
        state.push(Value::Tensor(stacked(*kind, &rows)?));
    }
    Ok(state)
}

fn row(tensor: &Tensor, at: usize) -> Result<Tensor, Fault> {
    let shape = tensor.shape()[1..].to_vec();
    let length: usize = shape.iter().product();
    for_type!(tensor.kind(), any, T => Tensor::of(shape, tensor.values::<T>()?[at * length..(at + 1) * length].to_vec()))
}

/// Equal tensors, one above the other along a new first axis.
fn stacked(kind: Kind, rows: &[Tensor]) -> Result<Tensor, Fault> {
    let Kind::Tensor(kind) = kind else { return Err(Fault::new("the body's output is no tensor")) };
    let own = rows.first().map_or(&[][..], Tensor::shape);
    let shape: Vec<usize> = [rows.len()].iter().chain(own).copied().collect();
    for_type!(kind, any, T => {
        let mut values: Vec<T> = Vec::with_capacity(room::<T>(&shape)?);
        for row in rows {
            values.extend_from_slice(row.values::<T>()?);
        }
        Tensor::of(shape, values)
    })
}

pub(crate) fn sequence(site: &Site<'_>) -> Result<Built, Fault> {
    let kind = site.same_kind()?;
    Ok(Built::many(vec![Kind::Sequence(kind)], |given| {
        let tensors = given.tensors()?;
        // One tensor may stand there many times.
        fits(tensors.iter().map(|tensor| size_of::<Tensor>() + tensor.contents().bytes()).sum())?;
        Ok(vec![Value::Sequence(tensors.into_iter().cloned().collect())])
    }))
}

fn of(site: &Site<'_>) -> Result<Type, Fault> {
    match site.kind(0)? {
        Kind::Sequence(kind) => Ok(kind),
        Kind::Maps | Kind::Tensor(_) => Err(site.fault("needs a sequence of tensors")),
    }
}

fn tensors<'a>(given: &Given<'a>) -> Result<&'a [Tensor], Fault> {
    match given.value(0)? {
        Value::Sequence(tensors) => Ok(tensors),
        Value::Maps(_) | Value::Tensor(_) => Err(Fault::new("it needs a sequence of tensors")),
    }
}

pub(crate) fn sequence_at(site: &Site<'_>) -> Result<Built, Fault> {
    site.expect(1, super::elementwise::INDICES)?;
    Ok(Built::one(of(site)?, |given| {
        let tensors = tensors(given)?;
        let [at] = given.ints(1)?.as_slice().try_into().map_err(|_| Fault::new("the place is not one number"))?;
        Ok(tensors[super::super::tensor::axis(at, tensors.len())?].clone())
    }))
}

pub(crate) fn concat_sequence(site: &Site<'_>) -> Result<Built, Fault> {
    let at = site.int("axis").unwrap_or(0);
    if site.flag("new_axis", false) {
        return Err(site.fault("with a new axis is not supported"));
    }
    for_type!(of(site)?, any, T => Ok(Built::one(T::TYPE, move |given| joined::<T>(&tensors(given)?.iter().collect::<Vec<_>>(), at))))
}
