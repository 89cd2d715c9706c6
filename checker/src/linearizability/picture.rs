//! Overlapping operations, drawn in text: time goes right, a row a process.

/// One operation as a bar.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// What its row is called.
    pub(super) row: String,
    pub(super) label: String,
    pub(super) invoked: u64,
    /// `u64::MAX`: it never ends.
    pub(super) returned: u64,
}

/// Columns that bars may take.
const WIDTH: usize = 100;

/// Draws the bars; with `labels` as they are if there is room, else with the bars' numbers, from 1. `None` when there is no
/// room even then.
pub(super) fn draw(bars: &[Bar]) -> Option<Vec<String>> {
    let mut bars = bars.to_vec();
    draw_labelled(&bars).or_else(|| {
        for (number, bar) in (1..).zip(&mut bars) {
            bar.label = format!("#{number}");
        }
        draw_labelled(&bars)
    })
}

fn draw_labelled(bars: &[Bar]) -> Option<Vec<String>> {
    let columns = columns(bars);
    let width = columns.iter().map(|(_, end)| end + 1).max().unwrap_or(0) + 2;
    if width > WIDTH {
        return None;
    }
    let mut rows: Vec<(&str, Vec<char>)> = Vec::new();
    for (bar, (start, end)) in bars.iter().zip(columns) {
        // A process whose operation never returned goes on in a row of its own.
        let found = rows.iter().position(|(name, drawn)| *name == bar.row && drawn.len() <= start);
        let at = found.unwrap_or_else(|| {
            rows.push((&bar.row, Vec::new()));
            rows.len() - 1
        });
        let drawn = &mut rows[at].1;
        drawn.resize(start, ' ');
        drawn.push('├');
        drawn.push(' ');
        drawn.extend(bar.label.chars());
        drawn.push(' ');
        let is_endless = bar.returned == u64::MAX;
        let end = if is_endless { width } else { end };
        drawn.resize(end, if is_endless { '┄' } else { '─' });
        drawn.push(if is_endless { '…' } else { '┤' });
    }
    let widest = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    rows.sort_by_key(|(name, _)| (name.len(), *name));
    Some(rows.into_iter().map(|(name, drawn)| format!("{name:>widest$}  {}", String::from_iter(drawn))).collect())
}

/// Where each bar starts and ends: as the times are ordered, and far enough apart for its label.
fn columns(bars: &[Bar]) -> Vec<(usize, usize)> {
    let mut moments: Vec<(u64, bool, usize)> = Vec::with_capacity(bars.len() * 2);
    for (at, bar) in bars.iter().enumerate() {
        moments.push((bar.invoked, false, at));
        if bar.returned != u64::MAX {
            moments.push((bar.returned, true, at));
        }
    }
    moments.sort_unstable();
    let mut columns = vec![(0, 0); bars.len()];
    let mut column = 0;
    for (_, is_end, at) in moments {
        let needed = columns[at].0 + bars[at].label.chars().count() + 3;
        if is_end {
            column = column.max(needed);
            columns[at].1 = column;
        } else {
            columns[at] = (column, column + bars[at].label.chars().count() + 3);
        }
        column += 1;
    }
    columns
}
