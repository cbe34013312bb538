//! What statements mean that no callback tells of: a database that somebody wants for himself is
//! left by its worker, one that gets the extension is looked at, and the end of a prepared
//! transaction is told, of which no session hears otherwise.

use super::roster::{self, Entry};
use super::value::Oid;
use super::xact;
use pgrx::pg_sys;
use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char};
use std::time::{Duration, Instant};

static mut PREVIOUS: pg_sys::ProcessUtility_hook_type = None;

thread_local! {
    /// The transaction in progress makes something that a worker should know, if it commits.
    static NEWS: Cell<bool> = const { Cell::new(false) };
    /// Databases that the transaction in progress keeps workers out of.
    static HELD: RefCell<Vec<&'static Entry>> = const { RefCell::new(Vec::new()) };
}

/// The worker is waited for so long; then PostgreSQL waits for it, as for any session.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the worker of this database, if the transaction in progress commits, that there is
/// something new.
pub fn announce_at_commit() {
    NEWS.with(|n| n.set(true));
}

/// Keeps the worker out of a database until this transaction ends: only then can others see what
/// it did.
fn keep_out(database: Oid) {
    let Some(entry) = roster::entry(u32::from(database)) else {
        return;
    };
    HELD.with(|h| h.borrow_mut().push(entry));
    entry.hold();
    let since = Instant::now();
    while entry.is_manned() && since.elapsed() < PATIENCE {
        super::wait::sleep(Some(2));
    }
}

unsafe fn named(name: *const c_char) -> Option<Oid> {
    // SAFETY: null or a string of the parse tree; a catalog look-up in a transaction.
    unsafe {
        if name.is_null() || !pg_sys::IsTransactionState() {
            return None;
        }
        let oid = pg_sys::get_database_oid(name, true);
        (oid != pg_sys::InvalidOid).then_some(oid)
    }
}

/// The string given for an option.
unsafe fn option(options: *mut pg_sys::List, name: &CStr) -> Option<*mut c_char> {
    // SAFETY: a list of DefElem, by the grammar.
    unsafe {
        let list = options.as_ref()?;
        (0..list.length.max(0) as usize)
            .map(|i| (*list.elements.add(i)).ptr_value.cast::<pg_sys::DefElem>())
            .find(|&d| CStr::from_ptr((*d).defname) == name && !(*d).arg.is_null())
            .map(|d| pg_sys::defGetString(d))
    }
}

/// The database that a statement wants for itself alone.
unsafe fn wanted(statement: *mut pg_sys::Node) -> Option<Oid> {
    // SAFETY: the tag says which node it is.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_DropdbStmt => {
                named((*statement.cast::<pg_sys::DropdbStmt>()).dbname)
            }
            pg_sys::NodeTag::T_CreatedbStmt => {
                let options = (*statement.cast::<pg_sys::CreatedbStmt>()).options;
                named(option(options, c"template")?)
            }
            pg_sys::NodeTag::T_RenameStmt => {
                let rename = &*statement.cast::<pg_sys::RenameStmt>();
                if rename.renameType == pg_sys::ObjectType::OBJECT_DATABASE {
                    named(rename.subname)
                } else {
                    None
                }
            }
            pg_sys::NodeTag::T_AlterDatabaseStmt => {
                let alter = &*statement.cast::<pg_sys::AlterDatabaseStmt>();
                option(alter.options, c"tablespace").and_then(|_| named(alter.dbname))
            }
            _ => None,
        }
    }
}

/// Whether a statement makes something that the worker of this database should know.
unsafe fn is_news(statement: *mut pg_sys::Node) -> bool {
    // SAFETY: the tag says which node it is.
    unsafe {
        match (*statement).type_ {
            pg_sys::NodeTag::T_CreateExtensionStmt => {
                let name = (*statement.cast::<pg_sys::CreateExtensionStmt>()).extname;
                !name.is_null() && CStr::from_ptr(name) == c"pg_broker"
            }
            // The launcher, rather: another database may have come with the extension in it.
            pg_sys::NodeTag::T_CreatedbStmt => true,
            _ => false,
        }
    }
}

