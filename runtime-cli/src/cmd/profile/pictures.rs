//! The flame graph and the roofline.

use super::rows::Row;
use crate::output::format;
use crate::output::svg::{Anchor, COLORS, Svg, fitted};
use sardonyx::Roofs;

const FONT: f64 = 11.0;
const INK: &str = "#222222";

/// A flame graph, roots at the bottom: the width of a box is time, its height says nothing.
pub fn flame(title: &str, lines: &[(Vec<String>, f64)], stages: &[Row]) -> String {
    const WIDTH: f64 = 1200.0;
    const LEVEL: f64 = 19.0;
    let mut all: Vec<(Vec<String>, f64)> = lines.to_vec();
    all.extend(stages.iter().map(|row| (vec![row.name.clone()], row.ns)));
    // Equal roots stand together, and within them equal operators.
    let mut order: Vec<&(Vec<String>, f64)> = all.iter().collect();
    let weight = |prefix: &[String]| -> f64 {
        all.iter().filter(|(frames, _)| frames.starts_with(prefix)).map(|(_, ns)| ns).sum()
    };
    let mut weights = std::collections::HashMap::new();
    for (frames, _) in &all {
        for depth in 1..=frames.len() {
            let prefix = frames[..depth].to_vec();
            let heavy = weight(&prefix);
            weights.entry(prefix).or_insert(heavy);
        }
    }
    order.sort_by(|(a, _), (b, _)| {
        let depth = (0..a.len().min(b.len())).find(|&depth| a[depth] != b[depth]);
        match depth {
            Some(depth) => {
                weights[&b[..=depth]].total_cmp(&weights[&a[..=depth]]).then(a[depth].cmp(&b[depth]))
            }
            None => a.len().cmp(&b.len()),
        }
    });
    let total: f64 = all.iter().map(|(_, ns)| ns).sum::<f64>().max(1.0);
    let depth = all.iter().map(|(frames, _)| frames.len()).max().unwrap_or(0) + 1;
    let height = 40.0 + depth as f64 * LEVEL + 10.0;
    let mut svg = Svg::new(WIDTH, height);
    svg.text([10.0, 22.0], 14.0, Anchor::Start, INK, title);
    let scale = (WIDTH - 20.0) / total;
    let mut boxes: Vec<(usize, Vec<String>, f64, f64)> = vec![(0, vec!["run".to_owned()], 0.0, total)];
    let mut at = 0.0;
    for (frames, ns) in order {
        for depth in 1..=frames.len() {
            let prefix = &frames[..depth];
            match boxes.iter_mut().rev().find(|(level, ..)| *level == depth) {
                Some((_, last, from, width))
                    if last == prefix && (*from + *width - at).abs() < 1e-6 * total =>
                {
                    *width += ns;
                }
                _ => boxes.push((depth, prefix.to_vec(), at, *ns)),
            }
        }
        at += ns;
    }
    for (level, frames, from, ns) in &boxes {
        let width = ns * scale;
        if width < 0.3 {
            continue;
        }
        let (x, y) = (10.0 + from * scale, height - 10.0 - (*level as f64 + 1.0) * LEVEL);
        let name = frames.last().map_or("", String::as_str);
        let percent = ns / total * 100.0;
        let title = format!("{}: {} ({percent:.1} %)", frames.join(" > "), format::duration(*ns as u64));
        let color = match frames.get(1).or(frames.first()) {
            _ if *level == 0 => "#c9ced6",
            Some(name) => COLORS[name.bytes().map(usize::from).sum::<usize>() % COLORS.len()],
            None => COLORS[0],
        };
        svg.rect([x, y, (width - 0.6).max(0.3), LEVEL - 1.0], color, &title);
        let ink = if *level == 0 { INK } else { "#ffffff" };
        svg.text([x + 4.0, y + 13.0], FONT, Anchor::Start, ink, &fitted(name, width - 8.0, FONT));
    }
    svg.finish()
}

