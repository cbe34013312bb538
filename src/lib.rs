//! pg_broker: a durable, transactional message broker inside PostgreSQL.

use pgrx::prelude::*;

pgrx::pg_module_magic!();

pgrx::extension_sql_file!("../sql/01_schema.sql", name = "schema", bootstrap);
