//! Every variant, in every storage and knob setting of its row, is valid for every target: SPIR-V, MSL and HLSL.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use naga::back::{hlsl, msl, spv};
use naga::valid::{Capabilities, ValidationFlags, Validator};
use sardonyx_shaders::expression::{Expression, Operand, Output, Pattern, Step};
use sardonyx_shaders::storage::{Storage, ValueType, Width};
use sardonyx_shaders::table::{Accumulator, VARIANTS, Variant};
use sardonyx_shaders::{Bound, Kernel};

const STORAGES: [Storage; 8] = [
    Storage::F32,
    Storage::F16,
    Storage::I32,
    Storage::U32,
    Storage::I64,
    Storage::I8,
    Storage::U8,
    Storage::Bool,
];

/// A storage whose value type is `value`.
fn storage_of(value: ValueType) -> Storage {
    STORAGES.into_iter().find(|storage| storage.value() == value).unwrap()
}

/// All the kernels of a row that the tests try.
fn kernels(variant: &'static Variant) -> Vec<Kernel> {
    let rounds = variant.inputs.iter().map(|input| input.storages.len()).max().unwrap_or(1);
    let mut all = Vec::new();
    for round in 0..rounds {
        for width in [Width::One, Width::Four] {
            for knobs in [Vec::new(), variant.knobs.to_vec()] {
                let inputs: Vec<_> = variant
                    .inputs
                    .iter()
                    .map(|input| (input.storages[round % input.storages.len()], width))
                    .collect();
                let accumulator = match variant.accumulator {
                    Accumulator::F32 => ValueType::F32,
                    Accumulator::I64 => ValueType::I64,
                    Accumulator::I32 => ValueType::I32,
                    Accumulator::Input(index) => inputs[index].0.value(),
                };
                let storage = match variant.accumulator {
                    Accumulator::Input(index) => inputs[index].0,
                    _ => storage_of(accumulator),
                };
                let expression = Expression::store(accumulator, storage, width);
                if variant.single && !expression.emits_single() {
                    continue;
                }
                all.push(Kernel { variant, inputs, knobs, expression });
            }
        }
    }
    all
}

struct Targets {
    spirv: usize,
    msl: usize,
    hlsl: usize,
}

fn translate(label: &str, source: &str) -> Targets {
    let module = naga::front::wgsl::parse_str(source)
        .unwrap_or_else(|e| panic!("{label}: {}\n{source}", e.emit_to_string(source)));
    let mut validator =
        Validator::new(ValidationFlags::all(), Capabilities::SHADER_FLOAT16 | Capabilities::SUBGROUP);
    let info = validator
        .validate(&module)
        .unwrap_or_else(|e| panic!("{label}: {}\n{source}", e.emit_to_string(source)));
    let spirv = spv::write_vec(&module, &info, &spv::Options::default(), None).unwrap();
    let (msl, _) = msl::write_string(
        &module,
        &info,
        &msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() },
        &msl::PipelineOptions::default(),
    )
    .unwrap_or_else(|e| panic!("{label}: {e}"));
    let mut text = String::new();
    let options = hlsl::Options {
        shader_model: hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    hlsl::Writer::new(&mut text, &options, &hlsl::PipelineOptions::default())
        .write(&module, &info, None)
        .unwrap_or_else(|e| panic!("{label}: {e}"));
    Targets { spirv: spirv.len(), msl: msl.len(), hlsl: text.len() }
}

#[test]
fn every_variant_translates_to_every_target() {
    let mut count = 0;
    for variant in VARIANTS {
        for kernel in kernels(variant) {
            let label = format!("{} {:?} {:?}", variant.name, kernel.inputs, kernel.knobs);
            let tensors = kernel.inputs.len() + kernel.expression.outputs.len();
            let pieces: Vec<u32> = (0..tensors as u32).map(|index| 2 + index % 3).collect();
            let ways = [
                Bound::default(),
                Bound { writable: u64::MAX, ..Bound::default() },
                // A kernel that indexed a tensor itself would not find it.
                Bound { writable: 1, pieces, piece_bytes: 1 << 27, replaced: Vec::new() },
            ];
            for bound in ways {
                let targets = translate(&label, &kernel.source_with(&bound).wgsl);
                assert!(targets.spirv > 100 && targets.msl > 100 && targets.hlsl > 100, "{label}");
            }
            count += 1;
        }
    }
    println!("{} variants, {count} kernels, 3 targets each", VARIANTS.len());
    assert!(count >= VARIANTS.len());
}

#[test]
fn expressions_translate_in_every_storage_and_pattern() {
    let variant = VARIANTS.iter().find(|variant| variant.name == "pointwise").unwrap();
    let patterns =
        [Pattern::Same, Pattern::Scalar, Pattern::Splat, Pattern::Row, Pattern::Channel, Pattern::Strided];
    for storage in STORAGES {
        for pattern in patterns {
            for width in [Width::One, Width::Four] {
                let expression = Expression {
                    accumulator: ValueType::F32,
                    operands: vec![Operand { storage, width, pattern }],
                    steps: vec![Step::Operand(0)],
                    outputs: vec![Output { step: 0, storage, width }],
                };
                let kernel = Kernel { variant, inputs: Vec::new(), knobs: Vec::new(), expression };
                let label = format!("{storage:?} {pattern:?} {width:?}");
                translate(&label, &kernel.source().wgsl);
                // The result goes where the operand lies, in one piece and in three.
                let over = Bound { replaced: vec![(0, 1)], ..Bound::default() };
                let pieces = Bound { pieces: vec![3, 3], piece_bytes: 1 << 27, ..over.clone() };
                for bound in [over, pieces] {
                    let source = kernel.source_with(&bound);
                    assert_eq!(source.reads, 0, "{label}");
                    translate(&label, &source.wgsl);
                }
            }
        }
    }
}

#[test]
fn rust_parameters_match_the_wgsl_structs() {
    for variant in VARIANTS {
        let kernel = kernels(variant).pop().unwrap();
        let module = naga::front::wgsl::parse_str(&kernel.source().wgsl).unwrap();
        let (_, params) = module
            .types
            .iter()
            .find(|(_, t)| t.name.as_deref() == Some("Params"))
            .unwrap_or_else(|| panic!("{}: no struct Params", variant.name));
        let naga::TypeInner::Struct { members, .. } = &params.inner else { panic!("{}", variant.name) };
        let mut layouter = naga::proc::Layouter::default();
        layouter.update(module.to_ctx()).unwrap();
        let wgsl: Vec<(String, usize, usize)> = members
            .iter()
            .map(|m| (m.name.clone().unwrap(), m.offset as usize, layouter[m.ty].size as usize))
            .collect();
        let rust: Vec<(String, usize, usize)> =
            variant.params.iter().map(|f| (f.name.to_owned(), f.offset, f.size)).collect();
        assert_eq!(wgsl, rust, "{}", variant.name);
    }
}

#[test]
fn every_file_has_a_row() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/wgsl");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if let Some(stem) = name.strip_suffix(".wgsl") {
            assert!(VARIANTS.iter().any(|v| v.name == stem || v.source.contains(stem)), "{name} has no row");
        }
    }
}

#[test]
fn the_kernels_that_measure_devices_are_valid() {
    for (label, source) in
        [("copy", sardonyx_shaders::roof::COPY), ("multiply_add", sardonyx_shaders::roof::MULTIPLY_ADD)]
    {
        let targets = translate(label, source);
        assert!(targets.spirv > 0, "{label}");
    }
}
