//! Faults planted into sound programs: each must be found.

use std::sync::Arc;

use sardonyx_ops::expr::Expr;
use sardonyx_ops::expr::function::Function;
use sardonyx_ops::movement::concat::Concat;
use sardonyx_ops::movement::layout::Layout;
use sardonyx_ops::movement::rearrange::Rearrange;
use sardonyx_ops::plan::{Plan, PlanValue};
use sardonyx_ops::pointwise::{Pointwise, functions};
use sardonyx_ops::{DType, Operator, Tensor};

use super::super::build::{Decided, Settings, decide};
use super::super::choices::Choices;
use super::*;
use crate::session::{Fallback, Precision};

/// `a = x + w`, `b = relu(a)`, `c = b * a`, `d = c + b`, with a constant `w`.
fn plan() -> Plan {
    let mut plan = Plan::default();
    let mut value = |name: &str, constant: Option<Tensor>| {
        let dims = vec![3, 17];
        plan.values.push(PlanValue { name: name.into(), dtype: DType::F32, dims, constant });
        ValueId(plan.values.len() - 1)
    };
    let w = Tensor::from_vec(&[3, 17], vec![1.0f32; 51]).unwrap();
    let (x, w) = (value("x", None), value("w", Some(w)));
    let [a, b, c, d] = ["a", "b", "c", "d"].map(|name| value(name, None));
    let mut step = |name: &'static str, function: &'static Function, inputs: &[ValueId], output: ValueId| {
        plan.steps.push(PlanStep {
            op: Arc::new(Pointwise { name, expr: Expr::call(function, inputs.len(), Vec::new()) }),
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            epilogue: None,
            nodes: vec![name.into()],
        });
    };
    step("Add", &functions::ADD, &[x, w], a);
    step("Relu", &functions::RELU, &[a], b);
    step("Mul", &functions::MUL, &[b, a], c);
    step("Add", &functions::ADD, &[c, b], d);
    plan.inputs = vec![x];
    plan.outputs = vec![d];
    plan
}

fn settings() -> Settings {
    let choices = Choices::default();
    let (fallback, precision) = (Fallback::Deny, Precision::Model);
    Settings { fallback, precision, memory_budget: None, taps: false, choices }
}

fn decided(caps: Option<&Capabilities>) -> Decided<'static> {
    decide(plan(), (caps, None), "test", &settings()).unwrap()
}

fn refuse(decided: &Decided<'_>, caps: Option<&Capabilities>) -> Option<String> {
    verify(&decided.program, &decided.steps, &decided.placed, decided.layouts, caps)
        .err()
        .map(|error| error.to_string())
}

/// Plants a fault into a program for a device with the least capabilities, and expects this in the refusal.
#[track_caller]
fn planted(expected: &str, plant: impl FnOnce(&mut Program, &mut Capabilities)) {
    let mut caps = Capabilities::BASELINE;
    let mut decided = decided(Some(&caps));
    assert_eq!(refuse(&decided, Some(&caps)), None);
    plant(&mut decided.program, &mut caps);
    let refusal = refuse(&decided, Some(&caps)).expect("the fault is found");
    assert!(refusal.contains(expected), "{refusal}");
}

/// The same on the CPU.
#[track_caller]
fn planted_on_cpu(expected: &str, plant: impl FnOnce(&mut Program)) {
    let mut decided = decided(None);
    assert_eq!(refuse(&decided, None), None);
    plant(&mut decided.program);
    let refusal = refuse(&decided, None).expect("the fault is found");
    assert!(refusal.contains(expected), "{refusal}");
}

fn arena_of(place: &mut BufferPlace) -> (&mut usize, &mut u64, &mut u64) {
    match place {
        BufferPlace::Arena { arena, offset, bytes } => (arena, offset, bytes),
        BufferPlace::Weights { .. } => panic!("a constant"),
    }
}

