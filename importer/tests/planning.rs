//! Inference, folding, stages and passes on graphs made by hand.

#![allow(clippy::unwrap_used, reason = "clippy's exemption for tests does not reach their helpers")]

mod interpreter;

use std::sync::Arc;

use interpreter::sketch::{Sketch, made};
use interpreter::{check, rewrites, run};
use sardonyx_importer::{FoldLimits, ImportError, PlanOptions, Work, infer, passes, plan, prepare};
use sardonyx_ops::expr::Expr;
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::Graph;
use sardonyx_ops::ir::view::View;
use sardonyx_ops::pointwise::{self, Pointwise, functions};
use sardonyx_ops::reduce::CumSum;
use sardonyx_ops::{DType, Expansion, OpError, Operator, Role, Tensor};

fn add() -> Pointwise {
    Pointwise { name: "Add", expr: Expr::call(&functions::ADD, 2, Vec::new()) }
}

fn floats(dims: &[usize], data: &[f32]) -> Tensor {
    Tensor::from_slice(dims, data).unwrap()
}

/// A `rows x 3` product with a constant matrix: an anchor.
#[derive(Debug)]
struct Product;

impl Operator for Product {
    fn name(&self) -> &'static str {
        "Product"
    }
    fn infer(&self, inputs: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        let [Some(x), Some(w)] = inputs else { return Err(OpError::Internal("inputs")) };
        let (x, w) = (x.shape.as_ref().unwrap(), w.shape.as_ref().unwrap());
        Ok(vec![Fact::new(DType::F32, vec![x[0].clone(), w[1].clone()])])
    }
    fn reference(&self, inputs: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        let [Some(x), Some(w)] = inputs else { return Err(OpError::Internal("inputs")) };
        let (rows, depth, columns) = (x.dims[0], x.dims[1], w.dims[1]);
        let (a, b) = (x.slice::<f32>(), w.slice::<f32>());
        let cell =
            |i: usize| (0..depth).map(|k| a[i / columns * depth + k] * b[k * columns + i % columns]).sum();
        Ok(vec![Tensor::from_vec(&[rows, columns], (0..rows * columns).map(cell).collect::<Vec<f32>>())?])
    }
    fn role(&self) -> Role {
        Role::Anchor
    }
}

/// Input 0 in one dimension.
#[derive(Debug)]
struct Flat;

impl Operator for Flat {
    fn name(&self) -> &'static str {
        "Flat"
    }
    fn infer(&self, inputs: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        let x = inputs[0].unwrap();
        let size = sardonyx_ops::ir::dim::product(x.shape.as_ref().unwrap())?;
        Ok(vec![Fact::new(x.dtype, vec![size])])
    }
    fn reference(&self, inputs: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        let x = inputs[0].unwrap();
        Ok(vec![x.to_tensor().reshaped(&[x.len()])?])
    }
    fn role(&self) -> Role {
        Role::View
    }
}

/// The dimensions of input 0.
#[derive(Debug)]
struct Sizes;

impl Operator for Sizes {
    fn name(&self) -> &'static str {
        "Sizes"
    }
    fn infer(&self, inputs: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        let shape = inputs[0].unwrap().shape.clone().unwrap();
        let mut fact = Fact::known(DType::I64, &[shape.len()]);
        fact.sizes = Some(shape);
        Ok(vec![fact])
    }
    fn reference(&self, inputs: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        let dims: Vec<i64> = inputs[0].unwrap().dims.iter().map(|&n| n as i64).collect();
        Ok(vec![Tensor::from_slice(&[dims.len()], &dims)?])
    }
}

/// The positive elements of input 0: as many as there are.
#[derive(Debug)]
struct Positive;

impl Operator for Positive {
    fn name(&self) -> &'static str {
        "Positive"
    }
    fn infer(&self, _: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        Ok(vec![Fact::new(DType::F32, vec![Dim::named("Positive.count")])])
    }
    fn reference(&self, inputs: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        let kept: Vec<f32> = inputs[0].unwrap().slice::<f32>().iter().copied().filter(|&x| x > 0.0).collect();
        Ok(vec![Tensor::from_vec(&[kept.len()], kept)?])
    }
}

