//! Runs cases on every device, compares them with the reference, and looks for the smallest case that fails.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use sardonyx::{Device, DeviceKind, Error, Fallback, Place, PlanSession, Precision};
use sardonyx_importer::{HostInput, PlanOptions, Source, Work, plan, prepare};
use sardonyx_ops::ir::attributes::Attribute;
use sardonyx_ops::ir::dim::Dim;
use sardonyx_ops::ir::fact::Fact;
use sardonyx_ops::ir::graph::{Graph, Node as GraphNode, ValueId};
use sardonyx_ops::{DType, Operator, Tensor};
use sardonyx_tests::{difference, gpu_turn, gpus, misaligned, numbers};

use crate::node::{Draw, Node, Tolerance};

/// Makes one case of an operator.
pub struct Generator {
    pub domain: &'static str,
    pub name: &'static str,
    pub make: fn(&mut Draw, Node) -> Node,
}

/// A row for an operator of the standard domain.
pub const fn onnx(name: &'static str, make: fn(&mut Draw, Node) -> Node) -> Generator {
    Generator { domain: "", name, make }
}

/// A row for an operator of ONNX Runtime.
pub const fn microsoft(name: &'static str, make: fn(&mut Draw, Node) -> Node) -> Generator {
    Generator { domain: "com.microsoft", name, make }
}

/// A graph with inputs, and what references make of them.
pub struct Case {
    pub graph: Graph,
    pub given: Vec<Tensor>,
    pub want: Vec<Tensor>,
    pub tolerance: Tolerance,
    pub half: bool,
}

/// How a run went.
pub enum Ran {
    /// These are the outputs; whether any step ran on the device.
    Done(Vec<Tensor>, bool),
    /// The device has no kernel for it, for this reason.
    Refused(String),
}

/// Cases of each operator on the CPU, and on each GPU. `SARDONYX_SOAK` says how many on the CPU instead.
fn counts() -> (usize, usize) {
    match std::env::var("SARDONYX_SOAK").ok().and_then(|text| text.parse().ok()) {
        Some(cases) => (cases, cases / 8),
        None => (40, 3),
    }
}

/// Runs every generator of a family on every device.
///
/// # Panics
/// With all operators that fail, each with its smallest case.
pub fn check_family(generators: &[Generator]) {
    let wanted = std::env::var("SARDONYX_CASE").unwrap_or_default();
    let mut wanted = wanted.split(':');
    let only = wanted.next().filter(|name| !name.is_empty());
    let exact = wanted.next().and_then(|seed| seed.parse().ok()).map(|seed: u64| {
        let level = wanted.next().and_then(|level| level.parse().ok()).unwrap_or(2);
        (seed, level)
    });
    let (cpu, gpu) = counts();
    let mut devices: Vec<(Device, usize)> = vec![(Device::cpu(), cpu)];
    devices.extend(gpus().iter().map(|device| (device.clone(), gpu)));
    let mut failures = Vec::new();
    let mut report: BTreeMap<String, [usize; 2]> = BTreeMap::new();
    for generator in generators.iter().filter(|generator| only.is_none_or(|name| name == generator.name)) {
        for (device, cases) in &devices {
            let on_gpu = !is_cpu(device);
            let _turn = on_gpu.then(gpu_turn);
            // What a GPU refuses costs little: there are further cases in its place.
            let tries = if on_gpu { 4 * cases } else { *cases };
            let seeds = exact.map_or_else(|| seeds(generator, tries), |exact| vec![exact]);
            let mut ran = 0;
            let row = report.entry(device.info().id.clone()).or_default();
            for (seed, level) in seeds {
                if ran == *cases {
                    break;
                }
                match attempt(generator, device, seed, level) {
                    Ok(true) => {
                        row[0] += 1;
                        ran += 1;
                    }
                    Ok(false) => row[1] += 1,
                    Err(_) => {
                        let tries = if on_gpu { 16 } else { 200 };
                        failures.push(smallest(generator, device, (seed, level), tries));
                        break;
                    }
                }
            }
        }
    }
    for (device, [ran, refused]) in report {
        println!("{device}: {ran} cases of {} operators ran, {refused} were refused", generators.len());
    }
    assert!(failures.is_empty(), "{} failures\n\n{}", failures.len(), failures.join("\n\n"));
}

