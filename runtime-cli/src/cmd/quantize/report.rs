//! The result of `quantize`: sizes, layers worst first, outputs.

use sardonyx::quantize::Summary;
use serde_json::{Map, Value, json};

use super::Args;
use super::budget::Spent;
use super::loss::Loss;
use crate::bind::Opened;
use crate::describe;
use crate::failure::Failure;
use crate::noise::Noise;
use crate::output::table::{Align, Table};
use crate::output::{Console, format};

/// Layers that are printed without `-v`.
const SHOWN: usize = 10;

/// What was made.
pub struct Made<'a> {
    /// Bytes of the models before and after, weights included.
    pub sizes: (u64, u64),
    pub summary: &'a Summary,
    pub loss: Option<&'a Loss>,
    pub spent: Option<&'a Spent>,
}

/// Prints and writes the result.
///
/// # Errors
/// When standard output or the document cannot be written.
pub fn finish(arguments: &Args, opened: &Opened, made: &Made<'_>, console: &Console) -> Result<(), Failure> {
    let Made { sizes: (before, after), summary, loss, spent } = *made;
    let (scheme, output) = (arguments.scheme, &arguments.output);
    let share = 100.0 * after as f64 / before.max(1) as f64;
    console.line(format!("wrote   {}, {}", output.display(), scheme.name()))?;
    console.line(format!("size    {} -> {} ({share:.1} %)", format::bytes(before), format::bytes(after)))?;
    console.line(format!("layers  {} quantized", summary.layers.len()))?;
    let order = loss.map_or_else(|| (0..summary.layers.len()).collect(), Loss::worst_first);
    let noise = |i: usize| loss.map_or(Noise::default(), |loss| loss.layers[i]);
    let order: Vec<(usize, Noise)> = order.into_iter().map(|i| (i, noise(i))).collect();
    match loss {
        None => console.note("what is lost was not measured: give inputs with --calib"),
        Some(loss) => lines(summary, &order, loss, console)?,
    }
    spent.iter().flat_map(|spent| spent.lines()).try_for_each(|line| console.line(line))?;
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
    document.insert("budget".to_owned(), json!(spent.map(Spent::to_json)));
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
