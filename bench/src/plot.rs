//! What charts are made of: a page of shapes, and panels with a line a side.

use pg_broker_bench_common::report::{Party, Report};
use pg_broker_bench_common::text::grouped;

pub const WIDTH: f64 = 960.0;
pub const INK: &str = "#1f2933";
pub const FAINT: &str = "#d9dee4";
pub const QUIET: &str = "#66727f";

/// One colour a side, the same in all pictures.
pub fn colour(side: &str) -> &'static str {
    match side {
        "ours" => "#0b6e6e",
        "dropin" => "#5c9a6b",
        "pgmq" => "#d9822b",
        "plain" => "#a3475c",
        _ => "#7a86b8",
    }
}

/// A panel: values over time, from zero up, one line a side.
pub struct Panel<'a> {
    pub title: &'a str,
    /// Below the horizontal axis.
    pub time: &'a str,
    pub sides: &'a [Party],
}

impl Panel<'_> {
    /// Draws the points that each side has, as time and value; says where the panel ends.
    pub fn draw(
        &self,
        page: &mut Page,
        top: f64,
        points: impl Fn(&Party) -> Vec<(f64, f64)>,
    ) -> f64 {
        page.text(24.0, top, 13.5, INK, "start", self.title);
        let (left, right) = (90.0, WIDTH - 150.0);
        let (above, below) = (top + 22.0, top + 242.0);
        let lines: Vec<(&Party, Vec<(f64, f64)>)> =
            self.sides.iter().map(|side| (side, points(side))).collect();
        let all = || lines.iter().flat_map(|(_, line)| line);
        let most = all().map(|(_, value)| *value).fold(1.0, f64::max);
        let step = nice(most / 4.0);
        let highest = (most / step).ceil() * step;
        let end = all().map(|(time, _)| *time).fold(0.0, f64::max);
        let end = end.ceil().max(1.0);
        let x = |time: f64| left + time / end * (right - left);
        let y = |value: f64| below - value / highest * (below - above);

        let mut value = 0.0;
        while value <= highest + 0.5 {
            page.line(left, y(value), right, y(value), FAINT, 1.0);
            let label = grouped(value as i64);
            page.text(left - 8.0, y(value) + 4.0, 10.5, QUIET, "end", &label);
            value += step;
        }
        let stride = if end > 10.0 { nice(end / 10.0) } else { 1.0 };
        let mut time = 0.0;
        while time <= end {
            page.line(x(time), below, x(time), below + 4.0, QUIET, 1.0);
            let label = format!("{time:.0}");
            page.text(x(time), below + 17.0, 10.5, QUIET, "middle", &label);
            time += stride;
        }
        let middle = (left + right) / 2.0;
        page.text(middle, below + 34.0, 11.0, QUIET, "middle", self.time);

        // Labels at the ends of the lines, pushed apart where they would overlap.
        let mut ends: Vec<(f64, &Party)> = Vec::new();
        for (side, line) in lines {
            let line: Vec<(f64, f64)> = line.iter().map(|(t, v)| (x(*t), y(*v))).collect();
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
            let ink = colour(side.name);
            page.text(right + 8.0, end + 4.0, 12.0, ink, "start", side.title);
        }
        below + 40.0
    }
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
pub struct Page {
    shapes: String,
}

impl Page {
    pub fn text(&mut self, x: f64, y: f64, size: f64, ink: &str, anchor: &str, text: &str) {
        let text = text
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.shapes.push_str(&format!(
            "<text x=\"{x:.1}\" y=\"{y:.1}\" font-size=\"{size}\" fill=\"{ink}\" \
             text-anchor=\"{anchor}\">{text}</text>\n"
        ));
    }

    pub fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, ink: &str) {
        self.shapes.push_str(&format!(
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" \
             fill=\"{ink}\"/>\n"
        ));
    }

    pub fn line(&mut self, x1: f64, y1: f64, x2: f64, y2: f64, ink: &str, width: f64) {
        self.shapes.push_str(&format!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" \
             stroke=\"{ink}\" stroke-width=\"{width}\"/>\n"
        ));
    }

    pub fn path(&mut self, points: &[(f64, f64)], ink: &str) {
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

    /// What the chart shows, and where and when it was measured.
    pub fn head(&mut self, report: &Report, title: &str) {
        self.text(24.0, 34.0, 19.0, INK, "start", title);
        let about = format!(
            "{} · {} · {}",
            condition(report, "server"),
            condition(report, "machine"),
            condition(report, "date")
        );
        self.text(24.0, 54.0, 11.5, QUIET, "start", &about);
    }

    pub fn finish(self, height: f64) -> String {
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH:.0} {height:.0}\" \
             width=\"{WIDTH:.0}\" height=\"{height:.0}\" \
             font-family=\"Helvetica, Arial, 'DejaVu Sans', sans-serif\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n{}</svg>\n",
            self.shapes
        )
    }
}
