//! Traces for viewers: the trace-event format of Chrome and Perfetto, and the form of ONNX Runtime's profiles.

use std::time::Duration;

use sardonyx::{DType, Profile, ProfiledStep, StepSpan};
use serde_json::{Value, json};

use super::rows::{node, place, shape};
use crate::output::format;

const HOST: u32 = 1;
const DEVICE: u32 = 2;
/// The track of what the host does, and that of its steps.
const STAGES: u32 = 1;
const STEPS: u32 = 2;

/// Runs stand one after the other with a gap of this between them.
const GAP: Duration = Duration::from_micros(100);

fn microseconds(time: Duration) -> f64 {
    time.as_nanos() as f64 / 1e3
}

/// All runs as trace events: what the host does, its steps, and the launches on the device on the same clock.
pub fn chrome(profile: &Profile, device: &str, model: &str) -> Value {
    let name = |what: &str, process: u32, thread: u32, name: &str| json!({"name": what, "ph": "M", "pid": process, "tid": thread, "args": {"name": name}});
    let mut events = vec![
        name("process_name", HOST, STAGES, "host"),
        name("thread_name", HOST, STAGES, "stages"),
        name("thread_name", HOST, STEPS, "steps on the CPU"),
    ];
    if profile.runs.iter().any(|run| run.steps.iter().any(|step| step.on_device)) {
        events.push(name("process_name", DEVICE, STAGES, device));
        events.push(name("thread_name", DEVICE, STAGES, "kernels"));
    }
    let complete =
        |name: &str, category: &str, track: (u32, u32), times: (Duration, Duration), args: Value| {
            json!({"name": name, "cat": category, "ph": "X", "pid": track.0, "tid": track.1,
               "ts": microseconds(times.0), "dur": microseconds(times.1), "args": args})
        };
    let mut begin = Duration::ZERO;
    for (index, run) in profile.runs.iter().enumerate() {
        events.push(complete(
            &format!("run {index}"),
            "run",
            (HOST, STAGES),
            (begin, run.total),
            json!({"alignment_us": microseconds(run.alignment)}),
        ));
        for span in &run.stages {
            let times = (begin + span.start, span.duration);
            events.push(complete(span.stage.name(), "stage", (HOST, STAGES), times, json!({})));
        }
        for span in &run.spans {
            let step = &run.steps[span.step];
            let track = if step.on_device { (DEVICE, STAGES) } else { (HOST, STEPS) };
            let args = json!({"node": node(step), "nodes": step.nodes.len(), "kernel": kernel(step, span),
                              "shape": shape(step), "flops": step.flops, "bytes": step.bytes});
            events.push(complete(step.op, place(step), track, (begin + span.start, span.duration), args));
        }
        begin += run.total + GAP;
    }
    json!({"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"model": model, "device": device}})
}

fn kernel(step: &ProfiledStep, span: &StepSpan) -> &'static str {
    step.kernels.get(span.kernel).copied().unwrap_or_default()
}

/// All runs with the names of ONNX Runtime's profile. Launches of one step are one event.
pub fn ort(profile: &Profile, device: &str) -> Value {
    let process = std::process::id();
    let event = |category: &str, name: &str, ts: Duration, dur: Duration, args: Value| {
        json!({"cat": category, "pid": process, "tid": 1, "dur": dur.as_micros() as u64,
               "ts": ts.as_micros() as u64, "ph": "X", "name": name, "args": args})
    };
    let mut events = Vec::new();
    let mut begin = Duration::ZERO;
    for run in &profile.runs {
        let mut order: Vec<usize> = Vec::new();
        let mut times = vec![(Duration::MAX, Duration::ZERO); run.steps.len()];
        for span in &run.spans {
            let (start, total) = &mut times[span.step];
            if *start == Duration::MAX {
                order.push(span.step);
            }
            *start = (*start).min(span.start);
            *total += span.duration;
        }
        for index in order {
            let step = &run.steps[index];
            let provider =
                if step.on_device { format!("Sardonyx {device}") } else { "CPUExecutionProvider".into() };
            let args = json!({"op_name": step.op, "provider": provider, "node_index": index.to_string(),
                              "input_type_shape": types(&step.inputs),
                              "output_type_shape": types(&step.outputs),
                              "output_size": size(&step.outputs).to_string()});
            let name = format!("{}_kernel_time", node(step));
            events.push(event("Node", &name, begin + times[index].0, times[index].1, args));
        }
        events.push(event("Session", "model_run", begin, run.total, json!({})));
        begin += run.total + GAP;
    }
    Value::Array(events)
}

/// `[{"float": [1, 3]}]`.
fn types(values: &[(DType, Vec<usize>)]) -> Vec<Value> {
    let name = |dtype: DType| match dtype {
        DType::F32 => "float".to_owned(),
        DType::F64 => "double".to_owned(),
        DType::F16 => "float16".to_owned(),
        DType::BF16 => "bfloat16".to_owned(),
        DType::I64 => "int64".to_owned(),
        DType::I32 => "int32".to_owned(),
        DType::I16 => "int16".to_owned(),
        DType::I8 => "int8".to_owned(),
        DType::U64 => "uint64".to_owned(),
        DType::U32 => "uint32".to_owned(),
        DType::U16 => "uint16".to_owned(),
        DType::U8 => "uint8".to_owned(),
        DType::Str => "string".to_owned(),
        other => other.name().to_owned(),
    };
    values.iter().map(|(dtype, dims)| json!({name(*dtype): dims})).collect()
}

fn size(values: &[(DType, Vec<usize>)]) -> usize {
    values.iter().map(|(dtype, dims)| dims.iter().product::<usize>() * dtype.bits() / 8).sum()
}

/// Every step of the mean run as a line of a folded stack: place, operator, node, kernel, and nanoseconds.
pub fn folded(profile: &Profile) -> Vec<(Vec<String>, f64)> {
    let runs = profile.runs.len().max(1) as f64;
    let mut lines: Vec<(Vec<String>, f64)> = Vec::new();
    let mut known = std::collections::HashMap::new();
    for run in &profile.runs {
        for span in &run.spans {
            let step = &run.steps[span.step];
            let frames: Vec<String> = [place(step), step.op, &node(step), kernel(step, span)]
                .into_iter()
                .map(|frame| format::name(&frame.replace(';', ":"), 120))
                .collect();
            let at = *known.entry((frames.clone(), span.step, span.kernel)).or_insert_with(|| {
                lines.push((frames, 0.0));
                lines.len() - 1
            });
            lines[at].1 += span.duration.as_nanos() as f64 / runs;
        }
    }
    lines
}