/// Seeds with levels, most of the usual level, the same in every run.
fn seeds(generator: &Generator, cases: usize) -> Vec<(u64, usize)> {
    let name = generator.domain.bytes().chain(generator.name.bytes());
    let first = name.fold(0u64, |hash, byte| hash.wrapping_mul(31).wrapping_add(u64::from(byte))) << 24;
    (0..cases as u64).map(|index| (first + index, if index % 4 == 0 { 0 } else { 2 })).collect()
}

/// The smallest failing case among a few, as text.
fn smallest(generator: &Generator, device: &Device, first: (u64, usize), tries: u64) -> String {
    let mut best: Option<(usize, (u64, usize), String)> = None;
    let candidates = (0..tries).map(|index| (first.0 ^ (1 << 20) ^ index, (index % 4 / 3) as usize));
    for (seed, level) in std::iter::once(first).chain(candidates) {
        let size =
            (generator.make)(&mut Draw::new(seed, level), Node::new(generator.domain, generator.name)).size();
        if best.as_ref().is_some_and(|(least, ..)| *least <= size) {
            continue;
        }
        if let Err(what) = attempt(generator, device, seed, level) {
            best = Some((size, (seed, level), what));
        }
    }
    let Some((_, (seed, level), what)) = best else {
        return format!("{} failed once on {device:?} ({first:?}), but not again", generator.name);
    };
    format!("SARDONYX_CASE={}:{seed}:{level} on {device:?}\n{what}", generator.name)
}

/// Makes a case and runs it. Whether it ran on the device it should.
fn attempt(generator: &Generator, device: &Device, seed: u64, level: usize) -> Result<bool, String> {
    let mut draw = Draw::new(seed, level);
    let node = (generator.make)(&mut draw, Node::new(generator.domain, generator.name));
    let text = describe(&node);
    let work = || {
        let case = case_of(&node, &mut draw)?;
        let ran = check(&case, device, Precision::Model)?;
        let half = case.half && draw.coarse() && device.capabilities().is_some_and(|caps| caps.f16);
        if half && ran && draw.one_in(2) {
            check(&case, device, Precision::F16).map_err(|what| format!("held as f16: {what}"))?;
        }
        Ok(ran)
    };
    let result = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        Err(format!("panic: {}", text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?")))
    });
    result.map_err(|what: String| format!("{text}\n{what}"))
}

/// A graph of the node alone, what the caller gives, and what the reference makes of it.
pub fn case_of_parts(node: &Node) -> Result<(Graph, Vec<Tensor>, Vec<Tensor>), String> {
    let op = node.build()?;
    let views: Vec<_> = node.inputs.iter().map(|input| input.as_ref().map(Tensor::view)).collect();
    let want = op.reference(&views, node.outputs.len()).map_err(|error| format!("reference: {error}"))?;
    check_facts(op.as_ref(), node, &want)?;
    let (graph, given) = graph_of(node, op);
    Ok((graph, given, want))
}

/// A graph of the node alone, and what the caller gives.
pub fn graph_of(node: &Node, op: Arc<dyn Operator>) -> (Graph, Vec<Tensor>) {
    let mut graph = Graph::default();
    let mut given = Vec::new();
    let mut inputs = Vec::new();
    for (index, input) in node.inputs.iter().enumerate() {
        inputs.push(input.as_ref().map(|tensor| {
            add_value(&mut graph, &mut given, &format!("input{index}"), tensor, node.constant[index])
        }));
    }
    let mut outputs: Vec<Option<ValueId>> = Vec::new();
    for (index, &wanted) in node.outputs.iter().enumerate() {
        outputs.push(wanted.then(|| graph.add_value(format!("output{index}"))));
    }
    graph.outputs = outputs.iter().flatten().copied().collect();
    graph.nodes.push(GraphNode { name: node.name.into(), op, inputs, outputs });
    (graph, given)
}

