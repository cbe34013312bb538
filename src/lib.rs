//! pg_broker: a durable, transactional message broker inside PostgreSQL.

mod api;
mod catalog;
mod error;
mod pg;
mod queue;
mod settings;
mod storage;
mod wake;
mod worker;

pgrx::pg_module_magic!();

#[doc(hidden)]
#[pgrx::pg_guard]
pub extern "C-unwind" fn _PG_init() {
    pg::report::keep_backtraces_out();
    catalog::register();
    wake::register();
    let preloading = pg::shmem::preloading();
    settings::register(preloading);
    if preloading {
        let many = |n: i32| usize::try_from(n).unwrap_or(0);
        pg::shmem::request(
            many(settings::MAX_QUEUES.get()),
            many(settings::MAX_RATE_KEYS.get()),
        );
        worker::register();
    }
}

pgrx::extension_sql_file!("../sql/01_schema.sql", name = "schema", bootstrap);
pgrx::extension_sql_file!("../sql/02_types.sql", name = "types", requires = ["schema"]);
pgrx::extension_sql_file!(
    "../sql/03_machinery.sql",
    name = "machinery",
    requires = ["types"]
);
pgrx::extension_sql_file!(
    "../sql/04_queues.sql",
    name = "queues",
    requires = ["machinery"]
);
pgrx::extension_sql_file!(
    "../sql/05_messages.sql",
    name = "messages",
    requires = ["queues"]
);
pgrx::extension_sql_file!(
    "../sql/06_observe.sql",
    name = "observe",
    requires = ["messages"]
);
pgrx::extension_sql_file!(
    "../sql/07_exchanges.sql",
    name = "exchanges",
    requires = ["observe"]
);
pgrx::extension_sql_file!(
    "../sql/08_requests.sql",
    name = "requests",
    requires = ["exchanges"]
);
pgrx::extension_sql_file!(
    "../sql/09_import.sql",
    name = "import",
    requires = ["requests"]
);
pgrx::extension_sql_file!(
    "../sql/90_comments.sql",
    name = "comments",
    requires = ["import"]
);