#[test]
fn bindings_lie_within_their_buffers_and_are_large_enough() {
    planted("takes 208", |program, _| *arena_of(&mut program.launches[1].bindings[0]).2 = 192);
    planted("beyond its buffer", |program, _| *arena_of(&mut program.launches[1].bindings[0]).1 += 1 << 20);
    planted("beyond a buffer", |program, _| program.device_arenas[0] = 128);
    planted("not aligned", |program, _| *arena_of(&mut program.launches[1].bindings[0]).1 += 4);
    planted("wrong memory", |program, _| {
        program.launches[1].bindings[0] = BufferPlace::Weights { buffer: 0, offset: 0, bytes: 256 };
    });
    planted("not there", |program, _| *arena_of(&mut program.launches[1].bindings[0]).0 = 9);
    planted("of parameters", |program, _| program.param_bytes = 16);
    planted("of parameters", |program, _| program.launches[0].params[0].0 += 16);
    planted("parameters are missing", |program, _| program.launches[0].params.clear());
}

#[test]
fn nothing_is_read_before_it_is_written() {
    planted("nothing was written", |program, _| program.phases[0].uploads.clear());
    planted("out of order", |program, _| {
        program.phases[0].launches.start += 1;
        program.launches[1].number = 1;
    });
    planted("does not launch everything", |program, _| {
        let last = program.launches.len() - 1;
        program.phases[0].launches.end = last;
        program.outputs.clear();
        program.phases[0].downloads.clear();
    });
    planted("nothing was written", |program, _| program.phases[0].downloads.clear());
    planted("is read where", |program, _| program.launches.swap(0, 1));
    planted_on_cpu("nothing was written", |program| program.cpu.swap(0, 1));
    planted_on_cpu("left out", |program| {
        program.phases[0].cpu.end -= 1;
        program.outputs.clear();
    });
}

#[test]
fn values_alive_together_do_not_overlap() {
    // `b` is put where `a` lies, which is read afterwards.
    planted("over another binding", |program, _| {
        let a = program.launches[0].bindings[2];
        program.launches[1].bindings[1] = a;
    });
    planted_on_cpu("written over what the step reads", |program| {
        let a = program.host[2];
        program.host[3] = a;
        program.cpu[1].writes = program.cpu[0].writes.clone();
    });
    planted_on_cpu("written elsewhere", |program| {
        program.cpu[1].writes = program.cpu[0].writes.clone();
    });
}

#[test]
fn results_replace_only_what_is_read_with_them_and_not_wanted_later() {
    // `c = b * a` lies where `a` lies, which nobody reads afterwards.
    let caps = Capabilities::BASELINE;
    let mut sound = decided(Some(&caps)).program;
    let replaced = |launch: usize| sound.launches[launch].kernel.bound.replaced.clone();
    assert_eq!([0, 1, 2, 3].map(replaced), [vec![], vec![], vec![(1, 2)], vec![]]);
    let [_, a, c] = sound.launches[2].bindings.as_mut_slice() else { panic!("three bindings") };
    let (a, c) = (arena_of(a), arena_of(c));
    assert_eq!((a.0, a.1), (c.0, c.1));
    assert_eq!(sound.memory.device_activations, 3 * 256, "x or b, a or c, and d");

    let bound = |program: &mut Program, pairs: &[(usize, usize)]| {
        program.launches[2].kernel.bound.replaced = pairs.to_vec();
    };
    planted("over another binding", |program, _| bound(program, &[]));
    planted("element by element", |program, _| bound(program, &[(1, 2), (0, 2)]));
    planted("element by element", |program, _| bound(program, &[(1, 2), (0, 1)]));
    planted("element by element", |program, _| bound(program, &[(1, 2), (7, 8)]));
    // `b` takes the memory of `a`, which `c` reads afterwards.
    planted("is read where Value", |program, _| {
        let a = program.launches[0].bindings[2];
        let b = program.launches[1].bindings[1];
        program.launches[1].kernel.bound.replaced = vec![(0, 1)];
        program.launches[1].bindings[1] = a;
        program.launches[2].kernel.bound.replaced.clear();
        (program.launches[2].bindings[0], program.launches[2].bindings[2]) = (a, b);
    });
}

#[test]
fn no_buffer_is_bound_for_reading_only_and_for_writing() {
    planted("for reading only and for writing", |program, _| {
        // Everything in one arena, as if it had been planned so, but bound as if it had not.
        let sizes = program.device_arenas.clone();
        program.device_arenas = vec![sizes.iter().sum()];
        let places = program.launches.iter_mut().flat_map(|launch| &mut launch.bindings);
        let values = program.device.iter_mut().flatten().map(|place| &mut place.buffer);
        for place in places.chain(values) {
            if let BufferPlace::Arena { arena, offset, .. } = place {
                *offset += sizes[..*arena].iter().sum::<u64>();
                *arena = 0;
            }
        }
        program.launches.iter_mut().for_each(|launch| launch.kernel.bound.writable = 0);
    });
}

