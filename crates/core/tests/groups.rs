//! What is known of groups, as sequences: who passes, who enters and who leaves, in each order that
//! matters; messages that come late; and what is forgotten.

use pg_broker_core::groups::{BUCKETS, Groups, Known, Note, Ticket, bucket};

const G: i64 = 1;
/// In the same bucket, and in another.
const H: i64 = G + BUCKETS as i64;
const OTHER: i64 = G + 1;

const NOTHING: [i64; 0] = [];

fn groups() -> Box<Groups> {
    let mut groups = Box::new(Groups::default());
    groups.begin_empty();
    groups
}

fn note(group: i64, id: i64) -> Note {
    Note {
        group,
        from: id,
        to: id,
        rank: 5,
    }
}

fn pass(g: &mut Groups, ticket: &Ticket, group: i64, id: i64) -> bool {
    g.pass(ticket, note(group, id), 0, false)
}

/// The messages that who leaves a group has to report.
fn leave(g: &mut Groups, group: i64) -> Vec<i64> {
    let mut ids = Vec::new();
    g.leave(group, |n| ids.extend([n.from, n.to]));
    ids.dedup();
    ids.sort_unstable();
    ids
}

fn known(g: &Groups) -> Known {
    g.look_up(G, false)
}

#[test]
fn buckets() {
    assert_eq!(bucket(G), bucket(H));
    assert_ne!(bucket(G), bucket(OTHER));
    assert!(bucket(-1) < BUCKETS && bucket(i64::MIN) < BUCKETS);
}

/// The holder was there before the reader, and leaves after it: the message is the holder's to report.
#[test]
fn passed_while_busy() {
    let mut g = groups();
    g.enter(G);
    let ticket = g.ticket();
    assert!(pass(&mut g, &ticket, G, 7));
    assert_eq!(leave(&mut g, G), [7]);
    assert_eq!(leave(&mut g, G), NOTHING, "once");
}

/// The holder has left between the reader's ticket and its end: what it read may be out of date.
#[test]
fn left_meanwhile() {
    let mut g = groups();
    g.enter(G);
    let ticket = g.ticket();
    assert_eq!(leave(&mut g, G), NOTHING);
    assert!(!pass(&mut g, &ticket, G, 7), "it has to look again");
    assert_eq!(known(&g).passed, 7, "who comes meanwhile finds it");
    // Those of other buckets do not matter.
    let ticket = g.ticket();
    g.enter(OTHER);
    leave(&mut g, OTHER);
    assert!(pass(&mut g, &ticket, G, 7));
}

/// Somebody came and went meanwhile, whom the ticket has not seen at all.
#[test]
fn entered_and_left_meanwhile() {
    let mut g = groups();
    let ticket = g.ticket();
    g.enter(G);
    leave(&mut g, G);
    assert!(!pass(&mut g, &ticket, G, 7));
}

/// Nobody is in the bucket: the message waits for a lease. Whoever changes the group later finds it by
/// itself.
#[test]
fn entered_after() {
    let mut g = groups();
    let ticket = g.ticket();
    let seven_to_twelve = Note {
        to: 12,
        ..note(G, 7)
    };
    assert!(g.pass(&ticket, seven_to_twelve, 0, false));
    g.enter(G);
    assert_eq!(known(&g).passed, 12, "so far it has to look");
    assert_eq!(
        leave(&mut g, G),
        NOTHING,
        "it found it, and reports it itself"
    );
}

/// One who entered after the snapshot and before the end of the reader reports what was passed, too.
#[test]
fn entered_in_between() {
    let mut g = groups();
    let ticket = g.ticket();
    g.enter(G);
    assert_eq!(known(&g).passed, 0, "it finds nothing to look for");
    assert!(pass(&mut g, &ticket, G, 7));
    assert_eq!(leave(&mut g, G), [7]);
}

