//! Numbers and names as people read them.

use std::fmt::Write;

/// A duration in nanoseconds, with three or four significant digits: `18.2 ms`.
pub fn duration(ns: u64) -> String {
    let ns = ns as f64;
    let (value, unit) = match ns {
        ns if ns < 1e3 => return format!("{ns} ns"),
        ns if ns < 1e6 => (ns / 1e3, "us"),
        ns if ns < 1e9 => (ns / 1e6, "ms"),
        ns => (ns / 1e9, "s"),
    };
    format!("{} {unit}", significant(value, 3))
}

/// Milliseconds without the unit, for tables.
pub fn milliseconds(ns: u64) -> String {
    significant(ns as f64 / 1e6, 4)
}

/// A size in bytes: `48.1 MiB`.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{} {}", significant(value, 3), UNITS[unit])
}

/// A number with so many significant digits, never in exponent form.
fn significant(value: f64, digits: usize) -> String {
    let before = if value.abs() < 1.0 { 1 } else { value.abs().log10().floor() as usize + 1 };
    format!("{value:.*}", digits.saturating_sub(before))
}

/// A real number in few characters: `0.998`, `3.1e-6`, `nan`.
pub fn real(value: f64) -> String {
    match value.abs() {
        _ if value.is_nan() => "nan".to_owned(),
        _ if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_owned(),
        0.0 => "0".to_owned(),
        magnitude if !(1e-3..1e5).contains(&magnitude) => format!("{value:.2e}"),
        _ => {
            let text = significant(value, 5);
            match text.contains('.') {
                true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
                false => text,
            }
        }
    }
}

/// Dimensions as the command line takes them: `1x3x224x224`; a scalar is `scalar`.
pub fn dims(dims: &[usize]) -> String {
    if dims.is_empty() {
        return "scalar".to_owned();
    }
    let mut text = String::new();
    for (i, dim) in dims.iter().enumerate() {
        let _ = write!(text, "{}{dim}", if i == 0 { "" } else { "x" });
    }
    text
}

/// Type and dimensions as results print them: `f32[1,3,224,224]`.
pub fn signature<D: std::fmt::Display>(dtype: impl std::fmt::Display, dims: &[D]) -> String {
    let dims: Vec<String> = dims.iter().map(D::to_string).collect();
    format!("{dtype}[{}]", dims.join(","))
}

/// A name from a file, cut to a bearable length; what a terminal would obey or not show is escaped, quotes are not.
pub fn name(text: &str, most: usize) -> String {
    let escape = |c: char| if matches!(c, '"' | '\'') { c.to_string() } else { c.escape_debug().to_string() };
    let shown: String = text.chars().take(most + 1).map(escape).collect();
    if shown.chars().count() <= most {
        return shown;
    }
    shown.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// The end of a name that is too long: what tells nodes apart stands there.
pub fn tail(text: &str, most: usize) -> String {
    let shown = name(text, 400);
    let count = shown.chars().count();
    if count <= most {
        shown
    } else {
        ['…'].into_iter().chain(shown.chars().skip(count + 1 - most)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_characters() {
        assert_eq!(duration(999), "999 ns");
        assert_eq!(duration(18_240_000), "18.2 ms");
        assert_eq!(duration(61_400_000_000), "61.4 s");
        assert_eq!(milliseconds(5_421_000), "5.421");
        assert_eq!(bytes(350 << 20), "350 MiB");
        assert_eq!(bytes(1_200_000), "1.14 MiB");
        assert_eq!(
            [real(0.998), real(3.1e-6), real(-41.0), real(f64::NAN)],
            ["0.998", "3.10e-6", "-41", "nan"]
        );
        assert_eq!(real(100.0), "100");
        assert_eq!(dims(&[1, 3]), "1x3");
        assert_eq!(signature("f32", &[1, 3]), "f32[1,3]");
        assert_eq!(name("a\nbcdef", 5), "a\\nb…");
        assert_eq!(name("\"a\" isn't\u{1b}", 20), "\"a\" isn't\\u{1b}");
        assert_eq!(tail("/model/layer/conv", 6), "…/conv");
    }
}
