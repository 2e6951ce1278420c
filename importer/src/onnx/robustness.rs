//! Any bytes at all: an error or a model, never a panic, in bounded memory.

use bytes::Bytes;

use super::testing::{
    Graph, Model, bytes, call, fixed32, int, node, packed, subgraph_attribute, tensor_type,
};
use super::{LoadLimits, TensorData, decode_value, encode_tensor, read, read_structure, to_tensor};
use crate::error::ImportError;

/// A model with something of everything.
fn rich_model() -> Vec<u8> {
    let attribute =
        |name: &str, kind: u64, value: Vec<u8>| [bytes(1, name.as_bytes()), value, int(20, kind)].concat();
    let tensor = encode_tensor(&sardonyx_ops::Tensor::from_slice(&[3], &[1i64, -2, 3]).unwrap(), "");
    let typed = [packed(1, &[2]), int(2, 7), packed(7, &[5, u64::MAX])].concat();
    let sparse = [bytes(1, &tensor), bytes(2, &typed), packed(3, &[9])].concat();
    let inner = Graph::new(&["i"], vec![node("Add", &["i", "x"], &["j"], &[])], &["j"]);
    let attributes = [
        attribute("float", 1, fixed32(2, 1.5f32.to_bits())),
        attribute("int", 2, int(3, u64::MAX)),
        attribute("string", 3, bytes(4, b"text")),
        attribute("tensor", 4, bytes(5, &tensor)),
        attribute("floats", 6, [fixed32(7, 0), bytes(7, &[0; 8])].concat()),
        attribute("ints", 7, [int(8, 300), packed(8, &[1, 2])].concat()),
        attribute("strings", 8, [bytes(9, b"a"), bytes(9, b"")].concat()),
        attribute("tensors", 9, bytes(10, &typed)),
        attribute("type", 13, bytes(14, &bytes(4, &bytes(1, &tensor_type())))),
        attribute("sparse", 11, bytes(22, &sparse)),
        subgraph_attribute("body", &inner),
    ];
    let nodes = vec![
        call("local", "F", &["x", "w"], &["m"], &[]),
        node("Everything", &["m", "", "w"], &["y", ""], &attributes),
    ];
    let mut model = Model::new(&["x"], nodes, &["y"]);
    model.imports.push(("local".into(), 1));
    model.graph.initializers = vec!["w".into()];
    let function = [
        bytes(1, b"F"),
        bytes(4, b"a"),
        bytes(4, b"b"),
        bytes(5, b"c"),
        bytes(7, &node("Mul", &["a", "b"], &["c"], &[])),
        bytes(9, &int(2, 17)),
        bytes(10, b"local"),
    ];
    model.functions = vec![function.concat()];
    let external = [
        bytes(8, b"e"),
        packed(1, &[4]),
        int(2, 1),
        bytes(13, &[bytes(1, b"location"), bytes(2, b"w.bin")].concat()),
        int(14, 1),
    ];
    [model.encode(), bytes(7, &bytes(5, &external.concat())), bytes(14, &bytes(1, b"key"))].concat()
}

/// Reads, and takes every constant; the outcome is the caller's.
fn load(file: &Bytes) -> Result<(), ImportError> {
    let limits = LoadLimits::default();
    for tensor in &read(file.clone(), &limits)?.graph.initializers {
        if !matches!(tensor.data, TensorData::External(_)) {
            to_tensor(tensor, &limits)?;
        }
    }
    Ok(())
}

/// Splitmix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut x = *state;
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[test]
fn every_prefix() {
    let whole = Bytes::from(rich_model());
    load(&whole).unwrap();
    let sound = (0..whole.len()).filter(|cut| load(&whole.slice(..*cut)).is_ok()).count();
    // Only a cut between the last fields can leave a sound model.
    assert!(sound <= 4, "{sound} of {} prefixes load", whole.len());
}

#[test]
fn flipped_bits_and_random_bytes() {
    let whole = rich_model();
    let mut state = 1;
    let mut outcomes = [0; 2];
    for _ in 0..20_000 {
        let mut file = whole.clone();
        for _ in 0..=random(&mut state) % 3 {
            let bit = random(&mut state) as usize % (file.len() * 8);
            file[bit / 8] ^= 1 << (bit % 8);
        }
        let outcome = load(&file.into());
        outcomes[usize::from(outcome.is_err())] += 1;
        if let Err(error) = outcome {
            assert!(error.code().starts_with("SDX-0") && !error.to_string().is_empty());
        }
    }
    assert!(outcomes[0] > 1000 && outcomes[1] > 1000, "{outcomes:?}");
    for length in 0..2000 {
        let file: Vec<u8> = (0..length % 97).map(|_| random(&mut state) as u8).collect();
        assert!(load(&file.into()).is_err());
    }
}

#[test]
fn bytes_replaced_by_extremes() {
    let whole = rich_model();
    for position in 0..whole.len() {
        for value in [0x00, 0x7f, 0x80, 0xff] {
            let mut file = whole.clone();
            file[position] = value;
            let _ = load(&file.into());
        }
    }
}

/// A model whose graphs nest this deep.
fn nested(depth: usize) -> Vec<u8> {
    let mut graph = Graph::new(&[], vec![node("Relu", &["x"], &["d0"], &[])], &["d0"]);
    for level in 1..depth {
        let output = format!("d{level}");
        let branch = subgraph_attribute("then_branch", &graph);
        graph = Graph::new(&[], vec![node("If", &["x"], &[&output], &[branch])], &[&output]);
    }
    let branch = subgraph_attribute("then_branch", &graph);
    Model::new(&["x"], vec![node("If", &["x"], &["y"], &[branch])], &["y"]).encode()
}

