//! Where a row version lies, and why it was not to be had.

use pgrx::pg_sys;

/// Where a row version lies.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Tid {
    pub block: u32,
    offset: u16,
}

impl Tid {
    pub(in crate::pg) fn pointer(self) -> pg_sys::ItemPointerData {
        let mut p = pg_sys::ItemPointerData::default();
        pgrx::itemptr::item_pointer_set_all(&mut p, self.block, self.offset);
        p
    }

    pub(in crate::pg) fn of(pointer: pg_sys::ItemPointerData) -> Self {
        let (block, offset) = pgrx::itemptr::item_pointer_get_both(pointer);
        Tid { block, offset }
    }
}

/// Why a row version was not to be had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lost {
    /// Somebody else has changed or removed it.
    Taken,
    /// Somebody else is at it: this transaction, if the row says.
    Busy(u32),
    /// It was moved to another table (`Table::move_out`).
    Moved,
}

impl Lost {
    pub(in crate::pg) fn of(
        result: pg_sys::TM_Result::Type,
        failure: &pg_sys::TM_FailureData,
    ) -> Self {
        // What marks a row as moved: `ItemPointerSetMovedPartitions`.
        let to = Tid::of(failure.ctid);
        match result {
            pg_sys::TM_Result::TM_BeingModified | pg_sys::TM_Result::TM_WouldBlock => {
                Lost::Busy(u32::from(failure.xmax))
            }
            _ if to.block == pg_sys::InvalidBlockNumber && to.offset == MOVED => Lost::Moved,
            _ => Lost::Taken,
        }
    }
}

/// `MovedPartitionsOffsetNumber`, which is a macro.
const MOVED: u16 = 0xfffd;
