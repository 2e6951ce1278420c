//! Declared types and constants of a graph, as far as they can be checked without knowing operators.

use foldhash::HashMap;
use sardonyx_ops::DType;

use super::attribute::AttributeValue;
use super::limits::LoadLimits;
use super::model::{Dim, GraphProto, SparseTensorProto, TensorType, TypeProto, ValueInfoProto};
use super::tensor::TensorProto;
use crate::error::{ImportError, InvalidFault, Place, UnsupportedFault};

type Result<T> = std::result::Result<T, ImportError>;

/// Checks the declared types of the main graph's inputs and outputs, and makes every declared dimension of
/// -1, which some exporters write for "any", unknown.
pub(super) fn check_interface(graph: &mut GraphProto) -> Result<()> {
    let defaults: HashMap<&str, &TensorProto> =
        graph.initializers.iter().map(|tensor| (&*tensor.name, tensor)).collect();
    for input in &mut graph.inputs {
        let place = Place::value(&input.name);
        check_declared(input)?;
        match (&input.ty, defaults.get(&*input.name)) {
            (Some(TypeProto::Tensor(declared)), Some(default)) => check_default(declared, default)?,
            (None | Some(TypeProto::Unspecified), None) => {
                return Err(ImportError::invalid(place, InvalidFault::ElementType, "the input has no type"));
            }
            (Some(TypeProto::Tensor(TensorType { elem_type: 0, .. })), None) => {
                let detail = "the input has no element type";
                return Err(ImportError::invalid(place, InvalidFault::ElementType, detail));
            }
            _ => {}
        }
    }
    graph.outputs.iter_mut().try_for_each(check_declared)?;
    graph.value_info.iter_mut().for_each(forget_minus_one);
    check_subgraphs(graph)
}

/// Recursion is bounded by the depth limit of decoding and inlining.
fn check_subgraphs(graph: &mut GraphProto) -> Result<()> {
    for node in &mut graph.nodes {
        if node.subgraphs().next().is_none() {
            continue;
        }
        let place = node.place();
        for subgraph in node.subgraphs_mut() {
            let values = subgraph.inputs.iter_mut().chain(&mut subgraph.outputs);
            for value in values {
                check_declared(value).map_err(|error| error.within(|| place.clone()))?;
            }
            subgraph.value_info.iter_mut().for_each(forget_minus_one);
            check_subgraphs(subgraph)?;
        }
    }
    Ok(())
}

/// Descends to the tensor type within sequences and optionals.
fn tensor_type(ty: &mut Option<TypeProto>) -> Option<&mut TensorType> {
    let mut ty = ty.as_mut()?;
    loop {
        ty = match ty {
            TypeProto::Tensor(tensor) | TypeProto::SparseTensor(tensor) => return Some(tensor),
            TypeProto::Sequence(inner) | TypeProto::Optional(inner) | TypeProto::Map(_, inner) => inner,
            TypeProto::Unspecified | TypeProto::Opaque => return None,
        };
    }
}

fn forget_minus_one(value: &mut ValueInfoProto) {
    let dims = tensor_type(&mut value.ty).and_then(|tensor| tensor.dims.as_mut());
    for dim in dims.into_iter().flatten().filter(|dim| **dim == Dim::Value(-1)) {
        *dim = Dim::Unknown;
    }
}

fn check_declared(value: &mut ValueInfoProto) -> Result<()> {
    forget_minus_one(value);
    let place = Place::value(&value.name);
    let Some(tensor) = tensor_type(&mut value.ty) else { return Ok(()) };
    if tensor.elem_type != 0 && DType::from_onnx(tensor.elem_type).is_none() {
        let detail = format!("element type number {}", tensor.elem_type);
        return Err(ImportError::unsupported(place, UnsupportedFault::ElementType, detail));
    }
    for dim in tensor.dims.iter().flatten() {
        if let Dim::Value(number) = dim
            && *number < 0
        {
            let detail = format!("dimension {number}");
            return Err(ImportError::invalid(place, InvalidFault::Shape, detail));
        }
    }
    Ok(())
}

/// An initializer is the default of the input of its name, so it must be of the input's type.
fn check_default(declared: &TensorType, default: &TensorProto) -> Result<()> {
    let place = Place::value(&default.name);
    if declared.elem_type != 0 && declared.elem_type != default.data_type {
        let name = |number| DType::from_onnx(number).map_or("an unknown type", DType::name);
        let detail =
            format!("the input is {}, its initializer {}", name(declared.elem_type), name(default.data_type));
        return Err(ImportError::invalid(place, InvalidFault::ElementType, detail));
    }
    let Some(dims) = &declared.dims else { return Ok(()) };
    let fits = dims.len() == default.dims.len()
        && dims.iter().zip(&default.dims).all(|(declared, got)| match declared {
            Dim::Value(number) => number == got,
            Dim::Param(_) | Dim::Unknown => true,
        });
    if fits {
        return Ok(());
    }
    let detail = format!("the input's dimensions are not those of its initializer, {:?}", default.dims);
    Err(ImportError::invalid(place, InvalidFault::Shape, detail))
}

