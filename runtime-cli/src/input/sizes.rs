//! What symbolic dimensions become: sizes asked for, sizes of the inputs given, else 1.

use std::collections::BTreeMap;

use sardonyx_ops::Tensor;
use sardonyx_ops::ir::dim::Dim;

use super::{Signature, names};
use crate::failure::{Failure, Fault};
use crate::output::format;

/// Sizes of the model's symbolic dimensions.
#[derive(Clone, Debug, Default)]
pub struct Sizes {
    asked: BTreeMap<String, usize>,
    shapes: BTreeMap<String, Vec<usize>>,
    bound: BTreeMap<String, usize>,
}

impl Sizes {
    /// Sizes asked for: `dims` by the dimension's name, `shapes` by the input's.
    ///
    /// # Errors
    /// When no input has such a name or dimension, or a shape contradicts the model.
    pub fn new(
        signatures: &[Signature],
        dims: &[(String, usize)],
        shapes: &[(String, Vec<usize>)],
    ) -> Result<Sizes, Failure> {
        let mut sizes = Sizes::default();
        let known: Vec<String> = symbols(signatures);
        for (name, size) in dims {
            if !known.contains(name) {
                let message = format!("--dim {name}={size}: no input has a dimension of this name");
                let why = match known.is_empty() {
                    true => "the model's inputs have no symbolic dimensions".to_owned(),
                    false => format!("its symbolic dimensions are {}", known.join(", ")),
                };
                return Err(Failure::new(Fault::Usage, message).why(why));
            }
            sizes.asked.insert(name.clone(), *size);
        }
        for (name, dims) in shapes {
            let signature = signatures.iter().find(|signature| signature.name == *name).ok_or_else(|| {
                Failure::new(Fault::UnknownInput, format!("--shape {name}=...: the model has no such input"))
                    .why(format!("its inputs are {}", names(signatures)))
            })?;
            sizes.check(signature, dims)?;
            sizes.bind(signature, dims);
            sizes.shapes.insert(name.clone(), dims.clone());
        }
        Ok(sizes)
    }

    /// Checks a tensor against the model and remembers what it says about symbolic dimensions.
    ///
    /// # Errors
    /// When type or dimensions do not fit the model, what was asked for, or other inputs.
    pub fn admit(&mut self, signature: &Signature, tensor: &Tensor, source: &str) -> Result<(), Failure> {
        let name = format::name(&signature.name, 60);
        if tensor.dtype() != signature.dtype {
            let got = format::signature(tensor.dtype(), tensor.dims());
            let message = format!("input {name:?} is {}, {source} is {got}", signature.describe());
            return Err(Failure::new(Fault::ElementType, message)
                .help(format!("convert the data to {}", signature.dtype)));
        }
        self.check(signature, tensor.dims())
            .map_err(|failure| failure.why(format!("the value is {source}")))?;
        self.bind(signature, tensor.dims());
        Ok(())
    }

    /// The dimensions for an input that has none yet, and the symbolic dimensions that became 1 because nothing
    /// else is known about them.
    pub fn choose(&mut self, signature: &Signature) -> (Vec<usize>, Vec<String>) {
        if let Some(dims) = self.shapes.get(&signature.name) {
            return (dims.clone(), Vec::new());
        }
        let mut defaulted = Vec::new();
        let dims = signature
            .shape
            .iter()
            .flatten()
            .map(|dim| {
                let symbol = dim.to_string();
                dim.known().or_else(|| self.size(&symbol)).unwrap_or_else(|| {
                    defaulted.push(symbol.clone());
                    self.bound.insert(symbol, 1);
                    1
                })
            })
            .collect();
        (dims, defaulted)
    }

    fn size(&self, symbol: &str) -> Option<usize> {
        self.asked.get(symbol).or_else(|| self.bound.get(symbol)).copied()
    }

