//! The report: one page with its pictures inside, without scripts, without a network.

use serde_json::Value;

use super::results::Row;
use super::verdict::Outcome;
use crate::environment::Condition;
use crate::output::svg::{Anchor, COLORS, Svg, escape};
use crate::output::{format, page};

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 240.0;
const INK: &str = "#222222";
const PALE: &str = "#e3e6ea";

/// The page of a measurement.
pub fn page(title: &str, environment: &Value, rows: &[Row]) -> String {
    let mut body = summary(rows);
    for row in rows {
        let heading = format!("{} {}", row.measured.name(), row.label);
        body += &format!("<h2>{}</h2>\n", escape(heading.trim()));
        body += &format!("<p>{}</p>\n", escape(&row.measured.headline).replace('\n', "<br>"));
        body += &gates(row);
        body += "<div class=\"row\">\n";
        for picture in [histogram(row), cumulative(row), over_time(row), stages(row)] {
            body += &picture;
        }
        body += "</div>\n";
    }
    body += "<h2>Machine</h2>\n";
    body += &page::fields(environment);
    page::page(title, &body)
}

fn summary(rows: &[Row]) -> String {
    let heads = [
        "device",
        "size",
        "p50 ms",
        "p90",
        "p95",
        "p99",
        "cv %",
        "per s",
        "first ms",
        "RSS",
        "change of p50",
    ];
    let heads: String = heads.iter().map(|head| format!("<th>{head}</th>")).collect();
    let mut text = format!("<table><tr>{heads}</tr>\n");
    for row in rows {
        let latency = &row.latency;
        let cells = [
            row.measured.name().to_owned(),
            row.label.clone(),
            format::milliseconds(latency.p50),
            format::milliseconds(latency.p90),
            format::milliseconds(latency.p95),
            format::milliseconds(latency.p99),
            format!("{:.1}", latency.cv * 100.0),
            format::real(row.measured.per_second()),
            format::milliseconds(row.measured.cold().first),
            row.measured.peak.map_or_else(String::new, format::bytes),
            row.changes.first().map_or_else(String::new, |(_, change)| change.to_text()),
        ];
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        text += &format!("<tr>{cells}</tr>\n");
    }
    text + "</table>\n"
}

fn gates(row: &Row) -> String {
    if row.gates.is_empty() {
        return String::new();
    }
    let mut text = String::from("<table><tr><th>gate</th><th>measured</th><th></th></tr>\n");
    for gate in &row.gates {
        let (class, word) = match gate.outcome {
            Outcome::Pass => ("p", "pass"),
            Outcome::Fail => ("f", "FAIL"),
            Outcome::Inconclusive => ("f", "inconclusive"),
        };
        let value = gate.value.map_or_else(|| "not measured".to_owned(), format::real);
        text += &format!(
            "<tr><td>{}</td><td>{value}</td><td class=\"{class}\">{word}</td></tr>\n",
            escape(&gate.text)
        );
    }
    text + "</table>\n"
}

/// A frame with axes; gives the picture and the mapping from data to it.
struct Frame {
    svg: Svg,
    x: [f64; 2],
    y: [f64; 2],
}

impl Frame {
    fn new(title: &str, x: [f64; 2], y: [f64; 2], x_label: &str) -> Frame {
        let mut svg = Svg::new(WIDTH, HEIGHT);
        svg.text([8.0, 18.0], 13.0, Anchor::Start, INK, title);
        let widen = |[low, high]: [f64; 2]| if high > low { [low, high] } else { [low, low + 1.0] };
        let mut frame = Frame { svg, x: widen(x), y: widen(y) };
        for part in 0..=4 {
            let part = f64::from(part) / 4.0;
            let value = frame.y[0] + part * (frame.y[1] - frame.y[0]);
            let [x, y] = frame.at([frame.x[0], value]);
            frame.svg.line([x, y], [WIDTH - 12.0, y], PALE, false);
            frame.svg.text([x - 4.0, y + 4.0], 10.0, Anchor::End, INK, &format::real(rounded(value)));
            let value = frame.x[0] + part * (frame.x[1] - frame.x[0]);
            let [x, y] = frame.at([value, frame.y[0]]);
            frame.svg.text([x, y + 14.0], 10.0, Anchor::Middle, INK, &format::real(rounded(value)));
        }
        frame.svg.text([WIDTH / 2.0, HEIGHT - 6.0], 10.0, Anchor::Middle, INK, x_label);
        frame
    }

    fn at(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let (left, right, top, bottom) = (52.0, WIDTH - 20.0, 32.0, HEIGHT - 38.0);
        [
            left + (x - self.x[0]) / (self.x[1] - self.x[0]) * (right - left),
            bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (bottom - top),
        ]
    }
}

fn rounded(value: f64) -> f64 {
    let text = format!("{value:.3e}");
    text.parse().unwrap_or(value)
}

fn sorted_ms(row: &Row) -> Vec<f64> {
    let mut all: Vec<f64> = row.measured.samples.iter().map(|sample| sample.total as f64 / 1e6).collect();
    all.sort_by(f64::total_cmp);
    all
}

/// The range of a picture: everything but the slowest hundredth, which would press the rest together.
fn range(sorted: &[f64]) -> [f64; 2] {
    let last = (sorted.len() as f64 * 0.99).ceil() as usize;
    let least = sorted.first().copied().unwrap_or(0.0);
    [least, sorted.get(last.clamp(1, sorted.len().max(1)) - 1).copied().unwrap_or(least)]
}

