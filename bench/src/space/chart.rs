//! The chart of space: size and throughput over time while another session keeps a snapshot open.

use pg_broker_bench_common::report::{Party, Report};

use super::Point;
use crate::plot::{Page, Panel};

pub fn svg(report: &Report, points: &[Point]) -> String {
    let is_there = |side: &&Party| points.iter().any(|point| point.side == side.name);
    let sides: Vec<Party> = report.parties.iter().filter(is_there).copied().collect();
    let mut page = Page::default();
    page.head(
        report,
        "A queue while another session keeps a REPEATABLE READ snapshot open",
    );
    let mut panel = |top: f64, title: &str, value: fn(&Point) -> f64| {
        let panel = Panel {
            title,
            time: "seconds of load on this side (one side after the other)",
            sides: &sides,
        };
        panel.draw(&mut page, top, |side| {
            let own = points.iter().filter(|point| point.side == side.name);
            own.map(|point| (point.second, value(point))).collect()
        })
    };
    let size = "Size of the queue with its indexes, in MB";
    let rate = "Messages a second that were sent, read and acked, 100 a call";
    let y = panel(84.0, size, |point| point.megabytes);
    let y = panel(y + 30.0, rate, |point| point.rate);
    page.finish(y + 16.0)
}