#[test]
fn depth() {
    let code = |depth| load(&nested(depth).into()).err().map(|error| error.code());
    assert_eq!(code(24), None);
    assert_eq!(code(64), None);
    assert_eq!(code(65), Some("SDX-0403"));
    assert_eq!(code(1000), Some("SDX-0403"));
    let wide = LoadLimits { subgraph_depth: u32::MAX, ..LoadLimits::default() };
    assert!(read(nested(128).into(), &wide).is_ok());
    assert_eq!(read(nested(129).into(), &wide).unwrap_err().code(), "SDX-0403");
    let mut ty = tensor_type();
    for _ in 0..5000 {
        ty = bytes(4, &bytes(1, &ty));
    }
    let value = bytes(12, &[bytes(1, b"z"), bytes(2, &ty)].concat());
    let file = [Model::new(&["x"], vec![], &["x"]).encode(), bytes(7, &value)].concat();
    assert_eq!(load(&file.into()).unwrap_err().code(), "SDX-0402");
}

#[test]
fn claimed_lengths() {
    let sound = rich_model();
    for claim in [1 << 31, 1 << 32, (1u64 << 63) - 1, 1 << 63, u64::MAX] {
        // As the length of every top-level field, and of a tensor's data.
        for number in [2, 7, 8, 14, 25] {
            let mut field = bytes(number, &[]);
            field.pop();
            field.extend(int(1, claim).split_off(1));
            let file = [sound.clone(), field].concat();
            assert_eq!(load(&file.into()).unwrap_err().code(), "SDX-0103");
        }
        let tensor = [bytes(8, b"t"), packed(1, &[claim]), int(2, 1), bytes(9, &[0; 4])].concat();
        let file = [sound.clone(), bytes(7, &bytes(5, &tensor))].concat();
        let error = load(&file.into()).unwrap_err();
        assert!(["SDX-0209", "SDX-0408"].contains(&error.code()), "{error}");
        assert_eq!(error.value(), Some("t"));
    }
}

#[test]
fn many_small_things_meet_a_budget() {
    let limits = LoadLimits::default();
    let code = |file: Vec<u8>, limits: &LoadLimits| read(file.into(), limits).unwrap_err().code();
    // Two bytes of file for a node, an attribute, an input, an initializer; one for an integer.
    let graph = |number, count| bytes(7, &bytes(number, &[]).repeat(count));
    assert_eq!(code(graph(1, 200_001), &limits), "SDX-0404");
    assert_eq!(code(graph(5, 3_000_000), &limits), "SDX-0405");
    assert_eq!(code(graph(11, 3_000_000), &limits), "SDX-0405");
    assert_eq!(code(bytes(25, &[]).repeat(1_000_000), &limits), "SDX-0405");
    let names = bytes(7, &bytes(1, &bytes(1, &[]).repeat(8_000_000)));
    assert_eq!(code(names, &limits), "SDX-0405");
    let ints = bytes(5, &packed(8, &vec![1; 20_000_000]));
    assert_eq!(code(bytes(7, &bytes(1, &ints)), &limits), "SDX-0405");
    assert_eq!(code(bytes(7, &bytes(2, &[b'n'; 70_000])), &limits), "SDX-0406");
    let small = LoadLimits { file_bytes: 100, ..LoadLimits::default() };
    assert_eq!(code(rich_model(), &small), "SDX-0401");
}

#[test]
fn weights_are_not_copied() {
    let weights: Vec<u8> = (0..1 << 20).map(|i| (i % 251) as u8).collect();
    let tensor = [bytes(8, b"w"), packed(1, &[1 << 18]), int(2, 1), bytes(9, &weights)].concat();
    let model = Model::new(&["x"], vec![node("Add", &["x", "w"], &["y"], &[])], &["y"]);
    let file = Bytes::from([model.encode(), bytes(7, &bytes(5, &tensor))].concat());
    let inside = file.as_ptr_range();
    let model = read(file, &LoadLimits::default()).unwrap();
    let TensorData::Raw(raw) = &model.graph.initializers[0].data else { panic!() };
    assert!(inside.contains(&raw.as_ptr()) && raw.len() == 1 << 20);
    let tensor = to_tensor(&model.graph.initializers[0], &LoadLimits::default()).unwrap();
    assert_eq!(tensor.bytes().as_ptr(), raw.as_ptr());
    assert_eq!(tensor.bytes(), weights);
}

#[test]
fn stripped_weights_can_be_looked_at() {
    let tensor = [bytes(8, b"w"), packed(1, &[4]), int(2, 1)].concat();
    let file = [Model::new(&["x"], vec![], &["x"]).encode(), bytes(7, &bytes(5, &tensor))].concat();
    assert!(read_structure(file.clone().into(), &LoadLimits::default()).is_ok());
    let error = read(file.into(), &LoadLimits::default()).unwrap_err();
    assert_eq!((error.code(), error.value()), ("SDX-0210", Some("w")));
}

#[test]
fn damaged_test_values() {
    let tensor = encode_tensor(&sardonyx_ops::Tensor::from_slice(&[2], &[1.0f32, 2.0]).unwrap(), "t");
    let file = [bytes(1, b"s"), bytes(3, &tensor), bytes(3, &tensor)].concat();
    let ty = super::TypeProto::Sequence(Box::new(super::TypeProto::Tensor(Default::default())));
    let mut state = 7;
    for _ in 0..5000 {
        let mut damaged = file.clone();
        let bit = random(&mut state) as usize % (file.len() * 8);
        damaged[bit / 8] ^= 1 << (bit % 8);
        let _ = decode_value(damaged.into(), &ty, &LoadLimits::default());
    }
}