/// The same, and now and then pointwise nodes behind it.
fn case_of(node: &Node, draw: &mut Draw) -> Result<Case, String> {
    let (mut graph, mut given, mut want) = case_of_parts(node)?;
    let float = want.first().is_some_and(|first| first.dtype().is_float() && first.dtype().bits() >= 16);
    if node.ending && node.outputs.first() == Some(&true) && float && draw.one_in(3) {
        for (op, operand) in endings(&want[0], draw) {
            let mut inputs = vec![graph.outputs.first().copied()];
            let mut views = vec![Some(want[0].view())];
            if let Some(operand) = &operand {
                let constant = draw.flag();
                inputs.push(Some(add_value(&mut graph, &mut given, "operand", operand, constant)));
                views.push(Some(operand.view()));
            }
            let next = op.reference(&views, 1).map_err(|error| format!("ending: {error}"))?;
            want[0] = next.into_iter().next().ok_or("an ending without a result")?;
            let output = graph.add_value("ended");
            graph.nodes.push(GraphNode { name: "ending".into(), op, inputs, outputs: vec![Some(output)] });
            graph.outputs[0] = output;
        }
    }
    // A model may leave the sizes of its inputs open.
    if draw.one_in(3) {
        open_sizes(&mut graph);
    }
    let want =
        node.outputs.iter().zip(want).filter(|(wanted, _)| **wanted).map(|(_, tensor)| tensor).collect();
    Ok(Case { graph, given, want, tolerance: node.tolerance, half: node.half })
}

/// One or two pointwise operators that keep the shape.
fn endings(first: &Tensor, draw: &mut Draw) -> Vec<(Arc<dyn Operator>, Option<Tensor>)> {
    let count = draw.between(1, 2);
    let one = |draw: &mut Draw| {
        let dims = draw.broadcast_to(first.dims());
        let operand = draw.data(first.dtype(), &dims);
        let node = |name| Node::new("", name);
        let (node, operand) = match draw.below(4) {
            0 => (node("Relu"), None),
            1 => (node("LeakyRelu").float("alpha", 0.25), None),
            2 => (node("Add"), Some(operand)),
            _ => (node("Mul"), Some(operand)),
        };
        let mut inputs = vec![Some(first.clone())];
        inputs.extend(operand.clone().map(Some));
        (Node { inputs, ..node }.build().unwrap(), operand)
    };
    (0..count).map(|_| one(draw)).collect()
}

/// A value of the graph that the caller or the model gives.
pub fn add_value(
    graph: &mut Graph,
    given: &mut Vec<Tensor>,
    name: &str,
    tensor: &Tensor,
    constant: bool,
) -> ValueId {
    let id = graph.add_value(format!("{name}.{}", graph.names.len()));
    if constant {
        graph.constants.insert(id, misaligned(tensor));
    } else {
        graph.inputs.push((id, Fact::known(tensor.dtype(), tensor.dims())));
        given.push(tensor.clone());
    }
    id
}

/// Takes the sizes of a graph's inputs away, as in a model that leaves them open.
pub fn open_sizes(graph: &mut Graph) {
    for (index, (_, fact)) in graph.inputs.iter_mut().enumerate() {
        *fact = opened(fact, index);
    }
}

/// The same type and rank, with names in place of sizes.
fn opened(fact: &Fact, index: usize) -> Fact {
    let rank = fact.rank().unwrap_or(0);
    Fact::new(fact.dtype, (0..rank).map(|axis| Dim::named(&format!("input{index}.{axis}"))).collect())
}

