//! The relations of a queue: made, renamed, given away, dropped. Who calls these has checked the
//! caller's rights; the DDL runs with the machinery's, and the event triggers look away.

use super::row::{COLUMNS, DEFAULT_RANK};
use super::{LEASE_ENDED, ended_lease, state};
use crate::error::{Error, Result};
use crate::pg::event::OwnDdl;
use crate::pg::rel;
use crate::pg::role::ActingAs;
use crate::pg::spi::{self, Spi};
use crate::pg::value::{Oid, Ty, Value};
use pg_broker_core::ids::BLOCK;
use pg_broker_core::names::{archive_of, quote_ident, quote_literal};

/// Vacuum early and little: most rows die young.
pub(super) const VACUUM: &str = "autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_scale_factor = 0.05, \
     autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_threshold = 100000, \
     autovacuum_analyze_scale_factor = 0.5";

/// The storage stands in a `WITH`, which the planner takes out again and `FOR UPDATE` does not reach:
/// a row locked from here would be passed by readers, and nobody would tell them when it is free.
fn view_text(n: i32, name: &str) -> String {
    let now = "pg_catalog.clock_timestamp()";
    format!(
        "CREATE OR REPLACE VIEW mq.{view} AS WITH m AS (SELECT * FROM mq_internal.q_{n}) \
         SELECT m.id, NULL::bigint AS receipt, {name}::text AS queue, m.body, m.data, m.headers, m.attempts, \
         m.failures + {ended} AS failures, \
         CASE WHEN {ended} = 1 THEN '{LEASE_ENDED}'::text ELSE m.last_error END AS last_error, \
         (9 - m.rank)::smallint AS priority, m.group_key, m.dedup_key, m.enqueued_at, \
         COALESCE(m.due, m.enqueued_at) AS visible_at, m.read_at, m.expires_at, \
         {state} AS state FROM m",
        view = quote_ident(name),
        name = quote_literal(name),
        ended = ended_lease("m", now),
        state = state(now),
    )
}

fn archive_view_text(n: i32, name: &str) -> String {
    format!(
        "CREATE OR REPLACE VIEW mq.{view} AS SELECT a.id, NULL::bigint AS receipt, \
         {name}::text AS queue, a.body, a.data, a.headers, a.attempts, a.failures, a.last_error, \
         (9 - a.rank)::smallint AS priority, a.group_key, a.dedup_key, a.enqueued_at, \
         COALESCE(a.due, a.enqueued_at) AS visible_at, a.read_at, a.expires_at, \
         'archived'::text AS state, a.archived_at FROM mq_internal.q_{n}_archive a",
        view = quote_ident(&archive_of(name)),
        name = quote_literal(name),
    )
}

fn run(spi: &Spi, statements: &[String]) -> Result<()> {
    statements.iter().try_for_each(|s| spi.utility(s))
}

/// How full pages are made, in per cent: the rest is room for the claimed versions.
pub(super) const FILL: u32 = 50;

fn ranks_index(table: &str) -> String {
    format!(
        "CREATE INDEX {table}_ranks ON mq_internal.{table} (rank, id) WHERE rank <> {DEFAULT_RANK}"
    )
}

fn expiry_index(table: &str) -> String {
    format!(
        "CREATE INDEX {table}_expiry ON mq_internal.{table} (expires_at) \
         WHERE expires_at IS NOT NULL"
    )
}

fn groups_index(table: &str) -> String {
    format!("CREATE INDEX {table}_groups ON mq_internal.{table} (grp, id) WHERE grp IS NOT NULL")
}

/// The indexes of a table beside its primary key.
pub(super) fn indexes(table: &str, has_groups_index: bool) -> Vec<String> {
    let mut list = vec![ranks_index(table), expiry_index(table)];
    if has_groups_index {
        list.push(groups_index(table));
    }
    list
}

/// The next free number for a queue's storage.
pub fn next_number() -> Result<i32> {
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT pg_catalog.nextval('mq_internal.queue_n')::pg_catalog.int4",
            &[],
            &[],
        )?;
        rows.get(0, 0)
            .as_int4()
            .ok_or_else(|| Error::Internal("no number for a queue".into()))
    })
}

/// What a queue's tables are made for.
#[derive(Clone, Copy)]
pub struct Made {
    pub durable: bool,
    pub has_groups_index: bool,
}

