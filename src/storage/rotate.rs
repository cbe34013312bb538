//! The steps of a rotation, each on tables of which the caller has the map to himself (`begin`).
//! When to do which is `queue::rotate`'s to say.

use super::row::{self, Facts};
use crate::catalog::Queue;
use crate::catalog::map::{self, Change, Map, NEW, PARENT, Part, SECOND, State, suffix};
use crate::error::Result;
use crate::pg::event::OwnDdl;
use crate::pg::holders;
use crate::pg::rel::{self, Lock};
use crate::pg::spi;
use crate::pg::table::{Pinned, Table};
use crate::pg::time::{self, Micros};
use crate::pg::value::{Oid, Ty, Value};
use crate::pg::wait;
use crate::pg::walk::Walk;
use crate::pg::xact;
use pg_broker_core::ids::BLOCK;
use std::collections::HashSet;
use std::rc::Rc;

/// The map, which nobody else changes before the transaction ends; none when somebody else is at it.
pub fn begin(q: &Queue) -> Option<Rc<Map>> {
    let catalog = rel::internal("segment")?;
    let map = holders::try_take_map(catalog, q.storage).then(|| q.map_now())?;
    // A range that is not to be used yet is not in it: whoever went on from there would give it twice.
    (!map.is_passing()).then_some(map)
}

/// Whether a table is not the queue's owner's: it was made while the queue changed hands.
pub fn is_stray(q: &Queue, part: &Part) -> bool {
    rel::facts(part.table).is_some_and(|facts| facts.owner != q.owner)
}

/// Gives such a table to the owner, unless somebody is using it.
pub fn adopt(q: &Queue, part: &Part) -> Result<bool> {
    let _ours = OwnDdl::begin();
    if !holders::of(part.table, Lock::Exclusive).is_empty()
        || !rel::try_hold(part.table, Lock::Exclusive)
    {
        return Ok(false);
    }
    let (n, suffix) = (q.n, suffix(part.k));
    spi::connect(|spi| {
        let owner = super::tables::role_name(spi, q.owner)?;
        spi.utility(&format!(
            "ALTER TABLE mq_internal.q_{n}{suffix} OWNER TO {owner}"
        ))
    })?;
    Ok(true)
}

/// All ids below this one have been given out, but for some that are yet to be used.
pub fn ids_given(q: &Queue) -> Result<i64> {
    let Some(name) = rel::name(q.sequence) else {
        return Ok(0);
    };
    spi::connect(|spi| {
        let rows = spi.query(
            &format!("SELECT s.last_value, s.is_called FROM mq_internal.{name} s"),
            &[],
            &[],
        )?;
        let last = rows.get(0, 0).as_int8().unwrap_or_default();
        let is_called = rows.get(0, 1).as_bool().unwrap_or(false);
        Ok(if is_called { last + BLOCK } else { last })
    })
}

/// A table is something else from now on, with the ids that it had.
pub fn turn(q: &Queue, part: &Part, state: State) -> Result<()> {
    let is_segment = part.k > PARENT;
    let range = (is_segment && state != State::Free).then_some((part.first, part.past));
    map::change(q, part.k, &Change::To { state, range })
}

/// Gives a range of ids to a segment that has none, made if there is none. False when none could be
/// made now.
pub fn open(q: &Queue, map: &Map, range: (i64, i64)) -> Result<bool> {
    let free = map.idle.iter().find(|p| p.state == State::Free);
    let k = match free {
        Some(part) => part.k,
        None => {
            let numbers: Vec<i32> = map.all().map(|p| p.k).collect();
            let unused = (1..).find(|k| !numbers.contains(k));
            let Some(k) = unused.filter(|_| can_make(q)) else {
                return Ok(false);
            };
            make(q, k)?;
            k
        }
    };
    let (state, range) = (State::Open, Some(range));
    map::change(q, k, &Change::To { state, range })?;
    Ok(true)
}

