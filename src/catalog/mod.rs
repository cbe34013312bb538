//! Which queues there are, with their options: read once a session, kept until the queue's view
//! is altered.
//!
//! Invariant: an entry is used only while its view is locked, and the lock is taken before the entry
//! is looked at (or it is looked at again); whoever changes an entry invalidates the view in the same
//! transaction. Of its tables a `map` tells, which has rules of its own.

pub mod companion;
pub mod exchange;
pub mod limits;
pub mod map;
mod options;
pub mod replies;
mod write;

pub use options::{Options, Ordering, Overflow, Setting, Settings};
pub use write::{insert, put_paused, remove, update};

use crate::error::{Error, Result};
use crate::pg::holders;
use crate::pg::rel::{self, Lock, Privilege};
use crate::pg::report;
use crate::pg::role;
use crate::pg::spi;
use crate::pg::time::Micros;
use crate::pg::value::{Oid, Ty, Value};
use crate::pg::wait;
use crate::pg::xact;
use exchange::Exchange;
use map::{Map, Missing};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::ManuallyDrop;
use std::rc::Rc;

/// A queue: its relations and options.
pub struct Queue {
    pub n: i32,
    pub name: String,
    pub owner: Oid,
    pub view: Oid,
    pub archive_view: Oid,
    /// The parent of its tables.
    pub storage: Oid,
    pub sequence: Oid,
    pub unlogged: bool,
    pub created_at: Micros,
    pub options: Options,
    map: MapCell,
    /// Statements kept for this queue.
    pub plans: spi::Plans,
}

/// Where a queue's messages are, as far as this session has heard.
#[derive(Default)]
struct MapCell {
    known: RefCell<Option<Rc<Map>>>,
    is_stale: Cell<bool>,
    /// Nobody tells of changes any more.
    is_alone: Cell<bool>,
}

/// So often a table is looked for, some milliseconds apart, of which it is said that it is there.
const AGAIN: usize = 100;

impl Queue {
    /// Which tables there were when it was last asked.
    pub fn known_map(&self) -> Option<Rc<Map>> {
        self.map.known.borrow().clone()
    }

    /// Which tables there are.
    pub fn map(&self) -> Rc<Map> {
        match self.try_map() {
            Some(map) => map,
            None => report::raise(Error::BrokenQueue(self.name.clone())),
        }
    }

    /// The same; none when one of them is missing.
    fn try_map(&self) -> Option<Rc<Map>> {
        forget_changed();
        let is_right = !self.map.is_stale.get() && !self.map.is_alone.get();
        if let Some(map) = self.known_map().filter(|m| is_right && !m.is_passing()) {
            return Some(map);
        }
        self.map.is_stale.set(false);
        // What was changed while it was read is there, or gone, at the second time; but a transaction can
        // be seen a moment before others are told of the tables that it made.
        let load = || map::load(self.n, self.options.has_groups_index());
        let mut map = load();
        for again in 0..AGAIN {
            match map {
                Err(Missing::Segment) if again > 0 => wait::moment(),
                Err(_) if again == 0 => {}
                _ => break,
            }
            holders::hear();
            map = load();
        }
        if map.is_err() {
            self.map.is_stale.set(true);
        }
        let map = Rc::new(map.ok()?);
        self.map.known.replace(Some(map.clone()));
        Some(map)
    }

    /// The same, when all is heard that others have told of.
    pub fn map_now(&self) -> Rc<Map> {
        holders::hear();
        self.map()
    }
}

/// What is known of a queue without locking anything of it.
pub struct Outline {
    pub storage: Oid,
    pub created_at: Micros,
    pub max_failures: Option<i32>,
}

/// The queues of which something is known, by view and by name, and the exchanges by view.
#[derive(Default)]
struct Known {
    queues: HashMap<u32, Rc<Queue>>,
    views: HashMap<String, u32>,
    exchanges: HashMap<u32, Rc<Exchange>>,
}

impl Known {
    fn named(&self, name: &str) -> Option<Oid> {
        self.views.get(name).copied().map(Oid::from)
    }

    fn behind(&self, view: Oid) -> Option<Rc<Queue>> {
        self.queues.get(&u32::from(view)).cloned()
    }

    fn add(&mut self, queue: &Rc<Queue>) {
        let view = u32::from(queue.view);
        self.views.insert(queue.name.clone(), view);
        self.queues.insert(view, queue.clone());
    }