/// Checks type, dimensions and length of every constant: initializers and attributes, subgraphs included.
/// No element is read.
pub(super) fn check_constants(graph: &GraphProto, limits: &LoadLimits) -> Result<()> {
    for tensor in &graph.initializers {
        tensor.layout(limits)?;
    }
    graph.sparse_initializers.iter().try_for_each(|sparse| check_sparse(sparse, limits))?;
    for node in &graph.nodes {
        for attribute in &node.attributes {
            match &attribute.value {
                AttributeValue::Tensor(tensor) => tensor.layout(limits).map(drop),
                AttributeValue::Tensors(tensors) => {
                    tensors.iter().try_for_each(|tensor| tensor.layout(limits).map(drop))
                }
                AttributeValue::SparseTensor(sparse) => check_sparse(sparse, limits),
                AttributeValue::SparseTensors(list) => {
                    list.iter().try_for_each(|sparse| check_sparse(sparse, limits))
                }
                AttributeValue::Graph(graph) => check_constants(graph, limits),
                AttributeValue::Graphs(graphs) => {
                    graphs.iter().try_for_each(|graph| check_constants(graph, limits))
                }
                _ => Ok(()),
            }
            .map_err(|error| error.within(|| node.place()))?;
        }
    }
    Ok(())
}

fn check_sparse(sparse: &SparseTensorProto, limits: &LoadLimits) -> Result<()> {
    let values = sparse.values.layout(limits)?;
    sparse.indices.layout(limits).map_err(|error| error.within(|| sparse.values.place()))?;
    super::tensor::layout(values.dtype, &sparse.dims, limits, &sparse.values.place())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::onnx::testing::{Model, bytes, code, int, node, read, tensor_type};
    use crate::onnx::{Dim, TypeProto};

    /// A model whose input has this `TypeProto`.
    fn input(ty: &[u8]) -> Vec<u8> {
        let graph = [
            bytes(1, &node("Relu", &["x"], &["y"], &[])),
            bytes(11, &[bytes(1, b"x"), bytes(2, ty)].concat()),
            bytes(12, &bytes(1, b"y")),
        ];
        [int(1, 8), bytes(7, &graph.concat()), bytes(8, &int(2, 17))].concat()
    }

    fn dims(values: &[i64]) -> Vec<u8> {
        let dims: Vec<u8> = values.iter().flat_map(|dim| bytes(1, &int(1, *dim as u64))).collect();
        bytes(1, &[int(1, 1), bytes(2, &dims)].concat())
    }

    #[test]
    fn declared_types() {
        let model = read(input(&dims(&[-1, 3, 0]))).unwrap();
        let Some(TypeProto::Tensor(ty)) = &model.graph.inputs[0].ty else { panic!() };
        assert_eq!(ty.dims, Some(vec![Dim::Unknown, Dim::Value(3), Dim::Value(0)]));
        assert_eq!(code(input(&dims(&[-2]))), "SDX-0209");
        assert_eq!(code(input(&[])), "SDX-0208", "no type");
        assert_eq!(code(input(&bytes(1, &[]))), "SDX-0208", "no element type");
        assert_eq!(code(input(&bytes(1, &int(1, 99)))), "SDX-0304");
        assert_eq!(code(input(&[tensor_type(), tensor_type()].concat())), "SDX-0109");
        let sequence = bytes(4, &bytes(1, &tensor_type()));
        let model = read(input(&sequence)).unwrap();
        assert_eq!(model.graph.inputs[0].ty.as_ref().unwrap().kind(), "sequence");
        assert_eq!(code(input(&bytes(9, &bytes(1, &dims(&[-7]))))), "SDX-0209", "inside an optional");
    }

    #[test]
    fn constants_fit_their_types() {
        let with = |tensor: Vec<u8>| {
            let attribute = [bytes(1, b"value"), bytes(5, &tensor), int(20, 4)].concat();
            let nodes =
                vec![node("Constant", &[], &["c"], &[attribute]), node("Add", &["x", "c"], &["y"], &[])];
            Model::new(&["x"], nodes, &["y"]).encode()
        };
        assert!(read(with([int(1, 1), int(2, 1), bytes(9, &[0; 4])].concat())).is_ok());
        let error = read(with([int(1, 2), int(2, 1), bytes(9, &[0; 4])].concat())).unwrap_err();
        assert_eq!((error.code(), error.node()), ("SDX-0210", Some("c")));
    }

    #[test]
    fn defaults_fit_their_inputs() {
        let relu = || vec![node("Add", &["x", "w"], &["y"], &[])];
        let mut model = Model::new(&["x", "w"], relu(), &["y"]);
        model.graph.initializers = vec!["w".into()];
        assert!(read(model.encode()).is_ok());
        let mut file = Model::new(&["x"], relu(), &["y"]);
        file.graph.initializers = vec!["w".into()];
        let input = |ty: &[u8]| {
            let extra = bytes(7, &bytes(11, &[bytes(1, b"w"), bytes(2, ty)].concat()));
            [file.encode(), extra].concat()
        };
        assert!(read(input(&dims(&[2, 1]))).is_ok(), "two halves of a graph merge");
        assert_eq!(code(input(&dims(&[2, 2]))), "SDX-0209");
        assert_eq!(code(input(&dims(&[2]))), "SDX-0209");
        assert_eq!(code(input(&bytes(1, &int(1, 7)))), "SDX-0208");
    }
}