/// Makes the relations of the queue with this number, owned by `owner`: its view, its archive's view.
pub fn create(n: i32, name: &str, owner: Oid, made: Made) -> Result<(Oid, Oid)> {
    let _ours = OwnDdl::begin();
    spi::connect(|spi| {
        let kind = if made.durable { "" } else { "UNLOGGED " };
        run(
            spi,
            &[
                format!(
                    "CREATE {kind}TABLE mq_internal.q_{n} ({COLUMNS}, CONSTRAINT q_{n}_pkey \
                     PRIMARY KEY (id)) WITH (fillfactor = {FILL}, {VACUUM})"
                ),
                format!(
                    "CREATE SEQUENCE mq_internal.q_{n}_id INCREMENT {BLOCK} \
                     OWNED BY mq_internal.q_{n}.id"
                ),
                format!(
                    "CREATE TABLE mq_internal.q_{n}_archive ({COLUMNS}, archived_at timestamptz \
                     NOT NULL, CONSTRAINT q_{n}_archive_pkey PRIMARY KEY (id))"
                ),
                format!(
                    "CREATE INDEX q_{n}_archive_time ON mq_internal.q_{n}_archive (archived_at)"
                ),
                format!(
                    "CREATE {kind}TABLE mq_internal.q_{n}_keys (key text NOT NULL, \
                     id bigint NOT NULL, until timestamptz NOT NULL, CONSTRAINT q_{n}_keys_pkey \
                     PRIMARY KEY (key)) WITH ({VACUUM})"
                ),
                format!("CREATE INDEX q_{n}_keys_until ON mq_internal.q_{n}_keys (until)"),
                view_text(n, name).replacen("CREATE OR REPLACE", "CREATE", 1),
                archive_view_text(n, name).replacen("CREATE OR REPLACE", "CREATE", 1),
                trigger(name, "INSERT", "view_insert"),
                trigger(name, "UPDATE", "view_update"),
                trigger(name, "DELETE", "view_delete"),
                trigger(&archive_of(name), "INSERT", "archive_write"),
                trigger(&archive_of(name), "UPDATE", "archive_write"),
                format!(
                    "COMMENT ON VIEW mq.{} IS 'Queue of pg_broker: select to browse, insert to \
                     send; see mq.message for the columns'",
                    quote_ident(name)
                ),
                format!(
                    "COMMENT ON VIEW mq.{} IS 'Archive of a queue of pg_broker: messages settled \
                     with mq.archive'",
                    quote_ident(&archive_of(name))
                ),
                format!(
                    "COMMENT ON COLUMN mq.{}.archived_at IS 'When the message was archived.'",
                    quote_ident(&archive_of(name))
                ),
            ],
        )?;
        run(spi, &indexes(&format!("q_{n}"), made.has_groups_index))?;
        give(spi, n, owner)?;
        for view in [name.to_owned(), archive_of(name)] {
            let to = role_name(spi, owner)?;
            spi.utility(&format!(
                "ALTER VIEW mq.{} OWNER TO {to}",
                quote_ident(&view)
            ))?;
            comment_columns(spi, &view)?;
        }
        Ok(())
    })?;
    let gone = || Error::Internal(format!("the view of queue \"{name}\" is gone"));
    let view = rel::public(name).ok_or_else(gone)?;
    let archive = rel::public(&archive_of(name)).ok_or_else(gone)?;
    Ok((view, archive))
}

fn trigger(view: &str, event: &str, function: &str) -> String {
    format!(
        "CREATE TRIGGER mq_{} INSTEAD OF {event} ON mq.{} FOR EACH ROW \
         EXECUTE FUNCTION mq_internal.{function}()",
        event.to_lowercase(),
        quote_ident(view)
    )
}

/// The columns of a queue's views mean what those of mq.message mean.
fn comment_columns(spi: &Spi, view: &str) -> Result<()> {
    let rows = spi.query(
        "SELECT a.attname::pg_catalog.text, pg_catalog.col_description(a.attrelid, a.attnum) \
         FROM pg_catalog.pg_attribute a WHERE a.attrelid = \
         'mq.message'::pg_catalog.regclass AND a.attnum > 0 AND NOT a.attisdropped",
        &[],
        &[],
    )?;
    for i in 0..rows.len() {
        if let (Some(column), Some(text)) = (rows.get(i, 0).as_text(), rows.get(i, 1).as_text()) {
            spi.utility(&format!(
                "COMMENT ON COLUMN mq.{}.{} IS {}",
                quote_ident(view),
                quote_ident(&column),
                quote_literal(&text)
            ))?;
        }
    }
    Ok(())
}

pub(super) fn role_name(spi: &Spi, role: Oid) -> Result<String> {
    let rows = spi.query(
        "SELECT pg_catalog.pg_get_userbyid($1)::pg_catalog.text",
        &[Ty::Oid],
        &[Value::oid(role)],
    )?;
    rows.get(0, 0)
        .as_text()
        .map(|name| quote_ident(&name))
        .ok_or_else(|| Error::Internal("no such role".into()))
}

