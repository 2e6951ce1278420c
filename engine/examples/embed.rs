//! The engine in a program of your own: load, bind, run. `cargo run --release --example embed`.

#![allow(clippy::print_stdout, reason = "an example that prints its result")]

use sardonyx::{Device, Fallback, Model, Select, Session, Tensor};

fn main() -> sardonyx::Result<()> {
    let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/detector/parts.onnx"))?;
    let device = Device::open(Select::Auto)?;
    let session =
        Session::builder().device(device).fallback(Fallback::Allow).dim("batch", 1).build(&model)?;
    let picture = Tensor::from_vec(&[1, 3, 240, 320], vec![0.5f32; 3 * 240 * 320])?;
    let outputs = session.run([("image", &picture)])?;
    let best = outputs["scores"].elements::<f32>()?.iter().fold(0.0f32, |best, &score| best.max(score));
    let (on_device, all) = session.placement().on_device();
    println!("{:?}: {on_device} of {all} operators on the device", session.device());
    println!("best score on a grey picture {best:.3}, {:.1?}", outputs.times().total);
    Ok(())
}