/// Drops segments that have no range, those that nobody is using, unless somebody may be about to lock
/// what he has read to be there. False when that came to nothing.
pub fn drop(q: &Queue, parts: &[&Part], grace: Micros) -> Result<bool> {
    let _ours = OwnDdl::begin();
    let holds = |p: &&&Part| {
        holders::of(p.table, Lock::Exclusive).is_empty() && rel::try_hold(p.table, Lock::Exclusive)
    };
    if xact::is_tied() || has_readers_of_the_catalog(grace)? {
        return Ok(false);
    }
    let held: Vec<_> = parts.iter().filter(holds).collect();
    // Who came meanwhile waits for these locks, and would find nothing.
    if held.is_empty() || has_readers_of_the_catalog(grace)? {
        return Ok(false);
    }
    let name = |p: &&&Part| format!("mq_internal.q_{}{}", q.n, suffix(p.k));
    let names: Vec<String> = held.iter().map(name).collect();
    spi::connect(|spi| spi.utility(&format!("DROP TABLE {}", names.join(", "))))?;
    for part in held {
        map::change(q, part.k, &Change::Dropped)?;
    }
    Ok(true)
}

/// So long most transactions do not last; a dump has read the list of tables before.
const BRIEF: Micros = 20_000;

/// Whether somebody in this database may have read which tables there are, or be about to, and go by
/// that.
fn has_readers_of_the_catalog(grace: Micros) -> Result<bool> {
    Ok(!holders::readers_of_the_catalog().is_empty()
        || young(time::now().saturating_sub(BRIEF), grace)?.is_some())
}

/// Whether a child of the parent could be made without waiting for anybody.
fn can_make(q: &Queue) -> bool {
    rel::try_hold(q.storage, Lock::Alter)
}

/// What is parked goes to the other of the two tables from now on.
pub fn turn_over(q: &Queue, target: &Part, other: &Part) -> Result<()> {
    turn(q, other, State::Target)?;
    turn(q, target, State::Source)
}

/// Makes the second parked table. False when that cannot be done now.
pub fn make_second(q: &Queue) -> Result<bool> {
    if !can_make(q) {
        return Ok(false);
    }
    make(q, SECOND)?;
    let (state, range) = (State::Dormant, Some((NEW, NEW)));
    map::change(q, SECOND, &Change::To { state, range })?;
    Ok(true)
}

/// Makes a table like the parent. Vacuum has nothing to do in a segment: it is truncated. In a parked
/// table it has, as long as no old snapshot is in its way.
fn make(q: &Queue, k: i32) -> Result<()> {
    let _ours = OwnDdl::begin();
    let (n, name) = (q.n, format!("q_{}{}", q.n, suffix(k)));
    let kind = if q.unlogged { "UNLOGGED " } else { "" };
    let vacuum = match k {
        SECOND => super::tables::VACUUM,
        _ => "autovacuum_enabled = off, toast.autovacuum_enabled = off",
    };
    spi::connect(|spi| {
        // Where the parent is, whatever this session's settings say.
        let place = spi.query(
            "SELECT pg_catalog.quote_literal(coalesce(t.spcname, '')) FROM pg_catalog.pg_class c \
             LEFT JOIN pg_catalog.pg_tablespace t ON t.oid = c.reltablespace WHERE c.oid = $1",
            &[Ty::Oid],
            &[Value::oid(q.storage)],
        )?;
        let place = place.get(0, 0).as_text().unwrap_or_else(|| "''".into());
        spi.utility(&format!("SET LOCAL default_tablespace = {place}"))?;
        spi.utility(&format!(
            "CREATE {kind}TABLE mq_internal.{name} (CONSTRAINT {name}_pkey PRIMARY KEY (id)) \
             INHERITS (mq_internal.q_{n}) USING heap WITH (fillfactor = {}, {vacuum})",
            super::tables::FILL
        ))?;
        for index in super::tables::indexes(&name, q.options.has_groups_index()) {
            spi.utility(&index)?;
        }
        let owner = super::tables::role_name(spi, q.owner)?;
        spi.utility(&format!("ALTER TABLE mq_internal.{name} OWNER TO {owner}"))
    })
}

