use crate::onnx::testing::{Graph, Model, bytes, call, code, error, int, node, read, subgraph_attribute};
use crate::onnx::{AttributeValue, LoadLimits, NodeProto};

struct Function {
    name: &'static str,
    inputs: &'static [&'static str],
    outputs: &'static [&'static str],
    attributes: &'static [&'static str],
    defaults: Vec<Vec<u8>>,
    nodes: Vec<Vec<u8>>,
}

impl Function {
    fn new(
        name: &'static str,
        inputs: &'static [&'static str],
        nodes: Vec<Vec<u8>>,
        outputs: &'static [&'static str],
    ) -> Function {
        Function { name, inputs, outputs, attributes: &[], defaults: vec![], nodes }
    }

    fn encode(&self) -> Vec<u8> {
        let list = |number, names: &[&str]| -> Vec<u8> {
            names.iter().flat_map(|name| bytes(number, name.as_bytes())).collect()
        };
        [
            bytes(1, self.name.as_bytes()),
            list(4, self.inputs),
            list(5, self.outputs),
            list(6, self.attributes),
            self.nodes.iter().flat_map(|node| bytes(7, node)).collect(),
            bytes(9, &int(2, 13)),
            bytes(10, b"local"),
            self.defaults.iter().flat_map(|default| bytes(11, default)).collect(),
        ]
        .concat()
    }
}

fn local(op: &str, inputs: &[&str], outputs: &[&str]) -> Vec<u8> {
    call("local", op, inputs, outputs, &[])
}

fn model(nodes: Vec<Vec<u8>>, functions: Vec<Function>) -> Model {
    let mut model = Model::new(&["x"], nodes, &["y"]);
    model.imports.push(("local".into(), 1));
    model.functions = functions.iter().map(Function::encode).collect();
    model
}

fn wires(node: &NodeProto) -> String {
    let join = |names: &[std::sync::Arc<str>]| names.join(",");
    format!("{}({})->{}", node.op_type, join(&node.inputs), join(&node.outputs))
}

fn all_wires(file: Vec<u8>) -> Vec<String> {
    let model = read(file).unwrap();
    assert!(model.functions.is_empty());
    model.graph.nodes.iter().map(wires).collect()
}

#[test]
fn bodies_replace_calls() {
    let twice = Function::new(
        "Twice",
        &["a"],
        vec![node("Relu", &["a"], &["t"], &[]), node("Neg", &["t"], &["b"], &[])],
        &["b"],
    );
    let four = Function::new(
        "Four",
        &["a"],
        vec![local("Twice", &["a"], &["t"]), local("Twice", &["t"], &["b"])],
        &["b"],
    );
    let file =
        model(vec![local("Four", &["x"], &["m"]), node("Abs", &["m"], &["y"], &[])], vec![four, twice]);
    let expected = [
        "Relu(x)->fn2.Twice/t",
        "Neg(fn2.Twice/t)->fn1.Four/t",
        "Relu(fn1.Four/t)->fn3.Twice/t",
        "Neg(fn3.Twice/t)->m",
        "Abs(m)->y",
    ];
    assert_eq!(all_wires(file.encode()), expected);
    let model = read(file.encode()).unwrap();
    let opsets: Vec<i64> = model.graph.nodes.iter().map(|node| node.opset).collect();
    assert_eq!(opsets, [13, 13, 13, 13, 17], "the body's own operator set");
}

fn alpha(value: Vec<u8>) -> Vec<u8> {
    [bytes(1, b"alpha"), value].concat()
}

#[test]
fn attributes_are_substituted() {
    let reference = [bytes(1, b"axis"), bytes(21, b"alpha"), int(20, 2)].concat();
    let function = |declared: &'static [&'static str], defaults| {
        let body = vec![node("Softmax", &["a"], &["b"], std::slice::from_ref(&reference))];
        Function { attributes: declared, defaults, ..Function::new("F", &["a"], body, &["b"]) }
    };
    let default = || vec![alpha([int(3, 7), int(20, 2)].concat())];
    let read_axis = |given: &[Vec<u8>], function: Function| {
        let file = model(vec![call("local", "F", &["x"], &["y"], given)], vec![function]).encode();
        read(file).map(|model| match model.graph.nodes[0].attribute("axis") {
            Some(AttributeValue::Int(axis)) => Some(*axis),
            None => None,
            other => panic!("{other:?}"),
        })
    };
    let given = [alpha([int(3, 5), int(20, 2)].concat())];
    assert_eq!(read_axis(&given, function(&[], default())).unwrap(), Some(5));
    assert_eq!(read_axis(&given, function(&["alpha"], vec![])).unwrap(), Some(5));
    assert_eq!(read_axis(&[], function(&[], default())).unwrap(), Some(7));
    assert_eq!(read_axis(&[], function(&["alpha"], vec![])).unwrap(), None);
    let unknown = read_axis(&given, function(&["beta"], vec![])).unwrap_err();
    assert_eq!((unknown.code(), unknown.node()), ("SDX-0207", Some("y")));
    let text = [alpha([bytes(4, b"5"), int(20, 3)].concat())];
    assert_eq!(read_axis(&text, function(&["alpha"], vec![])).unwrap_err().code(), "SDX-0207");
}