/// As many zeros as input 0, an i64 vector of one element, says.
#[derive(Debug)]
struct Zeros;

impl Operator for Zeros {
    fn name(&self) -> &'static str {
        "Zeros"
    }
    fn infer(&self, inputs: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        let size =
            inputs[0].unwrap().sizes.as_ref().map_or(Dim::named("Zeros.count"), |sizes| sizes[0].clone());
        Ok(vec![Fact::new(DType::F32, vec![size])])
    }
    fn reference(&self, inputs: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        let count = usize::try_from(inputs[0].unwrap().slice::<i64>()[0]).map_err(|_| OpError::Size)?;
        Ok(vec![Tensor::zeroed(DType::F32, &[count])?])
    }
}

/// Input 1 or, through a nested graph, input 1 doubled when input 0 is not zero.
#[derive(Debug)]
struct Branch(Arc<Graph>, Arc<Graph>);

impl Operator for Branch {
    fn name(&self) -> &'static str {
        "Branch"
    }
    fn expand(&self, inputs: &[Option<&Fact>]) -> Result<Expansion, OpError> {
        let Some(value) = inputs[0].and_then(Fact::integers) else { return Ok(Expansion::Waits) };
        let graph = if value[0] == 0 { &self.0 } else { &self.1 };
        Ok(Expansion::Graph { graph: Arc::clone(graph), inputs: vec![1] })
    }
    fn infer(&self, _: &[Option<&Fact>], _: usize) -> Result<Vec<Fact>, OpError> {
        Err(OpError::Internal("a branch stays"))
    }
    fn reference(&self, _: &[Option<View<'_>>], _: usize) -> Result<Vec<Tensor>, OpError> {
        Err(OpError::Internal("a branch runs"))
    }
}

fn branch() -> Branch {
    let mut same = Graph::default();
    let x = same.add_value("x");
    same.captures.push(("x".into(), x));
    same.outputs.push(x);
    let mut double = Sketch::default();
    let x = double.0.add_value("x");
    double.0.captures.push(("x".into(), x));
    let sum = double.node("sum", add(), &[x, x]);
    let one = double.constant(Tensor::scalar(1.0f32));
    let y = double.node("y", add(), &[sum, one]);
    Branch(Arc::new(same), Arc::new(double.output(&[y])))
}

#[test]
fn what_kernels_are_chosen_by_is_asked_for() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::Known(3)]);
    let axis = sketch.input("axis", DType::I64, &[]);
    let y = sketch.node("y", CumSum { product: false, exclusive: false, reverse: false }, &[x, axis]);
    let graph = sketch.output(&[y]);
    let inputs = [floats(&[3], &[1.0, 2.0, 4.0]), Tensor::scalar(0i64)];
    let run = run(&graph, &inputs, &PlanOptions::default()).unwrap();
    assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), [1.0, 3.0, 7.0]);
    // The sum waits for its axis, which is a constant then; the data is not.
    assert_eq!(run.stages, 2);
    let plan = run.plans.last().unwrap();
    let constant = |index: usize| plan.values[plan.steps[0].inputs[index].unwrap().0].constant.is_some();
    assert_eq!((constant(0), constant(1)), (false, true));
}

#[test]
fn constants_fold_and_dead_nodes_go() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::named("n"), Dim::Known(3)]);
    let a = sketch.constant(floats(&[3], &[1.0, 2.0, 3.0]));
    let b = sketch.constant(floats(&[1], &[0.5]));
    let sum = sketch.node("sum", add(), &[a, b]);
    sketch.node("unused", add(), &[x, x]);
    let y = sketch.node("y", add(), &[x, sum]);
    let sizes = sketch.node("sizes", Sizes, &[y]);
    let graph = sketch.output(&[y, sizes]);
    let run =
        run(&graph, &[floats(&[2, 3], &[0.0, 0.0, 0.0, 1.0, 1.0, 1.0])], &PlanOptions::default()).unwrap();
    assert_eq!((run.stages, run.plans[0].steps.len()), (1, 1));
    assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), [1.5, 2.5, 3.5, 2.5, 3.5, 4.5]);
    assert_eq!(run.outputs[1].to_vec::<i64>().unwrap(), [2, 3]);
    // Symbolic inference folds as well, and keeps the name.
    let facts: Vec<Fact> = graph.inputs.iter().map(|(_, fact)| fact.clone()).collect();
    let inferred = infer::infer(&graph, &facts, &FoldLimits::shapes_only()).unwrap();
    assert_eq!(format!("{:?}", inferred.fact(y).unwrap().shape.as_ref().unwrap()), "[n, 3]");
    assert_eq!(inferred.graph.nodes.len(), 2);
    assert!(inferred.fact(sum).unwrap().value.is_some());
    let none = FoldLimits { result_bytes: 0, ..FoldLimits::default() };
    assert_eq!(infer::infer(&graph, &facts, &none).unwrap().graph.nodes.len(), 3);
}