/// A walk by id over one table, with the snapshot that is active.
fn walk(part: &Part, table: &Table, from: i64) -> Walk {
    let mut walk = Walk::by_id(table, part.index);
    walk.seek_ids(from, i64::MAX);
    walk
}

/// Looks at a table, and lets go of it: who looks at all of them would hold many locks. None when
/// somebody has it for himself.
fn look<R>(part: &Part, what: impl FnOnce(&Table) -> R) -> Option<R> {
    let table = Table::try_open_to_read(part.table)?;
    let result = what(&table);
    table.let_go();
    Some(result)
}

/// The lowest id from `from` on that has a message in a table, or may have again.
pub fn first_live(part: &Part, from: i64) -> Option<Option<i64>> {
    let _pinned = Pinned::now();
    look(part, |table| {
        if table.is_empty() {
            return None;
        }
        let mut walk = walk(part, table, from);
        walk.next().then(|| Facts::of(part.k, &walk).id())
    })
}

/// Whether the messages from `from` on come to at most `most`, as `count` counts each.
fn are_few(part: &Part, from: i64, most: i64, mut count: impl FnMut(&Walk) -> i64) -> bool {
    let _pinned = Pinned::now();
    let counted = look(part, |table| {
        let mut walk = walk(part, table, from);
        let mut n = 0;
        while n <= most && walk.next() {
            wait::interruptible();
            n += count(&walk);
        }
        n
    });
    counted.is_some_and(|n| n <= most)
}

/// Whether there are at most so many messages from `from` on.
pub fn has_few(part: &Part, from: i64, most: i64) -> bool {
    are_few(part, from, most, |_| 1)
}

/// Whether messages are on at most so many pages.
pub fn is_on_few_pages(part: &Part, most: i64) -> bool {
    let mut pages = HashSet::new();
    are_few(part, 0, most, |walk| {
        i64::from(pages.insert(walk.tid().block))
    })
}

/// What a table and its indexes weigh, in bytes.
pub fn weight(part: &Part) -> i64 {
    if !rel::is_free(part.table, Lock::Read) {
        return 0;
    }
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT pg_catalog.pg_total_relation_size($1)",
            &[Ty::Oid],
            &[Value::oid(part.table)],
        )?;
        Ok(rows.get(0, 0).as_int8().unwrap_or_default())
    })
    .unwrap_or_default()
}

/// How many pages of messages a table has; 0 when somebody has it for himself.
pub fn pages(part: &Part) -> i64 {
    look(part, |table| i64::from(table.pages())).unwrap_or(0)
}

/// Moves messages that nobody is at from a table, the lowest ids first, to where is parked: at most
/// so many. Whoever looks for one that is on its way waits for the end of this transaction.
pub fn park(q: &Queue, map: &Map, from: &Part, low: i64, most: usize) -> Result<Vec<Facts>> {
    // Who looks for one of them waits for the end of this transaction, and not for a standby's.
    let Some(target) = map.parked().first().filter(|_| !xact::is_tied()) else {
        return Ok(Vec::new());
    };
    let Some(catalog) = rel::internal("segment") else {
        return Ok(Vec::new());
    };
    holders::announce_moves(catalog);
    let (mut moved, mut rows) = (Vec::new(), Vec::new());
    {
        let _pinned = Pinned::now();
        let mut table = row::table(from);
        let mut walk = walk(from, &table, low);
        while moved.len() < most && walk.next() {
            wait::interruptible();
            let facts = Facts::of(from.k, &walk);
            let row = walk.keep();
            if table.move_out(facts.place.tid) {
                moved.push(facts);
                rows.push(row);
            }
        }
    }
    if moved.is_empty() {
        return Ok(moved);
    }
    row::table(target).insert_many(&rows);
    map::change(q, from.k, &Change::MovedOut)?;
    Ok(moved)
}