/// The tables that queue `n` has beside its parent.
fn children(spi: &Spi, n: i32) -> Result<Vec<String>> {
    let rows = spi.query(
        "SELECT c.relname::pg_catalog.text FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c \
         ON c.oid = i.inhrelid WHERE i.inhparent = $1",
        &[Ty::Oid],
        &[Value::opt(rel::internal(&format!("q_{n}")), Value::oid)],
    )?;
    Ok((0..rows.len())
        .filter_map(|i| rows.get(i, 0).as_text())
        .collect())
}

/// Gives a queue's tables to `owner`.
fn give(spi: &Spi, n: i32, owner: Oid) -> Result<()> {
    let to = role_name(spi, owner)?;
    let companions = ["", "_archive", "_keys", "_length"].map(|suffix| format!("q_{n}{suffix}"));
    let mut tables: Vec<String> = companions
        .into_iter()
        .filter(|name| rel::internal(name).is_some())
        .collect();
    tables.extend(children(spi, n)?);
    for table in tables {
        spi.utility(&format!("ALTER TABLE mq_internal.{table} OWNER TO {to}"))?;
    }
    Ok(())
}

/// The views were made in the owner's name: what ALTER DEFAULT PRIVILEGES says for the owner's
/// tables holds for them too.
pub fn give_default_privileges(name: &str, owner: Oid) -> Result<()> {
    spi::connect(|spi| {
        default_privileges(spi, name, owner)?;
        default_privileges(spi, &archive_of(name), owner)
    })
}

/// Lets everybody send to a queue.
pub fn open_to_all(name: &str) -> Result<()> {
    let sql = format!("GRANT INSERT ON mq.{} TO PUBLIC", quote_ident(name));
    spi::connect(|spi| spi.utility(&sql))
}

pub(super) fn default_privileges(spi: &Spi, view: &str, owner: Oid) -> Result<()> {
    let rows = spi.query(
        "SELECT d.defaclnamespace = 0, a.privilege_type, a.is_grantable, \
         CASE WHEN a.grantee = 0 THEN NULL ELSE \
         pg_catalog.pg_get_userbyid(a.grantee)::pg_catalog.text END, a.grantee = $1 \
         FROM pg_catalog.pg_default_acl d, \
         LATERAL pg_catalog.aclexplode(d.defaclacl) a WHERE d.defaclrole = $1 \
         AND d.defaclobjtype = 'r' AND (d.defaclnamespace = 0 OR d.defaclnamespace = \
         (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'mq'))",
        &[Ty::Oid],
        &[Value::oid(owner)],
    )?;
    if rows.is_empty() {
        return Ok(());
    }
    let _owner = ActingAs::role(owner);
    let target = format!("mq.{}", quote_ident(view));
    for i in 0..rows.len() {
        let Some(privilege) = rows.get(i, 1).as_text() else {
            continue;
        };
        // The owner's own rights are complete already; a view has no others to give.
        if rows.get(i, 4).as_bool() == Some(true) || privilege == "MAINTAIN" {
            continue;
        }
        let grantee = rows
            .get(i, 3)
            .as_text()
            .map_or_else(|| "PUBLIC".to_owned(), |r| quote_ident(&r));
        let option = if rows.get(i, 2).as_bool() == Some(true) {
            " WITH GRANT OPTION"
        } else {
            ""
        };
        spi.utility(&format!(
            "GRANT {privilege} ON {target} TO {grantee}{option}"
        ))?;
    }
    Ok(())
}

/// Renames a queue's view.
pub fn rename(from: &str, to: &str) -> Result<()> {
    let _ours = OwnDdl::begin();
    spi::connect(|spi| {
        spi.utility(&format!(
            "ALTER VIEW mq.{} RENAME TO {}",
            quote_ident(from),
            quote_ident(to)
        ))
    })
}

/// Brings what depends on the view's name in line with it: the archive's name and the constant
/// that the column `queue` shows.
pub fn follow_rename(n: i32, name: &str, archive: Oid) -> Result<()> {
    let _ours = OwnDdl::begin();
    let wanted = archive_of(name);
    spi::connect(|spi| {
        if let Some(present) = rel::name(archive)
            && present != wanted
        {
            if rel::public(&wanted).is_some() {
                return Err(Error::NameTaken(wanted.clone()));
            }
            spi.utility(&format!(
                "ALTER VIEW mq.{} RENAME TO {}",
                quote_ident(&present),
                quote_ident(&wanted)
            ))?;
        }
        redefine(spi, rel::public(name), &view_text(n, name))?;
        redefine(spi, Some(archive), &archive_view_text(n, name))
    })
}

