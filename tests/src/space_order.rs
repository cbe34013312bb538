//! Order holds across parking: while the first messages of groups, or of a queue in strict order, wait in a
//! parked table, nobody has those behind them, which lie in newer segments; afterwards all come as they
//! were sent. And a priority counts wherever a message lies.

use crate::conn::{Conn, Patience};
use crate::harness::Cx;
use crate::parked::Going;
use crate::space::{self, LEAST, is_segment};
use crate::tests;

tests![
    in_groups,
    in_groups_without_hints,
    in_strict_order,
    in_strict_order_without_hints,
    by_priority,
    by_priority_of_groups,
];

/// Longer than it takes to park them.
const PUT_OFF: &str = "8 s";

/// How the first message of each group is held up.
const WAYS: [&str; 4] = ["leased", "nacked", "released", "sent for later"];

/// Messages that have to be done in the order in which they were sent.
struct Line {
    way: &'static str,
    /// As an argument of a call.
    group: String,
    sent: Vec<i64>,
    got: Vec<i64>,
}

impl Line {
    async fn send(&mut self, c: &Conn, options: &str) {
        let group = &self.group;
        let send = format!("SELECT mq.send('q', '1', group_key => {group}{options})");
        self.sent.push(c.int(&send).await);
    }
}

async fn session(cx: &Cx, hints: &str, options: &str) -> Conn {
    let c = cx.connect().await;
    c.run(&format!("SET pg_broker.hints = {hints}")).await;
    space::create(&c, "q", LEAST, options).await;
    c
}

async fn nobody_overtakes(c: &Conn, mut lines: Vec<Line>) {
    let mut going = Going::new(c, "q").await;
    let mut leased = None;
    for line in &mut lines {
        if line.way == "sent for later" {
            line.send(c, &format!(", delay => '{PUT_OFF}'")).await;
            continue;
        }
        line.send(c, "").await;
        let hand = c.hand("'q', 1, '1 hour'").await;
        let verb = match line.way {
            "nacked" => "nack",
            "released" => "release",
            _ => {
                leased = Some(hand);
                continue;
            }
        };
        let (id, receipt) = (hand.id, hand.receipt);
        let back = format!("SELECT mq.{verb}('q', {id}, {receipt}, delay => '{PUT_OFF}')");
        assert!(c.yes(&back).await, "{verb}");
    }
    let first: Vec<i64> = lines.iter().map(|line| line.sent[0]).collect();
    let patience = Patience::new("first messages that are parked");
    let mut steps = 0;
    while !going.has_parked(&first) || steps % 4 != 1 {
        if steps % 4 == 0 {
            for line in &mut lines {
                line.send(c, "").await;
            }
        }
        let hands = c.hands("'q', 50, '1 hour'").await;
        assert!(hands.is_empty(), "{hands:?} before {first:?}");
        going.step().await;
        steps += 1;
        assert!(!patience.is_over(), "{:#?}", space::parts(c, "q").await);
    }
    let places = space::places(c, "q").await;
    for line in &lines {
        assert!(line.sent.len() > 2, "{:?}", line.sent);
        assert!(!is_segment(&places[&line.sent[0]]));
        assert!(is_segment(&places[line.sent.last().unwrap()]));
    }
    if let Some(hand) = leased {
        assert!(c.settle("release", "q", &hand).await);
    }
    for quantity in [1, 2, 7, 1, 50, 3].into_iter().cycle() {
        let hands = c.hands(&format!("'q', {quantity}, '1 hour'")).await;
        for hand in hands {
            let mut all = lines.iter_mut();
            let line = all.find(|line| line.sent.contains(&hand.id)).unwrap();
            line.got.push(hand.id);
            assert!(
                line.sent.starts_with(&line.got),
                "{}: {:?} of {:?}",
                line.way,
                line.got,
                line.sent
            );
            assert!(c.settle("ack", "q", &hand).await);
        }
        if lines.iter().all(|line| line.got == line.sent) {
            return;
        }
        going.step().await;
        if patience.is_over() {
            let left = "SELECT id, group_key, state, visible_at FROM mq.q ORDER BY id";
            panic!("not to be had: {:?}", c.rows(left).await);
        }
    }
}

