//! Pictures as SVG text: no script, no fonts or files from elsewhere.

use std::fmt::Write;

/// The colours of series, told apart by lightness as well as by hue.
pub const COLORS: [&str; 8] =
    ["#1f5f99", "#d98324", "#4f9d69", "#a23b4a", "#7b6ba8", "#8a8f3c", "#3fa7b5", "#6b7680"];

/// A picture under construction.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It is centred there.
    Middle,
    /// It ends there.
    End,
}

impl Svg {
    /// An empty picture on white.
    pub fn new(width: f64, height: f64) -> Svg {
        let mut svg = Svg { width, height, body: String::new() };
        svg.rect([0.0, 0.0, width, height], "#ffffff", "");
        svg
    }

    /// A filled rectangle (left, top, width, height); `title` is shown by viewers when pointed at.
    pub fn rect(&mut self, [x, y, width, height]: [f64; 4], fill: &str, title: &str) {
        let title = titled(title);
        // Writing to a text cannot fail.
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{:.2}\" height=\"{:.2}\" fill=\"{fill}\">{title}</rect>",
            width.max(0.0),
            height.max(0.0)
        );
    }

    /// A line from one point to another.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], stroke: &str, dashed: bool) {
        let dash = if dashed { " stroke-dasharray=\"4 3\"" } else { "" };
        let _ = writeln!(
            self.body,
            "<line x1=\"{x1:.2}\" y1=\"{y1:.2}\" x2=\"{x2:.2}\" y2=\"{y2:.2}\" stroke=\"{stroke}\"{dash}/>"
        );
    }

    /// A line through points.
    pub fn polyline(&mut self, points: &[[f64; 2]], stroke: &str) {
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.2},{y:.2}")).collect();
        let points = points.join(" ");
        let _ = writeln!(
            self.body,
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"1.5\"/>"
        );
    }

    /// A disc.
    pub fn disc(&mut self, [x, y]: [f64; 2], radius: f64, fill: &str, title: &str) {
        let title = titled(title);
        let _ = writeln!(
            self.body,
            "<circle cx=\"{x:.2}\" cy=\"{y:.2}\" r=\"{radius:.2}\" fill=\"{fill}\" fill-opacity=\"0.75\">{title}</circle>"
        );
    }

    /// A text of some size in pixels.
    pub fn text(&mut self, [x, y]: [f64; 2], size: f64, anchor: Anchor, fill: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{fill}\">{}</text>",
            escape(text)
        );
    }

    /// A text turned upwards, for a vertical axis.
    pub fn upward(&mut self, [x, y]: [f64; 2], size: f64, text: &str) {
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.2}\" y=\"{y:.2}\" font-size=\"{size}\" text-anchor=\"middle\" fill=\"#222\" \
             transform=\"rotate(-90 {x:.2} {y:.2})\">{}</text>",
            escape(text)
        );
    }

    /// The finished picture.
    pub fn finish(self) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"Helvetica, Arial, sans-serif\">\n{}</svg>\n",
            self.body,
            w = self.width,
            h = self.height
        )
    }
}

fn titled(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!("<title>{}</title>", escape(text)) }
}

/// A text for XML and HTML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // Not even an escape may stand for these in XML.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Cuts a text to what fits a width at a font size, by the mean width of a letter.
pub fn fitted(text: &str, width: f64, size: f64) -> String {
    let letters = (width / (size * 0.56)).floor() as usize;
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    if letters < 3 {
        return String::new();
    }
    text.chars().take(letters - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_models_do_no_harm() {
        let mut svg = Svg::new(10.0, 10.0);
        svg.text([0.0, 0.0], 9.0, Anchor::Start, "#000", "<script>\u{1}\"&");
        let text = svg.finish();
        assert!(text.contains("&lt;script&gt;\u{fffd}&quot;&amp;"), "{text}");
        assert_eq!(fitted("abcdefgh", 29.0, 10.0), "abcd…");
        assert_eq!(fitted("abc", 100.0, 10.0), "abc");
    }
}
