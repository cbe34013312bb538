//! Numbers and tables as plain text.

/// 1234567 → 1,234,567
pub fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if number < 0 { format!("-{text}") } else { text }
}

/// About three digits, or all of them before the point.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(value) if value >= 99.95 => grouped(value.round() as i64),
        Some(value) if value >= 9.995 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

pub fn times(ratio: Option<f64>) -> String {
    match ratio {
        Some(ratio) if ratio >= 100.0 => format!("{ratio:.0} ×"),
        Some(ratio) => format!("{ratio:.2} ×"),
        None => "-".into(),
    }
}

/// A long text in lines of some hundred characters, all but the first indented.
pub fn folded(text: &str, indent: usize) -> String {
    let (mut lines, mut length) = (String::new(), 0);
    for word in text.split(' ') {
        if length > 0 && length + word.len() > 98 - indent {
            lines.push_str(&format!("\n{}", " ".repeat(indent)));
            length = 0;
        } else if length > 0 {
            lines.push(' ');
        }
        lines.push_str(word);
        length += word.len() + 1;
    }
    lines
}

/// Columns padded to their widest cell, below a ruled first line; columns of words to the left,
/// of numbers to the right.
pub fn aligned(table: &[Vec<String>]) -> String {
    let columns = table.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| table.iter().filter_map(move |line| line.get(column));
    let width = |column: usize| cells(column).map(|c| c.chars().count()).max().unwrap_or(0);
    let words = |column: usize| {
        let numeric = |cell: &String| cell.starts_with(|c: char| c.is_ascii_digit() || c == '-');
        cells(column).skip(1).any(|cell| !numeric(cell))
    };
    let mut text = String::new();
    for (number, line) in table.iter().enumerate() {
        let cells: Vec<String> = (0..columns)
            .map(|column| {
                let cell = line.get(column).map(String::as_str).unwrap_or_default();
                let width = width(column);
                if words(column) {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            })
            .collect();
        text.push_str(&format!("  {}\n", cells.join("  ").trim_end()));
        if number == 0 {
            let all: usize = (0..columns).map(|column| width(column) + 2).sum();
            text.push_str(&format!("  {}\n", "-".repeat(all.saturating_sub(2))));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_about_three_digits() {
        assert_eq!(number(Some(1_234_567.4)), "1,234,567");
        assert_eq!(number(Some(99.97)), "100");
        assert_eq!(number(Some(12.34)), "12.3");
        assert_eq!(number(Some(0.244)), "0.24");
        assert_eq!(number(None), "-");
        assert_eq!(times(Some(1.5)), "1.50 ×");
    }
}