#[test]
fn pointwise_trees_become_one_expression() {
    let mut sketch = Sketch::default();
    let [x, y, z] =
        ["x", "y", "z"].map(|name| sketch.input(name, DType::F32, &[Dim::Known(2), Dim::Known(3)]));
    let half = sketch.constant(Tensor::scalar(0.5f32));
    let row = sketch.constant(floats(&[3], &[10.0, 20.0, 30.0]));
    let a = sketch.node("a", add(), &[x, half]);
    let b = sketch.node("b", add(), &[y, row]);
    let c = sketch.node("c", add(), &[a, b]);
    let d = sketch.node("d", add(), &[c, z]);
    let both = sketch.node("both", add(), &[d, d]);
    let graph = sketch.output(&[both]);
    let inputs = [floats(&[2, 3], &[1.0; 6]), floats(&[2, 3], &[2.0; 6]), floats(&[2, 3], &[4.0; 6])];
    let fused = run(&graph, &inputs, &PlanOptions::default()).unwrap();
    assert_eq!(fused.plans[0].steps.len(), 1, "{}", fused.plans[0]);
    assert_eq!(fused.plans[0].steps[0].inputs.len(), 4, "the scalar is in the expression");
    let nodes: Vec<&str> = fused.plans[0].steps[0].nodes.iter().map(|name| &**name).collect();
    assert_eq!(nodes.last(), Some(&"both"));
    assert_eq!(nodes.len(), 5);
    assert_eq!(fused.outputs[0].to_vec::<f32>().unwrap(), [35.0, 55.0, 75.0, 35.0, 55.0, 75.0]);
    let mut options = PlanOptions::default();
    options.disabled_passes.push("fuse_pointwise".to_owned());
    let plain = run(&graph, &inputs, &options).unwrap();
    assert_eq!(plain.plans[0].steps.len(), 5);
    assert_eq!(plain.outputs[0].to_vec::<f32>().unwrap(), fused.outputs[0].to_vec::<f32>().unwrap());
}

#[test]
fn shared_and_stretched_results_stay_apart() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::Known(1), Dim::Known(3)]);
    let y = sketch.input("y", DType::F32, &[Dim::Known(2), Dim::Known(3)]);
    let small = sketch.node("small", add(), &[x, x]);
    let big = sketch.node("big", add(), &[small, y]);
    let shared = sketch.node("shared", add(), &[big, y]);
    let left = sketch.node("left", Product, &[shared, shared]);
    let graph_output = sketch.node("right", add(), &[shared, y]);
    let graph = {
        let _ = left;
        sketch.output(&[graph_output, shared])
    };
    let plan = match plan(
        &graph,
        &[Fact::known(DType::F32, &[1, 3]), Fact::known(DType::F32, &[2, 3])],
        &PlanOptions::default(),
    )
    .unwrap()
    .work
    {
        Work::Compiled(plan) => plan,
        other => panic!("{other:?}"),
    };
    check(&plan);
    assert_eq!(plan.steps.len(), 3, "{plan}");
    let declined: Vec<&str> = plan
        .decisions
        .iter()
        .filter_map(|decision| match &decision.outcome {
            sardonyx_ops::plan::Outcome::Declined(reason) => Some(reason.as_str()),
            _ => None,
        })
        .collect();
    assert!(declined.iter().any(|reason| reason.contains("small is stretched")), "{declined:?}");
    assert!(declined.iter().any(|reason| reason.contains("other readers")), "{declined:?}");
}

