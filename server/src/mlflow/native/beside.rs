//! Constants that a model keeps in files beside it, as ONNX writes large ones: brought in before the model is planned.

use std::collections::{BTreeSet, HashMap, hash_map::Entry};

use super::{
    fault::Fault,
    wire::{Graph, Node, Stored},
};

/// `TensorProto.DataLocation.EXTERNAL`.
const BESIDE: i32 = 1;

/// Reads a file beside the model by its name.
pub(super) type Read<'a> = dyn Fn(&str) -> Result<Vec<u8>, Fault> + 'a;

/// The names of the files beside it that a graph keeps constants in.
pub(super) fn places(graph: &Graph, found: &mut BTreeSet<String>) {
    found.extend(graph.initializers.iter().filter_map(Stored::place));
    places_of(&graph.nodes, found);
}

/// Those of operators.
pub(super) fn places_of(nodes: &[Node], found: &mut BTreeSet<String>) {
    for attribute in nodes.iter().flat_map(|node| &node.attributes) {
        found.extend(attribute.tensor.as_ref().and_then(Stored::place));
        attribute.graph.iter().for_each(|graph| places(graph, found));
    }
}

impl Stored {
    fn place(&self) -> Option<String> {
        let place = self.beside.iter().find(|entry| entry.key == "location").map(|entry| entry.value.clone());
        place.filter(|_| self.location == BESIDE)
    }
}

/// The files that were read, each once.
pub(super) struct Beside<'a> {
    read: &'a Read<'a>,
    files: HashMap<String, Vec<u8>>,
}

impl<'a> Beside<'a> {
    pub(super) fn new(read: &'a Read<'a>) -> Self {
        Self { read, files: HashMap::new() }
    }

    /// Brings in all constants of a graph and of the graphs in it.
    pub(super) fn gather(&mut self, graph: &mut Graph) -> Result<(), Fault> {
        let attributes = graph.nodes.iter_mut().flat_map(|node| &mut node.attributes);
        for attribute in attributes {
            attribute.tensor.iter_mut().try_for_each(|stored| self.bring(stored))?;
            attribute.graph.iter_mut().try_for_each(|graph| self.gather(graph))?;
        }
        graph.initializers.iter_mut().try_for_each(|stored| self.bring(stored))
    }

    fn bring(&mut self, stored: &mut Stored) -> Result<(), Fault> {
        if stored.location != BESIDE {
            return Ok(());
        }
        let fault = |what: &str| Fault::broken(format!("the constant `{}` {what}", stored.name));
        let told = |key: &str| stored.beside.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str());
        let number = |key: &str| told(key).map(str::parse::<usize>).transpose();
        let place = told("location").ok_or_else(|| fault("does not say in which file it is"))?;
        let (start, length) = (number("offset"), number("length"));
        let (Ok(start), Ok(length)) = (start, length) else { return Err(fault("does not say where in its file it is")) };
        let bytes = match self.files.entry(place.to_owned()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(free) => free.insert((self.read)(place)?),
        };
        let rest = bytes.get(start.unwrap_or(0)..);
        let found = rest.and_then(|rest| length.map_or(Some(rest), |length| rest.get(..length)));
        stored.raw = Some(found.ok_or_else(|| fault("is beyond the end of its file"))?.to_vec());
        stored.location = 0;
        Ok(())
    }
}
