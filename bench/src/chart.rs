//! The chart: how many times better in each workload, and the series under an open snapshot.

use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::report::{Party, Report};

use crate::plot::{FAINT, INK, Page, Panel, QUIET, WIDTH, colour};
use crate::snapshot::Point;
use crate::workload;

const LEFT: f64 = 330.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 11.0;

pub fn svg(report: &Report, points: &[Point]) -> String {
    let mut page = Page::default();
    let (base, others) = report.against();
    page.head(report, "pg_broker beside pgmq and hand-written SQL");
    let mut y = 84.0;
    // Times of waking, and the CPU of waiters, differ by powers of ten: on one scale with them all
    // other bars would be dots. Space has a chart of its own.
    let rows: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| !row.unit.starts_with("ms") && !workload::is_apart(&row.key))
        .collect();
    if !others.is_empty() && !rows.is_empty() {
        y = ratios(&mut page, report, &rows, base, others, y);
    }
    if !points.is_empty() {
        y = series(&mut page, &report.parties, points, y + 30.0);
    }
    page.finish(y + 16.0)
}

/// Bars from 1 × to the left where it is worse and to the right where it is better.
fn ratios(
    page: &mut Page,
    report: &Report,
    rows: &[&Row],
    base: &str,
    others: &[Party],
    top: f64,
) -> f64 {
    let title = report
        .parties
        .first()
        .map(|side| side.title)
        .unwrap_or_default();
    let heading = format!("{title}: times better than the other side (1 × is as good)");
    page.text(24.0, top, 13.5, INK, "start", &heading);
    let slot = 150.0;
    for (number, other) in others.iter().enumerate() {
        let x = WIDTH - RIGHT - slot * (others.len() - number) as f64;
        page.rect(x, top - 9.5, 11.0, 11.0, colour(other.name));
        page.text(
            x + 16.0,
            top,
            11.5,
            INK,
            "start",
            &format!("than {}", other.title),
        );
    }

    let all: Vec<f64> = rows
        .iter()
        .flat_map(|row| {
            others
                .iter()
                .filter_map(|other| row.better(base, other.name))
        })
        .filter(|ratio| *ratio > 0.0)
        .collect();
    // Room to the left of the shortest bar for its figure.
    let low = (all.iter().copied().fold(0.75, f64::min).log2() - 0.5).floor();
    let high = all.iter().copied().fold(2.0, f64::max).log2().ceil();
    let at = |ratio: f64| LEFT + (ratio.log2() - low) / (high - low) * (WIDTH - RIGHT - LEFT);

    let step = BAR * others.len() as f64 + 12.0;
    let first = top + 36.0;
    let bottom = first + step * rows.len() as f64;
    let stride = if high - low > 10.0 { 2 } else { 1 };
    for power in (low as i32..=high as i32).filter(|power| power % stride == 0) {
        let ratio = 2f64.powi(power);
        let (ink, wide) = if power == 0 { (INK, 1.5) } else { (FAINT, 1.0) };
        page.line(at(ratio), first - 6.0, at(ratio), bottom - 4.0, ink, wide);
        page.text(
            at(ratio),
            first - 11.0,
            10.5,
            QUIET,
            "middle",
            &format!("{ratio} ×"),
        );
    }
    for (number, row) in rows.iter().enumerate() {
        let y = first + step * number as f64;
        let middle = y + BAR * others.len() as f64 / 2.0 + 4.0;
        let note = if row.more_is_better {
            ""
        } else {
            " (less is better)"
        };
        page.text(
            LEFT - 12.0,
            middle,
            11.5,
            INK,
            "end",
            &format!("{}{note}", row.title),
        );
        let bars = others
            .iter()
            .filter_map(|other| Some((other, row.better(base, other.name)?)))
            .filter(|(_, ratio)| *ratio > 0.0);
        for (slot, (other, ratio)) in bars.enumerate() {
            let (from, to) = (at(1.0).min(at(ratio)), at(1.0).max(at(ratio)));
            let y = y + BAR * slot as f64;
            page.rect(from, y, (to - from).max(1.0), BAR - 1.5, colour(other.name));
            let label = if ratio >= 100.0 {
                format!("{ratio:.0} ×")
            } else {
                format!("{ratio:.2} ×")
            };
            let (x, anchor) = if ratio < 1.0 {
                (from - 4.0, "end")
            } else {
                (to + 4.0, "start")
            };
            page.text(x, y + BAR - 2.5, 10.0, INK, anchor, &label);
        }
    }
    bottom
}

/// Cycles a second of each side over its own minutes under the snapshot.
fn series(page: &mut Page, sides: &[Party], points: &[Point], top: f64) -> f64 {
    let panel = Panel {
        title: "Cycles a second of 8 clients while another session keeps a REPEATABLE READ \
                snapshot open",
        time: "minutes of load on this side (the sides take turns, minute by minute)",
        sides,
    };
    panel.draw(page, top, |side| {
        let own = points.iter().filter(|point| point.side == side.name);
        own.map(|point| (point.minute, point.rate)).collect()
    })
}
