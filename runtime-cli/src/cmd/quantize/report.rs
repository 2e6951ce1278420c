//! The result of `quantize`: sizes, layers worst first, outputs.

use std::path::Path;

use sardonyx::quantize::Summary;
use serde_json::{Map, Value, json};

use super::Scheme;
use super::loss::Loss;
use crate::bind::Opened;
use crate::describe;
use crate::failure::Failure;
use crate::noise::Noise;
use crate::output::table::{Align, Table};
use crate::output::{Console, format};

/// Layers that are printed without `-v`.
const SHOWN: usize = 10;

/// Prints and writes the result. `before` and `after` are the sizes of the models, weights included.
///
/// # Errors
/// When standard output or the document cannot be written.
pub fn finish(
    scheme: Scheme,
    output: &Path,
    opened: &Opened,
    (before, after): (u64, u64),
    summary: &Summary,
    loss: Option<&Loss>,
    console: &Console,
) -> Result<(), Failure> {
    let share = 100.0 * after as f64 / before.max(1) as f64;
    console.line(format!("wrote   {}, {}", output.display(), scheme.name()))?;
    console.line(format!("size    {} -> {} ({share:.1} %)", format::bytes(before), format::bytes(after)))?;
    console.line(format!("layers  {} quantized", summary.layers.len()))?;
    let noise = |i: usize| loss.map_or(Noise::default(), |loss| loss.layers[i]);
    let mut order: Vec<(usize, Noise)> = (0..summary.layers.len()).map(|i| (i, noise(i))).collect();
    let worst = |noise: &Noise| noise.decibels().unwrap_or(f64::INFINITY);
    order.sort_by(|a, b| worst(&a.1).total_cmp(&worst(&b.1)));
    match loss {
        None => console.note("what is lost was not measured: give inputs with --calib"),
        Some(loss) => lines(summary, &order, loss, console)?,
    }
    let layers: Vec<Value> = order
        .iter()
        .map(|(i, noise)| {
            let layer = &summary.layers[*i];
            json!({"node": &*layer.node, "operator": &*layer.op, "sqnr_db": noise.finite()})
        })
        .collect();
    let outputs: Option<Vec<Value>> = loss.map(|loss| {
        let row = |(name, noise): &(String, Noise)| json!({"name": name, "sqnr_db": noise.finite()});
        loss.outputs.iter().map(row).collect()
    });
    let mut document = Map::new();
    document.insert("engine".to_owned(), describe::engine());
    document.insert("model".to_owned(), describe::model(opened, &opened.digest()));
    document.insert("scheme".to_owned(), json!(scheme.name()));
    document.insert("output".to_owned(), json!(output.display().to_string()));
    document.insert("before_bytes".to_owned(), json!(before));
    document.insert("after_bytes".to_owned(), json!(after));
    document.insert("samples".to_owned(), json!(loss.map_or(0, |loss| loss.samples)));
    document.insert("layers".to_owned(), json!(layers));
    document.insert("outputs".to_owned(), json!(outputs));
    console.finish("quantize", document)
}

fn lines(summary: &Summary, order: &[(usize, Noise)], loss: &Loss, console: &Console) -> Result<(), Failure> {
    let mut table =
        Table::new(&[("layer, worst first", Align::Left), ("operator", Align::Left), ("SQNR", Align::Right)]);
    let shown = if console.is_verbose() { order.len() } else { SHOWN };
    for (i, value) in order.iter().take(shown) {
        let layer = &summary.layers[*i];
        table.row([format::name(&layer.node, 200), layer.op.to_string(), value.show()]);
    }
    console.line(table.render())?;
    if order.len() > shown {
        console.line(format!("        and {} better ones (-v shows all)", order.len() - shown))?;
    }
    for (name, noise) in &loss.outputs {
        let name = format::name(name, 40);
        console.line(format!("output  {name}: SQNR {} on {} inputs", noise.show(), loss.samples))?;
    }
    Ok(())
}
