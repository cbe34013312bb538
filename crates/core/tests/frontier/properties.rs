//! The parts of a lane against naive ones, over random histories (of a fixed seed each, so that
//! a failure can be had again).

use std::collections::{BTreeMap, BTreeSet};

use crate::dice::Dice;
use pg_broker_core::frontier::{
    Batch, Dues, Effect, Lane, OpenSpans, Reports, Span, SpanSet, Ticket, Touched,
};

const IDS: i64 = 200;

fn ids(span: Span) -> impl Iterator<Item = i64> {
    span.lo.max(0)..span.hi.min(IDS)
}

fn in_order(spans: &[Span]) {
    assert!(spans.iter().all(|s| !s.is_empty()), "{spans:?}");
    assert!(spans.is_sorted_by(|a, b| a.hi < b.lo), "{spans:?}");
}

/// Never fewer ids than a plain set has; exactly those while there is room and nothing is near.
#[test]
fn spans_hold_at_least_what_is_in_them() {
    for seed in 1..400 {
        let mut dice = Dice::new(seed);
        let mut few = OpenSpans::<3, 2>::new();
        let mut many = OpenSpans::<110, 0>::new();
        let mut set = SpanSet::<3, 0>::new();
        let mut naive: BTreeSet<i64> = (0..IDS).collect();
        let mut alone = BTreeSet::new();
        for _ in 0..200 {
            let span = dice.span(IDS, 20);
            if dice.below(2) == 0 {
                few.add(span);
                many.add(span);
                set.add(span);
                naive.extend(ids(span));
                alone.extend(ids(span));
            } else {
                few.subtract(span);
                many.subtract(span);
                set.subtract(span);
                naive.retain(|id| !span.holds(*id));
                alone.retain(|id| !span.holds(*id));
            }
            in_order(few.below());
            in_order(many.below());
            in_order(set.spans());
            assert!(few.below().iter().all(|s| s.hi < few.frontier()));
            for id in 0..IDS {
                assert!(few.holds(id) || !naive.contains(&id), "seed {seed}, {id}");
                assert_eq!(many.holds(id), naive.contains(&id), "seed {seed}, {id}");
                assert!(set.holds(id) || !alone.contains(&id), "seed {seed}, {id}");
            }
        }
        few.subtract(Span::new(0, IDS + 20));
        assert!(few.below().is_empty(), "all of it can be taken out again");
    }
}

#[test]
fn joins_what_costs_least() {
    let mut set = SpanSet::<3, 0>::new();
    for id in [10, 100, 110] {
        set.add(Span::one(id));
    }
    set.add(Span::one(1000));
    let expected = [Span::one(10), Span::new(100, 111), Span::one(1000)];
    assert_eq!(set.spans(), expected);
    set.add(Span::one(12));
    assert_eq!(set.spans()[0], Span::new(10, 13));
}

/// What was reported since is among what is found, or it is said that nobody knows.
#[test]
fn reports_forget_only_aloud() {
    let mut known = 0;
    for seed in 1..300 {
        let mut dice = Dice::new(seed);
        let mut reports = Reports::<4, 3>::new();
        let mut naive = Vec::new();
        for _ in 0..200 {
            let span = dice.span(IDS, 5);
            if !span.is_empty() {
                reports.record(span);
                naive.push(span);
            }
            let back = dice.below(80).min(naive.len() as i64) as usize;
            let before = naive.len() - back;
            let mut found = SpanSet::<8, 0>::new();
            let of = dice.span(IDS, IDS);
            if reports.since(before as u64, of, &mut found) {
                known += 1;
                for span in &naive[before..] {
                    for id in ids(span.clip(of)) {
                        assert!(found.holds(id), "seed {seed}: {id} since {before}");
                    }
                }
            } else {
                assert!(back > 48, "three whole groups of groups are always known");
            }
            assert!(back > 4 || reports.since(before as u64, of, &mut found));
        }
        let ahead = reports.made() + 1;
        assert!(!reports.since(ahead, Span::new(0, IDS), &mut SpanSet::<2, 0>::new()));
    }
    assert!(known > 10_000);
}

