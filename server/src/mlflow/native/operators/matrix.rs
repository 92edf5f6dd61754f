//! Products of matrices, and the distances that neighbours are found by.

use crate::mlflow::native::{
    bounds::{Stop, room},
    fault::Fault,
    operators::{elementwise::Number, shape::transposed},
    site::{Built, Site},
    tensor::{Element, Tensor, broadcast, expand, for_type, size, strides, zip},
};

/// How many rows of the answer are computed over one pass of the right matrix.
const BLOCK: usize = 4;
/// How many products are summed between two looks at whether anybody waits.
const STRIDE: usize = 1 << 16;

pub(crate) fn matmul(site: &Site<'_>) -> Result<Built, Fault> {
    for_type!(site.pair_kind()?, site, number, T => Ok(Built::one(T::TYPE, |given| multiplied::<T>(given.tensor(0)?, given.tensor(1)?, given.stop))))
}

/// As NumPy's `matmul`: matrices in the last two axes, the others broadcast.
fn multiplied<T: Number>(left: &Tensor, right: &Tensor, stop: &Stop) -> Result<Tensor, Fault> {
    let fault = || Fault::new(format!("matrices of shapes {:?} and {:?} do not go together", left.shape(), right.shape()));
    let (mut a, mut b) = (left.shape().to_vec(), right.shape().to_vec());
    let (is_row, is_column) = (a.len() == 1, b.len() == 1);
    if is_row {
        a.insert(0, 1);
    }
    if is_column {
        b.push(1);
    }
    let ([outer_a @ .., rows, inner], [outer_b @ .., other, columns]) = (a.as_slice(), b.as_slice()) else { return Err(fault()) };
    if inner != other {
        return Err(fault());
    }
    let mut shape = broadcast(outer_a, outer_b).map_err(|_| fault())?;
    let count = room::<usize>(&shape)?;
    let places = |outer: &[usize]| expand(&(0..room::<usize>(outer)?).collect::<Vec<_>>(), outer, &shape);
    let (places_a, places_b) = (places(outer_a)?, places(outer_b)?);
    shape.extend((!is_row).then_some(*rows));
    shape.extend((!is_column).then_some(*columns));
    let mut out = vec![T::zero(); room::<T>(&shape)?];
    let (x, y) = (left.values::<T>()?, right.values::<T>()?);
    let (block_a, block_b, block) = (rows * inner, inner * columns, rows * columns);
    for at in 0..count {
        stop.check()?;
        let (a, b) = (places_a[at] * block_a, places_b[at] * block_b);
        product(&x[a..a + block_a], &y[b..b + block_b], (*inner, *columns), &mut out[at * block..(at + 1) * block], stop)?;
    }
    Tensor::of(shape, out)
}

/// Adds the product of two matrices, row by row, to `out`.
fn product<T: Number>(a: &[T], b: &[T], (inner, columns): (usize, usize), out: &mut [T], stop: &Stop) -> Result<(), Fault> {
    if inner == 0 || columns == 0 {
        return Ok(());
    }
    if columns == 1 {
        for (row, out) in a.chunks_exact(inner).zip(out) {
            *out = row.iter().zip(b).fold(*out, |sum, (a, b)| sum.plus(a.times(*b)));
        }
        return Ok(());
    }
    for (rows, outs) in a.chunks(inner * BLOCK).zip(out.chunks_mut(columns * BLOCK)) {
        stop.check()?;
        for (at, weights) in b.chunks_exact(columns).enumerate() {
            for (row, out) in rows.chunks_exact(inner).zip(outs.chunks_exact_mut(columns)) {
                let factor = row[at];
                out.iter_mut().zip(weights).for_each(|(out, weight)| *out = out.plus(factor.times(*weight)));
            }
        }
    }
    Ok(())
}

pub(crate) fn gemm(site: &Site<'_>) -> Result<Built, Fault> {
    let (turns_a, turns_b) = (site.flag("transA", false), site.flag("transB", false));
    let (alpha, beta) = (site.float("alpha").unwrap_or(1.0), site.float("beta").unwrap_or(1.0));
    let kind = site.kind_of(0)?;
    site.kind_of(1)?;
    (1..3).try_for_each(|at| site.expect(at, &[kind]))?;
    for_type!(kind, site, number, T => {
        let (alpha, beta) = (T::from_double(f64::from(alpha)), T::from_double(f64::from(beta)));
        let turn = |tensor: &Tensor, turns: bool| match tensor.shape().len() {
            2 if turns => transposed::<T>(tensor, &[]),
            2 => Ok(tensor.clone()),
            _ => Err(Fault::new("it needs matrices")),
        };
        // Weights are constants as a rule, and turned once.
        let weights = site.constant(1).map(|weights| turn(weights, turns_b)).transpose()?;
        Ok(Built::one(T::TYPE, move |given| {
            let right = match &weights {
                Some(weights) => weights,
                None => &turn(given.tensor(1)?, turns_b)?,
            };
            let left = given.tensor(0)?;
            let turned;
            let left = if turns_a || left.shape().len() != 2 {
                turned = turn(left, turns_a)?;
                &turned
            } else {
                left
            };
            let product = multiplied::<T>(left, right, given.stop)?;
            let Some(added) = given.maybe(2)? else {
                return Tensor::of(product.shape().to_vec(), product.values::<T>()?.iter().map(|value| alpha.times(*value)).collect());
            };
            // What counts for nothing need be no number.
            let beta = |added: T| if beta == T::zero() { T::zero() } else { beta.times(added) };
            zip::<T, T, T>(&product, added, |product, added| alpha.times(*product).plus(beta(*added)))
        }))
    })
}

