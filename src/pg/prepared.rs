//! Prepared transactions.

use super::spi;
use super::value::Value;

/// The ids of the transactions of this database that are prepared and not ended.
pub fn list() -> Vec<u32> {
    let found = spi::connect(|spi| {
        let rows = spi.query(
            "SELECT p.transaction::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_prepared_xacts p \
             WHERE p.database = pg_catalog.current_database()",
            &[],
            &[],
        )?;
        Ok((0..rows.len())
            .filter_map(|i| Value::as_int8(rows.get(i, 0)))
            .filter_map(|xid| u32::try_from(xid).ok())
            .collect())
    });
    found.unwrap_or_default()
}