    fn check(&self, signature: &Signature, dims: &[usize]) -> Result<(), Failure> {
        let fail = |why: String| {
            let name = format::name(&signature.name, 60);
            let got = format::signature(signature.dtype, dims);
            let message = format!("input {name:?} is {}, got {got}", signature.describe());
            Err(Failure::new(Fault::Shape, message).help(why))
        };
        if let Some(asked) = self.shapes.get(&signature.name)
            && asked != dims
        {
            return fail(format!("--shape asks for {}", format::dims(asked)));
        }
        let Some(shape) = &signature.shape else { return Ok(()) };
        if shape.len() != dims.len() {
            return fail(format!("the model wants {} dimensions, not {}", shape.len(), dims.len()));
        }
        for (wanted, &got) in shape.iter().zip(dims) {
            match wanted.known() {
                Some(wanted) if wanted != got => return fail(format!("{got} should be {wanted}")),
                Some(_) => {}
                None => {
                    let symbol = wanted.to_string();
                    if let Some(size) = self.size(&symbol)
                        && size != got
                    {
                        return fail(format!("dimension {symbol} is {size} elsewhere"));
                    }
                }
            }
        }
        Ok(())
    }

    fn bind(&mut self, signature: &Signature, dims: &[usize]) {
        for (wanted, &got) in signature.shape.iter().flatten().zip(dims) {
            if wanted.known().is_none() {
                self.bound.insert(wanted.to_string(), got);
            }
        }
    }
}

/// The names of all symbolic dimensions, each once.
fn symbols(signatures: &[Signature]) -> Vec<String> {
    let dims = signatures.iter().flat_map(|signature| signature.shape.iter().flatten());
    let mut symbols: Vec<String> = dims.filter(|dim| dim.known().is_none()).map(Dim::to_string).collect();
    symbols.sort();
    symbols.dedup();
    symbols
}

#[cfg(test)]
mod tests {
    use super::*;
    use sardonyx_ops::DType;

    fn signature(name: &str, shape: &[Dim]) -> Signature {
        Signature { name: name.into(), dtype: DType::F32, shape: Some(shape.to_vec()) }
    }

    fn zeros(dims: &[usize]) -> Tensor {
        Tensor::zeroed(DType::F32, dims).unwrap()
    }

    #[test]
    fn sizes_come_from_options_then_inputs_then_one() {
        let (batch, seq) = (Dim::named("batch"), Dim::named("seq"));
        let all = [signature("a", &[batch.clone(), Dim::Known(3)]), signature("b", &[batch, seq])];
        let mut sizes = Sizes::new(&all, &[("seq".into(), 7)], &[]).unwrap();
        sizes.admit(&all[0], &zeros(&[4, 3]), "a.npy").unwrap();
        assert_eq!(sizes.choose(&all[1]), (vec![4, 7], vec![]));
        let mut sizes = Sizes::new(&all, &[], &[]).unwrap();
        assert_eq!(sizes.choose(&all[1]), (vec![1, 1], vec!["batch".to_owned(), "seq".to_owned()]));
        assert_eq!(sizes.choose(&all[0]), (vec![1, 3], vec![]), "a default is said once");
        let mut sizes = Sizes::new(&all, &[], &[("b".into(), vec![2, 9])]).unwrap();
        assert_eq!(sizes.choose(&all[0]).0, [2, 3]);
    }

    #[test]
    fn contradictions_are_errors() {
        let all = [signature("a", &[Dim::named("n"), Dim::Known(3)]), signature("b", &[Dim::named("n")])];
        let status = |result: Result<(), Failure>| result.unwrap_err().status();
        let mut sizes = Sizes::new(&all, &[("n".into(), 2)], &[]).unwrap();
        assert_eq!(status(sizes.admit(&all[0], &zeros(&[3, 3]), "x")), 4);
        assert_eq!(status(sizes.admit(&all[0], &zeros(&[2, 4]), "x")), 4);
        assert_eq!(status(sizes.admit(&all[0], &zeros(&[2]), "x")), 4);
        assert_eq!(status(sizes.admit(&all[0], &Tensor::zeroed(DType::F64, &[2, 3]).unwrap(), "x")), 4);
        sizes.admit(&all[0], &zeros(&[2, 3]), "x").unwrap();
        assert_eq!(status(sizes.admit(&all[1], &zeros(&[5]), "x")), 4);
        assert_eq!(Sizes::new(&all, &[("m".into(), 2)], &[]).unwrap_err().status(), 2);
        assert_eq!(Sizes::new(&all, &[], &[("c".into(), vec![1])]).unwrap_err().status(), 4);
        assert_eq!(Sizes::new(&all, &[], &[("a".into(), vec![1, 4])]).unwrap_err().status(), 4);
    }
}