pub(crate) fn eye_like(site: &Site<'_>) -> Result<Built, Fault> {
    let kind = site.int("dtype").and_then(|code| i32::try_from(code).ok()).and_then(crate::mlflow::native::tensor::Type::from_code);
    let kind = kind.map_or_else(|| site.kind_of(0), Ok)?;
    let above = site.int("k").unwrap_or(0);
    for_type!(kind, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let [rows, columns] = *given.tensor(0)?.shape() else { return Err(Fault::new("it needs a matrix")) };
        room::<T>(&[rows, columns])?;
        let one = T::from_double(1.0);
        let is_one = |row: usize, column: usize| i64::try_from(column).ok().zip(i64::try_from(row).ok()).is_some_and(|(column, row)| column - row == above);
        let values = (0..rows).flat_map(|row| (0..columns).map(move |column| if is_one(row, column) { one } else { T::zero() }));
        Tensor::of(vec![rows, columns], values.collect())
    })))
}

/// Sums of products over letters, for the forms that Gaussian processes use and any other of up to two tensors without `...`.
pub(crate) fn einsum(site: &Site<'_>) -> Result<Built, Fault> {
    let equation: String = site.text("equation")?.unwrap_or("").chars().filter(|letter| !letter.is_whitespace()).collect();
    let (terms, answer) = equation.split_once("->").ok_or_else(|| site.fault("is supported with `->` only"))?;
    let terms: Vec<Vec<char>> = terms.split(',').map(|term| term.chars().collect()).collect();
    let answer: Vec<char> = answer.chars().collect();
    let mut letters = answer.clone();
    letters.extend(terms.concat().into_iter().filter(|letter| !answer.contains(letter)));
    let mut seen = Vec::new();
    letters.retain(|letter| {
        !seen.contains(letter) && {
            seen.push(*letter);
            true
        }
    });
    let is_known =
        letters.iter().all(char::is_ascii_alphabetic) && answer.iter().all(|letter| terms.iter().any(|term| term.contains(letter)));
    if !is_known || letters.len() < answer.len() || terms.len() != site.inputs.len() || terms.len() > 2 {
        return Err(site.fault(format!("with `{equation}` is not supported")));
    }
    for_type!(site.same_kind()?, site, number, T => Ok(Built::one(T::TYPE, move |given| {
        let tensors = given.tensors()?;
        let mut lengths: Vec<Option<usize>> = vec![None; letters.len()];
        let place = |letter: &char| letters.iter().position(|known| known == letter).unwrap_or(0);
        let mut steps = Vec::with_capacity(tensors.len());
        for (term, tensor) in terms.iter().zip(&tensors) {
            let mut own = vec![0; letters.len()];
            let fits = term.len() == tensor.shape().len()
                && term.iter().zip(tensor.shape()).all(|(letter, length)| lengths[place(letter)].replace(*length).is_none_or(|other| other == *length));
            if !fits {
                return Err(Fault::new(format!("a tensor of shape {:?} does not fit", tensor.shape())));
            }
            term.iter().zip(strides(tensor.shape())).for_each(|(letter, step)| own[place(letter)] += step);
            steps.push(own);
        }
        let lengths: Vec<usize> = lengths.into_iter().flatten().collect();
        summed::<T>(&tensors, &steps, &lengths, answer.len(), given.stop)
    })))
}

/// Walks all letters; the first `kept` are those of the answer.
fn summed<T: Number>(tensors: &[&Tensor], steps: &[Vec<usize>], lengths: &[usize], kept: usize, stop: &Stop) -> Result<Tensor, Fault> {
    let (shape, total) = (lengths[..kept].to_vec(), size(lengths)?);
    let inner = size(&lengths[kept..])?;
    let mut out = vec![T::zero(); room::<T>(&shape)?];
    let along = strides(lengths);
    let values = tensors.iter().map(|tensor| tensor.values::<T>()).collect::<Result<Vec<_>, _>>()?;
    for flat in 0..total {
        if flat.is_multiple_of(STRIDE) {
            stop.check()?;
        }
        let factor = |(values, steps): (&&[T], &Vec<usize>)| {
            let place: usize = (0..lengths.len()).map(|at| flat / along[at] % lengths[at] * steps[at]).sum();
            values[place]
        };
        let product = values.iter().zip(steps).map(factor).reduce(T::times).unwrap_or(T::zero());
        out[flat / inner] = out[flat / inner].plus(product);
    }
    Tensor::of(shape, out)
}

/// Microsoft's `CDist`: the distance of each row to each row.
pub(crate) fn distances(site: &Site<'_>) -> Result<Built, Fault> {
    let is_root = match site.text("metric")?.unwrap_or("sqeuclidean") {
        "euclidean" => true,
        "sqeuclidean" => false,
        other => return Err(site.fault(format!("with the metric `{other}` is not supported"))),
    };
    for_type!(site.pair_kind()?, site, real, T => Ok(Built::one(T::TYPE, move |given| {
        let (left, right) = (given.tensor(0)?, given.tensor(1)?);
        let ([rows, width], [columns, other]) = (left.shape(), right.shape()) else { return Err(Fault::new("it needs matrices")) };
        if width != other {
            return Err(Fault::new(format!("rows of {width} and of {other} values have no distance")));
        }
        let mut out = Vec::with_capacity(room::<T>(&[*rows, *columns])?);
        for a in 0..*rows {
            given.stop.check()?;
            for b in 0..*columns {
                let (a, b) = (&left.values::<T>()?[a * width..(a + 1) * width], &right.values::<T>()?[b * width..(b + 1) * width]);
                let squares: f64 = a.iter().zip(b).map(|(a, b)| (a.to_double() - b.to_double()).powi(2)).sum();
                out.push(T::from_double(if is_root { squares.sqrt() } else { squares }));
            }
        }
        Tensor::of(vec![*rows, *columns], out)
    })))
}