#[test]
fn anchors_take_the_pointwise_steps_after_them() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::Known(2), Dim::Known(2)]);
    let w = sketch.constant(floats(&[2, 3], &[1.0, 0.0, 2.0, 0.0, 1.0, 3.0]));
    let bias = sketch.constant(floats(&[3], &[1.0, 2.0, 3.0]));
    let first = sketch.node("first", Product, &[x, w]);
    let second = sketch.node("second", Product, &[x, w]);
    let third = sketch.node("third", Product, &[second, w]);
    let _ = third;
    let biased = sketch.node("biased", add(), &[second, bias]);
    let sum = sketch.node("sum", add(), &[first, biased]);
    let graph = sketch.output(&[sum]);
    let mut options = PlanOptions::default();
    let x = floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let expected = [1.0 + 2.0, 2.0 + 4.0, 3.0 + 16.0, 1.0 + 6.0, 2.0 + 8.0, 3.0 + 36.0];
    // Both products are the same: one remains, and is read once by the merged sum.
    let once = run(&graph, std::slice::from_ref(&x), &options).unwrap();
    assert_eq!(once.outputs[0].to_vec::<f32>().unwrap(), expected);
    assert_eq!(once.plans[0].steps.len(), 1, "{}", once.plans[0]);
    assert_eq!(rewrites(&once.plans[0], "common_subexpression"), 1);
    options.disabled_passes.push("common_subexpression".to_owned());
    let twice = run(&graph, &[x], &options).unwrap();
    assert_eq!(twice.plans[0].steps.len(), 2, "{}", twice.plans[0]);
    assert_eq!(twice.plans[0].steps[1].name(), "second");
    assert_eq!(twice.plans[0].steps[1].epilogue.as_ref().unwrap().operands.len(), 2);
    assert_eq!(rewrites(&twice.plans[0], "fuse_epilogue"), 1);
    assert_eq!(twice.outputs[0].to_vec::<f32>().unwrap(), expected);
}

#[test]
fn steps_without_effect_go_and_outputs_keep_their_names() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::Known(3)]);
    let flat = sketch.node("flat", Flat, &[x]);
    let cast = sketch.node("cast", pointwise::cast(DType::F32), &[flat]);
    let y = sketch.node("y", add(), &[cast, flat]);
    let z = sketch.node("z", Flat, &[y]);
    let same = sketch.node("same", Flat, &[x]);
    let graph = sketch.output(&[z, same]);
    let run = run(&graph, &[floats(&[3], &[1.0, 2.0, 4.0])], &PlanOptions::default()).unwrap();
    let plan = &run.plans[0];
    assert_eq!(plan.steps.len(), 2, "{plan}");
    assert_eq!(&*plan.values[plan.outputs[0].0].name, "z");
    assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), [2.0, 4.0, 8.0]);
    assert_eq!(run.outputs[1].to_vec::<f32>().unwrap(), [1.0, 2.0, 4.0]);
}

#[test]
fn choices_that_a_constant_decides_go() {
    for (conditions, expected) in [
        ([true, true], [3.0, 6.0, 9.0, 12.0]),
        ([false, false], [8.0, 9.0, 10.0, 11.0]),
        ([true, false], [3.0, 6.0, 10.0, 11.0]),
    ] {
        let mut sketch = Sketch::default();
        let x = sketch.input("x", DType::F32, &[Dim::Known(2), Dim::Known(2)]);
        let decided = sketch.constant(Tensor::from_bools(&[2, 1], &conditions).unwrap());
        let seven = sketch.constant(floats(&[2, 2], &[7.0; 4]));
        let sums = sketch.node("sums", add(), &[x, x]);
        let select = Pointwise { name: "Where", expr: Expr::call(&functions::SELECT, 3, Vec::new()) };
        let chosen = sketch.node("chosen", select, &[decided, sums, seven]);
        let y = sketch.node("y", add(), &[chosen, x]);
        let graph = sketch.output(&[y]);
        let run = run(&graph, &[floats(&[2, 2], &[1.0, 2.0, 3.0, 4.0])], &PlanOptions::default()).unwrap();
        let alike = conditions[0] == conditions[1];
        assert_eq!(rewrites(&run.plans[0], "identity"), usize::from(alike), "{}", run.plans[0]);
        assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), expected);
    }
}