    fn keep_those(&mut self, keep: impl Fn(&Queue) -> bool) {
        self.queues.retain(|_, q| {
            let is_kept = keep(q);
            // Who is using it hears no more.
            q.map.is_alone.set(!is_kept);
            is_kept
        });
        let queues = &self.queues;
        self.views.retain(|_, view| queues.contains_key(view));
    }
}

thread_local! {
    // Never dropped: at the end of the process there is nothing left to give plans back to.
    static KNOWN: RefCell<ManuallyDrop<Known>> = RefCell::default();
    static CHANGED: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static ALL_CHANGED: Cell<bool> = const { Cell::new(false) };
    /// Whether either says anything.
    static ANY_CHANGED: Cell<bool> = const { Cell::new(false) };
}

/// So many changes are noted one by one; more empty the cache.
const NOTED: usize = 64;

struct Cache;

impl xact::Invalidations for Cache {
    fn changed(relation: u32) {
        ANY_CHANGED.set(true);
        CHANGED.with(|c| match c.try_borrow_mut() {
            Ok(mut list) if relation != 0 && list.len() < NOTED => list.push(relation),
            _ => ALL_CHANGED.with(|a| a.set(true)),
        });
    }
}

pub fn register() {
    xact::register_invalidations::<Cache>();
}

fn forget_changed() {
    if !ANY_CHANGED.get() {
        return;
    }
    KNOWN.with(|k| {
        let Ok(mut known) = k.try_borrow_mut() else {
            return;
        };
        ANY_CHANGED.set(false);
        let all = ALL_CHANGED.replace(false);
        let list = CHANGED.with(|c| c.try_borrow_mut().map(|mut l| std::mem::take(&mut *l)));
        match list {
            Ok(list) if !all => {
                known.exchanges.retain(|view, _| !list.contains(view));
                known.keep_those(|q| {
                    if list.iter().any(|r| q.has_table(*r)) {
                        q.map.is_stale.set(true);
                    }
                    !list.contains(&u32::from(q.view))
                });
            }
            _ => {
                known.exchanges.clear();
                known.keep_those(|_| false);
            }
        }
    });
}

/// What is known and was not changed since, as far as this session has heard.
fn known<T>(look: impl FnOnce(&Known) -> Option<T>) -> Option<T> {
    forget_changed();
    KNOWN.with(|k| look(&k.borrow()))
}

/// The queue behind a view that the caller has locked, or none when the relation is no queue.
pub fn behind(view: Oid) -> Result<Option<Rc<Queue>>> {
    if let Some(q) = known(|k| k.behind(view)) {
        return Ok(Some(q));
    }
    let Some(queue) = load(view)? else {
        return Ok(None);
    };
    let queue = Rc::new(queue);
    KNOWN.with(|k| k.borrow_mut().add(&queue));
    Ok(Some(queue))
}

