//! [ArrayFeatureExtractor](https://onnx.ai/onnx/operators/onnx_aionnxml_ArrayFeatureExtractor.html): chosen columns.

use std::sync::Arc;

use crate::build::NodeSpec;
use crate::error::OpError;
use crate::ir::dim::{self, Dim};
use crate::ir::fact::Fact;
use crate::ir::tensor::{Tensor, element_count};
use crate::ir::view::View;
use crate::movement::assemble::select;
use crate::movement::sizes::{expect_indices, integers, required, view};
use crate::operator::Operator;

/// The elements along the last dimension that input 1 names. A vector is a matrix of one row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ArrayFeatureExtractor;

pub(super) fn build(spec: &NodeSpec<'_>) -> Result<Arc<dyn Operator>, OpError> {
    spec.expect_inputs(2, 2, "2")?;
    Ok(Arc::new(ArrayFeatureExtractor))
}

impl Operator for ArrayFeatureExtractor {
    fn name(&self) -> &'static str {
        "ArrayFeatureExtractor"
    }

    fn infer(&self, inputs: &[Option<&Fact>], _outputs: usize) -> Result<Vec<Fact>, OpError> {
        let (x, columns) = (required(inputs, 0)?, required(inputs, 1)?);
        expect_indices(columns.dtype, 1)?;
        let count = match &columns.shape {
            Some(shape) => dim::product(shape)?,
            None => Dim::named("ArrayFeatureExtractor.count"),
        };
        Ok(vec![match x.shape.as_deref() {
            None => Fact::unranked(x.dtype),
            Some([]) => return Err(OpError::constraint("input", "1 dimension or more", 0)),
            Some([_]) => Fact::new(x.dtype, vec![Dim::Known(1), count]),
            Some([outer @ .., _]) => Fact::new(x.dtype, [outer, &[count]].concat()),
        }])
    }

    fn reference(&self, inputs: &[Option<View<'_>>], _outputs: usize) -> Result<Vec<Tensor>, OpError> {
        let (x, columns) = (view(inputs, 0)?, view(inputs, 1)?);
        let Some((&width, outer)) = x.dims.split_last() else {
            return Err(OpError::constraint("input", "1 dimension or more", 0));
        };
        let columns: Vec<usize> = integers(&columns, 1)?
            .into_iter()
            .map(|column| {
                let known = usize::try_from(column).ok().filter(|&column| column < width);
                known.ok_or_else(|| OpError::constraint("index", format!("below {width}"), column))
            })
            .collect::<Result<_, _>>()?;
        let outer = if outer.is_empty() { &[1] } else { outer };
        let dims = [outer, &[columns.len()]].concat();
        element_count(&dims).ok_or(OpError::Size)?;
        let at = |i: usize| Some(i / columns.len() * width + columns.get(i % columns.len()).copied()?);
        Ok(vec![select(&x, &dims, None, at)?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen() {
        let x = Tensor::from_slice(&[2, 3], &[0i32, 1, 2, 3, 4, 5]).unwrap();
        let run = |x: &Tensor, columns: &[i64]| {
            let columns = Tensor::from_slice(&[columns.len()], columns).unwrap();
            let y = ArrayFeatureExtractor.reference(&[Some(x.view()), Some(columns.view())], 1)?.remove(0);
            Ok::<_, OpError>((y.dims().to_vec(), y.to_vec::<i32>().unwrap()))
        };
        assert_eq!(run(&x, &[2, 0, 2]).unwrap(), (vec![2, 3], vec![2, 0, 2, 5, 3, 5]));
        assert_eq!(run(&x, &[]).unwrap(), (vec![2, 0], vec![]));
        let vector = Tensor::from_slice(&[3], &[7i32, 8, 9]).unwrap();
        assert_eq!(run(&vector, &[1]).unwrap(), (vec![1, 1], vec![8]));
        assert!(run(&x, &[3]).is_err() && run(&x, &[-1]).is_err());
    }
}