async fn of_groups(cx: &Cx, hints: &str) {
    let cx = space::quiet(cx).await;
    let c = session(&cx, hints, ", ordering => 'group'").await;
    let line = |way: &'static str| Line {
        way,
        group: format!("'{way}'"),
        sent: Vec::new(),
        got: Vec::new(),
    };
    nobody_overtakes(&c, WAYS.map(line).into()).await;
}

async fn in_groups(cx: Cx) {
    of_groups(&cx, "on").await;
}

async fn in_groups_without_hints(cx: Cx) {
    of_groups(&cx, "off").await;
}

/// There all are one group: of which only the first is held up.
async fn of_all(cx: &Cx, hints: &str) {
    let cx = space::quiet(cx).await;
    for way in ["leased", "nacked"] {
        let c = session(&cx, hints, ", ordering => 'strict'").await;
        let line = Line {
            way,
            group: "NULL".into(),
            sent: Vec::new(),
            got: Vec::new(),
        };
        nobody_overtakes(&c, vec![line]).await;
        c.run("SELECT mq.drop_queue('q')").await;
    }
}

async fn in_strict_order(cx: Cx) {
    of_all(&cx, "on").await;
}

async fn in_strict_order_without_hints(cx: Cx) {
    of_all(&cx, "off").await;
}

/// Sends messages whose priority is in their name; those of a group are called by its letter.
async fn send_named(c: &Conn, names: &str, is_grouped: bool) -> Vec<i64> {
    let mut ids = Vec::new();
    for name in names.split(' ') {
        let (group, priority) = name.split_at(1);
        let group = if is_grouped {
            format!("'{group}'")
        } else {
            "NULL".into()
        };
        let send = format!(
            "SELECT mq.send('q', '\"{name}\"', priority => {priority}, group_key => {group})"
        );
        ids.push(c.int(&send).await);
    }
    ids
}

/// Has messages parked, and sends others. Gives what is read then, so many at once, each acked before the
/// next read.
async fn read_by_priority(c: &Conn, is_grouped: bool, quantity: usize) -> String {
    let mut going = Going::new(c, "q").await;
    let parked = send_named(c, "a8 b5 c2 d2", is_grouped).await;
    let held = c.hands("'q', 9, '1 hour'").await;
    going.until_parked(&parked).await;
    let fresh = send_named(c, "e8 f5 g2 d9", is_grouped).await;
    let places = space::places(c, "q").await;
    assert!(fresh.iter().all(|id| is_segment(&places[id])));
    for hand in &held {
        assert!(c.settle("release", "q", hand).await, "{hand:?}");
    }
    let mut got = Vec::new();
    while got.len() < parked.len() + fresh.len() {
        let hands = c.hands(&format!("'q', {quantity}, '1 hour'")).await;
        assert!(!hands.is_empty(), "after {got:?}");
        for hand in hands {
            assert!(c.settle("ack", "q", &hand).await);
            got.push(hand.body.replace('"', ""));
        }
    }
    got.join(" ")
}

async fn by_priority(cx: Cx) {
    let cx = space::quiet(&cx).await;
    for hints in ["on", "off"] {
        for quantity in [1, 3, 20] {
            let c = session(&cx, hints, "").await;
            let got = read_by_priority(&c, false, quantity).await;
            assert_eq!(got, "d9 a8 e8 b5 f5 c2 d2 g2", "hints {hints}");
            c.run("SELECT mq.drop_queue('q')").await;
        }
    }
}

/// A group's turn is that of its first message.
async fn by_priority_of_groups(cx: Cx) {
    let cx = space::quiet(&cx).await;
    for hints in ["on", "off"] {
        let c = session(&cx, hints, ", ordering => 'group'").await;
        let got = read_by_priority(&c, true, 1).await;
        assert_eq!(got, "a8 e8 b5 f5 c2 d2 d9 g2", "hints {hints}");
        c.run("SELECT mq.drop_queue('q')").await;
    }
}
