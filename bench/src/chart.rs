//! The chart: how many times better in each workload, and the series under an open snapshot.

use pg_broker_bench_common::figure::Row;
use pg_broker_bench_common::report::{Party, Report};
use pg_broker_bench_common::text::grouped;

use crate::snapshot::Point;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 330.0;
const RIGHT: f64 = 70.0;
const BAR: f64 = 11.0;
const INK: &str = "#1f2933";
const FAINT: &str = "#d9dee4";
const QUIET: &str = "#66727f";

/// One colour a side, the same in both pictures.
fn colour(side: &str) -> &'static str {
    match side {
        "ours" => "#0b6e6e",
        "pgmq" => "#d9822b",
        "plain" => "#a3475c",
        _ => "#7a86b8",
    }
}

pub fn svg(report: &Report, points: &[Point]) -> String {
    let mut page = Page::default();
    let (base, others) = report.against();
    let version = condition(report, "server");
    page.text(
        24.0,
        34.0,
        19.0,
        INK,
        "start",
        "pg_broker beside pgmq and hand-written SQL",
    );
    let about = format!(
        "{version} · {} · {}",
        condition(report, "machine"),
        condition(report, "date")
    );
    page.text(24.0, 54.0, 11.5, QUIET, "start", &about);
    let mut y = 84.0;
    // Times of waking, and the CPU of waiters, differ by powers of ten: on one scale with them all
    // other bars would be dots.
    let rows: Vec<&Row> = report
        .rows
        .iter()
        .filter(|row| !row.unit.starts_with("ms"))
        .collect();
    if !others.is_empty() && !rows.is_empty() {
        y = ratios(&mut page, report, &rows, base, others, y);
    }
    if !points.is_empty() {
        y = series(&mut page, report, points, y + 30.0);
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
fn series(page: &mut Page, report: &Report, points: &[Point], top: f64) -> f64 {
    page.text(
        24.0,
        top,
        13.5,
        INK,
        "start",
        "Cycles a second of 8 clients while another session keeps a REPEATABLE READ snapshot open",
    );
    let (left, right) = (90.0, WIDTH - 150.0);
    let (above, below) = (top + 22.0, top + 242.0);
    let most = points.iter().map(|point| point.rate).fold(1.0, f64::max);
    let step = nice(most / 4.0);
    let highest = (most / step).ceil() * step;
    let minutes = points
        .iter()
        .map(|point| point.minute)
        .fold(0.0, f64::max)
        .ceil()
        .max(1.0);
    let x = |minute: f64| left + minute / minutes * (right - left);
    let y = |rate: f64| below - rate / highest * (below - above);

    let mut rate = 0.0;
    while rate <= highest + 0.5 {
        page.line(left, y(rate), right, y(rate), FAINT, 1.0);
        page.text(
            left - 8.0,
            y(rate) + 4.0,
            10.5,
            QUIET,
            "end",
            &grouped(rate as i64),
        );
        rate += step;
    }
    for minute in 0..=minutes as i32 {
        page.line(
            x(minute as f64),
            below,
            x(minute as f64),
            below + 4.0,
            QUIET,
            1.0,
        );
        page.text(
            x(minute as f64),
            below + 17.0,
            10.5,
            QUIET,
            "middle",
            &minute.to_string(),
        );
    }
    page.text(
        (left + right) / 2.0,
        below + 34.0,
        11.0,
        QUIET,
        "middle",
        "minutes of load on this side (the sides take turns, minute by minute)",
    );

    // Labels at the ends of the lines, pushed apart where they would overlap.
    let mut ends: Vec<(f64, &Party)> = Vec::new();
    for side in &report.parties {
        let line: Vec<(f64, f64)> = points
            .iter()
            .filter(|point| point.side == side.name)
            .map(|point| (x(point.minute), y(point.rate)))
            .collect();
        page.path(&line, colour(side.name));
        if let Some((_, last)) = line.last() {
            ends.push((*last, side));
        }
    }
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut previous = f64::MIN;
    for (end, side) in ends {
        let end = end.max(previous + 15.0);
        previous = end;
        page.text(
            right + 8.0,
            end + 4.0,
            12.0,
            colour(side.name),
            "start",
            side.title,
        );
    }
    below + 40.0
}

/// 1, 2 or 5 times a power of ten, not below the value.
fn nice(value: f64) -> f64 {
    let power = 10f64.powf(value.max(1.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .map(|m| m * power)
        .find(|n| *n >= value)
        .unwrap_or(value)
}

fn condition<'a>(report: &'a Report, name: &str) -> &'a str {
    report
        .conditions
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| value.as_str())
        .unwrap_or_default()
}

/// The few shapes that the chart is made of.
#[derive(Default)]
struct Page {
    shapes: String,
}

impl Page {
    fn text(&mut self, x: f64, y: f64, size: f64, ink: &str, anchor: &str, text: &str) {
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.shapes.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{ink}\" \
             text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, ink: &str) {
        self.shapes.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{ink}\"/>\n"
        ));
    }

    fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, ink: &str, width: f64) {
        self.shapes.push_str(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{ink}\" stroke-width=\"{width}\"/>\n"
        ));
    }

    fn path(&mut self, points: &[(f64, f64)], ink: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        self.shapes.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{ink}\" stroke-width=\"2.2\" \
             stroke-linejoin=\"round\"/>\n",
            points.join(" ")
        ));
    }

    fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
             width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.shapes
        )
    }
}