/// The reader's own transaction does not count as somebody else; it is in as often as it has groups.
#[test]
fn own_groups() {
    let mut g = groups();
    g.enter(G);
    g.enter(H);
    let ticket = g.ticket();
    assert!(g.pass(&ticket, note(G, 7), 2, false));
    assert_eq!(leave(&mut g, G), NOTHING, "nothing was noted");
    assert_eq!(leave(&mut g, H), NOTHING);
    g.enter(G);
    g.enter(H);
    let ticket = g.ticket();
    assert!(g.pass(&ticket, note(G, 7), 1, false));
    assert_eq!(leave(&mut g, G), [7], "one of the two is another's");
}

/// Of several in a bucket, the group's own holder reports its notes, the last one all.
#[test]
fn several_in_a_bucket() {
    let mut g = groups();
    g.enter(G);
    g.enter(H);
    let ticket = g.ticket();
    assert!(pass(&mut g, &ticket, G, 7) && pass(&mut g, &ticket, H, 8));
    assert_eq!(leave(&mut g, H), [8]);
    assert_eq!(leave(&mut g, G), [7]);
    g.enter(H);
    let ticket = g.ticket();
    assert!(pass(&mut g, &ticket, G, 7), "busy by a lease, or by H's");
    assert_eq!(leave(&mut g, H), [7], "nobody else is left to report it");
}

#[test]
fn notes_keep_the_first_and_the_last() {
    let mut g = groups();
    g.enter(G);
    let ticket = g.ticket();
    for id in [9, 7, 8] {
        assert!(pass(&mut g, &ticket, G, id));
    }
    let high = Note {
        rank: 0,
        to: 30,
        ..note(G, 20)
    };
    assert!(g.pass(&ticket, high, 0, false));
    assert_eq!(known(&g).passed, 30);
    assert_eq!(
        leave(&mut g, G),
        [7, 9, 20, 30],
        "from the first to the last of each rank"
    );
}

/// No room for a note: the reader has to look again, and who leaves says that somebody must be woken.
#[test]
fn notes_full() {
    let mut g = groups();
    let many = |n: i64| G + n * BUCKETS as i64;
    g.enter(G);
    g.enter(OTHER);
    let ticket = g.ticket();
    let passed = (0..100)
        .filter(|n| pass(&mut g, &ticket, many(*n), *n))
        .count();
    assert!((1..100).contains(&passed), "{passed}");
    assert!(
        !pass(&mut g, &ticket, OTHER, 7),
        "the notes are everybody's"
    );
    assert!(pass(&mut g, &ticket, G, 5), "it is there already");
    assert_eq!(leave(&mut g, OTHER), NOTHING);
    assert!(g.take_overrun());
    assert!(!g.take_overrun(), "once");
    let told = leave(&mut g, G);
    assert_eq!(
        (told.len(), told[0], told[1]),
        (passed + 1, 0, 1),
        "and 5 once more"
    );
    g.enter(OTHER);
    let ticket = g.ticket();
    assert!(pass(&mut g, &ticket, OTHER, 7), "there is room again");
    assert_eq!(leave(&mut g, OTHER), [7]);
    assert!(!g.take_overrun());
}

/// A prepared transaction leaves without a word. Until it has ended all is noted, and told then.
#[test]
fn prepared() {
    let mut g = groups();
    g.enter(G);
    let ticket = g.ticket();
    g.leave_prepared(G);
    assert!(g.pass(&ticket, note(G, 7), 0, true), "nobody has left yet");
    let ticket = g.ticket();
    assert!(g.pass(&ticket, note(OTHER, 8), 0, true));
    let mut told = Vec::new();
    g.forget(|n| told.push(n.from));
    told.sort_unstable();
    assert_eq!(told, [7, 8]);
    assert!(!pass(&mut g, &ticket, G, 9), "it began before");
    assert_eq!(known(&g).late, i64::MAX, "what it sent may have come late");
}

/// A message is handed out; then one with a lower id is committed.
#[test]
fn late_after_hand_out() {
    let mut g = groups();
    let before = known(&g);
    assert_eq!(before.late, 0);
    assert!(g.hand_out(G, 20, &before));
    g.coming(G, 10);
    g.come(G);
    assert_eq!(known(&g).late, 20, "those below may have come late");
    assert_eq!(g.look_up(OTHER, false).late, 0);
}