/// What is inferred holds for what the reference makes.
fn check_facts(op: &dyn Operator, node: &Node, want: &[Tensor]) -> Result<(), String> {
    let all: Vec<Option<Fact>> = node.inputs.iter().map(|input| input.clone().map(Fact::constant)).collect();
    let known: Vec<Option<Fact>> = node
        .inputs
        .iter()
        .zip(&node.constant)
        .map(|(input, &constant)| {
            input.as_ref().map(|tensor| match constant {
                true => Fact::constant(tensor.clone()),
                false => Fact::known(tensor.dtype(), tensor.dims()),
            })
        })
        .collect();
    let open: Vec<Option<Fact>> = known
        .iter()
        .enumerate()
        .map(|(index, fact)| {
            fact.as_ref().map(|fact| if fact.value.is_some() { fact.clone() } else { opened(fact, index) })
        })
        .collect();
    for facts in [all, known, open] {
        let facts: Vec<Option<&Fact>> = facts.iter().map(Option::as_ref).collect();
        let inferred = op.infer(&facts, node.outputs.len()).map_err(|error| format!("inference: {error}"))?;
        for (index, (fact, tensor)) in inferred.iter().zip(want).enumerate() {
            let dims = fact.shape.as_ref().is_none_or(|shape| {
                shape.len() == tensor.dims().len()
                    && shape.iter().zip(tensor.dims()).all(|(dim, &got)| dim.known().is_none_or(|n| n == got))
            });
            if fact.dtype != tensor.dtype() || !dims {
                return Err(format!("output {index} is {tensor:?}, but inferred is {fact:?}"));
            }
        }
    }
    Ok(())
}

/// Runs a case on a device and compares. Whether it ran there.
pub fn check(case: &Case, device: &Device, precision: Precision) -> Result<bool, String> {
    let (got, there) = match run(&case.graph, &case.given, device, precision, &PlanOptions::default())? {
        Ran::Refused(_) => return Ok(false),
        Ran::Done(got, there) => (got, there),
    };
    compare(&got, &case.want, case.tolerance, precision)?;
    Ok(there)
}

/// Compares outputs, each in the way of its type.
pub fn compare(
    got: &[Tensor],
    want: &[Tensor],
    tolerance: Tolerance,
    precision: Precision,
) -> Result<(), String> {
    if got.len() != want.len() {
        return Err(format!("{} outputs, not {}", got.len(), want.len()));
    }
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        if got.dtype() != want.dtype() || got.dims() != want.dims() {
            return Err(format!("output {index} is {got:?}, not {want:?}"));
        }
        let allowed = match want.dtype() {
            DType::F32 if precision == Precision::F16 => tolerance.f16,
            DType::F32 => tolerance.f32,
            DType::F64 => tolerance.f64,
            DType::F16 => tolerance.f16,
            DType::BF16 => tolerance.bf16,
            DType::Bool => 0.0,
            dtype if is_plain(dtype) => {
                let largest = numbers(want).iter().fold(1e-6, |most: f64, x| most.max(x.abs()));
                tolerance.integer / largest
            }
            _ if got.strings() == want.strings() && got.strings().is_some()
                || got.bytes() == want.bytes() =>
            {
                continue;
            }
            _ => return Err(format!("output {index} differs in its bytes: {got:?}")),
        };
        let off = difference(got, want);
        let largest =
            numbers(want).into_iter().filter(|x| x.is_finite()).fold(0.0, |most: f64, x| most.max(x.abs()));
        let off = if largest < tolerance.least { off * largest.max(1e-6) / tolerance.least } else { off };
        if off > allowed {
            let (got, want) = (numbers(got), numbers(want));
            let worst = (0..got.len())
                .max_by(|&a, &b| {
                    let far = |i: usize| if got[i] == want[i] { 0.0 } else { (got[i] - want[i]).abs() };
                    far(a).total_cmp(&far(b))
                })
                .unwrap_or(0);
            let some = |all: &[f64]| format!("{:?}", &all[..all.len().min(12)]);
            return Err(format!(
                "output {index} is off by {off:e} (allowed {allowed:e}), most at {worst} of {}: {} for {}\n got  {}\n want {}",
                got.len(),
                got[worst],
                want[worst],
                some(&got),
                some(&want)
            ));
        }
    }
    Ok(())
}