/// A roofline: work per byte against speed, both logarithmic, under what the device was measured to reach.
pub fn roofline(title: &str, rows: &[Row], roofs: &Roofs) -> String {
    const WIDTH: f64 = 900.0;
    const HEIGHT: f64 = 560.0;
    let [left, right, top, bottom] = [80.0, WIDTH - 30.0, 50.0, HEIGHT - 60.0];
    let points: Vec<(&Row, f64, f64)> = rows
        .iter()
        .filter(|row| row.flops > 0 && row.bytes > 0 && row.ns > 0.0)
        .map(|row| (row, row.flops as f64 / row.bytes as f64, row.flops as f64 / row.ns))
        .collect();
    let compute = roofs.flops_per_second / 1e9;
    let memory = roofs.bytes_per_second / 1e9;
    let decades = |values: &mut dyn Iterator<Item = f64>, always: [f64; 2]| {
        let (mut low, mut high) = (always[0].log10(), always[1].log10());
        for value in values {
            low = low.min(value.log10());
            high = high.max(value.log10());
        }
        (low.floor(), high.ceil())
    };
    let ridge = (compute / memory).max(1e-6);
    let (x_low, x_high) = decades(&mut points.iter().map(|point| point.1), [ridge / 10.0, ridge * 10.0]);
    let (y_low, y_high) = decades(&mut points.iter().map(|point| point.2), [compute / 100.0, compute]);
    let x = |value: f64| left + (value.log10() - x_low) / (x_high - x_low) * (right - left);
    let y = |value: f64| bottom - (value.log10() - y_low) / (y_high - y_low) * (bottom - top);
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text([left, 26.0], 14.0, Anchor::Start, INK, title);
    for decade in x_low as i32..=x_high as i32 {
        let at = x(10f64.powi(decade));
        svg.line([at, top], [at, bottom], "#e3e6ea", false);
        let label = format::real(10f64.powi(decade));
        svg.text([at, bottom + 18.0], FONT, Anchor::Middle, INK, &label);
    }
    for decade in y_low as i32..=y_high as i32 {
        let at = y(10f64.powi(decade));
        svg.line([left, at], [right, at], "#e3e6ea", false);
        svg.text([left - 8.0, at + 4.0], FONT, Anchor::End, INK, &format::real(10f64.powi(decade)));
    }
    svg.text([f64::midpoint(left, right), HEIGHT - 16.0], 12.0, Anchor::Middle, INK, "operations per byte");
    svg.upward([22.0, f64::midpoint(top, bottom)], 12.0, "GFLOP/s");
    let lowest = 10f64.powf(y_low);
    let from = 10f64.powf(x_low).max(lowest / memory);
    svg.line([x(from), y(from * memory)], [x(ridge), y(compute)], INK, true);
    svg.line([x(ridge), y(compute)], [right, y(compute)], INK, true);
    svg.text([right, y(compute) - 6.0], FONT, Anchor::End, INK, &format!("{compute:.1} GFLOP/s measured"));
    let label = format!("{memory:.1} GB/s measured");
    let middle = from * (ridge / from).powf(0.35);
    svg.text([x(middle) + 8.0, y(middle * memory) + 14.0], FONT, Anchor::Start, INK, &label);
    let total: f64 = rows.iter().map(|row| row.ns).sum::<f64>().max(1.0);
    let mut named: Vec<usize> = (0..points.len()).collect();
    named.sort_by(|&a, &b| points[b].0.ns.total_cmp(&points[a].0.ns));
    let mut labels: Vec<[f64; 2]> = Vec::new();
    for (rank, &index) in named.iter().enumerate() {
        let (row, intensity, speed) = points[index];
        let share = row.ns / total;
        let at = [x(intensity), y(speed)];
        let title = format!(
            "{}: {}, {:.1} %, {} GFLOP/s, {} operations per byte",
            row.name,
            format::duration(row.ns as u64),
            share * 100.0,
            format::real(speed),
            format::real(intensity)
        );
        svg.disc(at, 3.0 + 22.0 * share.sqrt(), COLORS[rank % COLORS.len()], &title);
        let free =
            labels.iter().all(|label| (label[1] - at[1]).abs() > 12.0 || (label[0] - at[0]).abs() > 150.0);
        if rank < 10 && free {
            let label = format!("{} {:.0} %", format::tail(&row.name, 28), share * 100.0);
            let (anchor, shift) =
                if at[0] > right - 200.0 { (Anchor::End, -8.0) } else { (Anchor::Start, 8.0) };
            svg.text([at[0] + shift, at[1] - 8.0], FONT, anchor, INK, &label);
            labels.push(at);
        }
    }
    svg.finish()
}
