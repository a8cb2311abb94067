//! Rows in aligned columns.

/// Prints `rows` below `header`, each column as wide as its widest cell. Columns named in `right` are aligned to the right.
pub(super) fn print<const COLUMNS: usize>(
    header: [&str; COLUMNS],
    right: &[&str],
    rows: &[[String; COLUMNS]],
) {
    let header_row = header.map(str::to_owned);
    let all = || std::iter::once(&header_row).chain(rows);
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| all().map(|row| row[column].chars().count()).max().unwrap_or_default())
        .collect();
    for row in all() {
        let cells = row.iter().zip(&widths).zip(header).map(|((cell, &width), name)| {
            if right.contains(&name) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}