/// Runs a graph stage by stage, with poisoned memory.
pub fn run(
    graph: &Graph,
    given: &[Tensor],
    device: &Device,
    precision: Precision,
    options: &PlanOptions,
) -> Result<Ran, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let graph = prepare(graph, options).map_err(|error| text(&error))?.graph;
    let facts: Vec<Fact> = given.iter().map(|tensor| Fact::known(tensor.dtype(), tensor.dims())).collect();
    let mut stage = plan(&graph, &facts, options).map_err(|error| text(&error))?;
    let mut inputs: Vec<Tensor> = given.to_vec();
    let mut there = is_cpu(device);
    loop {
        let outputs = match stage.work {
            Work::Compiled(plan) => {
                let session = match PlanSession::new(plan, device, Fallback::Deny, precision) {
                    Ok(session) => session,
                    Err(Error::Unsupported { why, .. }) => return Ok(Ran::Refused(why)),
                    Err(error) => return Err(text(&error)),
                };
                there |=
                    session.placement().steps.iter().any(|step| matches!(step.place, Place::Device { .. }));
                session.poison().map_err(|error| text(&error))?;
                let first = session.run(&inputs).map_err(|error| text(&error))?;
                let second = session.run(&inputs).map_err(|error| text(&error))?;
                if first.iter().zip(&second).any(|(first, second)| first.bytes() != second.bytes()) {
                    return Err("a second run gives other bytes".to_owned());
                }
                first
            }
            Work::Evaluate { reason, .. } if !is_cpu(device) => return Ok(Ran::Refused(reason.to_owned())),
            Work::Evaluate { node, inputs: read, .. } => {
                let read: Vec<Option<Tensor>> = read
                    .iter()
                    .map(|input| match input {
                        None => None,
                        Some(HostInput::Constant(tensor)) => Some(tensor.clone().aligned()),
                        Some(HostInput::Input(index)) => Some(inputs[*index].clone()),
                    })
                    .collect();
                let views: Vec<_> = read.iter().map(|tensor| tensor.as_ref().map(Tensor::view)).collect();
                node.op.reference(&views, node.outputs.len()).map_err(|error| text(&error))?
            }
        };
        let Some(rest) = stage.rest else { return Ok(Ran::Done(outputs, there)) };
        let take = |source| match source {
            Source::Input(index) => inputs[index].clone(),
            Source::Output(index) => Tensor::clone(&outputs[index]),
        };
        let next: Vec<Tensor> = rest.takes.iter().map(|one| take(one.source).aligned()).collect();
        let facts: Vec<Fact> = rest
            .takes
            .iter()
            .zip(&next)
            .map(|(one, tensor)| match one.value {
                true => Fact::constant(tensor.clone()),
                false => Fact::known(tensor.dtype(), tensor.dims()),
            })
            .collect();
        inputs = next;
        stage = plan(&rest.graph, &facts, options).map_err(|error| text(&error))?;
    }
}

/// A type whose elements are numbers of whole bytes.
fn is_plain(dtype: DType) -> bool {
    let float = matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16);
    float || dtype == DType::Bool || (dtype.is_integer() && dtype.bits() >= 8)
}

fn is_cpu(device: &Device) -> bool {
    device.info().kind == DeviceKind::Cpu
}

/// A node in a few lines.
fn describe(node: &Node) -> String {
    let mut text =
        format!("{}{}-{}", if node.domain.is_empty() { "" } else { "contributed " }, node.name, node.opset);
    for (name, value) in &node.attributes {
        let value = match value {
            Attribute::Int(n) => n.to_string(),
            Attribute::Float(x) => x.to_string(),
            Attribute::Str(s) => s.clone(),
            Attribute::Ints(all) => format!("{all:?}"),
            Attribute::Floats(all) => format!("{all:?}"),
            other => format!("{other:?}"),
        };
        text += &format!(" {name}={value}");
    }
    for (index, (input, constant)) in node.inputs.iter().zip(&node.constant).enumerate() {
        let Some(tensor) = input else {
            text += &format!("\n  input {index}: absent");
            continue;
        };
        let shown = if is_plain(tensor.dtype()) && tensor.len() <= 32 {
            format!(" {:?}", numbers(tensor))
        } else {
            String::new()
        };
        let constant = if *constant { " constant" } else { "" };
        text += &format!("\n  input {index}:{constant} {} {:?}{shown}", tensor.dtype(), tensor.dims());
    }
    text + &format!("\n  outputs {:?}", node.outputs)
}