/// Why a table is not truncated now.
pub enum Kept {
    /// Somebody uses it: the process, or a prepared transaction.
    Held(Option<i32>),
    /// A transaction began while there still were messages, not long ago, and may yet look for them,
    /// as a dump does.
    Young(i32),
    /// Messages were moved out that an old snapshot may still look for here.
    Moved,
    /// The same as the last two on a standby, of which nothing is known here.
    Standby,
}

/// The table and the one of its large values; none when somebody has it for himself.
fn with_annex(part: &Part) -> Option<Vec<Oid>> {
    let annex = look(part, Table::annex)?;
    Some([Some(part.table), annex].into_iter().flatten().collect())
}

/// Why a table without a message, since then, could not be truncated now.
pub fn keeper(part: &Part, empty_since: Micros, grace: Micros) -> Result<Option<Kept>> {
    let Some(tables) = with_annex(part) else {
        return Ok(Some(Kept::Held(None)));
    };
    for table in tables {
        if let Some(holder) = holders::of(table, Lock::Exclusive).first() {
            return Ok(Some(Kept::Held(holder.pid())));
        }
    }
    if let Some((at, by)) = part.moved
        && time::now().saturating_sub(at) < grace
        && look(part, |table| holders::is_seen_by_all(by, table)) != Some(true)
    {
        return Ok(Some(Kept::Moved));
    }
    if time::now().saturating_sub(empty_since) < grace && has_standby()? {
        return Ok(Some(Kept::Standby));
    }
    Ok(young(empty_since, grace)?.map(Kept::Young))
}

/// Whether a standby may be reading along: which snapshots there are there is not known here.
pub fn has_standby() -> Result<bool> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT FROM pg_catalog.pg_stat_get_wal_senders() w WHERE NOT EXISTS (SELECT FROM \
             pg_catalog.pg_get_replication_slots() s WHERE s.active_pid = w.pid AND s.slot_type = \
             'logical') LIMIT 1",
            &[],
            &[],
        )?;
        Ok(!rows.is_empty())
    })
}

/// A session of this database with a snapshot that may be older than a moment, in a transaction that
/// has not lasted for `grace`.
fn young(moment: Micros, grace: Micros) -> Result<Option<i32>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT s.pid FROM pg_catalog.pg_stat_get_activity(NULL) s WHERE s.datid = (SELECT \
             d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) \
             AND s.backend_xmin IS NOT NULL AND s.pid <> pg_catalog.pg_backend_pid() \
             AND s.backend_type <> 'autovacuum worker' \
             AND s.xact_start <= $1 AND s.xact_start > $2 LIMIT 1",
            &[Ty::Timestamptz, Ty::Timestamptz],
            &[
                Value::timestamptz(moment),
                Value::timestamptz(time::now().saturating_sub(grace)),
            ],
        )?;
        Ok(rows.get(0, 0).as_int4())
    })
}

/// What became of a table that was to be truncated.
pub enum End {
    Truncated,
    /// Somebody was faster to use it.
    Used,
    /// There is a message, of this id.
    Live(i64),
}

/// Truncates a table that has no message, unless somebody was faster to use it. What is lost here is
/// lost: so all of it is looked through before, and what is above `low` once more when nobody else
/// can be in it.
pub fn truncate(q: &Queue, part: &Part, low: i64) -> Result<End> {
    let _ours = OwnDdl::begin();
    if xact::is_tied() {
        return Ok(End::Used);
    }
    match first_live(part, 0) {
        Some(None) => {}
        Some(Some(id)) => return Ok(End::Live(id)),
        None => return Ok(End::Used),
    }
    let holds = |t: &Oid| rel::try_hold(*t, Lock::Exclusive);
    if !with_annex(part).is_some_and(|tables| tables.iter().all(holds)) {
        return Ok(End::Used);
    }
    if let Some(Some(id)) = first_live(part, low) {
        return Ok(End::Live(id));
    }
    spi::connect(|spi| {
        spi.utility(&format!(
            "TRUNCATE ONLY mq_internal.q_{}{}",
            q.n,
            suffix(part.k)
        ))
    })?;
    xact::commit_here();
    Ok(End::Truncated)
}
