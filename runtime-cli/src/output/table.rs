//! Tables that fit a terminal of 80 columns.

/// The width that results are laid out for.
pub const WIDTH: usize = 80;

/// Where a column's text stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// Rows under headings; the first left-aligned column that is too wide is wrapped.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(columns: &[(&'static str, Align)]) -> Table {
        Table { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; cells beyond the columns are dropped, missing ones are empty.
    pub fn row<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        let mut row: Vec<String> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), String::new());
        self.rows.push(row);
    }

    /// No rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines of the table, without a line break at the end.
    pub fn render(&self) -> String {
        let mut widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(i, (heading, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
                cells.chain([heading.chars().count()]).max().unwrap_or(0)
            })
            .collect();
        let total: usize = widths.iter().sum::<usize>() + 2 * widths.len().saturating_sub(1);
        let widest =
            (0..widths.len()).filter(|&i| self.columns[i].1 == Align::Left).max_by_key(|&i| widths[i]);
        if let Some(widest) = widest
            && total > WIDTH
        {
            // A column narrower than this is unreadable; the table is too wide then, and stays so.
            const NARROWEST: usize = 16;
            widths[widest] = widths[widest].saturating_sub(total - WIDTH).max(NARROWEST);
        }
        let headings: Vec<String> = self.columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
        let shows_headings = headings.iter().any(|heading| !heading.is_empty());
        let rows = shows_headings.then_some(&headings).into_iter().chain(&self.rows);
        let lines: Vec<String> = rows.flat_map(|row| self.lines(row, &widths)).collect();
        lines.join("\n")
    }

    fn lines(&self, row: &[String], widths: &[usize]) -> Vec<String> {
        let cells: Vec<Vec<String>> =
            row.iter().zip(widths).map(|(cell, &width)| wrap(cell, width)).collect();
        let height = cells.iter().map(Vec::len).max().unwrap_or(0);
        (0..height)
            .map(|line| {
                let parts =
                    cells.iter().zip(widths).zip(&self.columns).map(|((cell, &width), (_, align))| {
                        let text = cell.get(line).map_or("", String::as_str);
                        match align {
                            Align::Left => format!("{text:<width$}"),
                            Align::Right => format!("{text:>width$}"),
                        }
                    });
                parts.collect::<Vec<_>>().join("  ").trim_end().to_owned()
            })
            .collect()
    }
}

/// Cuts a text into pieces of at most `width` characters, after a space, `/`, `.` or `,` where there is one.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    let mut pieces = Vec::new();
    let mut rest = characters.as_slice();
    while rest.len() > width.max(1) {
        let window = &rest[..width.max(1)];
        let cut =
            window.iter().rposition(|c| matches!(c, ' ' | '/' | '.' | ',')).map_or(window.len(), |at| at + 1);
        pieces.push(rest[..cut].iter().collect::<String>().trim_end().to_owned());
        rest = &rest[cut..];
    }
    pieces.push(rest.iter().collect());
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_long_names_wrap() {
        let mut table = Table::new(&[("name", Align::Left), ("n", Align::Right)]);
        table.row(["short", "1"]);
        table.row(["/block/".repeat(20), "12345".to_owned()]);
        let text = table.render();
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert_eq!(text.lines().next().unwrap().trim_end().len(), WIDTH);
        assert!(text.lines().nth(1).unwrap().ends_with("    1"));
        let joined: String = text.lines().skip(2).map(|line| line.split("  ").next().unwrap()).collect();
        assert_eq!(joined, "/block/".repeat(20));
    }
}
