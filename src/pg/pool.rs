//! A pool in shared memory of things that queues take as they need them. Who has one is noted beside
//! it, as the number of the queue plus one.

use super::shmem::zeroed;
use pgrx::pg_sys;
use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicUsize, Ordering};

pub(super) struct Pool<T> {
    things: AtomicPtr<T>,
    owners: AtomicPtr<AtomicU32>,
    len: AtomicUsize,
}

impl<T> Pool<T> {
    pub const fn new() -> Self {
        Pool {
            things: AtomicPtr::new(std::ptr::null_mut()),
            owners: AtomicPtr::new(std::ptr::null_mut()),
            len: AtomicUsize::new(0),
        }
    }

    /// Asks for the memory of so many.
    pub fn request(len: usize) {
        // SAFETY: called from shmem_request_hook.
        unsafe {
            pg_sys::RequestAddinShmemSpace(len * size_of::<T>() + 64);
            pg_sys::RequestAddinShmemSpace(len * size_of::<AtomicU32>() + 64);
        }
    }

    /// Takes the memory in use. All-zero bytes must be a T.
    ///
    /// # Safety
    /// Only in `shmem_startup_hook`.
    pub unsafe fn startup(&self, len: usize, name: &CStr, owners: &CStr) {
        // SAFETY: as told.
        unsafe {
            let things = zeroed(name, len * size_of::<T>());
            self.things.store(things, Ordering::Release);
            let owners = zeroed(owners, len * size_of::<AtomicU32>());
            self.owners.store(owners, Ordering::Release);
        }
        self.len.store(len, Ordering::Release);
    }

    fn owners(&self) -> &'static [AtomicU32] {
        let owners = self.owners.load(Ordering::Acquire);
        if owners.is_null() {
            return &[];
        }
        // SAFETY: it lives as long as the server; its entries are atomic.
        unsafe { std::slice::from_raw_parts(owners, self.len.load(Ordering::Acquire)) }
    }

    /// Takes one for queue `n`.
    pub fn claim(&self, n: usize) -> Option<usize> {
        let owners = self.owners();
        let len = owners.len();
        (0..len).map(|i| (n + i) % len.max(1)).find(|&i| {
            owners[i]
                .compare_exchange(0, n as u32 + 1, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
        })
    }

    pub fn free(&self, at: usize) {
        if let Some(owner) = self.owners().get(at) {
            owner.store(0, Ordering::Release);
        }
    }

    /// One that was taken.
    ///
    /// # Safety
    /// The lock of the queue that has it must be held.
    pub unsafe fn get(&self, at: usize) -> Option<&'static mut T> {
        // SAFETY: as told; it was found by `claim`.
        unsafe { self.things.load(Ordering::Acquire).add(at).as_mut() }
    }
}