/// Every row that was entered and has not left is held for its due time, whatever leaves in
/// between: rows that were never entered, or twice, or are entered later.
#[test]
fn buckets_lose_nobody() {
    for seed in 1..300 {
        let mut dice = Dice::new(seed);
        let mut dues = Dues::<2, 4, 10>::new();
        let mut naive: BTreeMap<i64, i64> = BTreeMap::new();
        // No row gets one due time twice.
        let mut used = BTreeSet::new();
        let mut now = 0;
        for _ in 0..300 {
            let id = dice.below(40);
            match dice.below(6) {
                0..=2 => {
                    // Some reach far beyond all levels.
                    let reach = [9, 90, 3000][dice.below(3) as usize];
                    let due = now + 1 + dice.below(reach);
                    if !used.insert((id, due)) {
                        continue;
                    }
                    if let Some(old) = naive.remove(&id) {
                        dues.leave(&Batch::one(id, old));
                    }
                    for _ in 0..=dice.below(2) {
                        if let Some(look) = dues.enter(now, &Batch::one(id, due)) {
                            naive.retain(|id, _| !look.holds(*id));
                        }
                    }
                    naive.insert(id, due);
                }
                3 => {
                    let due = naive.remove(&id);
                    if let Some(due) = due {
                        dues.leave(&Batch::one(id, due));
                    }
                }
                4 => {
                    let never = now + dice.below(100);
                    if used.insert((id, never)) {
                        dues.leave(&Batch::one(id, never));
                    }
                }
                _ => {
                    now += dice.below(100);
                    while let Some(look) = dues.take_due(now) {
                        naive.retain(|id, _| !look.holds(*id));
                    }
                    assert!(naive.values().all(|due| *due > now));
                }
            }
            for (id, due) in &naive {
                assert!(dues.hold(*id, *due), "seed {seed}: {id} at {due}");
                assert!(dues.next().is_some_and(|next| next <= *due));
            }
        }
        while let Some(look) = dues.take_due(i64::MAX) {
            naive.retain(|id, _| !look.holds(*id));
        }
        assert!(naive.is_empty() && dues == Dues::new());
    }
}

#[test]
fn leases_that_all_end_early_cost_nothing() {
    let mut lane = Lane::fresh();
    let second = 1_000_000;
    for id in 1..=1000 {
        lane.enter_due(id * 100, id, id * 100 + 30 * second);
    }
    for id in (1..=1000).rev() {
        assert!(lane.next_due().is_some());
        lane.leave_due(id, id * 100 + 30 * second);
    }
    assert_eq!(lane.next_due(), None);
    let before = lane.seq();
    lane.begin(100 * second);
    assert_eq!(lane.seq(), before);
}

#[test]
fn a_stale_ticket_publishes_nothing_after_a_reset() {
    let mut lane = Lane::fresh();
    let ticket = lane.begin(0);
    lane.reset();
    lane.publish(&ticket, 0, 100);
    assert_eq!(lane.frontier(), 0);
}

#[test]
fn a_late_report_does_not_hold_the_frontier_back() {
    let mut lane = Lane::fresh();
    let ticket = lane.begin(0);
    lane.report(500, 501);
    lane.publish(&ticket, 0, 100_000);
    assert_eq!(lane.frontier(), 100_000);
    assert_eq!(lane.below(), [Span::one(500)]);
    let ticket = lane.begin(0);
    assert_eq!((ticket.seek(0), ticket.seek(501)), (500, 100_000));
}

/// Savepoints against the plain rule: what was done on levels that live at the end counts.
#[test]
fn touched_follows_savepoints() {
    for seed in 1..500 {
        let mut dice = Dice::new(seed);
        let mut touched = Touched::default();
        let mut naive: Vec<Vec<(i64, bool)>> = vec![Vec::new()];
        for _ in 0..60 {
            let level = naive.len() as i32;
            match dice.below(7) {
                0 => naive.push(Vec::new()),
                1 if level > 1 => {
                    touched.release(level);
                    let inner = naive.pop().unwrap_or_default();
                    naive[level as usize - 2].extend(inner);
                }
                2 if level > 1 => {
                    let target = 2 + dice.below(i64::from(level) - 1) as i32;
                    let mut reported = SpanSet::<100, 0>::new();
                    touched.abort_to(target, |span| reported.add(span));
                    for (id, _) in naive.drain(target as usize - 1..).flatten() {
                        assert!(reported.holds(id), "seed {seed}: {id} is free again");
                    }
                }
                _ => {
                    let id = dice.below(IDS);
                    let ready = dice.below(2) == 0;
                    if ready {
                        touched.ready(level, id, None);
                    } else {
                        touched.waits(level, id, 1000 + dice.below(3), None);
                    }
                    naive[level as usize - 1].push((id, ready));
                }
            }
        }
        let mut reported = SpanSet::<100, 0>::new();
        let mut entered = Vec::new();
        touched.commit(|effect| match effect {
            Effect::Report(span) => reported.add(span),
            Effect::Enter(batch) => entered.push(batch.ids),
            Effect::Leave(_) => (),
        });
        assert!(touched.is_empty());
        for (id, ready) in naive.into_iter().flatten() {
            let told = reported.holds(id) || !ready && entered.iter().any(|s| s.holds(id));
            assert!(told, "seed {seed}: {id}");
        }
    }
}

