//! Constants that a model keeps in files beside it, as ONNX writes large ones: brought in before the model is planned.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use super::{
    fault::Fault,
    tensor::{LIMIT, size},
    wire::{Graph, Node, Stored},
};

/// `TensorProto.DataLocation.EXTERNAL`.
const BESIDE: i32 = 1;

/// Reads a file beside the model by its name.
pub(super) type Read<'a> = dyn Fn(&str) -> Result<Vec<u8>, Fault> + 'a;

/// The names of the files beside it that a graph keeps constants in.
pub(super) fn places(graph: &Graph, found: &mut BTreeSet<String>) {
    found.extend(graph.initializers.iter().filter_map(named));
    places_of(&graph.nodes, found);
}

/// Those of operators.
pub(super) fn places_of(nodes: &[Node], found: &mut BTreeSet<String>) {
    for attribute in nodes.iter().flat_map(|node| &node.attributes) {
        found.extend(attribute.tensor.as_ref().and_then(named));
        attribute.graph.iter().for_each(|graph| places(graph, found));
    }
}

fn named(stored: &Stored) -> Option<String> {
    stored.place().ok().filter(|_| stored.location == BESIDE).map(str::to_owned)
}

/// The files that were read and are still asked for, each once.
pub(super) struct Beside<'a> {
    read: &'a Read<'a>,
    /// How many constants are still to come from each.
    asked: HashMap<String, usize>,
    files: HashMap<String, Vec<u8>>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(read: &'a Read<'a>) -> Self {
        Self { read, asked: HashMap::new(), files: HashMap::new() }
    }

    /// Brings in all constants of a graph and of the graphs in it.
    pub(super) fn gather(mut self, graph: &mut Graph) -> Result<(), Fault> {
        let mut values = 0_usize;
        each(graph, &mut |stored| {
            values = values.saturating_add(size(&stored.shape()?)?);
            *self.asked.entry(stored.place()?.to_owned()).or_default() += 1;
            Ok(())
        })?;
        if values > LIMIT {
            return Err(Fault::new("the constants in other files need too much memory"));
        }
        each(graph, &mut |stored| self.bring(stored))
    }

    fn bring(&mut self, stored: &mut Stored) -> Result<(), Fault> {
        let number = |key: &str| stored.told(key).map(str::parse::<usize>).transpose();
        let (start, length) = (number("offset"), number("length"));
        let (Ok(start), Ok(length)) = (start, length) else { return Err(stored.fault("does not say where in its file it is")) };
        let place = stored.place()?;
        let bytes = match self.files.entry(place.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert((self.read)(place)?),
        };
        let rest = bytes.get(start.unwrap_or(0)..);
        let found = rest.and_then(|rest| length.map_or(Some(rest), |length| rest.get(..length)));
        let found = found.ok_or_else(|| stored.fault("is beyond the end of its file"))?;
        // Looked at before it is copied, since many constants may name one long file.
        if size(&stored.shape()?)?.checked_mul(stored.kind()?.width()) != Some(found.len()) {
            return Err(stored.fault("has not as many values in its file as its shape says"));
        }
        let found = found.to_vec();
        let left = self.asked.get_mut(place).map_or(0, |left| {
            *left = left.saturating_sub(1);
            *left
        });
        if left == 0 {
            self.files.remove(place);
        }
        (stored.raw, stored.location) = (Some(found), 0);
        Ok(())
    }
}

/// Calls `with` for each constant that is kept in a file beside the model.
fn each(graph: &mut Graph, with: &mut dyn FnMut(&mut Stored) -> Result<(), Fault>) -> Result<(), Fault> {
    for attribute in graph.nodes.iter_mut().flat_map(|node| &mut node.attributes) {
        attribute.tensor.iter_mut().filter(|stored| stored.location == BESIDE).try_for_each(&mut *with)?;
        attribute.graph.iter_mut().try_for_each(|graph| each(graph, &mut *with))?;
    }
    graph.initializers.iter_mut().filter(|stored| stored.location == BESIDE).try_for_each(with)
}

impl Stored {
    fn told(&self, key: &str) -> Option<&str> {
        self.beside.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    }

    /// In which file it is.
    fn place(&self) -> Result<&str, Fault> {
        self.told("location").ok_or_else(|| self.fault("does not say in which file it is"))
    }

    fn fault(&self, what: &str) -> Fault {
        Fault::broken(format!("the constant `{}` {what}", self.name))
    }
}
