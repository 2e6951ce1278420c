//! Regular expressions in RE2's syntax, put into that of the crate `regex`, which descends from it: there `\w`, `\d`,
//! `\s` and `\b` mean all of Unicode, and classes nest.

/// The same pattern for the crate `regex`.
pub(super) fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern.chars().peekable();
    let mut class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => match rest.next() {
                Some(escaped) => push_escaped(&mut out, escaped, class),
                None => out.push('\\'),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                // A bracket that comes first, or after the negation, is a member.
                if rest.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                if rest.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            '[' if rest.peek() == Some(&':') => {
                out.push('[');
                // The name of a class, up to its bracket.
                for c in rest.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if class => {
                class = false;
                out.push(']');
            }
            // Twice, these are operations on classes; a nested bracket is a class.
            '[' | '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '-' if class && rest.peek() == Some(&'-') => out.push_str("\\-"),
            _ => out.push(c),
        }
    }
    out
}

fn push_escaped(out: &mut String, escaped: char, class: bool) {
    match escaped {
        'd' => out.push_str("[0-9]"),
        'D' => out.push_str("[^0-9]"),
        's' => out.push_str("[\\t\\n\\x0C\\r ]"),
        'S' => out.push_str("[^\\t\\n\\x0C\\r ]"),
        'w' => out.push_str("[0-9A-Za-z_]"),
        'W' => out.push_str("[^0-9A-Za-z_]"),
        'b' if !class => out.push_str("(?-u:\\b)"),
        'B' if !class => out.push_str("(?-u:\\B)"),
        other => {
            out.push('\\');
            out.push(other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::translate;

    #[test]
    fn classes_mean_what_they_mean_in_re2() {
        assert_eq!(translate(r"a\.b(c|d)*"), r"a\.b(c|d)*");
        assert_eq!(translate(r"[\w.-]+"), "[[0-9A-Za-z_].-]+");
        assert_eq!(translate(r"\bx\d"), r"(?-u:\b)x[0-9]");
        assert_eq!(translate(r"[[:alpha:][]"), r"[[:alpha:]\[]");
        assert_eq!(translate(r"[]a][^]b]"), r"[\]a][^\]b]");
        assert_eq!(translate(r"[a&&b--c~~d]&&"), r"[a\&\&b\--c\~\~d]&&");
        assert_eq!(translate("\\"), "\\");
    }
}