#[test]
fn absent_inputs_outputs_and_passing_through() {
    let clip = || {
        let body = vec![node("Clip", &["a", "low", "high"], &["b"], &[]), node("Abs", &["b"], &["c"], &[])];
        Function::new("F", &["a", "low", "high"], body, &["b", "c", "a", "b"])
    };
    let file = |outputs: &[&str]| model(vec![local("F", &["x", "", "x"], outputs)], vec![clip()]).encode();
    assert_eq!(
        all_wires(file(&["", "y"])),
        ["Clip(x,,x)->fn1.F/b", "Abs(fn1.F/b)->y"],
        "an unwanted output and an absent input"
    );
    assert_eq!(
        all_wires(file(&["p", "q", "r", "y"])),
        ["Clip(x,,x)->p", "Abs(p)->q", "Identity(x)->r", "Identity(p)->y"]
    );
    let pass = Function::new("P", &["a", "o"], vec![], &["o"]);
    assert_eq!(code(model(vec![local("P", &["x"], &["y"])], vec![pass]).encode()), "SDX-0212");
}

#[test]
fn subgraphs_on_both_sides() {
    // A body with a subgraph that reads a formal input, hides another and calls a function.
    let neg = Function::new("Neg2", &["a"], vec![node("Neg", &["a"], &["b"], &[])], &["b"]);
    let inner = Graph::new(&["b"], vec![local("Neg2", &["a"], &["t"])], &["t"]);
    let body = vec![node("Loop", &["a", "b"], &["c"], &[subgraph_attribute("body", &inner)])];
    let function = Function::new("F", &["a", "b"], body, &["c"]);
    let outer = Graph::new(&[], vec![local("F", &["x", "x"], &["u"])], &["u"]);
    let call = node("If", &["x"], &["y"], &[subgraph_attribute("then_branch", &outer)]);
    let model = read(model(vec![call], vec![neg, function]).encode()).unwrap();
    let branch = model.graph.nodes[0].subgraphs().next().unwrap();
    assert_eq!(branch.captures, ["x".into()]);
    assert_eq!(wires(&branch.nodes[0]), "Loop(x,x)->u");
    let body = branch.nodes[0].subgraphs().next().unwrap();
    assert_eq!(&*body.inputs[0].name, "fn1.F/b");
    assert_eq!(wires(&body.nodes[0]), "Neg(x)->fn1.F/t");
    assert_eq!(&*body.outputs[0].name, "fn1.F/t");
}

#[test]
fn prefixes_avoid_the_models_names() {
    let abs = Function::new(
        "F",
        &["a"],
        vec![node("Abs", &["a"], &["t"], &[]), node("Abs", &["t"], &["b"], &[])],
        &["b"],
    );
    let nodes = vec![node("Neg", &["x"], &["fn1.F/t"], &[]), local("F", &["fn1.F/t"], &["y"])];
    let expected = ["Neg(x)->fn1.F/t", "Abs(fn1.F/t)->fn_1.F/t", "Abs(fn_1.F/t)->y"];
    assert_eq!(all_wires(model(nodes, vec![abs]).encode()), expected);
}

#[test]
fn bad_functions_are_refused() {
    let calls =
        |nodes| model(vec![local("F", &["x"], &["y"])], vec![Function::new("F", &["a"], nodes, &["b"])]);
    let own = error(calls(vec![local("F", &["a"], &["b"])]).encode());
    assert_eq!((own.code(), own.node()), ("SDX-0212", Some("F")));
    let ping = Function::new("Ping", &["a"], vec![local("Pong", &["a"], &["b"])], &["b"]);
    let pong = Function::new("Pong", &["a"], vec![local("Ping", &["a"], &["b"])], &["b"]);
    let mutual = model(vec![node("Abs", &["x"], &["y"], &[])], vec![ping, pong]);
    assert_eq!(code(mutual.encode()), "SDX-0212", "even when nothing calls them");
    let abs = |input, output| node("Abs", &[input], &[output], &[]);
    assert_eq!(code(calls(vec![abs("a", "c")]).encode()), "SDX-0212", "no output");
    assert_eq!(code(calls(vec![abs("a", "b"), abs("b", "a")]).encode()), "SDX-0212", "writes its input");
    let outer = error(calls(vec![abs("x", "b")]).encode());
    assert_eq!((outer.code(), outer.value()), ("SDX-0204", Some("fn1.F/x")), "reads the caller's value");
    assert_eq!(code(calls(vec![call("foreign", "Op", &["a"], &["b"], &[])]).encode()), "SDX-0211");
    let good = || Function::new("F", &["a"], vec![abs("a", "b")], &["b"]);
    assert_eq!(code(model(vec![abs("x", "y")], vec![good(), good()]).encode()), "SDX-0202");
    let arity = |inputs: &[&str], outputs: &[&str]| {
        code(model(vec![local("F", inputs, outputs)], vec![good()]).encode())
    };
    assert_eq!(arity(&["x", "x"], &["y"]), "SDX-0206");
    assert_eq!(arity(&["x"], &["y", "z"]), "SDX-0206");
}

#[test]
fn doubling_functions_meet_the_budget() {
    const NAMES: [&str; 40] = [
        "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14", "f15",
        "f16", "f17", "f18", "f19", "f20", "f21", "f22", "f23", "f24", "f25", "f26", "f27", "f28", "f29",
        "f30", "f31", "f32", "f33", "f34", "f35", "f36", "f37", "f38", "f39",
    ];
    let mut functions = vec![Function::new(NAMES[0], &["a"], vec![], &["a"])];
    for pair in NAMES.windows(2) {
        let body = vec![local(pair[0], &["a"], &["t"]), local(pair[0], &["t"], &["b"])];
        functions.push(Function::new(pair[1], &["a"], body, &["b"]));
    }
    let file = model(vec![local("f39", &["x"], &["y"])], functions).encode();
    assert!(["SDX-0404", "SDX-0405"].contains(&code(file.clone())));
    let small = LoadLimits { nodes: 1000, ..LoadLimits::default() };
    let error = crate::onnx::read(file.into(), &small).unwrap_err();
    assert_eq!(error.code(), "SDX-0404");
    assert!(error.node().is_some(), "{error}");
}