#[test]
fn data_dependent_sizes_make_stages() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::named("n")]);
    let one = sketch.constant(Tensor::scalar(1.0f32));
    let shifted = sketch.node("shifted", add(), &[x, one]);
    let kept = sketch.node("kept", Positive, &[shifted]);
    let double = sketch.node("double", add(), &[kept, kept]);
    let sizes = sketch.node("sizes", Sizes, &[double]);
    let zeros = sketch.node("zeros", Zeros, &[sizes]);
    let sum = sketch.node("sum", add(), &[zeros, double]);
    let graph = sketch.output(&[sum, shifted, x, one]);
    let mut data = [-3.0; 20];
    data[7..10].copy_from_slice(&[0.0, 1.0, -1.0]);
    let input = floats(&[20], &data);
    let run = run(&graph, &[input], &PlanOptions::default()).unwrap();
    // A plan up to `shifted`, `kept` on the host, and a plan for the rest.
    assert_eq!((run.stages, run.plans.len()), (3, 2));
    assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), [2.0, 4.0]);
    assert_eq!(run.outputs[1].to_vec::<f32>().unwrap()[6..11], [-2.0, 1.0, 2.0, 0.0, -2.0]);
    assert_eq!(run.outputs[2].to_vec::<f32>().unwrap(), data);
    assert_eq!(run.outputs[3].to_vec::<f32>().unwrap(), [1.0]);
}

#[test]
fn small_values_are_read_back_to_plan_on() {
    let mut sketch = Sketch::default();
    let count = sketch.input("count", DType::I64, &[Dim::Known(1)]);
    let twice = sketch.node("twice", add(), &[count, count]);
    let zeros = sketch.node("zeros", Zeros, &[twice]);
    let graph = sketch.output(&[zeros]);
    let stage = plan(&graph, &[Fact::known(DType::I64, &[1])], &PlanOptions::default()).unwrap();
    assert!(stage.rest.as_ref().unwrap().takes[0].value);
    let run = run(&graph, &[Tensor::from_slice(&[1], &[3i64]).unwrap()], &PlanOptions::default()).unwrap();
    assert_eq!((run.stages, run.outputs[0].dims()), (2, &[6usize][..]));
    // A value that is known from the start leaves one stage.
    let known = Fact::constant(Tensor::from_slice(&[1], &[2i64]).unwrap());
    let stage = plan(&graph, &[known], &PlanOptions::default()).unwrap();
    assert!(stage.rest.is_none());
}

#[test]
fn branches_expand_when_their_condition_is_known() {
    let mut sketch = Sketch::default();
    let condition = sketch.input("condition", DType::I64, &[Dim::Known(1)]);
    let x = sketch.input("x", DType::F32, &[Dim::named("n")]);
    let branch = sketch.node("branch", branch(), &[condition, x]);
    let y = sketch.node("y", add(), &[branch, x]);
    let graph = sketch.output(&[y, branch]);
    let x = floats(&[2], &[1.0, 2.0]);
    for (condition, sum, taken) in [(0i64, [2.0, 4.0], [1.0, 2.0]), (1, [4.0, 7.0], [3.0, 5.0])] {
        let condition = Tensor::from_slice(&[1], &[condition]).unwrap();
        let run = run(&graph, &[condition.clone(), x.clone()], &PlanOptions::default()).unwrap();
        assert_eq!(run.outputs[0].to_vec::<f32>().unwrap(), sum);
        assert_eq!(run.outputs[1].to_vec::<f32>().unwrap(), taken);
        let known = plan(
            &graph,
            &[Fact::constant(condition), Fact::known(DType::F32, &[2])],
            &PlanOptions::default(),
        );
        assert!(known.unwrap().rest.is_none());
    }
}