fn load(view: Oid) -> Result<Option<Queue>> {
    let Some(name) = rel::name(view) else {
        return Ok(None);
    };
    let Some(facts) = rel::facts(view) else {
        return Ok(None);
    };
    let found = spi::connect(|spi| {
        let rows = spi.query(
            &format!(
                "SELECT {}, {} FROM mq_internal.queue WHERE view = $1",
                options::COLUMNS,
                limits::COLUMNS
            ),
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        if rows.is_empty() {
            return Ok(None);
        }
        let n = rows.get(0, 0).as_int4().unwrap_or_default();
        let archive = rows.get(0, 1).as_oid().unwrap_or(Oid::INVALID);
        let created = rows.get(0, 15).as_timestamptz().unwrap_or_default();
        Ok(Some((n, archive, created, Options::from_row(&rows))))
    })?;
    let Some((n, archive_view, created_at, options)) = found else {
        return Ok(None);
    };
    let broken = || Error::BrokenQueue(name.clone());
    let storage = rel::internal(&format!("q_{n}")).ok_or_else(broken)?;
    let sequence = rel::internal(&format!("q_{n}_id")).ok_or_else(broken)?;
    let unlogged = rel::facts(storage).is_some_and(|f| f.unlogged);
    Ok(Some(Queue {
        n,
        name,
        owner: facts.owner,
        view,
        archive_view,
        storage,
        sequence,
        unlogged,
        created_at,
        options,
        map: MapCell::default(),
        plans: spi::Plans::default(),
    }))
}

/// Who may do something with a queue.
#[derive(Clone, Copy)]
pub enum Right {
    Has(Privilege),
    Owner,
}

impl Queue {
    pub fn outline(&self) -> Outline {
        Outline {
            storage: self.storage,
            created_at: self.created_at,
            max_failures: self.options.max_failures,
        }
    }

    /// Refuses when `role` lacks a right on the queue.
    pub fn require(&self, right: Right, role: Oid) -> Result<()> {
        match right {
            Right::Has(privilege) => rel::require(self.view, &self.name, privilege, role),
            Right::Owner if role::has_rights_of(role, self.owner) => Ok(()),
            Right::Owner => Err(Error::NotOwner(self.name.clone())),
        }
    }
}

/// The queue of that name, its view locked until the end of the transaction, with the caller's
/// right to it checked.
pub fn open(name: &str, lock: Lock, right: Right) -> Result<Rc<Queue>> {
    open_as(name, lock, right, role::caller())
}

/// The same, with the rights of `role`: for use where the caller's role is not the current one.
pub fn open_as(name: &str, lock: Lock, right: Right, role: Oid) -> Result<Rc<Queue>> {
    let missing = || Error::NoSuchQueue(name.to_owned());
    let named = known(|k| k.named(name)).filter(|&view| {
        rel::hold_anew(view, lock);
        let is_same = known(|k| k.named(name)) == Some(view);
        if !is_same {
            rel::let_go(view, lock);
        }
        is_same
    });
    let view = match named {
        Some(view) => view,
        None => rel::lock_public(name, lock).ok_or_else(missing)?,
    };
    let queue = behind(view)?.ok_or_else(missing)?;
    queue.require(right, role)?;
    Ok(queue)
}

/// The queue behind a view's OID, locked; none when it is gone.
pub fn open_oid(view: Oid, lock: Lock) -> Result<Option<Rc<Queue>>> {
    if !rel::lock(view, lock) {
        Ok(None)
    } else {
        behind(view)
    }
}

/// The queue behind a view's OID, to be looked at; none when it is gone, and when that would have
/// to wait for somebody's lock.
pub fn try_open_oid(view: Oid) -> Result<Option<Rc<Queue>>> {
    if !rel::try_hold(view, Lock::Read) || !rel::exists(view) {
        return Ok(None);
    }
    let q = behind(view)?;
    Ok(q.filter(|q| {
        holders::hear();
        let Some(map) = q.try_map() else {
            return false;
        };
        map.live.iter().all(|p| {
            let indexes = [p.index, p.ranks_index, p.expiry_index, p.groups_index];
            let relations = indexes.iter().chain([&p.table]);
            let mut those_there = relations.filter(|r| **r != Oid::INVALID);
            those_there.all(|r| rel::is_free(*r, Lock::Read))
        })
    }))
}

/// The outlines of all queues, or of the one behind a view.
pub fn outlines(view: Option<Oid>) -> Result<Vec<Outline>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT n, created_at, max_failures FROM mq_internal.queue \
             WHERE $1 IS NULL OR view = $1",
            &[Ty::Oid],
            &[Value::opt(view, Value::oid)],
        )?;
        let outline = |i| {
            Some(Outline {
                storage: rel::internal(&format!("q_{}", rows.get(i, 0).as_int4()?))?,
                created_at: rows.get(i, 1).as_timestamptz()?,
                max_failures: rows.get(i, 2).as_int4(),
            })
        };
        Ok((0..rows.len()).filter_map(outline).collect())
    })
}

/// The views of all queues, or of those that dead-letter into one.
pub fn views(dead_letter_of: Option<Oid>) -> Result<Vec<Oid>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT view::pg_catalog.oid FROM mq_internal.queue \
             WHERE $1 IS NULL OR dead_letter = $1 ORDER BY n",
            &[Ty::Oid],
            &[Value::opt(dead_letter_of, Value::oid)],
        )?;
        Ok((0..rows.len())
            .filter_map(|i| rows.get(i, 0).as_oid())
            .collect())
    })
}

/// The views of all queues, each with what is another once somebody has altered the queue.
pub fn stamped_views() -> Result<Vec<(Oid, u32)>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT view::pg_catalog.oid, xmin FROM mq_internal.queue ORDER BY n",
            &[],
            &[],
        )?;
        let row = |i| {
            // Numbers of transactions are passed as those of objects are.
            let stamp = rows.get(i, 1).as_oid()?;
            Some((rows.get(i, 0).as_oid()?, u32::from(stamp)))
        };
        Ok((0..rows.len()).filter_map(row).collect())
    })
}

/// The queue whose archive a relation is.
pub fn with_archive(view: Oid) -> Result<Option<Oid>> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT view::pg_catalog.oid FROM mq_internal.queue WHERE archive = $1",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        Ok(rows.get(0, 0).as_oid())
    })
}
