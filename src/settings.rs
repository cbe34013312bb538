//! The settings, each with why its default is what it is. Their names begin with `pg_broker.`.

use pgrx::guc::{GucContext, GucFlags, GucRegistry, GucSetting, PostgresGucEnum};

/// Whether readers use what shared memory says about where to look. On: reading costs the same
/// whatever lies in a queue. Off is for finding out whether a fault lies there; the answers are
/// the same.
pub static HINTS: GucSetting<bool> = GucSetting::<bool>::new(true);

/// How many queues of all databases together the hints have room for: about 31 kB each. More
/// queues work, but reading them starts at the beginning every time.
pub static MAX_QUEUES: GucSetting<i32> = GucSetting::<i32>::new(1024);

/// How many keys of queues with `rate_key` shared memory remembers at one time: 16 bytes each. Only
/// those count of which messages were handed out lately, so that their burst is not there in full;
/// where there are more, messages of further keys wait.
pub static MAX_RATE_KEYS: GucSetting<i32> = GucSetting::<i32>::new(65_536);

/// How a transaction commits that did nothing but lease messages.
pub static LEASE_COMMIT: GucSetting<LeaseCommit> =
    GucSetting::<LeaseCommit>::new(LeaseCommit::Async);

/// How long the first of a queue's waiters sleeps before it looks by itself, in milliseconds. Every
/// commit wakes; this is for rows that no session reports, written by plain SQL or replication.
pub static RECHECK: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// How many messages a segment takes, for queues that do not say; 0: as many as come in one
/// `ROTATION_INTERVAL`. Every segment in use is some space beside the messages themselves; every
/// new one costs some rows of the catalog and a lock that standbys replay.
pub static SEGMENT_SIZE: GucSetting<i32> = GucSetting::<i32>::new(0);

/// How long a segment of a queue that chooses for itself is to last, in milliseconds: a minute is
/// seldom enough for the catalog, and often enough that a few segments are not much.
pub static ROTATION_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(60_000);

/// How long a table is kept for transactions that began before its last message left, in milliseconds:
/// a dump has locked its tables by then, and keeps them itself.
pub static MOVE_GRACE: GucSetting<i32> = GucSetting::<i32>::new(60_000);

/// Whether background workers do the upkeep. On: what `mq.maintain()` does is done by itself. Off
/// is for servers where something else calls it, and for tests.
pub static WORKER: GucSetting<bool> = GucSetting::<bool>::new(true);

/// How often, in milliseconds, a worker looks for what is due: a second is soon enough for a dead
/// letter, and costs an idle server nothing to speak of. Removing what is old comes every tenth
/// time.
pub static MAINTENANCE_INTERVAL: GucSetting<i32> = GucSetting::<i32>::new(1000);

/// How many databases have a worker at the same time; more take turns. They come out of
/// max_worker_processes, 8 by default, of which parallel queries want some.
pub static WORKERS: GucSetting<i32> = GucSetting::<i32>::new(4);

#[derive(Clone, Copy, PartialEq, Eq, Debug, PostgresGucEnum)]
#[allow(non_camel_case_types)]
pub enum LeaseCommit {
    /// Without waiting for the log: a crash can lose the lease, and only that.
    #[name = c"async"]
    Async,
    /// As `synchronous_commit` says.
    #[name = c"sync"]
    Sync,
}

/// Defines the settings; only while the server starts can those of shared memory be defined.
pub fn register(preloading: bool) {
    GucRegistry::define_bool_guc(
        c"pg_broker.hints",
        c"Start reading where shared memory says that messages may be.",
        c"Off, every read starts at the beginning of its queue.",
        &HINTS,
        GucContext::Suset,
        GucFlags::default(),
    );
    GucRegistry::define_enum_guc(
        c"pg_broker.lease_commit",
        c"How a transaction commits that did nothing but lease messages.",
        c"async: without waiting for the log; a crash may then lose the lease, and nothing else. \
          sync: as synchronous_commit says.",
        &LEASE_COMMIT,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_broker.recheck",
        c"How long the first of a queue's waiters sleeps before it looks by itself.",
        c"Every commit wakes; this finds rows that plain SQL or replication wrote.",
        &RECHECK,
        10,
        3_600_000,
        GucContext::Userset,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_bool_guc(
        c"pg_broker.worker",
        c"Let background workers do the upkeep of queues.",
        c"Off, mq.maintain() has to be called now and then.",
        &WORKER,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_broker.maintenance_interval",
        c"How often a background worker looks for what is due.",
        c"Removing what is old comes every tenth time.",
        &MAINTENANCE_INTERVAL,
        10,
        3_600_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_broker.segment_size",
        c"How many messages a segment of a queue takes.",
        c"0: as many as come in one pg_broker.rotation_interval. A queue may have a size of its own.",
        &SEGMENT_SIZE,
        0,
        100_000_000,
        GucContext::Sighup,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"pg_broker.rotation_interval",
        c"How long a segment is to last where pg_broker.segment_size is 0.",
        c"Shorter: less space beside the messages. Longer: fewer truncations, which standbys replay.",
        &ROTATION_INTERVAL,
        100,
        86_400_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_broker.move_grace",
        c"How long a table is kept for transactions that began before its last message left.",
        c"It is truncated earlier when there is none.",
        &MOVE_GRACE,
        0,
        86_400_000,
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    );
    GucRegistry::define_int_guc(
        c"pg_broker.workers",
        c"How many databases have a background worker at the same time.",
        c"More databases take turns.",
        &WORKERS,
        1,
        256,
        GucContext::Sighup,
        GucFlags::default(),
    );
    if preloading {
        GucRegistry::define_int_guc(
            c"pg_broker.max_queues",
            c"How many queues of all databases shared memory has room for.",
            c"Further queues work, but reading them starts at the beginning every time.",
            &MAX_QUEUES,
            16,
            100_000,
            GucContext::Postmaster,
            GucFlags::default(),
        );
        GucRegistry::define_int_guc(
            c"pg_broker.max_rate_keys",
            c"How many keys of queues with rate_key shared memory remembers at one time.",
            c"Where more were handed out lately, messages of further keys wait.",
            &MAX_RATE_KEYS,
            32,
            16_777_216,
            GucContext::Postmaster,
            GucFlags::default(),
        );
    }
}
