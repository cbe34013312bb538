//! The view of an exchange, which has no rows: what is inserted into it is published.

use super::tables::{default_privileges, role_name};
use crate::error::{Error, Result};
use crate::pg::event::OwnDdl;
use crate::pg::rel;
use crate::pg::spi;
use crate::pg::value::{Oid, Ty, Value};
use pg_broker_core::names::quote_ident;

/// Its columns, in order, with what they are for.
const COLUMNS: [(&str, &str, &str); 10] = [
    ("key", "text", "What the message is routed by."),
    ("body", "jsonb", "The payload when it is JSON."),
    ("data", "bytea", "The payload when it is binary."),
    ("headers", "jsonb", "A JSON object beside the payload."),
    (
        "priority",
        "smallint",
        "From 0 to 9, higher first; 4 unless given.",
    ),
    ("group_key", "text", "Ordered group of the message."),
    (
        "dedup_key",
        "text",
        "Key under which each queue takes the message once.",
    ),
    (
        "visible_at",
        "timestamptz",
        "When the message may first be handed out.",
    ),
    (
        "expires_at",
        "timestamptz",
        "From then on it is never handed out.",
    ),
    (
        "queues",
        "int",
        "For RETURNING: how many queues the message reached.",
    ),
];

/// Which column has that name.
pub fn column(name: &str) -> usize {
    let at = COLUMNS.iter().position(|(column, _, _)| *column == name);
    at.unwrap_or(COLUMNS.len())
}

/// Whether a view still has its columns.
pub fn is_intact(view: Oid) -> Result<bool> {
    let wanted = COLUMNS.map(|(column, _, _)| column).join(" ");
    spi::connect(|spi| {
        let rows = spi.query(
            "SELECT pg_catalog.string_agg(a.attname::pg_catalog.text, ' ' ORDER BY a.attnum) \
             FROM pg_catalog.pg_attribute a WHERE a.attrelid = $1 AND a.attnum > 0",
            &[Ty::Oid],
            &[Value::oid(view)],
        )?;
        Ok(rows.get(0, 0).as_text().as_deref() == Some(&wanted[..]))
    })
}

/// Makes the view of an exchange, owned by `owner`.
pub fn create(name: &str, owner: Oid) -> Result<Oid> {
    let _ours = OwnDdl::begin();
    let view = quote_ident(name);
    let columns = COLUMNS.map(|(column, ty, _)| format!("NULL::{ty} AS {column}"));
    let mut statements = vec![
        format!(
            "CREATE VIEW mq.{view} AS SELECT {} WHERE false",
            columns.join(", ")
        ),
        format!(
            "CREATE TRIGGER mq_insert INSTEAD OF INSERT ON mq.{view} FOR EACH ROW \
             EXECUTE FUNCTION mq_internal.exchange_insert()"
        ),
        format!(
            "COMMENT ON VIEW mq.{view} IS 'Exchange of pg_broker: insert to publish; see mq.bindings'"
        ),
    ];
    statements.extend(
        COLUMNS
            .map(|(column, _, text)| format!("COMMENT ON COLUMN mq.{view}.{column} IS '{text}'")),
    );
    spi::connect(|spi| {
        statements.iter().try_for_each(|s| spi.utility(s))?;
        let to = role_name(spi, owner)?;
        spi.utility(&format!("ALTER VIEW mq.{view} OWNER TO {to}"))?;
        default_privileges(spi, name, owner)
    })?;
    rel::public(name)
        .ok_or_else(|| Error::Internal(format!("the view of exchange \"{name}\" is gone")))
}

pub fn drop(name: &str, cascade: bool) -> Result<()> {
    let _ours = OwnDdl::begin();
    let how = if cascade { "CASCADE" } else { "RESTRICT" };
    spi::connect(|spi| spi.utility(&format!("DROP VIEW mq.{} {how}", quote_ident(name))))
}
