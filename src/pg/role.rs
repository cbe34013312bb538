//! Who calls, and acting as somebody else for a moment.

use super::calm;
use super::value::Oid;
use pgrx::pg_sys;
use std::marker::PhantomData;

/// The role whose rights count for the present call.
pub fn caller() -> Oid {
    calm::user()
}

/// The role that owns the extension's own objects.
pub fn machinery() -> Oid {
    Oid::from(pg_sys::BOOTSTRAP_SUPERUSERID)
}

/// Whether a role may see how all queues are.
pub fn monitors(role: Oid) -> bool {
    // The predefined role pg_monitor; its OID is the same everywhere.
    has_rights_of(role, Oid::from(3373))
}

/// Whether `member` has the rights of `role`.
pub fn has_rights_of(member: Oid, role: Oid) -> bool {
    // SAFETY: looks up role membership.
    unsafe { pg_sys::has_privs_of_role(member, role) }
}

/// While it lives, the current role is another one; dropping it, also by an error that unwinds,
/// restores the former.
pub struct ActingAs {
    role: Oid,
    context: i32,
    _not_send: PhantomData<*const ()>,
}

impl ActingAs {
    fn switch(role: Oid, extra: i32) -> Self {
        let (old, context) = calm::user_and_context();
        // The flag keeps SET ROLE out.
        let local = pg_sys::SECURITY_LOCAL_USERID_CHANGE as i32;
        calm::set_user_and_context(role, context | local | extra);
        ActingAs {
            role: old,
            context,
            _not_send: PhantomData,
        }
    }

    /// The machinery's own rights: to look things up and to run DDL that was checked before.
    pub fn machinery() -> Self {
        Self::switch(machinery(), 0)
    }

    /// A queue owner's rights, and nothing that would outlast the call.
    pub fn owner(role: Oid) -> Self {
        Self::switch(role, pg_sys::SECURITY_RESTRICTED_OPERATION as i32)
    }

    /// A role's rights to run DDL in its name.
    pub fn role(role: Oid) -> Self {
        Self::switch(role, 0)
    }
}

impl Drop for ActingAs {
    fn drop(&mut self) {
        calm::set_user_and_context(self.role, self.context);
    }
}