/// Whether a statement ends a prepared transaction, and if so, whether by its commit.
unsafe fn ends_prepared(statement: *mut pg_sys::Node) -> Option<bool> {
    // SAFETY: the tag says which node it is.
    unsafe {
        if (*statement).type_ != pg_sys::NodeTag::T_TransactionStmt {
            return None;
        }
        match (*statement.cast::<pg_sys::TransactionStmt>()).kind {
            pg_sys::TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED => Some(true),
            pg_sys::TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED => Some(false),
            _ => None,
        }
    }
}

unsafe extern "C-unwind" {
    // Not pgrx's, which would take an error apart and lose its place in the statement.
    #[link_name = "standard_ProcessUtility"]
    fn carry_out(
        planned: *mut pg_sys::PlannedStmt,
        query: *const c_char,
        read_only_tree: bool,
        context: pg_sys::ProcessUtilityContext::Type,
        params: pg_sys::ParamListInfo,
        environment: *mut pg_sys::QueryEnvironment,
        dest: *mut pg_sys::DestReceiver,
        completion: *mut pg_sys::QueryCompletion,
    );
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn before(statement: *mut pg_sys::Node) {
    // SAFETY: the statement about to run.
    if let Some(database) = unsafe { wanted(statement) } {
        keep_out(database);
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn after_prepared(is_commit: bool) {
    xact::prepared_ended();
    if is_commit {
        // What it sent is to be told of, and nobody knows in which queues that was.
        super::bell::ring_all();
    }
}

/// Errors pass through this by a jump: it holds nothing that must be dropped.
#[allow(clippy::too_many_arguments)] // PostgreSQL's to say
unsafe extern "C-unwind" fn on_utility(
    planned: *mut pg_sys::PlannedStmt,
    query: *const c_char,
    read_only_tree: bool,
    context: pg_sys::ProcessUtilityContext::Type,
    params: pg_sys::ParamListInfo,
    environment: *mut pg_sys::QueryEnvironment,
    dest: *mut pg_sys::DestReceiver,
    completion: *mut pg_sys::QueryCompletion,
) {
    // SAFETY: called by PostgreSQL with a statement; the arguments are passed on as they came, to
    // the former hook or to PostgreSQL's own.
    unsafe {
        let statement = (*planned).utilityStmt;
        let is_news = is_news(statement);
        let ends_prepared = ends_prepared(statement);
        before(statement);
        let next = PREVIOUS.unwrap_or(carry_out);
        next(
            planned,
            query,
            read_only_tree,
            context,
            params,
            environment,
            dest,
            completion,
        );
        if is_news {
            announce_at_commit();
        }
        if let Some(is_commit) = ends_prepared {
            after_prepared(is_commit);
        }
    }
}

fn give_back() {
    HELD.with(|h| {
        if let Ok(mut held) = h.try_borrow_mut() {
            held.drain(..).for_each(Entry::give_back);
        }
    });
}

unsafe extern "C-unwind" fn on_end(event: pg_sys::XactEvent::Type, _arg: *mut std::ffi::c_void) {
    if let pg_sys::XactEvent::XACT_EVENT_COMMIT
    | pg_sys::XactEvent::XACT_EVENT_ABORT
    | pg_sys::XactEvent::XACT_EVENT_PREPARE = event
    {
        give_back();
    }
    match event {
        pg_sys::XactEvent::XACT_EVENT_COMMIT if NEWS.with(|n| n.replace(false)) => {
            roster::announce();
        }
        pg_sys::XactEvent::XACT_EVENT_ABORT | pg_sys::XactEvent::XACT_EVENT_PREPARE => {
            NEWS.with(|n| n.set(false));
        }
        _ => {}
    }
}

/// Registers the hook and the callback, while the server starts: without a launcher there is
/// nobody to stand aside.
pub fn register() {
    // SAFETY: single-threaded server start; both live as long as the library, which is never
    // unloaded. The callback neither allocates nor raises.
    unsafe {
        PREVIOUS = pg_sys::ProcessUtility_hook;
        pg_sys::ProcessUtility_hook = Some(on_utility);
        pg_sys::RegisterXactCallback(Some(on_end), std::ptr::null_mut());
    }
}