#[test]
fn limits_of_the_device_are_kept() {
    planted("the device has 2", |_, caps| caps.storage_buffers = 2);
    planted("beyond the device's limit", |_, caps| caps.grid_axis = 0);
    planted("beyond the device's limit", |_, caps| caps.binding_bytes = 128);
    planted("beyond the device's limit", |_, caps| caps.buffer_bytes = 128);
    let pieces = |program: &mut Program, pieces: Vec<u32>, piece_bytes| {
        let bound = &mut program.launches[1].kernel.bound;
        (bound.pieces, bound.piece_bytes) = (pieces, piece_bytes);
    };
    planted("beyond the device's limit", |program, _| pieces(program, vec![2], 1 << 30));
    planted("in a piece from 64 on", |program, _| pieces(program, vec![2], 64));
    planted("the device has 8", |program, _| pieces(program, vec![9], 256));
    planted("another kernel", |program, _| program.launches[0].grid = [2, 1, 1]);
    planted("staging", |program, _| program.staging_bytes = 16);
}

/// `a = x + x`, `b = relu(a)`, `c` is `a` and `b`, `d` is their second and third rows, `e = relu(d)`.
fn plan_of_parts() -> Plan {
    let mut plan = Plan::default();
    let mut value = |name: &str, rows: usize| {
        let dims = vec![rows, 64];
        plan.values.push(PlanValue { name: name.into(), dtype: DType::F32, dims, constant: None });
        ValueId(plan.values.len() - 1)
    };
    let [x, a, b, c, d, e] =
        [("x", 2), ("a", 2), ("b", 2), ("c", 4), ("d", 2), ("e", 2)].map(|(name, rows)| value(name, rows));
    let mut step = |op: Arc<dyn Operator>, inputs: &[ValueId], output: ValueId| {
        plan.steps.push(PlanStep {
            inputs: inputs.iter().copied().map(Some).collect(),
            outputs: vec![Some(output)],
            epilogue: None,
            nodes: vec![op.name().into()],
            op,
        });
    };
    let pointwise = |name: &'static str, function: &'static Function, inputs: usize| {
        Arc::new(Pointwise { name, expr: Expr::call(function, inputs, Vec::new()) })
    };
    step(pointwise("Add", &functions::ADD, 2), &[x, x], a);
    step(pointwise("Relu", &functions::RELU, 1), &[a], b);
    step(Arc::new(Concat { axis: 0 }), &[a, b], c);
    let rows = Layout { offset: 64, ..Layout::dense(128) };
    step(Arc::new(Rearrange::new(&rows, 256, &[2, 64]).unwrap()), &[c], d);
    step(pointwise("Relu", &functions::RELU, 1), &[d], e);
    plan.inputs = vec![x];
    plan.outputs = vec![e];
    plan
}

#[test]
fn parts_lie_where_the_whole_is_read() {
    let caps = Capabilities::BASELINE;
    for caps in [Some(&caps), None] {
        let decided = || decide(plan_of_parts(), (caps, None), "test", &settings()).unwrap();
        let sound = decided();
        let views = sound.placed.iter().filter(|placed| matches!(placed, Placed::View)).count();
        assert_eq!((views, refuse(&sound, caps)), (2, None));
        // `b` where `a` should lie, and `d` a row too late.
        let mut program = decided();
        let planted = &mut program.program;
        match caps {
            Some(_) => {
                planted.launches[1].bindings[1] = planted.launches[0].bindings[1];
                planted.launches[1].bindings[0] = planted.launches[2].bindings[0];
            }
            None => {
                let a = planted.host[1];
                planted.host[2] = a;
                planted.cpu[1].writes = planted.cpu[0].writes.clone();
            }
        }
        assert!(refuse(&program, caps).is_some());
        let mut program = decided();
        let planted = &mut program.program;
        match caps {
            Some(_) => *arena_of(&mut planted.launches[2].bindings[0]).1 += 256,
            None => {
                let Some(HostPlace::Arena { line }) = &mut planted.host[4] else { panic!("in the arena") };
                *line += 4;
            }
        }
        let refusal = refuse(&program, caps).expect("the fault is found");
        assert!(refusal.contains("is read where"), "{refusal}");
    }
}
