//! Walks through every state that a cast can reach, and looks at each. The broken variants at
//! the end must be found out; otherwise the checker, not the protocol, is sound asleep.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use crate::world::Role::{Ack, Lock, Nack, NackFor, Noise, Read, Send, SendFor};
use crate::world::Row::{Absent, Due, Ready};
use crate::world::{Fault, Role, Row, World};

#[derive(Debug)]
enum Outcome {
    Holds { states: usize, ends: usize },
    Lost { id: i64, states: usize },
}

/// States are remembered by two independent hashes of 64 bits.
fn explore(start: World, fault: Fault, last: u8) -> Outcome {
    let (one, other) = (RandomState::new(), RandomState::new());
    let mut known = HashSet::new();
    let mut open = vec![(start.clone(), Vec::new())];
    let mut ends = 0;
    while let Some((world, path)) = open.pop() {
        if !known.insert((one.hash_one(&world), other.hash_one(&world))) {
            continue;
        }
        let mut lost = world.lost();
        if world.is_over() {
            ends += 1;
            lost = lost.or(world.missed());
        }
        if let Some(id) = lost {
            if fault == Fault::None {
                retell(start, last, &path);
            }
            let states = known.len();
            return Outcome::Lost { id, states };
        }
        for (choice, next) in world.steps(fault, last).into_iter().enumerate() {
            let mut path = path.clone();
            path.push(choice);
            open.push((next, path));
        }
    }
    let states = known.len();
    Outcome::Holds { states, ends }
}

/// Prints the states on the way to where a row was lost.
fn retell(start: World, last: u8, path: &[usize]) {
    let mut world = start;
    for choice in path {
        println!("{world:?}");
        let mut steps = world.steps(Fault::None, last);
        world = steps.swap_remove(*choice);
    }
    println!("{world:?}");
}

fn holds(rows: [Row; 3], roles: &[Role]) {
    for knows in [false, true] {
        let outcome = explore(World::new(rows, knows, roles), Fault::None, 3);
        println!("{roles:?} on {rows:?}: {outcome:?}");
        assert!(matches!(outcome, Outcome::Holds { ends, .. } if ends > 0));
    }
}

/// The broken protocol loses a row with this cast, and the sound one does not.
fn caught(fault: Fault, rows: [Row; 3], roles: &[Role]) {
    let outcome = explore(World::new(rows, true, roles), fault, 3);
    println!("{fault:?}: {outcome:?}");
    assert!(
        matches!(outcome, Outcome::Lost { .. }),
        "{fault:?} not seen"
    );
    let sound = explore(World::new(rows, true, roles), Fault::None, 3);
    assert!(matches!(sound, Outcome::Holds { .. }), "{sound:?}");
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