/// `CREATE OR REPLACE VIEW` keeps owner, privileges and triggers; it only has to run as a role
/// that may, and that is the machinery.
fn redefine(spi: &Spi, view: Option<Oid>, text: &str) -> Result<()> {
    if view.is_some() {
        spi.utility(text)
    } else {
        Ok(())
    }
}

/// Gives a queue's tables and archive to the view's new owner.
pub fn follow_owner(n: i32, owner: Oid, archive: Oid) -> Result<()> {
    let _ours = OwnDdl::begin();
    spi::connect(|spi| {
        give(spi, n, owner)?;
        if let Some(name) = rel::name(archive) {
            let to = role_name(spi, owner)?;
            spi.utility(&format!(
                "ALTER VIEW mq.{} OWNER TO {to}",
                quote_ident(&name)
            ))?;
        }
        Ok(())
    })
}

/// Drops what is left of a queue's relations.
pub fn drop(n: i32, views: &[Oid], cascade: bool) -> Result<()> {
    let _ours = OwnDdl::begin();
    let how = if cascade { "CASCADE" } else { "RESTRICT" };
    spi::connect(|spi| {
        for &view in views {
            if let Some(name) = rel::name(view) {
                spi.utility(&format!("DROP VIEW mq.{} {how}", quote_ident(&name)))?;
            }
        }
        for suffix in ["_length", "_keys", "_archive"] {
            let table = format!("q_{n}{suffix}");
            if rel::internal(&table).is_some() {
                spi.utility(&format!("DROP TABLE mq_internal.{table} CASCADE"))?;
            }
        }
        let parent = format!("q_{n}");
        if rel::internal(&parent).is_some() {
            // All by name: nobody wants to be told of what goes along.
            let mut tables = children(spi, n)?;
            tables.push(parent);
            let list: Vec<String> = tables.iter().map(|t| format!("mq_internal.{t}")).collect();
            spi.utility(&format!("DROP TABLE {} CASCADE", list.join(", ")))?;
        }
        Ok(())
    })
}

/// The user's objects that depend on a queue's views, described, at most five.
pub fn dependents(views: &[Oid]) -> Result<Vec<String>> {
    spi::connect(|spi| {
        let mut found = Vec::new();
        for &view in views {
            let rows = spi.query(
                "SELECT DISTINCT CASE WHEN d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
                 THEN (SELECT 'view ' || v.ev_class::pg_catalog.regclass::pg_catalog.text FROM \
                 pg_catalog.pg_rewrite v WHERE v.oid = d.objid) ELSE \
                 pg_catalog.pg_describe_object(d.classid, d.objid, 0) END \
                 FROM pg_catalog.pg_depend d WHERE d.refclassid = \
                 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = $1 AND \
                 d.deptype = 'n' AND NOT (d.classid = \
                 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND EXISTS (SELECT FROM \
                 pg_catalog.pg_rewrite r WHERE r.oid = d.objid AND r.ev_class = $1)) LIMIT 5",
                &[Ty::Oid],
                &[Value::oid(view)],
            )?;
            let name = rel::name(view).unwrap_or_default();
            found.extend((0..rows.len()).filter_map(|i| {
                rows.get(i, 0)
                    .as_text()
                    .map(|what| format!("{what} depends on view mq.{name}"))
            }));
        }
        Ok(found)
    })
}

/// Makes the table that counts a limited queue's messages, or drops it. The queue is locked against
/// senders and consumers, so that the count it starts from is exact.
pub fn limit_length(n: i32, owner: Oid, view: Oid, limited: bool) -> Result<()> {
    let _ours = OwnDdl::begin();
    let there = rel::internal(&format!("q_{n}_length")).is_some();
    spi::connect(|spi| match (limited, there) {
        (true, false) => {
            rel::lock(view, rel::Lock::Freeze);
            let storage = rel::internal(&format!("q_{n}"));
            let unlogged = storage.and_then(rel::facts).is_some_and(|f| f.unlogged);
            let kind = if unlogged { "UNLOGGED " } else { "" };
            spi.utility(&format!(
                "CREATE {kind}TABLE mq_internal.q_{n}_length (slot bigint NOT NULL, \
                 n bigint NOT NULL, CONSTRAINT q_{n}_length_pkey PRIMARY KEY (slot)) \
                 WITH (fillfactor = 10, autovacuum_vacuum_threshold = 1000)"
            ))?;
            spi.query(
                &format!(
                    "INSERT INTO mq_internal.q_{n}_length SELECT 0, pg_catalog.count(*) \
                     FROM mq_internal.q_{n}"
                ),
                &[],
                &[],
            )?;
            give(spi, n, owner)
        }
        (false, true) => spi.utility(&format!("DROP TABLE mq_internal.q_{n}_length")),
        _ => Ok(()),
    })
}
