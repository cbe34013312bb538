//! Walks through every state that a cast can reach, and looks at each. The broken variants at
//! the end must be found out; otherwise the checker, not the protocol, is sound asleep.

use std::collections::HashSet;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use crate::world::Role::{Ack, Lock, Nack, NackFor, Noise, Pop, Read, Send, SendFor};
use crate::world::Row::{Absent, Due, Ready};
use crate::world::{Fault, Role, Row, World};

struct Tour {
    states: usize,
    ends: usize,
    lost: Option<i64>,
}

/// States are known again by 64 bits of hash: of a million states, two are taken for one once
/// in tens of millions of runs.
fn explore(start: &World, fault: Fault, last: u8) -> Tour {
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    let mut known = HashSet::new();
    let mut open = vec![(start.clone(), Vec::new())];
    let mut ends = 0;
    while let Some((world, path)) = open.pop() {
        if !known.insert(hasher.hash_one(&world)) {
            continue;
        }
        let mut lost = world.lost();
        if world.is_over() {
            ends += 1;
            lost = lost.or(world.missed());
        }
        if lost.is_some() {
            if fault == Fault::None {
                retell(start, last, &path);
            }
            let states = known.len();
            return Tour { states, ends, lost };
        }
        for (choice, next) in world.steps(fault, last).into_iter().enumerate() {
            let mut path = path.clone();
            path.push(choice);
            open.push((next, path));
        }
    }
    let states = known.len();
    let lost = None;
    Tour { states, ends, lost }
}

/// Prints the states on the way to where a row was lost.
fn retell(start: &World, last: u8, path: &[usize]) {
    let mut world = start.clone();
    for choice in path {
        println!("{world:?}");
        let mut steps = world.steps(Fault::None, last);
        world = steps.swap_remove(*choice);
    }
    println!("{world:?}");
}

fn holds(rows: [Row; 3], roles: &[Role]) {
    for knows in [false, true] {
        let tour = explore(&World::new(rows, knows, roles), Fault::None, 3);
        let (states, ends) = (tour.states, tour.ends);
        println!("{roles:?} on {rows:?}: {states} states, {ends} ends");
        assert_eq!(tour.lost, None, "{roles:?} on {rows:?}");
        assert!(ends > 0);
    }
}

/// The broken protocol loses a row with this cast, and the sound one does not.
fn caught(fault: Fault, rows: [Row; 3], roles: &[Role]) {
    let start = World::new(rows, true, roles);
    let broken = explore(&start, fault, 3);
    println!("{fault:?}: found after {} states", broken.states);
    assert!(broken.lost.is_some(), "{fault:?} not seen");
    assert_eq!(explore(&start, Fault::None, 3).lost, None);
}

#[test]
fn senders_out_of_order() {
    holds([Absent; 3], &[Send(1), Send(2), Read(1, 2)]);
}

#[test]
fn two_readers() {
    holds([Ready, Ready, Absent], &[Read(1, 1), Read(2, 2)]);
}

#[test]
fn two_readers_and_a_sender() {
    holds([Absent, Ready, Absent], &[Send(1), Read(1, 1), Read(1, 2)]);
}

#[test]
fn a_reader_and_an_ack() {
    holds([Due(1), Due(2), Ready], &[Read(1, 1), Ack, Ack]);
}

#[test]
fn two_readers_and_an_ack() {
    holds([Due(1), Due(1), Absent], &[Read(1, 1), Read(1, 2), Ack]);
}

#[test]
fn nacks() {
    holds([Due(2), Due(3), Absent], &[Nack, NackFor(1), Read(1, 1)]);
}

#[test]
fn delayed_sends() {
    holds(
        [Absent, Due(1), Absent],
        &[SendFor(1, 1), SendFor(3, 2), Read(1, 1)],
    );
}

#[test]
fn locks() {
    holds([Ready, Due(1), Absent], &[Lock, Lock, Read(1, 1)]);
}

#[test]
fn overruns() {
    holds([Absent, Ready, Absent], &[Send(1), Noise(9), Read(1, 1)]);
}

#[test]
fn a_crowd() {
    for cast in [
        [Read(1, 1), Read(2, 1), Send(1), Ack],
        [Read(1, 1), SendFor(3, 1), Nack, Noise(3)],
        [Read(2, 1), Pop(1), NackFor(1), Send(1)],
    ] {
        let start = World::new([Absent, Due(1), Absent], true, &cast);
        let tour = explore(&start, Fault::None, 2);
        println!("{cast:?}: {} states", tour.states);
        assert_eq!(tour.lost, None, "{cast:?}");
    }
}

/// Everybody with everybody: a reader, and any two others.
#[test]
fn any_three() {
    let roles = [
        Read(1, 1),
        Read(2, 2),
        Pop(1),
        Send(1),
        SendFor(3, 1),
        Ack,
        Nack,
        NackFor(1),
        Lock,
        Noise(5),
    ];
    for (i, one) in roles.iter().enumerate() {
        for other in &roles[i..] {
            if one == other && matches!(one, Send(_) | SendFor(..)) {
                continue;
            }
            let cast = [Read(1, 1), *one, *other];
            let start = World::new([Absent, Due(1), Absent], true, &cast);
            let tour = explore(&start, Fault::None, 2);
            println!("{cast:?}: {} states", tour.states);
            assert_eq!(tour.lost, None, "{cast:?}");
        }
    }
}

#[test]
fn faults_are_caught() {
    caught(
        Fault::IgnoresReports,
        [Absent; 3],
        &[Send(1), Send(2), Read(1, 2)],
    );
    caught(
        Fault::ForgetsOverrun,
        [Absent; 3],
        &[Send(1), Noise(9), Read(1, 2)],
    );
    caught(
        Fault::SnapshotFirst,
        [Absent; 3],
        &[Send(1), Send(2), Read(1, 2)],
    );
    caught(
        Fault::SilentAbort,
        [Ready, Ready, Absent],
        &[Read(1, 1), Read(1, 1)],
    );
    caught(
        Fault::SilentCommit,
        [Absent; 3],
        &[Send(1), Send(2), Read(1, 2)],
    );
    caught(
        Fault::SilentAbort,
        [Ready, Absent, Absent],
        &[Ack, Read(1, 1)],
    );
    caught(
        Fault::SilentCommit,
        [Ready, Absent, Absent],
        &[Lock, Read(1, 1)],
    );
    caught(
        Fault::SilentCommit,
        [Due(2), Absent, Absent],
        &[Nack, Read(1, 1)],
    );
    caught(
        Fault::DueAtGrant,
        [Ready, Absent, Absent],
        &[Read(1, 1), Read(1, 1)],
    );
    caught(
        Fault::DropsNotes,
        [Due(3), Due(2), Absent],
        &[Read(1, 2), Ack],
    );
    caught(
        Fault::QuietActivation,
        [Ready, Absent, Absent],
        &[Read(1, 1), Read(1, 1), Read(1, 1)],
    );
    caught(
        Fault::LeavesUnentered,
        [Due(2), Due(2), Absent],
        &[Ack, Read(1, 1)],
    );
}