fn told(touched: &mut Touched) -> Vec<Effect> {
    let mut effects = Vec::new();
    touched.commit(|effect| effects.push(effect));
    effects
}

#[test]
fn what_is_taken_and_settled_in_one_transaction_is_nobodys_business() {
    let mut touched = Touched::default();
    for id in 1..=100 {
        touched.waits(1, id, 5000, None);
    }
    for id in 1..=100 {
        touched.gone(2, id, Some(5000));
    }
    touched.release(2);
    assert_eq!(told(&mut touched), []);
}

#[test]
fn a_settle_rolled_back_leaves_the_lease() {
    let mut touched = Touched::default();
    touched.waits(1, 7, 5000, None);
    touched.gone(2, 7, Some(5000));
    let mut free = Vec::new();
    touched.abort_to(2, |span| free.push(span));
    assert_eq!(free, [Span::one(7)]);
    assert_eq!(told(&mut touched), [Effect::Enter(Batch::one(7, 5000))]);
}

/// A row that was locked, or blamed, and waits for the same moment as before: the commit has to say
/// so, or a reader that skipped it when it was due does not come back.
#[test]
fn a_row_only_touched_in_a_savepoint_is_told() {
    for level in 1..=3 {
        let mut touched = Touched::default();
        touched.sent(1, 500);
        touched.waits(level, 7, 100, Some(100));
        (2..=level).rev().for_each(|l| touched.release(l));
        let mut lane = Lane::fresh();
        let ticket = lane.begin(150);
        lane.publish(&ticket, 0, 1_000);
        told(&mut touched).iter().for_each(|e| lane.apply(200, *e));
        assert!(lane.covers(7, 100), "touched at level {level}");
    }
}

#[test]
fn a_batch_of_any_size_is_one_entry() {
    let mut touched = Touched::default();
    let mut lane = Lane::fresh();
    for id in 1..=100_000 {
        touched.waits(1, id, 5_000_000, None);
    }
    let effects = told(&mut touched);
    assert_eq!(effects.len(), 1);
    effects.iter().for_each(|e| lane.apply(0, *e));
    for id in 1..=100_000 {
        assert_eq!(lane.next_due(), Some(5_000_000));
        lane.leave_due(id, 5_000_000);
    }
    assert_eq!(lane.next_due(), None);
}

#[test]
fn too_many_due_times_become_coarse_but_stay_early_enough() {
    let mut touched = Touched::default();
    let mut lane = Lane::fresh();
    let ticket = lane.begin(0);
    lane.publish(&ticket, 0, 20_000);
    for id in 1..=10_000 {
        touched.waits(1, id, id * 77_777, None);
    }
    let effects = told(&mut touched);
    assert!(effects.len() <= 1024);
    effects.iter().for_each(|e| lane.apply(0, *e));
    assert!((1..=10_000).all(|id| lane.covers(id, id * 77_777)));
}

#[test]
fn a_fresh_lane_is_all_zero() {
    let text = format!("{:?}", Lane::fresh());
    let mut digits = text.chars().filter(char::is_ascii_digit).peekable();
    assert!(digits.peek().is_some() && digits.all(|d| d == '0'));
    assert!(size_of::<Lane>() < 8192 && size_of::<Ticket>() < 512);
    println!("{} {}", size_of::<Lane>(), size_of::<Ticket>());
}