#[test]
fn normalisations_go_into_weights() {
    let ramp = |dims: &[usize], start: f32| {
        let count: usize = dims.iter().product();
        floats(dims, &(0..count).map(|i| (start + i as f32 * 0.37).sin()).collect::<Vec<_>>())
    };
    // Input, weights, channels, and whether there is a bias.
    type Case = (&'static str, Option<(&'static str, i64)>, &'static [usize], &'static [usize], usize, bool);
    let cases: [Case; 4] = [
        ("Conv", Some(("group", 2)), &[1, 4, 5, 3], &[6, 2, 3, 2], 6, true),
        ("ConvTranspose", Some(("group", 2)), &[1, 4, 5, 3], &[4, 3, 2, 2], 6, false),
        ("Gemm", Some(("transB", 1)), &[3, 5], &[7, 5], 7, true),
        ("Gemm", None, &[3, 5], &[5, 7], 7, false),
    ];
    for (name, attribute, input, weights, channels, biased) in cases {
        let mut sketch = Sketch::default();
        let x = sketch.input("x", DType::F32, &sardonyx_ops::ir::dim::from_known(input));
        let mut inputs = vec![x, sketch.constant(ramp(weights, 0.1))];
        if biased {
            inputs.push(sketch.constant(ramp(&[channels], 2.0)));
        }
        let product = sketch.node_of("product", made(name, attribute, inputs.len()), &inputs);
        let scale = sketch.constant(ramp(&[channels], 1.0));
        let shift = sketch.constant(ramp(&[channels], 0.5));
        let mean = sketch.constant(ramp(&[channels], 0.2));
        let spread: Vec<f32> = (0..channels).map(|i| 0.5 + i as f32).collect();
        let variance = sketch.constant(floats(&[channels], &spread));
        let statistics = [product, scale, shift, mean, variance];
        let y = sketch.node_of("y", made("BatchNormalization", None, 5), &statistics);
        let graph = sketch.output(&[y]);
        let prepared = prepare(&graph, &PlanOptions::default()).unwrap();
        assert_eq!((prepared.graph.nodes.len(), prepared.decisions.len()), (1, 1), "{name}");
        let x = ramp(input, 3.0);
        let plain = run(&graph, std::slice::from_ref(&x), &PlanOptions::default()).unwrap();
        let folded = run(&prepared.graph, &[x], &PlanOptions::default()).unwrap();
        assert_eq!((plain.plans[0].steps.len(), folded.plans[0].steps.len()), (2, 1));
        let (a, b) = (plain.outputs[0].to_vec::<f32>().unwrap(), folded.outputs[0].to_vec::<f32>().unwrap());
        for (a, b) in a.iter().zip(&b) {
            assert!((a - b).abs() < 1e-5, "{name}: {a} {b}");
        }
    }
}

#[test]
fn misfits_are_errors() {
    let mut sketch = Sketch::default();
    let x = sketch.input("x", DType::F32, &[Dim::Known(3)]);
    let y = sketch.input("y", DType::F32, &[Dim::named("n")]);
    let sum = sketch.node("sum", add(), &[x, y]);
    let graph = sketch.output(&[sum]);
    let try_plan = |facts: &[Fact]| plan(&graph, facts, &PlanOptions::default()).unwrap_err();
    let (three, four) = (Fact::known(DType::F32, &[3]), Fact::known(DType::F32, &[4]));
    assert_eq!(try_plan(std::slice::from_ref(&three)).code(), "SDX-0501");
    assert_eq!(try_plan(&[four.clone(), three.clone()]).code(), "SDX-0501");
    assert_eq!(try_plan(&[three.clone(), Fact::known(DType::I64, &[3])]).code(), "SDX-0501");
    assert_eq!(try_plan(&[three.clone(), Fact::new(DType::F32, vec![Dim::named("n")])]).code(), "SDX-0501");
    let error = try_plan(&[three.clone(), four]);
    assert_eq!((error.code(), error.node()), ("SDX-0214", Some("sum")));
    let mut options = PlanOptions::default();
    options.disabled_passes.push("fuse_everything".to_owned());
    let error = plan(&graph, &[three.clone(), three], &options).unwrap_err();
    assert!(matches!(error, ImportError::Input { .. }));
    assert!(error.to_string().contains("fuse_pointwise"), "{error}");
    let all: Vec<&str> = passes::names().collect();
    assert!(all.iter().enumerate().all(|(index, name)| !all[..index].contains(name)), "{all:?}");
}