fn histogram(row: &Row) -> String {
    const BINS: usize = 40;
    let sorted = sorted_ms(row);
    let [low, high] = range(&sorted);
    let size = ((high - low) / BINS as f64).max(1e-9);
    let mut counts = [0usize; BINS];
    for value in sorted.iter().filter(|value| **value <= high) {
        counts[(((value - low) / size) as usize).min(BINS - 1)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(1) as f64;
    let mut frame = Frame::new("Histogram", [low, low + size * BINS as f64], [0.0, most], "ms");
    for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        let [x, y] = frame.at([low + bin as f64 * size, *count as f64]);
        let [right, bottom] = frame.at([low + (bin + 1) as f64 * size, 0.0]);
        frame.svg.rect([x, y, right - x - 0.5, bottom - y], COLORS[0], &format!("{count} runs"));
    }
    let median = row.latency.p50 as f64 / 1e6;
    frame.svg.line(frame.at([median, 0.0]), frame.at([median, most]), COLORS[1], true);
    frame.svg.finish()
}

fn cumulative(row: &Row) -> String {
    let sorted = sorted_ms(row);
    let mut frame = Frame::new("Share of runs at most so long", range(&sorted), [0.0, 1.0], "ms");
    let line = |sorted: &[f64], frame: &Frame| -> Vec<[f64; 2]> {
        let step = (sorted.len() / 400).max(1);
        let points = sorted.iter().enumerate().step_by(step).filter(|(_, ms)| **ms <= frame.x[1]);
        points
            .map(|(rank, ms)| frame.at([ms.max(frame.x[0]), (rank + 1) as f64 / sorted.len() as f64]))
            .collect()
    };
    if let Some(before) = &row.before {
        let mut all: Vec<f64> =
            before.iter().flat_map(|process| &process.runs).map(|ns| *ns as f64 / 1e6).collect();
        all.sort_by(f64::total_cmp);
        let points = line(&all, &frame);
        frame.svg.polyline(&points, COLORS[7]);
        frame.svg.text([WIDTH - 24.0, 46.0], 10.0, Anchor::End, COLORS[7], "baseline");
    }
    let points = line(&sorted, &frame);
    frame.svg.polyline(&points, COLORS[0]);
    frame.svg.finish()
}

fn over_time(row: &Row) -> String {
    let samples = &row.measured.samples;
    let seconds = |at: u64| at as f64 / 1e9;
    let last = samples.iter().map(|sample| seconds(sample.at)).fold(0.0, f64::max);
    let [low, high] = range(&sorted_ms(row));
    let mut frame = Frame::new("Latency over time (ms)", [0.0, last], [low.min(high * 0.9), high], "s");
    let step = (samples.len() / 1500).max(1);
    for sample in samples.iter().step_by(step) {
        let ms = (sample.total as f64 / 1e6).min(high);
        let at = frame.at([seconds(sample.at), ms]);
        frame.svg.disc(at, 1.5, COLORS[sample.process as usize % COLORS.len()], "");
    }
    let readings = &row.measured.conditions;
    let mut words = Vec::new();
    for (what, unit, of) in [
        ("clock", "MHz", (|c| c.mhz) as fn(&Condition) -> Option<f64>),
        ("temperature", "°C", |c| c.celsius),
        ("load", "", |c| c.load1),
    ] {
        let all: Vec<f64> = readings.iter().filter_map(of).collect();
        let (least, most) =
            all.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, m), v| (l.min(*v), m.max(*v)));
        if least.is_finite() {
            words.push(format!(
                "{what} {} to {} {unit}",
                format::real(rounded(least)),
                format::real(rounded(most))
            ));
        }
    }
    frame.svg.text([WIDTH - 24.0, 18.0], 10.0, Anchor::End, "#6b7680", words.join(", ").trim());
    frame.svg.finish()
}

fn stages(row: &Row) -> String {
    let stages = &row.latency.stages;
    let known = [stages.pre, stages.upload, stages.compute, stages.read, stages.host, stages.post];
    let other = stages.total.saturating_sub(known.iter().sum());
    let parts = [
        ("pre", stages.pre),
        ("upload", stages.upload),
        ("compute", stages.compute),
        ("read", stages.read),
        ("host", stages.host),
        ("post", stages.post),
        ("other", other),
    ];
    let parts: Vec<_> =
        parts.into_iter().filter(|(name, ns)| *ns > 0 || !["pre", "post"].contains(name)).collect();
    let total = stages.total.max(1) as f64;
    let mut svg = Svg::new(WIDTH, HEIGHT);
    svg.text([8.0, 18.0], 13.0, Anchor::Start, INK, "Stages of a mean run");
    let mut x = 20.0;
    for (index, (name, ns)) in parts.iter().enumerate() {
        let width = *ns as f64 / total * (WIDTH - 40.0);
        svg.rect([x, 40.0, width, 36.0], COLORS[index], &format!("{name}: {}", format::duration(*ns)));
        x += width;
        let y = 104.0 + 22.0 * index as f64;
        svg.rect([20.0, y - 10.0, 12.0, 12.0], COLORS[index], "");
        let label =
            format!("{name}  {} ms  ({:.1} %)", format::milliseconds(*ns), *ns as f64 / total * 100.0);
        svg.text([40.0, y], 12.0, Anchor::Start, INK, &label);
    }
    svg.finish()
}