/// The hand-out comes between the sender's decision and its end.
#[test]
fn late_while_coming() {
    let mut g = groups();
    let before = known(&g);
    g.coming(G, 10);
    assert_eq!(known(&g).late, 0, "nothing was handed out");
    assert!(g.hand_out(G, 20, &before));
    assert_eq!(known(&g).late, 20);
    g.come(G);
    assert_eq!(known(&g).late, 20);
}

/// It has ended before the hand-out, and after the look: the rows have to be looked at again.
#[test]
fn come_since_the_look() {
    let mut g = groups();
    let before = known(&g);
    g.coming(G, 10);
    g.come(G);
    assert!(!g.hand_out(G, 20, &before));
    assert!(g.hand_out(G, 10, &known(&g)));
    assert!(g.hand_out(G, 20, &known(&g)));
    assert_eq!(known(&g).late, 0, "all in order");
}

/// What comes behind everything that was handed out is not late.
#[test]
fn in_order() {
    let mut g = groups();
    for id in 1..50 {
        g.coming(G, id);
        g.come(G);
        assert!(g.hand_out(G, id, &known(&g)));
    }
    assert_eq!(known(&g).late, 0);
    // Two at a time, of which the lower ends first.
    g.coming(G, 51);
    g.coming(G, 50);
    g.come(G);
    assert!(g.hand_out(G, 50, &known(&g)));
    assert_eq!(known(&g).late, 0);
    assert!(g.hand_out(G, 51, &known(&g)));
    assert_eq!(known(&g).late, 51, "the other may still be coming");
}

/// Where a group begins, and up to where nobody has anything of it.
#[test]
fn learned() {
    let mut g = groups();
    let before = known(&g);
    g.learn(G, &before, 30, 40);
    assert_eq!((known(&g).low, known(&g).clean), (30, 40));
    assert_eq!(g.look_up(OTHER, false).low, 0);
    assert_eq!(g.look_up(H, false).low, 0, "another of the bucket");
    assert_eq!(
        (g.look_up(G, true).low, g.look_up(G, true).clean),
        (0, 0),
        "with suspects nobody knows what there is, and who has what"
    );
    // What comes lower is below, before anybody can see it; and what comes late makes it worth nothing.
    g.coming(G, 20);
    assert_eq!(known(&g).low, 20);
    let stale = before;
    g.learn(G, &stale, 35, 40);
    assert_eq!(known(&g).low, 20, "not while something is coming");
    g.come(G);
    g.learn(G, &stale, 35, 40);
    assert_eq!(known(&g).low, 20, "nor by who looked before it came");
    assert!(g.hand_out(G, 50, &known(&g)));
    g.coming(G, 10);
    g.come(G);
    assert_eq!((known(&g).low, known(&g).clean), (10, 0));
    let again = known(&g);
    g.learn(G, &again, 10, 50);
    assert_eq!(known(&g).clean, 50);
}

#[test]
fn doubted() {
    let mut g = groups();
    let before = known(&g);
    g.learn(G, &before, 30, 40);
    let ticket = g.ticket();
    assert!(pass(&mut g, &ticket, G, 60));
    let doubted = known(&g).doubted();
    assert_eq!(
        (doubted.low, doubted.late, doubted.clean, doubted.passed),
        (0, i64::MAX, 0, 60)
    );
    assert!(g.hand_out(G, 30, &doubted), "it knows what was sent");
}

/// Of a queue with a past nothing is taken for granted; of a prepared transaction's end neither.
#[test]
fn forgotten() {
    let mut g = groups();
    g.begin();
    assert_eq!(known(&g).late, i64::MAX);
    let before = known(&g);
    g.learn(G, &before, 30, 40);
    g.forget(|_| ());
    let after = known(&g);
    assert_eq!((after.low, after.clean, after.late), (0, 0, i64::MAX));
    assert!(!g.hand_out(G, 50, &before), "something may have come");
    g.learn(G, &before, 30, 40);
    assert_eq!(known(&g).low, 0);
}
